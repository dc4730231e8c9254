#include "common/map.h"

#include <stdint.h>
#include <string.h>

struct map_slot {
    const char *key; /* NULL: never used */
    uint64_t hash;
    int value; /* -1: removed */
};

/* FNV-1a, 64 bits, with a final mix so that the low bits are good. */
static uint64_t hash_of(const char *s)
{
    uint64_t h = 14695981039346656037u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 1099511628211u;
    return h ^ h >> 29;
}

static struct map_slot *find(const struct map *m, const char *key, uint64_t hash)
{
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct map_slot *s = &m->slots[i];
        if (!s->key || (s->hash == hash && !strcmp(s->key, key)))
            return s;
    }
}

static void resize(struct map *m, size_t cap)
{
    struct map old = *m;
    m->cap = cap;
    m->slots = arena_array(m->arena, m->cap, sizeof *m->slots);
    m->count = 0;
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].key && old.slots[i].value >= 0) {
            *find(m, old.slots[i].key, old.slots[i].hash) = old.slots[i];
            m->count++;
        }
}

void map_init(struct map *m, struct arena *arena)
{
    *m = (struct map){.arena = arena};
}

void map_reserve(struct map *m, size_t count)
{
    size_t cap = 16;
    while (count * 4 > cap * 3)
        cap *= 2;
    if (cap > m->cap)
        resize(m, cap);
}

int map_set(struct map *m, const char *key, int value)
{
    if ((m->count + 1) * 4 > m->cap * 3)
        resize(m, m->cap ? m->cap * 2 : 16);
    uint64_t hash = hash_of(key);
    struct map_slot *s = find(m, key, hash);
    if (s->key) {
        int before = s->value;
        s->value = value;
        return before;
    }
    *s = (struct map_slot){key, hash, value};
    m->count++;
    return -1;
}

int map_get(const struct map *m, const char *key)
{
    if (!m->cap)
        return -1;
    struct map_slot *s = find(m, key, hash_of(key));
    return s->key ? s->value : -1;
}

int map_remove(struct map *m, const char *key)
{
    if (!m->cap)
        return -1;
    struct map_slot *s = find(m, key, hash_of(key));
    if (!s->key)
        return -1;
    int before = s->value;
    s->value = -1;
    return before;
}
