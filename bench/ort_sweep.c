/*
 * A naive sweep by ONNX Runtime, timed: `ort_sweep LIBRARY MODEL NODES SECONDS THREADS SAMPLES
 * (INPUT FILE.npy × SAMPLES)… -- OUTPUT…`. NODES is a file: a node's name, a tab, and the names of
 * its inputs that are quantized, one line a candidate. For each a session of its own: the model
 * with QuantizeLinear and DequantizeLinear (int8) before those inputs, all graph optimizations; all
 * samples through it, the mean squared error of every output. No more are begun after SECONDS, and
 * the lines are taken in an order that spreads them over the model. Prints JSON.
 *
 * The model is changed as bytes: its graph's fields are copied as they are, but for one node.
 */
#include "bench/ort_api.h"

#include "common/arena.h"
#include "common/buf.h"

enum { GRAPH = 7, NODE = 1, INITIALIZER = 5, NODE_INPUT = 1, NODE_NAME = 3, LINE_MAX = 4096 };
enum { NAMES_MAX = 16, BYTES = 2, SAMPLES_MAX = 64, MODEL_MAX = 1 << 30 };

/* ---- protobuf, as much as is needed ---- */

struct field {
    int number, wire;
    const char *begin, *data, *end; /* with its tag; the content */
};

static uint64_t varint(const char **at)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        unsigned char c = (unsigned char)*(*at)++;
        v |= (uint64_t)(c & 127) << shift;
        if (c < 128)
            return v;
    }
}

static bool next_field(const char **at, const char *end, struct field *ret)
{
    if (*at >= end)
        return false;
    ret->begin = *at;
    uint64_t tag = varint(at);
    ret->number = (int)(tag >> 3);
    ret->wire = (int)(tag & 7);
    uint64_t size = ret->wire == BYTES ? varint(at) : 0;
    ret->data = *at;
    if (ret->wire == 0)
        varint(at);
    else
        *at += ret->wire == 1 ? 8 : ret->wire == 5 ? 4 : size;
    ret->end = *at;
    return true;
}

static void put_varint(struct buf *b, uint64_t v)
{
    for (; v > 127; v >>= 7) {
        char c = (char)(v | 128);
        buf_add(b, &c, 1);
    }
    char c = (char)v;
    buf_add(b, &c, 1);
}

static void put_bytes(struct buf *b, int number, const void *data, size_t n)
{
    put_varint(b, (uint64_t)number << 3 | BYTES);
    put_varint(b, n);
    buf_add(b, data, n);
}

static void put_text(struct buf *b, int number, const char *text)
{
    put_bytes(b, number, text, strlen(text));
}

static bool is_text(const struct field *f, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(f->end - f->data) == n && !memcmp(f->data, text, n);
}

/* ---- a candidate's model ---- */

struct candidate {
    char line[LINE_MAX];
    const char *name, *inputs[NAMES_MAX];
    int n_inputs;
};

static bool is_node(const struct field *node, const char *name)
{
    struct field f;
    for (const char *at = node->data; next_field(&at, node->end, &f);)
        if (f.number == NODE_NAME && is_text(&f, name))
            return true;
    return false;
}

static int wanted(const struct candidate *c, const struct field *input)
{
    for (int i = 0; i < c->n_inputs; i++)
        if (is_text(input, c->inputs[i]))
            return i;
    return -1;
}

static void put_pair(struct buf *graph, const char *input, int i)
{
    static const char *const ops[] = {"QuantizeLinear", "DequantizeLinear"};
    char to[32], from[LINE_MAX];
    snprintf(from, sizeof from, "%s", input);
    for (int k = 0; k < 2; k++) {
        struct buf node;
        buf_init(&node, MODEL_MAX);
        snprintf(to, sizeof to, "bench_%s_%d", k ? "dq" : "q", i);
        put_text(&node, 1, from);
        put_text(&node, 1, "bench_scale");
        put_text(&node, 1, "bench_zero");
        put_text(&node, 2, to);
        put_text(&node, 3, to);
        put_text(&node, 4, ops[k]);
        put_bytes(graph, NODE, node.data, node.len);
        buf_done(&node);
        snprintf(from, sizeof from, "%s", to);
    }
}

