#include "server/ulid.h"

#include <stdint.h>
#include <string.h>
#include <sys/random.h>
#include <stdlib.h>

#include "common/clock.h"

enum { RANDOM_BYTES = 10, TIME_DIGITS = 10, RANDOM_DIGITS = 16 };

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

static void add_one(unsigned char *bytes)
{
    for (int i = RANDOM_BYTES - 1; i >= 0 && ++bytes[i] == 0; i--)
        continue;
}

void ulid_make(char ret[ULID_SIZE])
{
    static int64_t last_ms;
    static unsigned char random[RANDOM_BYTES];
    int64_t now_ms = clock_wall_ms();
    if (now_ms > last_ms) {
        last_ms = now_ms;
        if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
            abort(); /* up to 256 bytes are never cut short */
    } else {
        add_one(random); /* the same millisecond, or the clock went back */
    }
    for (int i = 0; i < TIME_DIGITS; i++)
        ret[i] = digits[(last_ms >> (5 * (TIME_DIGITS - 1 - i))) & 31];
    for (int i = 0; i < RANDOM_DIGITS; i++) {
        unsigned bit = (unsigned)i * 5, at = bit / 8, two = (unsigned)random[at] << 8;
        if (at + 1 < RANDOM_BYTES)
            two |= random[at + 1];
        ret[TIME_DIGITS + i] = digits[(two >> (11 - bit % 8)) & 31];
    }
    ret[ULID_SIZE - 1] = 0;
}
