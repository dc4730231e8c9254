#include "tests/ops/run_op.h"

#include <math.h>

enum { B = 2, H = 4, KV = 2, L = 3, T = 5, D = 4, E = 6 };

static double at(const struct tensor *t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return tensor_num(t, ((a * t->dims[1] + b) * t->dims[2] + c) * t->dims[3] + d);
}

struct how {
    bool causal;
    double cap, scale;
    const struct tensor *bias; /* float [L, T] or NULL */
};

/* Element (b, h, i, d) by the definition. */
static double expected(const struct tensor *q, const struct tensor *k, const struct tensor *v,
                       const struct how *how, int b, int h, int i, int d)
{
    double sum = 0, total = 0;
    int kv = h / (int)(q->dims[1] / k->dims[1]);
    for (int j = 0; j < k->dims[2]; j++) {
        double s = 0;
        for (int n = 0; n < D; n++)
            s += at(q, b, h, i, n) * at(k, b, kv, j, n);
        s *= how->scale;
        s += how->bias ? tensor_num(how->bias, i * k->dims[2] + j) : 0;
        s = how->cap > 0 ? how->cap * tanh(s / how->cap) : s;
        double w = how->causal && j > i ? 0 : exp(s);
        total += w;
        sum += w * at(v, b, kv, j, d);
    }
    return sum / total;
}

static void check_attention(const struct tensor *y, const struct tensor *q, const struct tensor *k,
                            const struct tensor *v, const struct how *how)
{
    check_shape(y, DT_F32, DIMS(B, H, L, E));
    for (int b = 0; b < B; b++)
        for (int h = 0; h < H; h++)
            for (int i = 0; i < L; i++)
                for (int d = 0; d < E; d++)
                    CHECK_NEAR(at(y, b, h, i, d), expected(q, k, v, how, b, h, i, d), 1e-5);
}

static struct tensor *query(void)
{
    return tensor_random(DT_F32, DIMS(B, H, L, D), 1);
}
static struct tensor *key(int heads)
{
    return tensor_random(DT_F32, DIMS(B, heads, T, D), 2);
}
static struct tensor *value(int heads)
{
    return tensor_random(DT_F32, DIMS(B, heads, T, E), 3);
}

void test_attention__is_the_softmax_of_scaled_products(void)
{
    struct run r = run_op("Attention", 23, NULL, 1, query(), key(H), value(H));
    CHECK_OK(r.rc, r.e);
    check_attention(&r.out[0], query(), key(H), value(H), &(struct how){.scale = 0.5});
}

void test_attention__query_heads_share_neighbouring_keys(void)
{
    struct run r =
        run_op("Attention", 23, ATTRS(AT_F("scale", 0.3f)), 1, query(), key(KV), value(KV));
    CHECK_OK(r.rc, r.e);
    check_attention(&r.out[0], query(), key(KV), value(KV), &(struct how){.scale = (double)0.3f});
}

void test_attention__looks_back_only_when_causal(void)
{
    struct run r =
        run_op("Attention", 23, ATTRS(AT_I("is_causal", 1)), 1, query(), key(H), value(H));
    CHECK_OK(r.rc, r.e);
    check_attention(&r.out[0], query(), key(H), value(H),
                    &(struct how){.scale = 0.5, .causal = true});
}

void test_attention__masks_then_caps_in_opset_23(void)
{
    struct tensor *mask = tensor_random(DT_F32, DIMS(L, T), 4);
    struct run r =
        run_op("Attention", 23, ATTRS(AT_F("softcap", 0.75f)), 1, query(), key(H), value(H), mask);
    CHECK_OK(r.rc, r.e);
    check_attention(&r.out[0], query(), key(H), value(H),
                    &(struct how){.scale = 0.5, .cap = 0.75, .bias = mask});
}

void test_attention__a_mask_of_bools_hides(void)
{
    static const uint8_t shown[T] = {1, 0, 1, 0, 0};
    struct tensor *q = tensor_shaped(FLOATS(1, 0), DIMS(1, 1, 1, 2));
    struct tensor *k = tensor_shaped(FLOATS(1, 0, 9, 9, 1, 5, 9, 9, 9, 9), DIMS(1, 1, T, 2));
    struct tensor *v = tensor_shaped(FLOATS(3, 90, 5, 70, 80), DIMS(1, 1, T, 1));
    struct run r = run_op("Attention", 23, NULL, 4, q, k, v, tensor_of(DT_BOOL, shown, DIMS(1, T)));
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 1e-6, 4);
}

void test_attention__the_past_comes_first_and_is_given_on(void)
{
    struct tensor *q = tensor_random(DT_F32, DIMS(1, 2, 1, D), 1);
    struct tensor *k = tensor_random(DT_F32, DIMS(1, 2, 3, D), 2);
    struct tensor *v = tensor_random(DT_F32, DIMS(1, 2, 3, D), 3);
    struct tensor *parts[4];
    for (int i = 0; i < 4; i++) { /* past key, new key, past value, new value */
        const struct tensor *from = i < 2 ? k : v;
        int64_t n = i % 2 ? 1 : 2, first = i % 2 ? 2 : 0;
        parts[i] = tensor_of(DT_F32, NULL, DIMS(1, 2, n, D));
        for (int h = 0; h < 2; h++)
            for (int j = 0; j < n * D; j++)
                ((float *)parts[i]->data)[h * n * D + j] =
                    ((float *)from->data)[(h * 3 + first) * D + j];
    }
    struct run whole = run_op("Attention", 23, NULL, 1, q, k, v);
    struct run r = run_op("Attention", 23, ATTRS(AT_I("is_causal", 1)), 3, q, parts[1], parts[3],
                          NULL, parts[0], parts[2]);
    CHECK_OK(whole.rc, whole.e);
    CHECK_OK(r.rc, r.e);
    check_same(&r.out[0], &whole.out[0], 0);
    check_same(&r.out[1], k, 0);
    check_same(&r.out[2], v, 0);
}

