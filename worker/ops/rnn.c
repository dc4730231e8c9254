/*
 * RNN, GRU, LSTM (ONNX opset 7 to 22), computed in double: a step forms all gates of a sample as
 * one product with W and R, then the cell's own function makes the new state of them.
 */
#include "worker/ops/rnn.h"
#include "worker/ops/walk.h"

#include <string.h>

enum { ACTS_MAX = 6 };
enum input { I_X, I_W, I_R, I_B, I_LENGTHS, I_H, I_C, I_P };

struct rnn_attr {
    struct strings activations;
    struct floats activation_alpha, activation_beta;
    float clip;
    const char *direction;
    int64_t hidden_size, input_forget, layout, linear_before_reset;
};

struct cell;
struct rnn {
    const struct rnn_attr *a;
    const struct cell *cell;
    int64_t steps, batch, in, hidden, dirs;
    struct rnn_act acts[ACTS_MAX];
    double *x, *w, *r, *b, *p; /* a row of X; W, R, B, P of all directions */
    double *h, *c, *gates, *extra;
};

/* A kind of cell: its gates, and what it makes of them. */
struct cell {
    int gates, acts;
    bool has_c;
    const char *defaults[4];
    void (*step)(struct rnn *m, int dir, const double *x, double *h, double *c);
};

static double clipped(const struct rnn *m, double v)
{
    double limit = (double)m->a->clip;
    return limit <= 0 ? v : v > limit ? limit : v < -limit ? -limit : v;
}

static double act(const struct rnn *m, int dir, int k, double v)
{
    const struct rnn_act *f = &m->acts[dir * m->cell->acts + k];
    return f->value(clipped(m, v), f->alpha, f->beta);
}

static double dot(const double *a, const double *b, int64_t n)
{
    double lane[4] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++)
            lane[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        sum += a[i] * b[i];
    return sum + ((lane[0] + lane[1]) + (lane[2] + lane[3]));
}

static const double *rows_of(const struct rnn *m, const double *all, int dir, int gate,
                             int64_t cols)
{
    return all + ((int64_t)dir * m->cell->gates + gate) * m->hidden * cols;
}

/* Bias j of the W part, or of the R part (which follows it). */
static double bias(const struct rnn *m, int dir, bool of_r, int gate, int64_t j)
{
    int64_t n = m->cell->gates * m->hidden;
    return m->b ? m->b[(dir * 2 + of_r) * n + gate * m->hidden + j] : 0;
}

static double from_x(const struct rnn *m, int dir, int gate, int64_t j, const double *x)
{
    return dot(x, rows_of(m, m->w, dir, gate, m->in) + j * m->in, m->in) +
           bias(m, dir, false, gate, j);
}

static double from_h(const struct rnn *m, int dir, int gate, int64_t j, const double *h)
{
    return dot(h, rows_of(m, m->r, dir, gate, m->hidden) + j * m->hidden, m->hidden) +
           bias(m, dir, true, gate, j);
}

/* ---- the cells ---- */

static void rnn_step(struct rnn *m, int dir, const double *x, double *h, double *c)
{
    (void)c;
    for (int64_t j = 0; j < m->hidden; j++)
        m->gates[j] = act(m, dir, 0, from_x(m, dir, 0, j, x) + from_h(m, dir, 0, j, h));
    memcpy(h, m->gates, (size_t)m->hidden * sizeof *h);
}

/* Gates z, r, h. */
static void gru_step(struct rnn *m, int dir, const double *x, double *h, double *c)
{
    (void)c;
    int64_t n = m->hidden;
    double *z = m->gates, *r = z + n, *next = r + n, *reset = m->extra;
    for (int64_t j = 0; j < n; j++) {
        z[j] = act(m, dir, 0, from_x(m, dir, 0, j, x) + from_h(m, dir, 0, j, h));
        r[j] = act(m, dir, 0, from_x(m, dir, 1, j, x) + from_h(m, dir, 1, j, h));
    }
    for (int64_t j = 0; j < n; j++)
        reset[j] = r[j] * h[j];
    for (int64_t j = 0; j < n; j++) {
        double recurrent = m->a->linear_before_reset ? r[j] * from_h(m, dir, 2, j, h)
                                                     : from_h(m, dir, 2, j, reset);
        next[j] = act(m, dir, 1, from_x(m, dir, 2, j, x) + recurrent);
    }
    for (int64_t j = 0; j < n; j++)
        h[j] = (1 - z[j]) * next[j] + z[j] * h[j];
}

