/*
 * What candidates share. Where all that a candidate has changed is one tensor, the rest of its run
 * is a function of that tensor's bits: the outputs that come after are kept under the value and a
 * 128-bit hash of the bits, for the sample under way. So nodes that only move data, or that clip
 * what was clipped before, cost one run together. Hashed are the steps before the first that
 * multiplies matrices; behind it candidates are hardly ever equal again.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/exec/sweep_memo.h"

static uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t m = (__uint128_t)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static const uint64_t keys[8] = {
    0xa0761d6478bd642full, 0xe7037ed1a0b428dbull, 0x8ebc6af09c88c6e3ull, 0x589965cc75374cc3ull,
    0x1d8e4e27c47d124full, 0xeb44accab455d165ull, 0x9e3779b97f4a7c15ull, 0xc2b2ae3d27d4eb4full};
enum { LANES = 4, BLOCK = LANES * 16 };

static void hash_block(const char *at, uint64_t lane[LANES])
{
    for (int l = 0; l < LANES; l++) {
        uint64_t w[2];
        memcpy(w, at + l * 16, sizeof w);
        lane[l] = mix(lane[l] ^ w[0], keys[l] ^ w[1]);
    }
}

/* Both halves see all bytes, in lanes of their own keys. */
static void hash_bytes(const char *data, size_t n, uint64_t ret[2])
{
    for (int half = 0; half < 2; half++) {
        uint64_t lane[LANES];
        char last[BLOCK] = {0};
        size_t i = 0;
        for (int l = 0; l < LANES; l++)
            lane[l] = ret[half] ^ keys[(l + 3 + 2 * half) % 8];
        for (; i + BLOCK <= n; i += BLOCK)
            hash_block(data + i, lane);
        memcpy(last, data + i, n - i);
        hash_block(last, lane);
        for (int l = 0; l < LANES; l++)
            ret[half] = mix(ret[half] ^ lane[l], keys[l + 4]);
        ret[half] = mix(ret[half] ^ n, keys[half]);
    }
}

static void hash_tensor(const struct tensor *t, uint64_t signature, uint64_t ret[2])
{
    ret[0] = mix(signature ^ keys[5], keys[2] ^ (uint64_t)t->layout);
    ret[1] = mix(signature ^ keys[6], keys[3] ^ (uint64_t)t->type);
    hash_bytes((const char *)t->dims, (size_t)t->rank * sizeof *t->dims, ret);
    hash_bytes(t->data, tensor_bytes(t), ret);
}

/* ---- what was seen before ---- */

struct entry {
    int value, n_outputs;
    int64_t executed;
    uint64_t hash[2];
    struct memo_output *outputs;
    struct entry *next; /* of the same value */
};

struct memo {
    struct arena arena;
    struct entry **of_value;
    int64_t hits;
};

struct memo *memo_new(int n_values)
{
    struct memo *m = xcalloc(1, sizeof *m);
    m->of_value = xcalloc((size_t)n_values + 1, sizeof(struct entry *));
    return m;
}

void memo_clear(struct memo *m, int n_values)
{
    memset(m->of_value, 0, (size_t)n_values * sizeof(struct entry *));
    arena_done(&m->arena);
}

void memo_free(struct memo *m)
{
    if (!m)
        return;
    arena_done(&m->arena);
    free(m->of_value);
    free(m);
}

int64_t memo_hits(const struct memo *m)
{
    return m->hits;
}

/* ---- one candidate ---- */

void memo_begin(struct memo_run *r, struct memo *m, int n_outputs, struct arena *a)
{
    *r = (struct memo_run){.memo = m};
    r->outputs = arena_array(a, (size_t)n_outputs + 1, sizeof *r->outputs);
}

void memo_output(struct memo_run *r, int output, const struct metric_sums *sums)
{
    if (r->memo)
        r->outputs[r->n_outputs++] = (struct memo_output){output, *sums};
}

static const struct entry *find(const struct memo *m, int value, const uint64_t hash[2])
{
    const struct entry *en = m->of_value[value];
    while (en && memcmp(en->hash, hash, sizeof en->hash) != 0)
        en = en->next;
    return en;
}

bool memo_at(struct memo_run *r, int value, const struct tensor *t, uint64_t signature,
             int64_t *executed, struct metric_sums *ret)
{
    if (!r->memo || r->closed || r->n_points == MEMO_POINTS)
        return false;
    struct memo_point *at = &r->points[r->n_points];
    *at = (struct memo_point){.value = value, .executed = *executed, .n_outputs = r->n_outputs};
    hash_tensor(t, signature, at->hash);
    const struct entry *en = find(r->memo, value, at->hash);
    if (!en) {
        r->n_points++;
        return false;
    }
    for (int i = 0; i < en->n_outputs; i++) {
        ret[en->outputs[i].output] = en->outputs[i].sums;
        memo_output(r, en->outputs[i].output, &en->outputs[i].sums);
    }
    *executed += en->executed;
    r->memo->hits++;
    return true;
}

void memo_end(struct memo_run *r, int64_t executed)
{
    for (int i = 0; r->memo && i < r->n_points; i++) {
        const struct memo_point *p = &r->points[i];
        struct entry *en = arena_alloc(&r->memo->arena, sizeof *en);
        *en = (struct entry){.value = p->value,
                             .n_outputs = r->n_outputs - p->n_outputs,
                             .executed = executed - p->executed,
                             .hash = {p->hash[0], p->hash[1]},
                             .next = r->memo->of_value[p->value]};
        en->outputs = arena_copy(&r->memo->arena, r->outputs + p->n_outputs,
                                 (size_t)en->n_outputs * sizeof *en->outputs + 1);
        r->memo->of_value[p->value] = en;
    }
}

uint64_t memo_signature(uint64_t behind, int node, const unsigned char *layouts, int n)
{
    uint64_t h = mix(behind ^ keys[0], keys[1] ^ (uint64_t)node);
    for (int i = 0; i < n; i++)
        h = mix(h ^ keys[4], keys[7] ^ layouts[i]);
    return h;
}
