/* Constants and shape arithmetic: what exec_fold knows the value of becomes a constant, and every
 * value gets the type that could be inferred. */
#include "worker/exec/exec.h"
#include "worker/load/optimize/edit.h"

struct folding {
    struct arena scratch;
    struct tensor *types, **known;
    int64_t left; /* the graph's fold_left behind it */
};

/* All that the node computes is known, and nobody outside asks for it by name. */
static bool folds(const struct graph *g, const struct folding *f, const struct node *n)
{
    for (int i = 0; i < n->n_out; i++)
        if (n->out[i] >= 0 && (!f->known[n->out[i]] || g->values[n->out[i]].is_output))
            return false;
    return true;
}

static void fold_nodes(struct edit *ed, const struct folding *f)
{
    for (int i = 0; i < ed->g->n_nodes; i++) {
        const struct node *n = &ed->g->nodes[i];
        if (!folds(ed->g, f, n))
            continue;
        struct build *b = edit_builder(ed);
        build_drop(b, i, -1, "folded");
        for (int k = 0; k < n->n_out; k++)
            if (n->out[k] >= 0) {
                b->values[n->out[k]].type = *f->known[n->out[k]];
                b->values[n->out[k]].is_const = true;
            }
    }
}

static void set_types(struct build *b, const struct graph *g, const struct folding *f)
{
    for (int v = 0; v < g->n_values; v++)
        if (!b->values[v].is_const)
            b->values[v].type = f->types[v];
}

static int infer(const struct graph *g, struct folding *f, struct err *e)
{
    *f = (struct folding){.scratch = ARENA_INIT};
    f->types = arena_array(&f->scratch, (size_t)g->n_values + 1, sizeof *f->types);
    f->known = arena_array(&f->scratch, (size_t)g->n_values + 1, sizeof *f->known);
    return exec_fold(g, g->arena, f->types, f->known, &f->left, e);
}

int pass_fold(const struct graph *g, const struct graph **ret, struct err *e)
{
    struct folding f;
    struct edit ed;
    edit_init(&ed, g, e);
    int rc = infer(g, &f, e);
    if (!rc) {
        fold_nodes(&ed, &f);
        if (ed.b) {
            set_types(ed.b, g, &f);
            ed.b->fold_left = f.left;
        }
        rc = edit_done(&ed, ret);
    }
    arena_done(&f.scratch);
    return rc;
}

int optimize_types(const struct graph *g, struct graph **ret, struct err *e)
{
    struct folding f;
    int rc = infer(g, &f, e);
    if (!rc) {
        struct build *b = build_from(g, g->arena);
        set_types(b, g, &f);
        b->fold_left = f.left;
        rc = build_freeze(b, ret, e);
    }
    arena_done(&f.scratch);
    return rc;
}