void test_attention__heads_may_lie_side_by_side(void)
{
    struct tensor *q = tensor_random(DT_F32, DIMS(B, L, H * D), 1);
    struct tensor *k = tensor_random(DT_F32, DIMS(B, T, H * D), 2);
    struct tensor *v = tensor_random(DT_F32, DIMS(B, T, H * D), 3), *apart[3];
    const struct tensor *flat[3] = {q, k, v};
    for (int i = 0; i < 3; i++) {
        int64_t n = flat[i]->dims[1];
        apart[i] = tensor_of(DT_F32, NULL, DIMS(B, H, n, D));
        for (int64_t x = 0; x < B * n * H * D; x++) {
            int64_t b = x / (n * H * D), j = x / (H * D) % n, h = x / D % H;
            ((float *)apart[i]->data)[((b * H + h) * n + j) * D + x % D] =
                ((float *)flat[i]->data)[x];
        }
    }
    struct run r =
        run_op("Attention", 23, ATTRS(AT_I("q_num_heads", H), AT_I("kv_num_heads", H)), 1, q, k, v);
    struct run s = run_op("Attention", 23, NULL, 1, apart[0], apart[1], apart[2]);
    CHECK_OK(r.rc, r.e);
    CHECK_OK(s.rc, s.e);
    check_shape(&r.out[0], DT_F32, DIMS(B, L, H * D));
    for (int64_t x = 0; x < B * L * H * D; x++) {
        int64_t b = x / (L * H * D), i = x / (H * D) % L, h = x / D % H;
        CHECK_NEAR(tensor_num(&r.out[0], x), at(&s.out[0], b, h, i, x % D), 0);
    }
}

void test_attention__refuses_what_does_not_fit(void)
{
    struct tensor *q = tensor_random(DT_F32, DIMS(1, 3, 2, 4), 1),
                  *k = tensor_random(DT_F32, DIMS(1, 2, 2, 4), 2),
                  *flat = tensor_random(DT_F32, DIMS(1, 2, 5), 2),
                  *mask = tensor_random(DT_F32, DIMS(7, 7), 3);
    CHECK(run_op("Attention", 23, NULL, 1, q, k, k).rc != 0);
    CHECK(run_op("Attention", 23, NULL, 1, flat, flat, flat).rc != 0);
    CHECK(run_op("Attention", 23, ATTRS(AT_I("q_num_heads", 3), AT_I("kv_num_heads", 3)), 1, flat,
                 flat, flat)
              .rc != 0);
    CHECK(run_op("Attention", 23, NULL, 1, q, q, q, mask).rc != 0);
    CHECK(run_op("Attention", 23, NULL, 1, q, q, q, NULL, k, k).rc != 0);
    CHECK(run_op("Attention", 23, ATTRS(AT_I("qk_matmul_output_mode", 9)), 1, q, q, q).rc != 0);
}

void test_rotary__turns_pairs_by_the_angle_of_their_position(void)
{
    struct tensor *x = tensor_shaped(FLOATS(1, 2, 3, 4, 9), DIMS(1, 1, 1, 5));
    struct tensor *c = tensor_shaped(FLOATS(1, 1, 0, 1), DIMS(2, 2)),
                  *s = tensor_shaped(FLOATS(0, 0, 1, 0), DIMS(2, 2));
    struct tensor *position = tensor_shaped(INTS(1), DIMS(1, 1));
    struct run r =
        run_op("RotaryEmbedding", 23, ATTRS(AT_I("rotary_embedding_dim", 4)), 1, x, c, s, position);
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, -3, 2, 1, 4, 9);
    r = run_op("RotaryEmbedding", 23,
               ATTRS(AT_I("rotary_embedding_dim", 4), AT_I("interleaved", 1)), 1, x, c, s,
               position);
    CHECK_OK(r.rc, r.e);
    CHECK_FLOATS(&r.out[0], 0, -2, 1, 3, 4, 9);
}

void test_rotary__refuses_positions_that_are_not_there(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(1, 1, 4), 1);
    struct tensor *c = tensor_random(DT_F32, DIMS(2, 2), 2);
    for (int64_t p = -1; p < 3; p++) {
        struct run r = run_op("RotaryEmbedding", 23, ATTRS(AT_I("num_heads", 1)), 1, x, c, c,
                              tensor_shaped(INTS(p), DIMS(1, 1)));
        CHECK_INT(r.rc != 0, p < 0 || p > 1);
    }
    CHECK(run_op("RotaryEmbedding", 23, NULL, 1, x, c, c).rc != 0);
}
