/*
 * The changed part of a candidate. Two looks at the steps of its exec say what is to be run: from
 * the first to the last, what the candidate may change; from the last to the first, what the
 * chosen outputs need of that. Then the run itself, which leaves out what turns out not to differ.
 *
 * A node that the candidate does not touch gives the float values again only if it reads and
 * writes the same layouts as in the float pass, for an operator's sums may depend on the order in
 * memory; one that does not is run.
 */
#include <stdlib.h>
#include <string.h>

#include "worker/exec/sweep_inner.h"

struct part {
    struct sweep *s;
    struct exec *x;
    struct arena arena;
    bool *may;                      /* source: the candidate may change it */
    bool *changed;                  /* source: it did */
    bool *read_buffer, *read_place; /* somebody that is run reads it */
    bool *needed;                   /* step */
    struct metric_sums *ret;
    int64_t executed;

    /* for what other candidates may have in common with this one */
    struct memo_run memo;
    int *last_read;       /* source → the last step that reads it, or NONE */
    bool *live;           /* source: changed, and still to be read */
    int n_live, n_quants; /* so many; quantizations still to come */
    uint64_t *signature;  /* step: of those from it on */
};

/* ---- what may change ---- */

static const struct place *place_at(const struct exec *x, int p)
{
    return p == NONE ? NULL : x->places[p];
}

/* What is late lies as its producer left it: as in the float pass, if that was run so. */
static bool same_layouts(const struct exec *x, const int *a, const struct exec *y, const int *b,
                         int n)
{
    for (int i = 0; i < n; i++) {
        const struct place *p = place_at(x, a[i]), *q = place_at(y, b[i]);
        if (!p != !q || (p && p->kind != PLACE_LATE && p->t.layout != q->t.layout))
            return false;
    }
    return true;
}

/* The float pass ran this node in the same way. */
static bool as_in_float(const struct part *p, const struct step *s)
{
    const struct exec *f = p->s->exact;
    if (f->node_step[s->index] == NONE)
        return false;
    const struct step *t = f->steps[f->node_step[s->index]];
    return s->late == t->late && same_layouts(p->x, s->in, f, t->in, s->n_in) &&
           same_layouts(p->x, s->out, f, t->out, s->n_out);
}

/* A constant that its calibration leaves as it is. */
static bool const_unchanged(const struct exec *x, int source)
{
    int place = x->at[source][LAYOUT_PLAIN];
    const struct tensor *from = &x->types[x->plan->calibs[source - x->graph->n_values].value];
    return place != NONE && !memcmp(x->places[place]->t.data, from->data, tensor_bytes(from));
}

static void mark_constants(struct part *p)
{
    const struct exec *x = p->x;
    for (int k = 0; k < x->plan->n_calibs; k++) {
        int source = x->graph->n_values + k;
        if (x->used[k] && exec_is_const(x, source))
            p->may[source] = p->changed[source] = !const_unchanged(x, source);
    }
}

static bool reads_any(const struct exec *x, const struct step *s, const bool *sources)
{
    for (int i = 0; i < s->n_in; i++)
        if (s->in[i] != NONE && sources[x->places[s->in[i]]->source])
            return true;
    return false;
}

static void find_may_change(struct part *p)
{
    const struct exec *x = p->x;
    mark_constants(p);
    for (int i = 0; i < x->n_steps; i++) {
        const struct step *s = x->steps[i];
        bool may = s->kind == STEP_QUANT ||
                   (s->kind == STEP_NODE && (reads_any(x, s, p->may) || !as_in_float(p, s)));
        for (int o = 0; o < s->n_out && may; o++)
            if (s->out[o] != NONE)
                p->may[x->places[s->out[o]]->source] = true;
    }
}

/* ---- what is needed ---- */

static void mark_read(struct part *p, int place)
{
    if (place == NONE)
        return;
    p->read_place[place] = true;
    if (p->x->places[place]->kind == PLACE_SLAB)
        p->read_buffer[p->x->places[place]->buffer] = true;
}

