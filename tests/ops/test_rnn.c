/* Recurrent cells against the specification's equations, written out plainly in double. */
#include "tests/ops/run_op.h"

#include <math.h>
#include <string.h>

enum { STEPS = 4, BATCH = 3, IN = 2, HIDDEN = 3, DIRS_MAX = 2 };

struct model {
    const char *type, *direction;
    int gates, dirs;
    double clip; /* 0: none */
    bool linear_before_reset, input_forget;
    const struct tensor *x, *w, *r, *b, *lengths, *h0, *c0, *p;
    double y[STEPS][DIRS_MAX][BATCH][HIDDEN], h[DIRS_MAX][BATCH][HIDDEN],
        c[DIRS_MAX][BATCH][HIDDEN];
};

static double clipped(const struct model *m, double v)
{
    return m->clip > 0 ? fmin(fmax(v, -m->clip), m->clip) : v;
}
static double sigmoid(const struct model *m, double v)
{
    return 1 / (1 + exp(-clipped(m, v)));
}
static double hyperbolic(const struct model *m, double v)
{
    return tanh(clipped(m, v));
}

/* W x + bias of gate g, unit j. */
static double wx(const struct model *m, int dir, int g, int j, int t, int b)
{
    double sum = m->b ? tensor_num(m->b, (dir * 2 * m->gates + g) * HIDDEN + j) : 0;
    for (int k = 0; k < IN; k++)
        sum += tensor_num(m->w, ((dir * m->gates + g) * HIDDEN + j) * IN + k) *
               tensor_num(m->x, (t * BATCH + b) * IN + k);
    return sum;
}

static double rh(const struct model *m, int dir, int g, int j, const double *h)
{
    double sum = m->b ? tensor_num(m->b, ((dir * 2 + 1) * m->gates + g) * HIDDEN + j) : 0;
    for (int k = 0; k < HIDDEN; k++)
        sum += tensor_num(m->r, ((dir * m->gates + g) * HIDDEN + j) * HIDDEN + k) * h[k];
    return sum;
}

static double peep(const struct model *m, int dir, int g, int j)
{
    return m->p ? tensor_num(m->p, (dir * 3 + g) * HIDDEN + j) : 0;
}

static void step_rnn(struct model *m, int dir, int t, int b)
{
    double next[HIDDEN], *h = m->h[dir][b];
    for (int j = 0; j < HIDDEN; j++)
        next[j] = hyperbolic(m, wx(m, dir, 0, j, t, b) + rh(m, dir, 0, j, h));
    memcpy(h, next, sizeof next);
}

static void step_gru(struct model *m, int dir, int t, int b)
{
    double next[HIDDEN], reset[HIDDEN], gate[HIDDEN], *h = m->h[dir][b];
    for (int j = 0; j < HIDDEN; j++) {
        gate[j] = sigmoid(m, wx(m, dir, 1, j, t, b) + rh(m, dir, 1, j, h));
        reset[j] = gate[j] * h[j];
    }
    for (int j = 0; j < HIDDEN; j++) {
        double z = sigmoid(m, wx(m, dir, 0, j, t, b) + rh(m, dir, 0, j, h));
        double back =
            m->linear_before_reset ? gate[j] * rh(m, dir, 2, j, h) : rh(m, dir, 2, j, reset);
        next[j] = (1 - z) * hyperbolic(m, wx(m, dir, 2, j, t, b) + back) + z * h[j];
    }
    memcpy(h, next, sizeof next);
}

static void step_lstm(struct model *m, int dir, int t, int b)
{
    double next[HIDDEN], *h = m->h[dir][b], *c = m->c[dir][b];
    for (int j = 0; j < HIDDEN; j++) {
        double g[4];
        for (int k = 0; k < 4; k++)
            g[k] = wx(m, dir, k, j, t, b) + rh(m, dir, k, j, h);
        double i = sigmoid(m, g[0] + peep(m, dir, 0, j) * c[j]);
        double f = m->input_forget ? 1 - i : sigmoid(m, g[2] + peep(m, dir, 2, j) * c[j]);
        c[j] = f * c[j] + i * hyperbolic(m, g[3]);
        next[j] = sigmoid(m, g[1] + peep(m, dir, 1, j) * c[j]) * hyperbolic(m, c[j]);
    }
    memcpy(h, next, sizeof next);
}

static void reference(struct model *m)
{
    void (*step)(struct model *, int, int, int) = m->gates == 1   ? step_rnn
                                                  : m->gates == 3 ? step_gru
                                                                  : step_lstm;
    memset(m->y, 0, sizeof m->y);
    for (int dir = 0; dir < m->dirs; dir++)
        for (int b = 0; b < BATCH; b++) {
            bool back = dir == 1 || !strcmp(m->direction, "reverse");
            int n = m->lengths ? (int)tensor_int(m->lengths, b) : STEPS;
            for (int j = 0; j < HIDDEN; j++) {
                int at = (dir * BATCH + b) * HIDDEN + j;
                m->h[dir][b][j] = m->h0 ? tensor_num(m->h0, at) : 0;
                m->c[dir][b][j] = m->c0 ? tensor_num(m->c0, at) : 0;
            }
            for (int k = 0; k < n; k++) {
                int t = back ? n - 1 - k : k;
                step(m, dir, t, b);
                memcpy(m->y[t][dir][b], m->h[dir][b], sizeof m->h[dir][b]);
            }
        }
}

