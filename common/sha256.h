/* SHA-256 (FIPS 180-4) by OpenSSL's libcrypto; sha256.c is the only file that sees that library. */
#ifndef PTQ_COMMON_SHA256_H
#define PTQ_COMMON_SHA256_H

#include <stddef.h>

enum { SHA256_BYTES = 32, SHA256_HEX = 65 /* with the zero byte */ };

struct digest {
    unsigned char bytes[SHA256_BYTES];
};

struct sha256; /* a hash in the making */
struct sha256 *sha256_new(void);
void sha256_add(struct sha256 *h, const void *data, size_t len);
/* Adds len as 8 bytes, little-endian, then the data: fields cannot run into each other. */
void sha256_field(struct sha256 *h, const void *data, size_t len);
void sha256_finish(struct sha256 *h, struct digest *ret); /* frees h */
void sha256_free(struct sha256 *h);

void sha256_of(const void *data, size_t len, struct digest *ret);
void digest_hex(const struct digest *d, char hex[SHA256_HEX]);
int digest_parse(const char *hex, struct digest *ret); /* 64 lower-case digits, else -1 */

#endif