static bool is_read(const struct part *p, int place)
{
    const struct place *at = place_at(p->x, place);
    return at && (p->read_place[place] || (at->kind == PLACE_SLAB && p->read_buffer[at->buffer]));
}

static bool any_read(const struct part *p, const struct step *s)
{
    for (int o = 0; o < s->n_out; o++)
        if (is_read(p, s->out[o]))
            return true;
    return false;
}

static const struct kept *kept_of(const struct part *p, int place)
{
    int source = p->x->places[place]->source;
    const struct kept *k = source < p->s->graph->n_values ? &p->s->kept[source] : NULL;
    return k && k->t.data ? k : NULL;
}

/* All that is read of the step's outputs was kept, as it would lie in memory. */
static bool can_take(const struct part *p, const struct step *s)
{
    for (int o = 0; o < s->n_out; o++) {
        if (!is_read(p, s->out[o]))
            continue;
        const struct kept *k = kept_of(p, s->out[o]);
        const struct place *at = p->x->places[s->out[o]];
        if (!k || (!s->late && k->t.layout != at->t.layout))
            return false;
    }
    return true;
}

static bool gives_output(const struct part *p, const struct step *s)
{
    for (int o = 0; o < s->n_out; o++)
        if (s->out[o] != NONE) {
            int source = p->x->places[s->out[o]]->source;
            if (source < p->s->graph->n_values && p->s->output_of[source] != NONE && p->may[source])
                return true;
        }
    return false;
}

static bool may_differ(const struct part *p, const struct step *s)
{
    for (int o = 0; o < s->n_out; o++)
        if (s->out[o] != NONE && p->may[p->x->places[s->out[o]]->source])
            return true;
    return false;
}

static void find_needed(struct part *p)
{
    const struct exec *x = p->x;
    for (int i = x->n_steps - 1; i >= 0; i--) {
        const struct step *s = x->steps[i];
        if (s->kind == STEP_FOLDED)
            continue;
        p->needed[i] = any_read(p, s) || (s->kind == STEP_NODE && gives_output(p, s));
        bool taken = s->kind == STEP_NODE && !may_differ(p, s) && can_take(p, s);
        for (int k = 0; k < s->n_in && p->needed[i] && !taken; k++)
            mark_read(p, s->in[k]);
    }
}

/* ---- the run ---- */

static bool same_bits(const struct tensor *a, const struct tensor *b)
{
    return tensor_same_shape(a, b) && (a->layout == b->layout || exec_same_bytes(a)) &&
           !memcmp(a->data, b->data, tensor_bytes(a));
}

/* The value's places in the step's buffer show the kept tensor. */
static void take_kept(struct part *p, const struct step *s)
{
    struct exec *x = p->x;
    for (int o = 0; o < s->n_out; o++) {
        if (!is_read(p, s->out[o]))
            continue;
        struct place *at = x->places[s->out[o]];
        const struct kept *k = kept_of(p, s->out[o]);
        if (at->kind == PLACE_LATE)
            at->t = k->t;
        at->t.data = k->t.data;
        for (int l = 0; l < 2; l++) {
            int q = x->at[at->source][l];
            if (q != NONE && at->kind == PLACE_SLAB && x->places[q]->kind == PLACE_SLAB &&
                x->places[q]->buffer == at->buffer)
                x->places[q]->t.data = k->t.data;
        }
    }
}

static void note_outputs(struct part *p, const struct step *s, bool differs)
{
    for (int o = 0; o < s->n_out; o++) {
        if (s->out[o] == NONE)
            continue;
        const struct place *at = p->x->places[s->out[o]];
        const struct kept *k = kept_of(p, s->out[o]);
        p->changed[at->source] = differs && !(k && same_bits(&k->t, &at->t));
        int out = p->s->output_of[at->source];
        if (out == NONE)
            continue;
        sweep_compare(p->s, out, &at->t, &p->ret[out]);
        memo_output(&p->memo, out, &p->ret[out]);
    }
}