static double peephole(const struct rnn *m, int dir, int k, int64_t j, double c)
{
    return m->p ? m->p[(dir * 3 + k) * m->hidden + j] * c : 0;
}

/* Gates i, o, f, c. */
static void lstm_step(struct rnn *m, int dir, const double *x, double *h, double *c)
{
    int64_t n = m->hidden;
    for (int g = 0; g < 4; g++)
        for (int64_t j = 0; j < n; j++)
            m->gates[g * n + j] = from_x(m, dir, g, j, x) + from_h(m, dir, g, j, h);
    for (int64_t j = 0; j < n; j++) {
        double i = act(m, dir, 0, m->gates[j] + peephole(m, dir, 0, j, c[j]));
        double f = m->a->input_forget
                       ? 1 - i
                       : act(m, dir, 0, m->gates[2 * n + j] + peephole(m, dir, 2, j, c[j]));
        c[j] = f * c[j] + i * act(m, dir, 1, m->gates[3 * n + j]);
        double o = act(m, dir, 0, m->gates[n + j] + peephole(m, dir, 1, j, c[j]));
        h[j] = o * act(m, dir, 2, c[j]);
    }
}

static const struct cell cell_rnn = {1, 1, false, {"Tanh"}, rnn_step},
                         cell_gru = {3, 2, false, {"Sigmoid", "Tanh"}, gru_step},
                         cell_lstm = {4, 3, true, {"Sigmoid", "Tanh", "Tanh"}, lstm_step};

/* ---- shape ---- */

static const struct tensor *input(const struct op_ctx *c, int i)
{
    return i < c->n_in ? c->in[i] : NULL;
}

static int is_shaped(const struct op_ctx *c, int i, int rank, const int64_t *dims, struct err *e)
{
    const struct tensor *t = input(c, i);
    if (!t)
        return 0;
    for (int d = 0; d < rank; d++)
        if (t->rank != rank || t->dims[d] != dims[d])
            return op_bad(c, i, e, "dim %d should be %lld", d, (long long)dims[d]);
    return 0;
}

static int model_of(const struct op_ctx *c, const struct cell *cell, struct rnn *m, struct err *e)
{
    const struct rnn_attr *a = c->attr;
    const struct tensor *x = c->in[I_X], *r = c->in[I_R];
    bool both = !strcmp(a->direction, "bidirectional");
    if (!both && strcmp(a->direction, "forward") && strcmp(a->direction, "reverse"))
        return err_set(e, ERR_BAD_MODEL, NULL, "There is no direction \"%.40s\".", a->direction);
    if (x->rank != 3 || r->rank != 3)
        return op_bad(c, I_X, e, "X, W and R have 3 dims");
    *m = (struct rnn){.a = a, .cell = cell, .dirs = both ? 2 : 1, .in = x->dims[2]};
    m->steps = x->dims[a->layout ? 1 : 0];
    m->batch = x->dims[a->layout ? 0 : 1];
    m->hidden = r->dims[2];
    int64_t g = cell->gates * m->hidden;
    int64_t state[3] = {a->layout ? m->batch : m->dirs, a->layout ? m->dirs : m->batch, m->hidden};
    if (a->hidden_size && a->hidden_size != m->hidden)
        return op_bad(c, I_R, e, "hidden_size is %lld", (long long)a->hidden_size);
    if (is_shaped(c, I_W, 3, (int64_t[]){m->dirs, g, m->in}, e) ||
        is_shaped(c, I_R, 3, (int64_t[]){m->dirs, g, m->hidden}, e) ||
        is_shaped(c, I_B, 2, (int64_t[]){m->dirs, 2 * g}, e) ||
        is_shaped(c, I_LENGTHS, 1, &m->batch, e) || is_shaped(c, I_H, 3, state, e) ||
        is_shaped(c, I_C, 3, state, e) ||
        is_shaped(c, I_P, 2, (int64_t[]){m->dirs, 3 * m->hidden}, e))
        return -1;
    return rnn_activations(&a->activations, &a->activation_alpha, &a->activation_beta,
                           cell->defaults, (int)m->dirs * cell->acts, m->acts, e);
}

