#include "server/http_priv.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/sha256.h"

/* The headers that decide how a request is cut out of the stream, and for whom it is. */
struct seen {
    int n_length, n_coding, n_host, n_authorization, n_origin;
    const char *length, *coding, *host, *origin;
    const char *bad; /* why a header line is not acceptable */
};

static bool is_token(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!strchr("!#$%&'*+-.^_`|~", s[i]) || !s[i]) {
            unsigned char c = (unsigned char)s[i] | 32;
            if (!((c >= 'a' && c <= 'z') || (s[i] >= '0' && s[i] <= '9')))
                return false;
        }
    return len > 0;
}

static bool is_field_value(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)s[i] < 32 && s[i] != '\t') || s[i] == 127)
            return false;
    return true;
}

static enum MHD_Result look_at(void *cls, enum MHD_ValueKind kind, const char *name,
                               size_t name_len, const char *value, size_t value_len)
{
    struct seen *s = cls;
    (void)kind;
    value = value ? value : "";
    if (!is_token(name, name_len))
        s->bad = "A header's name has characters that do not belong there.";
    else if (!is_field_value(value, value_len))
        s->bad = "A header's value has control characters.";
    else if (!strcasecmp(name, "Content-Length"))
        s->n_length++, s->length = value;
    else if (!strcasecmp(name, "Transfer-Encoding"))
        s->n_coding++, s->coding = value;
    else if (!strcasecmp(name, "Host"))
        s->n_host++, s->host = value;
    else if (!strcasecmp(name, "Origin"))
        s->n_origin++, s->origin = value;
    else if (!strcasecmp(name, "Authorization"))
        s->n_authorization++;
    return MHD_YES;
}

static int bad_framing(struct err *e, const char *why)
{
    return err_set(e, ERR_BAD_REQUEST, NULL, "%s", why);
}

static int check_length(struct req *r, const char *text, struct err *e)
{
    char *end;
    if (!*text || strspn(text, "0123456789") != strlen(text) || strlen(text) > 18)
        return bad_framing(e, "Content-Length is not a number of bytes.");
    r->length = strtoull(text, &end, 10);
    r->has_body = r->length > 0;
    return 0;
}

static int check_framing(struct req *r, const struct seen *s, struct err *e)
{
    if (s->bad)
        return bad_framing(e, s->bad);
    if (s->n_length > 1 || s->n_coding > 1 || s->n_host > 1 || s->n_authorization > 1 ||
        s->n_origin > 1)
        return bad_framing(e, "Content-Length, Transfer-Encoding, Host, Origin and Authorization "
                              "may come once only.");
    if (s->length && s->coding)
        return bad_framing(e, "Content-Length and Transfer-Encoding exclude each other.");
    if (s->coding && (strcasecmp(s->coding, "chunked") || !r->http11))
        return bad_framing(e, "The only Transfer-Encoding is chunked, in HTTP/1.1.");
    if (s->coding) {
        r->length = UINT64_MAX;
        r->has_body = true;
    }
    return s->length ? check_length(r, s->length, e) : 0;
}

/* The end of a loopback name with an optional port; NULL for any other name. A page of some other
 * site that lets its name point at 127.0.0.1 must not be served. */
static bool is_loopback_name(const char *host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t n = strlen(names[i]);
        if (strncasecmp(host, names[i], n))
            continue;
        const char *port = host + n;
        if (!*port)
            return true;
        if (*port == ':' && port[1] && strlen(port) <= 6 &&
            strspn(port + 1, "0123456789") == strlen(port + 1))
            return true;
    }
    return false;
}

static int check_site(struct req *r, const struct seen *s, struct err *e)
{
    if (!s->host && r->http11)
        return bad_framing(e, "HTTP/1.1 needs a Host header.");
    if (s->host && !is_loopback_name(s->host))
        return err_set(e, ERR_FORBIDDEN, NULL,
                       "The Host must be localhost, 127.0.0.1 or [::1], not \"%s\".", s->host);
    if (s->origin &&
        (!s->host || strncasecmp(s->origin, "http://", 7) || strcasecmp(s->origin + 7, s->host))) {
        r->close = true;
        return err_set(e, ERR_FORBIDDEN, NULL, "Pages of another origin are not served.");
    }
    return 0;
}