static int run_node(struct part *p, struct step *s, struct err *e)
{
    bool differs = reads_any(p->x, s, p->changed) || !as_in_float(p, s);
    if (!differs && can_take(p, s)) {
        take_kept(p, s);
        return 0;
    }
    p->executed++;
    if (exec_run_step(p->x, s, e))
        return -1;
    note_outputs(p, s, differs);
    return 0;
}

static int run_quant(struct part *p, struct step *s, struct err *e)
{
    const struct kept *k = &p->s->kept[p->x->plan->calibs[s->index].value];
    const struct place *at = p->x->places[s->out[0]];
    if (exec_run_step(p->x, s, e))
        return -1;
    p->changed[at->source] = !(k->t.data && same_bits(&k->t, &at->t));
    return 0;
}

static int run_step(struct part *p, struct step *s, struct err *e)
{
    if (s->kind == STEP_NODE)
        return run_node(p, s, e);
    if (s->kind == STEP_QUANT)
        return run_quant(p, s, e);
    return exec_run_step(p->x, s, e);
}

/* ---- what candidates share ---- */

static void find_last_reads(struct part *p)
{
    const struct exec *x = p->x;
    memset(p->last_read, -1, (size_t)x->n_sources * sizeof *p->last_read);
    for (int i = 0; i < x->n_steps; i++) {
        const struct step *s = x->steps[i];
        p->n_quants += p->needed[i] && s->kind == STEP_QUANT;
        for (int k = 0; k < s->n_in && p->needed[i]; k++)
            if (s->in[k] != NONE)
                p->last_read[x->places[s->in[k]]->source] = i;
    }
    for (int k = 0; k < x->n_sources; k++) /* constants */
        if (p->changed[k] && p->last_read[k] != NONE) {
            p->live[k] = true;
            p->n_live++;
        }
}

static void find_signatures(struct part *p)
{
    const struct exec *x = p->x;
    for (int i = x->n_steps - 1; i >= 0; i--) {
        const struct step *s = x->steps[i];
        unsigned char layouts[64];
        int n = 0;
        p->signature[i] = p->signature[i + 1];
        if (s->kind != STEP_NODE)
            continue;
        for (int k = 0; k < s->n_in + s->n_out && n < 64; k++) {
            int at = k < s->n_in ? s->in[k] : s->out[k - s->n_in];
            layouts[n++] = (unsigned char)(at == NONE ? 2 : x->places[at]->t.layout);
        }
        p->signature[i] = memo_signature(p->signature[i + 1], s->index, layouts, n);
    }
}

static void begin_memo(struct part *p)
{
    const struct exec *x = p->x;
    memo_begin(&p->memo, p->s->all_kept ? p->s->memo : NULL, p->s->opts.n_outputs, &p->arena);
    if (!p->memo.memo)
        return;
    p->last_read = arena_array(&p->arena, (size_t)x->n_sources + 1, sizeof *p->last_read);
    p->live = arena_array(&p->arena, (size_t)x->n_sources + 1, sizeof *p->live);
    p->signature = arena_array(&p->arena, (size_t)x->n_steps + 1, sizeof *p->signature);
    find_last_reads(p);
    find_signatures(p);
}

static void note_lives(struct part *p, const struct step *s, int i)
{
    const struct exec *x = p->x;
    for (int o = 0; o < s->n_out && s->kind != STEP_REORDER; o++) {
        int source = s->out[o] == NONE ? NONE : x->places[s->out[o]]->source;
        if (source == NONE || !p->changed[source] || p->live[source] || p->last_read[source] <= i)
            continue;
        p->live[source] = true;
        p->n_live++;
    }
    for (int k = 0; k < s->n_in; k++) {
        int source = s->in[k] == NONE ? NONE : x->places[s->in[k]]->source;
        if (source == NONE || !p->live[source] || p->last_read[source] > i)
            continue;
        p->live[source] = false;
        p->n_live--;
    }
    p->n_quants -= s->kind == STEP_QUANT;
}

