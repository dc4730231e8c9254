/* A hash map from strings to ints (indices into somebody's array). Keys are not copied: they must
 * live as long as the map, which lives in the arena given at birth. */
#ifndef PTQ_COMMON_MAP_H
#define PTQ_COMMON_MAP_H

#include <stddef.h>

#include "common/arena.h"

struct map_slot;
struct map {
    struct arena *arena;
    struct map_slot *slots;
    size_t count, cap; /* cap is a power of two, or 0 */
};

void map_init(struct map *m, struct arena *arena);
/* Room for so many keys at once. */
void map_reserve(struct map *m, size_t count);
/* Sets key to value (>= 0). Returns the value it had before, or -1 if it was new. */
int map_set(struct map *m, const char *key, int value);
int map_get(const struct map *m, const char *key); /* -1 if absent */
int map_remove(struct map *m, const char *key);    /* the value it had, or -1 */

#endif