static int shape_of(struct op_ctx *c, const struct cell *cell, struct err *e)
{
    struct rnn m;
    if (op_need(c, 3, e) || op_takes_float(c, I_X, e))
        return -1;
    for (int i = 1; i < c->n_in; i++)
        if (c->in[i] && i != I_LENGTHS && c->in[i]->type != c->in[I_X]->type)
            return op_bad(c, i, e, "its type must be that of X");
    if (input(c, I_LENGTHS) && c->in[I_LENGTHS]->type != DT_I32)
        return op_bad(c, I_LENGTHS, e, "lengths are int32");
    if (model_of(c, cell, &m, e))
        return -1;
    enum dtype t = c->in[I_X]->type;
    int64_t all[4] = {m.steps, m.dirs, m.batch, m.hidden}, last[3] = {m.dirs, m.batch, m.hidden};
    if (m.a->layout) {
        memcpy(all, (int64_t[]){m.batch, m.steps, m.dirs, m.hidden}, sizeof all);
        memcpy(last, (int64_t[]){m.batch, m.dirs, m.hidden}, sizeof last);
    }
    return op_out(c, 0, t, 4, all, e) || op_out(c, 1, t, 3, last, e) || op_out(c, 2, t, 3, last, e)
               ? -1
               : 0;
}

/* ---- run ---- */

static size_t room_for(const struct op_ctx *c, const struct rnn *m)
{
    int64_t n = m->in + (2 + 1 + m->cell->gates) * m->hidden;
    for (int i = I_W; i <= I_P; i++)
        n += input(c, i) ? tensor_count(input(c, i)) : 0;
    return (size_t)n * sizeof(double);
}

static double *take(double **room, int64_t n)
{
    double *ret = *room;
    *room += n;
    return ret;
}

static double *load(const struct op_ctx *c, int i, double **room)
{
    const struct tensor *t = input(c, i);
    if (!t)
        return NULL;
    double *ret = take(room, tensor_count(t));
    row_loader(t->type)(tensor_count(t), t->data, 1, ret);
    return ret;
}

static void save(const struct tensor *t, int64_t at, int64_t n, const double *v)
{
    row_storer(t->type)(n, v, (char *)t->data + (size_t)at * dtype_size(t->type), 1);
}

/* Where a state of (direction, sample) lies in Y_h, Y_c, initial_h, initial_c. */
static int64_t state_at(const struct rnn *m, int64_t dir, int64_t b)
{
    return (m->a->layout ? b * m->dirs + dir : dir * m->batch + b) * m->hidden;
}

static int64_t y_at(const struct rnn *m, int64_t t, int64_t dir, int64_t b)
{
    return (m->a->layout ? (b * m->steps + t) * m->dirs + dir
                         : (t * m->dirs + dir) * m->batch + b) *
           m->hidden;
}

static void start_state(const struct op_ctx *c, int i, const struct rnn *m, int64_t at, double *ret)
{
    const struct tensor *t = input(c, i);
    memset(ret, 0, (size_t)m->hidden * sizeof *ret);
    if (t)
        row_loader(t->type)(m->hidden, (const char *)t->data + (size_t)at * dtype_size(t->type), 1,
                            ret);
}

static int64_t length_of(const struct op_ctx *c, const struct rnn *m, int64_t b)
{
    int64_t n = input(c, I_LENGTHS) ? tensor_int(c->in[I_LENGTHS], b) : m->steps;
    return n < 0 ? 0 : n > m->steps ? m->steps : n;
}

static struct tensor *output(const struct op_ctx *c, int i)
{
    return i < c->n_out ? c->out[i] : NULL;
}