int check_request(struct req *r, struct MHD_Connection *mhd, const char *version, struct err *e)
{
    struct seen s = {0};
    r->http11 = !strcmp(version, "HTTP/1.1");
    const char *expect = MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Expect");
    r->expects = r->http11 && expect && !strcasecmp(expect, "100-continue");
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, look_at, &s);
    r->close = true; /* unless all is well: a client that is refused here is not listened to */
    if (!r->http11 && strcmp(version, "HTTP/1.0"))
        return bad_framing(e, "The protocol is HTTP/1.1 or HTTP/1.0.");
    if (check_framing(r, &s, e) || check_site(r, &s, e))
        return -1;
    r->close = false;
    return 0;
}

/* ---- digests ---- */

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* 43 digits and an optional '=': 32 bytes. */
static int digest_from_base64(const char *text, size_t len, char ret_hex[SHA256_HEX])
{
    struct digest d;
    unsigned bits = 0, n_bits = 0;
    size_t n = 0;
    if (len == 44 && text[43] == '=')
        len--;
    if (len != 43)
        return -1;
    for (size_t i = 0; i < len; i++) {
        int v = base64_digit(text[i]);
        if (v < 0)
            return -1;
        bits = (bits << 6 | (unsigned)v) & 0xffff;
        n_bits += 6;
        if (n_bits >= 8 && n < sizeof d.bytes) {
            n_bits -= 8;
            d.bytes[n++] = (unsigned char)(bits >> n_bits);
        }
    }
    digest_hex(&d, ret_hex);
    return 0;
}

static int want(struct req *r, const char *name, const char hex[SHA256_HEX], struct err *e)
{
    if (r->want_sha256[0] && strcmp(r->want_sha256, hex))
        return err_set(e, ERR_BAD_REQUEST, NULL, "%s names another digest than its neighbour.",
                       name);
    memcpy(r->want_sha256, hex, SHA256_HEX);
    return 0;
}

/* "sha-256=:BASE64:" (RFC 9530) or "SHA-256=BASE64" (RFC 3230), among others by commas. */
static int want_from_list(struct req *r, const char *name, struct err *e)
{
    const char *v = req_header(r, name);
    char hex[SHA256_HEX];
    while (v && *v) {
        v += strspn(v, " \t,");
        size_t len = strcspn(v, ",");
        if (!strncasecmp(v, "sha-256=", 8)) {
            const char *text = v + 8, *end = v + len;
            while (end > text && (end[-1] == ' ' || end[-1] == '\t'))
                end--;
            if (end - text >= 2 && *text == ':' && end[-1] == ':')
                text++, end--;
            if (digest_from_base64(text, (size_t)(end - text), hex))
                return err_set(e, ERR_BAD_REQUEST, NULL,
                               "%s: the SHA-256 is not 32 bytes in base64.", name);
            if (want(r, name, hex, e))
                return -1;
        }
        v += len;
    }
    return 0;
}

int check_digest_headers(struct req *r, struct err *e)
{
    static const char *const lists[] = {"Content-Digest", "Repr-Digest", "Digest"};
    const char *hex = req_header(r, "X-Content-SHA256");
    struct digest d;
    char lower[SHA256_HEX];
    if (hex) {
        for (size_t i = 0; i < SHA256_HEX; i++)
            if (!(lower[i] = hex[i] >= 'A' && hex[i] <= 'F' ? hex[i] | 32 : hex[i]))
                break;
        if (strlen(hex) != SHA256_HEX - 1 || digest_parse(lower, &d))
            return err_set(e, ERR_BAD_REQUEST, NULL, "X-Content-SHA256 is not 64 hex digits.");
        if (want(r, "X-Content-SHA256", lower, e))
            return -1;
    }
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (want_from_list(r, lists[i], e))
            return -1;
    return 0;
}