/* The node, reading the quantized inputs, behind the pairs that make them. */
static int put_node(struct buf *graph, const struct field *node, const struct candidate *c)
{
    struct buf changed;
    struct field f;
    int n = 0;
    buf_init(&changed, MODEL_MAX);
    for (const char *at = node->data; next_field(&at, node->end, &f);) {
        int i = f.number == NODE_INPUT ? wanted(c, &f) : -1;
        if (i < 0) {
            buf_add(&changed, f.begin, (size_t)(f.end - f.begin));
            continue;
        }
        char name[32];
        snprintf(name, sizeof name, "bench_dq_%d", n);
        put_pair(graph, c->inputs[i], n++);
        put_text(&changed, NODE_INPUT, name);
    }
    put_bytes(graph, NODE, changed.data, changed.len);
    buf_done(&changed);
    return n;
}

static void put_constant(struct buf *graph, const char *name, int type, const void *data, size_t n)
{
    struct buf t;
    buf_init(&t, MODEL_MAX);
    put_varint(&t, 2 << 3); /* data_type */
    put_varint(&t, (uint64_t)type);
    put_text(&t, 8, name);
    put_bytes(&t, 9, data, n);
    put_bytes(graph, INITIALIZER, t.data, t.len);
    buf_done(&t);
}

static int change_graph(const struct field *from, const struct candidate *c, struct buf *graph)
{
    static const float scale = 0.03125f;
    static const signed char zero = 0;
    struct field f;
    int n = 0;
    for (const char *at = from->data; next_field(&at, from->end, &f);)
        if (f.number == NODE && is_node(&f, c->name))
            n += put_node(graph, &f, c);
        else
            buf_add(graph, f.begin, (size_t)(f.end - f.begin));
    put_constant(graph, "bench_scale", 1, &scale, sizeof scale);
    put_constant(graph, "bench_zero", 3, &zero, sizeof zero);
    return n;
}

/* Returns how many inputs are quantized; 0: the model has no such node. */
static int change_model(const char *model, size_t size, const struct candidate *c, struct buf *ret)
{
    struct field f;
    int n = 0;
    for (const char *at = model; next_field(&at, model + size, &f);) {
        if (f.number != GRAPH) {
            buf_add(ret, f.begin, (size_t)(f.end - f.begin));
            continue;
        }
        struct buf graph;
        buf_init(&graph, MODEL_MAX);
        n = change_graph(&f, c, &graph);
        put_bytes(ret, GRAPH, graph.data, graph.len);
        buf_done(&graph);
    }
    return n;
}

/* ---- running ---- */

struct sweep {
    void *env, *options;
    const char *model;
    size_t model_bytes;
    int n_samples, n_in, n_out;
    void *in[SAMPLES_MAX][PORTS_MAX];
    const char *in_names[PORTS_MAX], *out_names[PORTS_MAX];
    float *exact[SAMPLES_MAX][PORTS_MAX];
    double sink;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const float *elements(void *value, size_t *ret_n)
{
    void *info = NULL, *data = NULL;
    ok(((void *(*)(void *, void **))api[GET_TYPE_AND_SHAPE])(value, &info), "type");
    ok(((void *(*)(void *, size_t *))api[GET_ELEMENT_COUNT])(info, ret_n), "count");
    ((void (*)(void *))api[RELEASE_TYPE_AND_SHAPE])(info);
    ok(((void *(*)(void *, void **))api[GET_TENSOR_DATA])(value, &data), "data");
    return data;
}

static void take(struct sweep *s, int sample, int o, void *value)
{
    size_t n;
    const float *v = elements(value, &n), *x = s->exact[sample][o];
    double sum = 0;
    if (!x) {
        s->exact[sample][o] = xmalloc(n * sizeof *v + 1);
        memcpy(s->exact[sample][o], v, n * sizeof *v);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        double d = (double)(x[i] - v[i]);
        sum += d * d;
    }
    s->sink += sum / (double)n;
}

static void run_samples(struct sweep *s, void *session)
{
    typedef void *run(void *, const void *, const char *const *, void *const *, size_t,
                      const char *const *, size_t, void **);
    for (int i = 0; i < s->n_samples; i++) {
        void *out[PORTS_MAX] = {0};
        ok(((run *)api[RUN])(session, NULL, s->in_names, s->in[i], (size_t)s->n_in, s->out_names,
                             (size_t)s->n_out, out),
           "run");
        for (int o = 0; o < s->n_out; o++) {
            take(s, i, o, out[o]);
            ((void (*)(void *))api[RELEASE_VALUE])(out[o]);
        }
    }
}

static bool run_candidate(struct sweep *s, const struct candidate *c)
{
    typedef void *create(void *, const void *, size_t, void *, void **);
    struct buf b;
    void *session = NULL;
    buf_init(&b, MODEL_MAX);
    bool there = change_model(s->model, s->model_bytes, c, &b) || !*c->name;
    if (there) {
        ok(((create *)api[CREATE_SESSION_FROM_ARRAY])(s->env, b.data, b.len, s->options, &session),
           c->name);
        run_samples(s, session);
        ((void (*)(void *))api[RELEASE_SESSION])(session);
    }
    buf_done(&b);
    return there;
}

/* ---- the command line ---- */

static const char *map_file(const char *path, size_t *ret_size)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st))
        die(path, "cannot be read");
    const char *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    *ret_size = (size_t)st.st_size;
    return data == MAP_FAILED ? (die(path, "cannot be mapped"), NULL) : data;
}

