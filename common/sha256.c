#include "common/sha256.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "common/arena.h"

struct sha256 {
    EVP_MD_CTX *ctx;
};

struct sha256 *sha256_new(void)
{
    struct sha256 *h = xmalloc(sizeof *h);
    h->ctx = EVP_MD_CTX_new();
    EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL);
    return h;
}

void sha256_add(struct sha256 *h, const void *data, size_t len)
{
    EVP_DigestUpdate(h->ctx, data, len);
}

void sha256_field(struct sha256 *h, const void *data, size_t len)
{
    unsigned char size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (unsigned char)((uint64_t)len >> (8 * i));
    sha256_add(h, size, sizeof size);
    sha256_add(h, data, len);
}

void sha256_finish(struct sha256 *h, struct digest *ret)
{
    EVP_DigestFinal_ex(h->ctx, ret->bytes, NULL);
    sha256_free(h);
}

void sha256_free(struct sha256 *h)
{
    if (!h)
        return;
    EVP_MD_CTX_free(h->ctx);
    free(h);
}

void sha256_of(const void *data, size_t len, struct digest *ret)
{
    struct sha256 *h = sha256_new();
    sha256_add(h, data, len);
    sha256_finish(h, ret);
}

void digest_hex(const struct digest *d, char hex[SHA256_HEX])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < SHA256_BYTES; i++) {
        hex[2 * i] = digits[d->bytes[i] >> 4];
        hex[2 * i + 1] = digits[d->bytes[i] & 15];
    }
    hex[2 * SHA256_BYTES] = '\0';
}

int digest_parse(const char *hex, struct digest *ret)
{
    if (strlen(hex) != 2 * SHA256_BYTES)
        return -1;
    for (int i = 0; i < 2 * SHA256_BYTES; i++) {
        char c = hex[i];
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (v < 0)
            return -1;
        ret->bytes[i / 2] = (unsigned char)(i % 2 ? ret->bytes[i / 2] | v : v << 4);
    }
    return 0;
}