/* The value that the source stands for to all that is still to be run, or NONE: nobody reads the
 * value or a calibration of it in another way. */
static int whole_value(const struct part *p, int source, int i)
{
    int n = p->x->graph->n_values;
    int value = source < n ? source : p->x->plan->calibs[source - n].value;
    if (source >= n && p->last_read[value] > i)
        return NONE;
    for (int k = 0; k < p->x->plan->n_calibs; k++)
        if (p->x->plan->calibs[k].value == value && n + k != source && p->last_read[n + k] > i)
            return NONE;
    return value;
}

/* After step i: true when the rest is known from another candidate. */
static bool is_known(struct part *p, const struct step *s, int i)
{
    if (!p->memo.memo)
        return false;
    if (s->kind == STEP_NODE && s->ctx.node->op->macs && reads_any(p->x, s, p->changed))
        p->memo.closed = true;
    note_lives(p, s, i);
    if (p->n_live != 1 || p->n_quants || s->kind == STEP_REORDER)
        return false;
    for (int o = 0; o < s->n_out; o++) {
        int source = s->out[o] == NONE ? NONE : p->x->places[s->out[o]]->source;
        if (source == NONE || !p->live[source])
            continue;
        int value = whole_value(p, source, i);
        return value != NONE && memo_at(&p->memo, value, &p->x->places[s->out[o]]->t,
                                        p->signature[i + 1], &p->executed, p->ret);
    }
    return false;
}

static int run_steps(struct part *p, struct err *e)
{
    const struct exec *x = p->x;
    for (int i = 0; i < x->n_steps; i++) {
        if (!p->needed[i])
            continue;
        if (run_step(p, x->steps[i], e))
            return -1;
        if (is_known(p, x->steps[i], i))
            break;
    }
    memo_end(&p->memo, p->executed);
    return 0;
}

static int run_part(struct part *p, struct err *e)
{
    struct exec *x = p->x;
    size_t sources = (size_t)x->n_sources + 1;
    p->may = arena_array(&p->arena, sources, sizeof *p->may);
    p->changed = arena_array(&p->arena, sources, sizeof *p->changed);
    p->read_place = arena_array(&p->arena, (size_t)x->n_places + 1, sizeof *p->read_place);
    p->read_buffer = arena_array(&p->arena, (size_t)x->n_buffers + 1, sizeof *p->read_buffer);
    p->needed = arena_array(&p->arena, (size_t)x->n_steps + 1, sizeof *p->needed);
    if (exec_load_inputs(x, p->s->inputs, e) || sweep_use_slab(p->s, x, e))
        return -1;
    find_may_change(p);
    find_needed(p);
    begin_memo(p);
    return run_steps(p, e);
}

/* A graph output behind one of them is no value of the graph: the full run tells it. */
static bool quantizes_output(const struct sweep *s, const int *calibs, int n)
{
    for (int i = 0; i < n; i++)
        if (plan_is_output(s->opts.plan, calibs[i]))
            return true;
    return false;
}

int sweep_run(struct sweep *s, const int *calibs, int n, struct metric_sums *ret,
              struct sweep_counts *counts, struct err *e)
{
    if (s->whole_only || quantizes_output(s, calibs, n))
        return sweep_run_naive(s, calibs, n, ret, counts, e);
    struct part p = {.s = s, .ret = ret};
    memcpy(ret, s->no_loss, (size_t)s->opts.n_outputs * sizeof *ret);
    int rc = sweep_exec(s, calibs, n, false, &p.arena, &p.x, e) || run_part(&p, e);
    if (!rc) {
        counts->executed = p.executed;
        counts->whole = sweep_count_nodes(p.x);
    }
    exec_free(p.x);
    arena_done(&p.arena);
    return rc ? -1 : 0;
}