static int read_candidates(const char *path, struct candidate **ret)
{
    FILE *f = fopen(path, "r");
    struct candidate *list = NULL;
    int n = 0;
    char line[LINE_MAX];
    if (!f)
        die(path, "cannot be read");
    while (fgets(line, sizeof line, f)) {
        list = xrealloc(list, (size_t)(n + 1) * sizeof *list);
        memcpy(list[n++].line, line, sizeof line);
    }
    fclose(f);
    for (int i = 0; i < n; i++) {
        char *rest = list[i].line;
        list[i].n_inputs = 0;
        list[i].line[strcspn(list[i].line, "\n")] = '\0';
        list[i].name = strsep(&rest, "\t");
        while (rest && list[i].n_inputs < NAMES_MAX)
            list[i].inputs[list[i].n_inputs++] = strsep(&rest, "\t");
    }
    *ret = list;
    return n;
}

static void read_ports(struct sweep *s, char **argv)
{
    void *memory = cpu_memory();
    for (; *argv && strcmp(*argv, "--") && s->n_in < PORTS_MAX; s->n_in++) {
        s->in_names[s->n_in] = *argv++;
        for (int i = 0; i < s->n_samples; i++)
            s->in[i][s->n_in] = load_value(*argv++, memory);
    }
    for (argv += *argv != NULL; *argv && s->n_out < PORTS_MAX; s->n_out++)
        s->out_names[s->n_out] = *argv++;
}

/* The bits of v, the lowest first: what is cut short is spread over the whole. */
static int reversed(int v, int top)
{
    int at = 0;
    for (int bit = 1; top; bit *= 2, top /= 2)
        at += v & bit ? top : 0;
    return at;
}

int main(int argc, char **argv)
{
    static struct sweep s;
    struct candidate *list, none = {.name = ""};
    if (argc < 8)
        die("usage", "ort_sweep LIBRARY MODEL NODES SECONDS THREADS SAMPLES (INPUT FILE.npy...)... "
                     "-- OUTPUT...");
    const struct api_base *base = open_library(argv[1]);
    s.model = map_file(argv[2], &s.model_bytes);
    int n = read_candidates(argv[3], &list), measured = 0, missing = 0;
    double limit = atof(argv[4]);
    s.n_samples = atoi(argv[6]) < SAMPLES_MAX ? atoi(argv[6]) : SAMPLES_MAX;
    s.options = session_options(atoi(argv[5]));
    s.env = open_env();
    read_ports(&s, argv + 7);
    run_candidate(&s, &none); /* the float reference, not counted */
    int top = 1;
    while (top * 2 < n)
        top *= 2;
    double begin = now();
    for (int first = 0; first < top * 2; first++) {
        int at = reversed(first, top);
        if (at < n && now() - begin < limit)
            *(run_candidate(&s, &list[at]) ? &measured : &missing) += 1;
    }
    printf("{\"seconds\": %.6f, \"measured\": %d, \"missing\": %d, \"version\": \"%s\", \"sink\": "
           "%g}\n",
           now() - begin, measured, missing, base->version(), s.sink);
}
