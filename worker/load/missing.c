/* Which operators of a file have no row: all at once, so that one look tells what is needed. */
#include "worker/load/missing.h"

#include <string.h>

#include "common/buf.h"
#include "worker/ops/op.h"

struct kind {
    const char *domain, *type;
    int opset, n_nodes;
    struct buf nodes;
};
enum { KINDS_MAX = 32, NODES_SHOWN = 5, TEXT_MAX = ERR_DETAIL_MAX - 64 };

struct missing {
    const struct opset *opsets;
    int n_opsets, n_kinds, more;
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

static void look(struct missing *m, const Onnx__GraphProto *g)
{
    for (size_t i = 0; i < g->n_node; i++) {
        const Onnx__NodeProto *p = g->node[i];
        const char *domain = p->domain && strcmp(p->domain, "ai.onnx") ? p->domain : "";
        for (int k = 0; p->op_type && k < m->n_opsets; k++)
            if (!strcmp(m->opsets[k].domain, domain) &&
                !op_find(domain, p->op_type, m->opsets[k].version))
                note(m, p, i, domain, m->opsets[k].version);
        for (size_t k = 0; k < p->n_attribute; k++)
            if (p->attribute[k]->g)
                look(m, p->attribute[k]->g);
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

int missing_check(const Onnx__GraphProto *g, const struct opset *opsets, int n_opsets,
                  struct err *e)
{
    struct missing m = {.opsets = opsets, .n_opsets = n_opsets};
    look(&m, g);
    return m.n_kinds ? report(&m, e) : 0;
}