static void check_model(struct model *m)
{
    m->gates = !strcmp(m->type, "RNN") ? 1 : !strcmp(m->type, "GRU") ? 3 : 4;
    m->dirs = !strcmp(m->direction, "bidirectional") ? 2 : 1;
    m->x = tensor_random(DT_F32, DIMS(STEPS, BATCH, IN), 1);
    m->w = tensor_random(DT_F32, DIMS(m->dirs, m->gates * HIDDEN, IN), 2);
    m->r = tensor_random(DT_F32, DIMS(m->dirs, m->gates * HIDDEN, HIDDEN), 3);
    reference(m);
    struct attr a[6] = {AT_S("direction", m->direction), AT_I("hidden_size", HIDDEN)};
    int n = 2, outs = m->gates == 4 ? 3 : 2;
    if (m->clip > 0)
        a[n++] = (struct attr)AT_F("clip", (float)m->clip);
    if (m->linear_before_reset)
        a[n++] = (struct attr)AT_I("linear_before_reset", 1);
    if (m->input_forget)
        a[n++] = (struct attr)AT_I("input_forget", 1);
    const struct tensor *in[] = {m->x, m->w, m->r, m->b, m->lengths, m->h0, m->c0, m->p};
    struct run r = run_op_list(m->type, 14, a, outs, outs == 3 ? 8 : 6, in);
    CHECK_OK(r.rc, r.e);
    check_shape(&r.out[0], DT_F32, DIMS(STEPS, m->dirs, BATCH, HIDDEN));
    check_shape(&r.out[1], DT_F32, DIMS(m->dirs, BATCH, HIDDEN));
    int64_t at = 0;
    for (int t = 0; t < STEPS; t++)
        for (int d = 0; d < m->dirs; d++)
            for (int b = 0; b < BATCH; b++)
                for (int j = 0; j < HIDDEN; j++)
                    CHECK_NEAR(tensor_num(&r.out[0], at++), m->y[t][d][b][j], 1e-6);
    for (int i = 0; i < m->dirs * BATCH * HIDDEN; i++) {
        CHECK_NEAR(tensor_num(&r.out[1], i), (&m->h[0][0][0])[i], 1e-6);
        if (outs == 3)
            CHECK_NEAR(tensor_num(&r.out[2], i), (&m->c[0][0][0])[i], 1e-6);
    }
}

static const struct tensor *lengths(void)
{
    static const int32_t n[BATCH] = {4, 0, 2};
    return tensor_of(DT_I32, n, DIMS(BATCH));
}

static const struct tensor *state(int dirs, unsigned seed)
{
    return tensor_random(DT_F32, DIMS(dirs, BATCH, HIDDEN), seed);
}

static void check_kinds(const char *type, int gates)
{
    static const char *const directions[] = {"forward", "reverse", "bidirectional"};
    for (int d = 0; d < 3; d++) {
        int dirs = d == 2 ? 2 : 1;
        struct model plain = {.type = type, .direction = directions[d]};
        check_model(&plain);
        struct model full = {.type = type,
                             .direction = directions[d],
                             .clip = 0.6,
                             .b = tensor_random(DT_F32, DIMS(dirs, 2 * gates * HIDDEN), 4),
                             .lengths = lengths(),
                             .h0 = state(dirs, 5)};
        check_model(&full);
    }
}

void test_rnn__follows_its_equations(void)
{
    check_kinds("RNN", 1);
}

void test_gru__follows_its_equations(void)
{
    check_kinds("GRU", 3);
    struct model m = {.type = "GRU",
                      .direction = "bidirectional",
                      .linear_before_reset = true,
                      .b = tensor_random(DT_F32, DIMS(2, 6 * HIDDEN), 4),
                      .h0 = state(2, 5)};
    check_model(&m);
}

void test_lstm__follows_its_equations(void)
{
    check_kinds("LSTM", 4);
    for (int couples = 0; couples < 2; couples++) {
        struct model m = {.type = "LSTM",
                          .direction = "bidirectional",
                          .input_forget = couples,
                          .b = tensor_random(DT_F32, DIMS(2, 8 * HIDDEN), 4),
                          .lengths = lengths(),
                          .h0 = state(2, 5),
                          .c0 = state(2, 6),
                          .p = tensor_random(DT_F32, DIMS(2, 3 * HIDDEN), 7)};
        check_model(&m);
    }
}

void test_rnn__refuses_what_does_not_fit(void)
{
    struct tensor *x = tensor_random(DT_F32, DIMS(STEPS, BATCH, IN), 1),
                  *w = tensor_random(DT_F32, DIMS(1, 3 * HIDDEN, IN), 2),
                  *r = tensor_random(DT_F32, DIMS(1, 3 * HIDDEN, HIDDEN), 3);
    CHECK_INT(run_op("GRU", 14, NULL, 1, x, w, r).rc, 0);
    CHECK(run_op("LSTM", 14, NULL, 1, x, w, r).rc != 0);
    CHECK(run_op("GRU", 14, NULL, 1, x, r, w).rc != 0);
    CHECK(run_op("GRU", 14, NULL, 1, r, w, r).rc != 0);
    CHECK(run_op("GRU", 14, ATTRS(AT_S("direction", "bidirectional")), 1, x, w, r).rc != 0);
    CHECK(run_op("GRU", 14, ATTRS(AT_S("direction", "sideways")), 1, x, w, r).rc != 0);
    CHECK(run_op("GRU", 14, ATTRS(AT_I("hidden_size", 99)), 1, x, w, r).rc != 0);
    CHECK(run_op("GRU", 14, NULL, 1, x, w, r, x).rc != 0);
}