/* One sample in one direction. */
static void run_sequence(const struct op_ctx *c, struct rnn *m, int dir, int64_t b)
{
    const struct tensor *x = c->in[I_X];
    size_t row = (size_t)m->in * dtype_size(x->type);
    bool backward = dir == 1 || !strcmp(m->a->direction, "reverse");
    int64_t n = length_of(c, m, b);
    start_state(c, I_H, m, state_at(m, dir, b), m->h);
    if (m->cell->has_c)
        start_state(c, I_C, m, state_at(m, dir, b), m->c);
    for (int64_t k = 0; k < n; k++) {
        int64_t t = backward ? n - 1 - k : k;
        int64_t at = m->a->layout ? b * m->steps + t : t * m->batch + b;
        row_loader(x->type)(m->in, (const char *)x->data + (size_t)at * row, 1, m->x);
        m->cell->step(m, dir, m->x, m->h, m->c);
        if (output(c, 0))
            save(c->out[0], y_at(m, t, dir, b), m->hidden, m->h);
    }
    if (output(c, 1))
        save(c->out[1], state_at(m, dir, b), m->hidden, m->h);
    if (output(c, 2))
        save(c->out[2], state_at(m, dir, b), m->hidden, m->c);
}

static int run_cell(const struct op_ctx *c, const struct cell *cell, struct err *e)
{
    struct rnn m;
    if (model_of(c, cell, &m, e))
        return -1;
    double *room = c->scratch;
    m.x = take(&room, m.in);
    m.h = take(&room, m.hidden);
    m.c = take(&room, m.hidden);
    m.extra = take(&room, m.hidden);
    m.gates = take(&room, cell->gates * m.hidden);
    m.w = load(c, I_W, &room);
    m.r = load(c, I_R, &room);
    m.b = load(c, I_B, &room);
    m.p = load(c, I_P, &room);
    if (output(c, 0)) /* what lies behind a sequence's end is 0 */
        memset(c->out[0]->data, 0, tensor_bytes(c->out[0]));
    for (int dir = 0; dir < m.dirs; dir++)
        for (int64_t b = 0; b < m.batch; b++)
            run_sequence(c, &m, dir, b);
    return 0;
}

#define OPERATOR(name)                                                                             \
    static int name##_shape(struct op_ctx *c, struct err *e)                                       \
    {                                                                                              \
        return shape_of(c, &cell_##name, e);                                                       \
    }                                                                                              \
    static int name##_prepare(struct op_ctx *c, const void **ret_prep, struct err *e)              \
    {                                                                                              \
        struct rnn m;                                                                              \
        *ret_prep = NULL;                                                                          \
        if (model_of(c, &cell_##name, &m, e))                                                      \
            return -1;                                                                             \
        c->scratch_bytes = room_for(c, &m);                                                        \
        return 0;                                                                                  \
    }                                                                                              \
    static int name##_run(const struct op_ctx *c, struct err *e)                                   \
    {                                                                                              \
        return run_cell(c, &cell_##name, e);                                                       \
    }
OPERATOR(rnn)
OPERATOR(gru)
OPERATOR(lstm)

#define A(kind, field, ...) ATTR(kind, rnn_attr, field, __VA_ARGS__)
static const struct attr_def rnn_attrs[] = {A(STRINGS, activations),
                                            A(FLOATS, activation_alpha),
                                            A(FLOATS, activation_beta),
                                            A(FLOAT, clip),
                                            A(STRING, direction, .text = "forward"),
                                            A(INT, hidden_size),
                                            A(INT, input_forget),
                                            A(INT, layout),
                                            A(INT, linear_before_reset),
                                            {0}};

#define ROW(name, stem, ins, outs, ...)                                                            \
    {                                                                                              \
        name, ONNX, .since = 7, .min_in = 3, .max_in = ins, .max_out = outs, .attrs = rnn_attrs,   \
                    .attr_size = sizeof(struct rnn_attr), .shape = stem##_shape,                   \
                    .prepare = stem##_prepare, .run = stem##_run, __VA_ARGS__                      \
    }
#define QUANT                                                                                      \
    .in = {FEATURE, WEIGHT(-1), WEIGHT(-1)}, .out = {FEATURE, FEATURE}, .traits = T_QUANT | T_HEAVY

const struct op ops_rnn[] = {ROW("RNN", rnn, 6, 2, .traits = T_HEAVY, .types = TYPES_FLOAT),
                             ROW("GRU", gru, 6, 2, QUANT, .types = TYPES_FLOAT),
                             ROW("LSTM", lstm, 8, 3, QUANT, .types = TYPES_FLOAT),
                             {0}};
