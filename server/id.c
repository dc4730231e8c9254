#include "server/id.h"

#include <stdio.h>
#include <string.h>

#include "server/ulid.h"

enum { DIGEST_LEN = 26 };

void id_new_job(char ret[ID_MAX])
{
    strcpy(ret, "job_");
    ulid_make(ret + 4);
}

void id_of_digest(const char *prefix, const struct digest *d, char ret[ID_MAX])
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";
    char text[DIGEST_LEN + 1];
    unsigned held = 0, n_held = 0;
    const unsigned char *next = d->bytes;
    for (int i = 0; i < DIGEST_LEN; i++) {
        if (n_held < 5) {
            held = (held << 8 | *next++) & 0xfff;
            n_held += 8;
        }
        n_held -= 5;
        text[i] = alphabet[held >> n_held & 31];
    }
    text[DIGEST_LEN] = '\0';
    snprintf(ret, ID_MAX, "%s%s", prefix, text);
}
