/* Which operators of a file have no row: all at once, so that one look tells what is needed. */
#include "worker/load/missing.h"

#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/buf.h"
#include "worker/ops/op.h"

struct kind {
    const char *domain, *type;
    int opset, n_nodes;
    struct buf nodes;
};
enum { KINDS_MAX = 32, NODES_SHOWN = 5, TEXT_MAX = ERR_DETAIL_MAX - 64 };

struct missing {
    const struct functions *functions;
    const struct opset *opsets;    /* the model's */
    const Onnx__FunctionProto *in; /* whose nodes are looked at, with its own opsets; or NULL */
    bool *seen;                    /* per function */
    int n_opsets, n_kinds, more, depth;
    struct kind kinds[KINDS_MAX];
};

static struct kind *kind_of(struct missing *m, const char *domain, const char *type, int opset)
{
    for (int i = 0; i < m->n_kinds; i++)
        if (!strcmp(m->kinds[i].domain, domain) && !strcmp(m->kinds[i].type, type))
            return &m->kinds[i];
    if (m->n_kinds == KINDS_MAX)
        return NULL;
    struct kind *k = &m->kinds[m->n_kinds++];
    *k = (struct kind){.domain = domain, .type = type, .opset = opset};
    buf_init(&k->nodes, TEXT_MAX);
    return k;
}

static void note(struct missing *m, const Onnx__NodeProto *p, size_t index, const char *domain,
                 int opset)
{
    struct kind *k = kind_of(m, domain, p->op_type, opset);
    if (!k) {
        m->more++;
        return;
    }
    if (++k->n_nodes > NODES_SHOWN)
        return;
    buf_adds(&k->nodes, k->n_nodes > 1 ? ", " : "");
    if (p->name && *p->name)
        buf_addf(&k->nodes, "%.120s", p->name);
    else
        buf_addf(&k->nodes, "%.100s_%zu", p->op_type, index);
}

static const char *plain_domain(const char *domain)
{
    return domain && strcmp(domain, "ai.onnx") ? domain : "";
}

/* 0: not imported. */
static int version_of(const struct missing *m, const char *domain)
{
    for (size_t i = 0; m->in && i < m->in->n_opset_import; i++)
        if (!strcmp(plain_domain(m->in->opset_import[i]->domain), domain))
            return (int)m->in->opset_import[i]->version;
    for (int i = 0; !m->in && i < m->n_opsets; i++)
        if (!strcmp(m->opsets[i].domain, domain))
            return m->opsets[i].version;
    return 0;
}

static void look(struct missing *m, Onnx__NodeProto *const *nodes, size_t n);

static void look_into(struct missing *m, int function)
{
    const Onnx__FunctionProto *outer = m->in, *f = m->functions->list[function];
    if (m->seen[function] || m->depth == FUNCTIONS_DEEP_MAX)
        return;
    m->seen[function] = true;
    m->in = f;
    m->depth++;
    look(m, f->node, f->n_node);
    m->depth--;
    m->in = outer;
}

static void look(struct missing *m, Onnx__NodeProto *const *nodes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const Onnx__NodeProto *p = nodes[i];
        const char *domain = plain_domain(p->domain);
        int f = functions_find(m->functions, p);
        int version = version_of(m, domain);
        if (f >= 0)
            look_into(m, f);
        else if (p->op_type && version && !op_find(domain, p->op_type, version))
            note(m, p, i, domain, version);
        for (size_t k = 0; k < p->n_attribute; k++)
            if (p->attribute[k]->g)
                look(m, p->attribute[k]->g->node, p->attribute[k]->g->n_node);
    }
}

static int report(struct missing *m, struct err *e)
{
    struct buf text;
    buf_init(&text, TEXT_MAX);
    for (int i = 0; i < m->n_kinds; i++) {
        struct kind *k = &m->kinds[i];
        buf_addf(&text, "%s%s%s%s of opset %d (%s", i ? "; " : "", k->domain, *k->domain ? "." : "",
                 k->type, k->opset, k->nodes.data);
        if (k->n_nodes > NODES_SHOWN)
            buf_addf(&text, " and %d more", k->n_nodes - NODES_SHOWN);
        buf_adds(&text, ")");
        buf_done(&k->nodes);
    }
    if (m->more)
        buf_addf(&text, "; and others at %d nodes", m->more);
    err_set(e, ERR_UNSUPPORTED, "", "There are no operators %s.", text.data);
    buf_done(&text);
    return -1;
}

int missing_check(const Onnx__GraphProto *g, const struct functions *functions,
                  const struct opset *opsets, int n_opsets, struct err *e)
{
    struct missing m = {.functions = functions, .opsets = opsets, .n_opsets = n_opsets};
    m.seen = xcalloc(FUNCTIONS_MAX, sizeof *m.seen);
    look(&m, g->node, g->n_node);
    free(m.seen);
    return m.n_kinds ? report(&m, e) : 0;
}
