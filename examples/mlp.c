/* A multilayer perceptron in C, held against certified truth through both doors. It needs a C99 compiler and nothing else:

       cc -O2 -ffp-contract=off -o mlp mlp.c -lm
       parity run -k "Linear or Tanh or Network or SGD" --dtype float64 --engine "exec:./mlp"

       parity export vectors -k Linear
       ./mlp vectors/linear.json > answers.json && parity judge answers.json

   Linear, Sigmoid, Tanh, ReLU, Sequential, MSELoss, HalfSquaredError and their Objective; SGD; training. In float64.
   docs/vectors.md describes what is read and written here. */

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory: everything that belongs to one record is freed with it */

typedef struct Block { struct Block *next; } Block;
static Block *blocks;

static void *grab(size_t bytes) {
    Block *b = calloc(1, sizeof *b + 8 + bytes);
    if (!b) { fputs("mlp: out of memory\n", stderr); exit(1); }
    b->next = blocks; blocks = b;
    return (char *)b + sizeof *b + 8 - sizeof *b % 8;
}

static void release(void) {
    while (blocks) { Block *next = blocks->next; free(blocks); blocks = next; }
}

/* ---- unsupported: said once, found at the end of a record */

static char unsupported[200];

static void cannot(const char *format, ...) {
    va_list list;
    if (*unsupported) return;
    va_start(list, format); vsnprintf(unsupported, sizeof unsupported, format, list); va_end(list);
}

/* ---- JSON */

typedef struct J { char kind; const char *key, *text; double number; struct J *first, *next; } J;

static const char *at;

static void fail(const char *what) { fprintf(stderr, "mlp: expected %s at: %.40s\n", what, at); exit(1); }

static void blanks(void) { while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r') at++; }

static char *string(void) {
    const char *from = ++at;
    while (*at && *at != '"') at += *at == '\\' && at[1] ? 2 : 1;
    if (!*at) fail("the end of a string");
    char *made = grab(at - from + 1), *to = made;
    /* Names in specifications and cases are plain; an escaped character stands for itself here. */
    for (; from < at; from++) *to++ = *from == '\\' ? *++from : *from;
    at++;
    return made;
}

static J *value(void) {
    J *j = grab(sizeof *j), **last = &j->first;
    blanks();
    j->kind = *at;
    if (*at == '"') { j->text = string(); }
    else if (*at == '{' || *at == '[') {
        char end = *at++ == '{' ? '}' : ']';
        for (blanks(); *at != end; blanks()) {
            const char *key = NULL;
            if (end == '}') { if (*at != '"') fail("a name"); key = string(); blanks(); if (*at++ != ':') fail("a colon"); }
            *last = value(); (*last)->key = key; last = &(*last)->next;
            blanks();
            if (*at == ',') at++; else if (*at != end) fail("a comma or an end");
        }
        at++;
    } else if (!strncmp(at, "true", 4)) { j->number = 1; at += 4; }
    else if (!strncmp(at, "false", 5)) at += 5;
    else if (!strncmp(at, "null", 4)) at += 4;
    else {
        char *end;
        j->kind = '0'; j->number = strtod(at, &end);
        if (end == at) fail("a value");
        at = end;
    }
    return j;
}

static J *get(const J *j, const char *key) {
    for (J *c = j ? j->first : NULL; c; c = c->next) if (c->key && !strcmp(c->key, key)) return c;
    return NULL;
}

static const char *text(const J *j, const char *key) { J *c = get(j, key); return c && c->text ? c->text : ""; }
static double number(const J *j, const char *key, double without) { J *c = get(j, key); return c ? c->number : without; }
static int count(const J *j) { int n = 0; for (J *c = j ? j->first : NULL; c; c = c->next) n++; return n; }

/* ---- tensors, in C order */

typedef struct { int rank, shape[8]; size_t size; double *v; } Tensor;

static Tensor like(Tensor t) { t.v = grab(t.size * sizeof(double) + 8); return t; }

static Tensor tensor(const J *j) {
    Tensor t = {0};
    t.size = 1;
    for (J *n = get(j, "shape") ? get(j, "shape")->first : NULL; n; n = n->next) {
        if (t.rank == 8) { cannot("tensors of more than 8 axes"); break; }
        t.size *= t.shape[t.rank++] = (int)n->number;
    }
    t = like(t);
    if (!get(j, "hex")) { cannot("arrays outside of the JSON file"); return t; }
    size_t k = 0;
    for (J *e = get(j, "hex")->first; e && k < t.size; e = e->next) t.v[k++] = e->text ? strtod(e->text, NULL) : e->number;
    return t;
}

/* ---- modules */

typedef struct Module {
    const char *type, *reduction, *name;       /* name: of a Linear's parameters, with the path before it */
    Tensor W, b, dW, db;                        /* W[o,i], b[o] */
    int has_bias, places, *place;
    struct Module **layer;                      /* layer[place[k]] stands at place k */
} Module;

static char *join(const char *path, const char *name) {
    char *made = grab(strlen(path) + strlen(name) + 1);
    return strcat(strcpy(made, path), name);
}

static Module *build(const J *spec, const J *arrays, const char *path) {
    Module *m = grab(sizeof *m);
    const J *args = get(spec, "args");
    m->type = text(spec, "type"); m->name = path;
    m->reduction = *text(args, "reduction") ? text(args, "reduction") : strcmp(m->type, "MSELoss") ? "sum" : "mean";
    if (!strcmp(m->type, "Linear")) {
        J *W = get(arrays, join(path, "weight")), *b = get(arrays, join(path, "bias"));
        if (!W) { cannot("a Linear without its weight"); return m; }
        m->W = tensor(W); m->dW = like(m->W);
        if ((m->has_bias = b != NULL)) { m->b = tensor(b); m->db = like(m->b); }
    } else if (!strcmp(m->type, "Sequential") || !strcmp(m->type, "Objective")) {
        int n = count(get(spec, "layers")), k = 0, objective = *m->type == 'O';
        m->places = objective ? 2 : count(get(spec, "places"));
        m->place = grab((m->places + 1) * sizeof(int)); m->layer = grab((n + 1) * sizeof *m->layer);
        for (J *p = get(spec, "places") ? get(spec, "places")->first : NULL; p; p = p->next) m->place[k++] = (int)p->number;
        k = 0;
        for (J *s = get(spec, "layers") ? get(spec, "layers")->first : NULL; s; s = s->next, k++) {
            char prefix[32];
            int first = 0;
            while (!objective && first < m->places && m->place[first] != k) first++;
            snprintf(prefix, sizeof prefix, "%d.", first);
            m->layer[k] = build(s, arrays, join(path, objective ? (k ? "loss." : "network.") : prefix));
        }
    } else if (strcmp(m->type, "Sigmoid") && strcmp(m->type, "Tanh") && strcmp(m->type, "ReLU") && strcmp(m->type, "MSELoss")
               && strcmp(m->type, "HalfSquaredError"))
        cannot("no %s", m->type);
    return m;
}

static double sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }

/* Axes: n sample, i input unit, o output unit. */

static Tensor forward(Module *m, Tensor X) {
    Tensor Y = X;
    if (!strcmp(m->type, "Linear")) {
        int I = m->W.shape[1], O = m->W.shape[0];
        size_t N = I ? X.size / I : 0;
        Y.shape[X.rank - 1] = O; Y.size = N * O; Y = like(Y);
        /* Y[n,o] = sum_i X[n,i] W[o,i] + b[o] */
        for (size_t n = 0; n < N; n++) for (int o = 0; o < O; o++) {
            double sum = 0;
            for (int i = 0; i < I; i++) sum += X.v[n * I + i] * m->W.v[o * I + i];
            Y.v[n * O + o] = m->has_bias ? sum + m->b.v[o] : sum;
        }
    } else if (*m->type == 'S' && m->type[1] == 'e') {
        for (int k = 0; k < m->places; k++) Y = forward(m->layer[m->place[k]], Y);
    } else {
        Y = like(X);
        for (size_t k = 0; k < X.size; k++) {
            double x = X.v[k];
            Y.v[k] = !strcmp(m->type, "Sigmoid") ? sigmoid(x) : !strcmp(m->type, "Tanh") ? tanh(x) : x <= 0 ? 0 : x;
        }
    }
    return Y;
}

static Tensor backward(Module *m, Tensor X, Tensor dY) {
    Tensor dX = like(X);
    if (!strcmp(m->type, "Linear")) {
        int I = m->W.shape[1], O = m->W.shape[0];
        size_t N = I ? X.size / I : 0;
        /* dX[n,i] = sum_o dY[n,o] W[o,i] */
        for (size_t n = 0; n < N; n++) for (int i = 0; i < I; i++) {
            double sum = 0;
            for (int o = 0; o < O; o++) sum += dY.v[n * O + o] * m->W.v[o * I + i];
            dX.v[n * I + i] = sum;
        }
        /* dW[o,i] = sum_n dY[n,o] X[n,i], added to what the layer has got at its other places */
        for (int o = 0; o < O; o++) for (int i = 0; i < I; i++) {
            double sum = 0;
            for (size_t n = 0; n < N; n++) sum += dY.v[n * O + o] * X.v[n * I + i];
            m->dW.v[o * I + i] += sum;
        }
        /* db[o] = sum_n dY[n,o], likewise */
        for (int o = 0; m->has_bias && o < O; o++) {
            double sum = 0;
            for (size_t n = 0; n < N; n++) sum += dY.v[n * O + o];
            m->db.v[o] += sum;
        }
    } else if (*m->type == 'S' && m->type[1] == 'e') {
        Tensor *A = grab((m->places + 1) * sizeof *A);
        A[0] = X;
        for (int k = 0; k < m->places; k++) A[k + 1] = forward(m->layer[m->place[k]], A[k]);
        dX = dY;
        for (int k = m->places; k-- > 0;) dX = backward(m->layer[m->place[k]], A[k], dX);
    } else {
        for (size_t k = 0; k < X.size; k++) {
            double x = X.v[k], e = exp(-2 * fabs(x));
            /* s'(x) = s(x) s(-x); tanh'(x) = 4 e^(-2|x|) / (1 + e^(-2|x|))^2: both keep their digits far out */
            dX.v[k] = !strcmp(m->type, "Sigmoid") ? dY.v[k] * (sigmoid(x) * sigmoid(-x))
                    : !strcmp(m->type, "Tanh") ? dY.v[k] * (4 * e / ((1 + e) * (1 + e)))
                    : x > 0 ? dY.v[k] : isnan(x) ? x : 0;
        }
    }
    return dX;
}

static int is_loss(const Module *m) { return !strcmp(m->type, "MSELoss") || !strcmp(m->type, "HalfSquaredError"); }

static double scale(const Module *m, Tensor Y) {
    double of = strcmp(m->type, "MSELoss") ? 0.5 : 1;
    return strcmp(m->reduction, "mean") ? of : of / (double)Y.size;
}

/* L = c sum_k (y_k - t_k)^2, or each term by itself */
static Tensor loss(Module *m, Tensor Y, Tensor T) {
    int none = !strcmp(m->reduction, "none");
    Tensor L = Y;
    if (Y.rank != T.rank || memcmp(Y.shape, T.shape, Y.rank * sizeof(int))) { cannot("targets that are broadcast"); return Y; }
    if (!none) { L.rank = 0; L.size = 1; }
    L = like(L);
    for (size_t k = 0; k < Y.size; k++) { double d = Y.v[k] - T.v[k]; L.v[none ? k : 0] += d * d; }
    double c = strcmp(m->type, "MSELoss") ? 0.5 : 1;
    for (size_t k = 0; k < L.size; k++) L.v[k] = strcmp(m->reduction, "mean") ? c * L.v[k] : c * L.v[k] / (double)Y.size;
    return L;
}

/* dY_k = 2 c (y_k - t_k) dL */
static Tensor loss_backward(Module *m, Tensor Y, Tensor T, Tensor dL) {
    Tensor dY = like(Y);
    int none = !strcmp(m->reduction, "none");
    for (size_t k = 0; k < Y.size; k++) dY.v[k] = 2 * scale(m, Y) * (Y.v[k] - T.v[k]) * dL.v[none ? k : 0];
    return dY;
}

static Tensor negative(Tensor t) { Tensor made = like(t); for (size_t k = 0; k < t.size; k++) made.v[k] = -t.v[k]; return made; }

/* ---- writing answers */

static int tensors;

static void begin(const char *name, const char *kind, int rank, const int *shape, long leading) {
    printf("%s\"%s%s\":{\"dtype\":\"float64\",\"shape\":[", tensors++ ? "," : "", kind, name);
    if (leading >= 0) printf("%ld%s", leading, rank ? "," : "");
    for (int k = 0; k < rank; k++) printf("%s%d", k ? "," : "", shape[k]);
    printf("],\"hex\":[");
}

static void numbers(const double *v, size_t n, int more) {
    for (size_t k = 0; k < n; k++) {
        if (more || k) putchar(',');
        if (isnan(v[k])) printf("\"nan\""); else if (isinf(v[k])) printf(v[k] < 0 ? "\"-inf\"" : "\"inf\""); else printf("\"%a\"", v[k]);
    }
}

static void give(const char *kind, const char *name, Tensor t) {
    begin(name, kind, t.rank, t.shape, -1); numbers(t.v, t.size, 0); printf("]}");
}

static void give_gradients(Module *m) {
    if (!strcmp(m->type, "Linear")) {
        give("grad.", join(m->name, "weight"), m->dW);
        if (m->has_bias) give("grad.", join(m->name, "bias"), m->db);
    }
    for (int k = 0; k < m->places; k++) {
        int seen = 0;
        for (int j = 0; j < k; j++) seen |= *m->type == 'S' && m->place[j] == m->place[k];
        if (!seen) give_gradients(m->layer[*m->type == 'S' ? m->place[k] : k]);
    }
}

/* ---- the three kinds of record; each computes first, and writes when nothing can go wrong any more */

static void vjp(const J *r, void (*head)(const J *), const J *of) {
    Module *m = build(get(r, "spec"), get(r, "arrays"), "");
    J *inputs = get(r, "inputs");
    if (*unsupported) return;
    Tensor X = tensor(inputs->first), G = tensor(get(r, "grad_outputs")->first), Y, dX, dT;
    int two = is_loss(m) || *m->type == 'O';
    if (two) {
        Tensor T = tensor(inputs->first->next);
        if (is_loss(m)) { Y = loss(m, X, T); if (!*unsupported) dX = loss_backward(m, X, T, G); }
        else {
            Module *network = m->layer[0], *last = m->layer[1];
            if (!is_loss(last)) { cannot("no %s", last->type); return; }
            Tensor A = forward(network, X);
            Y = loss(last, A, T);
            if (!*unsupported) { dT = loss_backward(last, A, T, G); dX = backward(network, X, dT); }
        }
        if (*unsupported) return;
        dT = negative(is_loss(m) ? dX : dT);
    } else { Y = forward(m, X); dX = backward(m, X, G); }
    if (*unsupported) return;
    head(of);
    give("output", "", Y);
    give("grad_input", two ? ".0" : "", dX);
    if (two) give("grad_input", ".1", dT);
    give_gradients(m);
}

typedef struct { double lr, momentum, dampening, decay; int nesterov, maximize; } SGD;

static SGD sgd(const J *args, SGD s) {
    s.lr = number(args, "lr", s.lr); s.momentum = number(args, "momentum", s.momentum);
    s.dampening = number(args, "dampening", s.dampening); s.decay = number(args, "weight_decay", s.decay);
    s.nesterov = (int)number(args, "nesterov", s.nesterov); s.maximize = (int)number(args, "maximize", s.maximize);
    return s;
}

static const SGD DEFAULTS = {1e-3, 0, 0, 0, 0, 0};

/* g = +-g + decay p;  v = momentum v + (1 - dampening) g, at first v = g;  p = p - lr (g + momentum v, or v, or g) */
static void step(SGD s, Tensor p, const double *gradient, double *v, int first) {
    for (size_t k = 0; k < p.size; k++) {
        double g = s.maximize ? -gradient[k] : gradient[k];
        if (s.decay != 0) g += s.decay * p.v[k];
        if (s.momentum != 0) {
            v[k] = first ? g : s.momentum * v[k] + (1 - s.dampening) * g;
            g = s.nesterov ? g + s.momentum * v[k] : v[k];
        }
        p.v[k] -= s.lr * g;
    }
}

/* whether a parameter has no gradient in step k: neither it nor its state moves then */
static int is_absent(const J *r, const char *name, int k) {
    const J *absent = get(r, "absent"), *steps = absent ? get(absent, name) : NULL;
    for (const J *s = steps ? steps->first : NULL; s; s = s->next) if ((int)s->number == k) return 1;
    return 0;
}

static void optimize(const J *r, void (*head)(const J *), const J *of) {
    const J *spec = get(r, "spec"), *params = get(r, "params");
    if (strcmp(text(spec, "type"), "SGD")) { cannot("no %s", text(spec, "type")); return; }
    head(of);
    for (J *j = params->first; j; j = j->next) {
        SGD own = sgd(get(spec, "args"), DEFAULTS);
        for (J *g = get(r, "groups") ? get(r, "groups")->first : NULL; g; g = g->next)
            for (J *n = get(g, "names")->first; n; n = n->next) if (!strcmp(n->text, j->key)) own = sgd(get(g, "args"), own);
        Tensor p = tensor(j), G = tensor(get(get(r, "grads"), j->key)), before = like(p), v = like(p);
        int steps = G.shape[0], begun = 0, rows = 0;
        double *moved = grab(G.size * sizeof(double) + 8), *kept = grab(G.size * sizeof(double) + 8);
        for (int k = 0; k < steps; k++) {
            memcpy(before.v, p.v, p.size * sizeof(double));
            if (!is_absent(r, j->key, k)) step(own, p, G.v + k * p.size, v.v, !begun++);
            for (size_t e = 0; e < p.size; e++) moved[k * p.size + e] = p.v[e] - before.v[e];
            if (begun) memcpy(kept + rows++ * p.size, v.v, p.size * sizeof(double));
        }
        begin(j->key, "update.", p.rank, p.shape, steps); numbers(moved, G.size, 0); printf("]}");
        if (own.momentum == 0) continue;
        begin(join(j->key, ".momentum_buffer"), "state.", p.rank, p.shape, rows); numbers(kept, rows * p.size, 0); printf("]}");
    }
}

static void train(const J *r, void (*head)(const J *), const J *of) {
    Module *network = build(get(r, "network"), get(r, "arrays"), ""), *last = build(get(r, "loss"), NULL, "");
    if (strcmp(text(get(r, "optimizer"), "type"), "SGD")) cannot("no %s", text(get(r, "optimizer"), "type"));
    if (get(r, "clip") || get(r, "accumulate") || get(r, "frozen") || get(r, "rates") || get(r, "masks")) cannot("nothing around a step");
    if (!is_loss(last)) cannot("no training on %s", last->type);
    if (strcmp(network->type, "Sequential")) cannot("no training of a %s", network->type);
    if (*unsupported) return;
    SGD own = sgd(get(get(r, "optimizer"), "args"), DEFAULTS);
    Tensor X = tensor(get(r, "inputs")), T = tensor(get(r, "targets")), one = {0}, p[64], d[64], v[64];
    const char *name[64];
    int n = 0, trained[64], begun[64], updates = count(get(r, "batches"));
    one.size = 1; one = like(one); one.v[0] = 1;
    for (int k = 0; k < network->places; k++) {
        Module *m = network->layer[network->place[k]];
        if (strcmp(m->type, "Linear") || n > 62) continue;
        p[n] = m->W; d[n] = m->dW; name[n++] = join(m->name, "weight");
        if (m->has_bias) { p[n] = m->b; d[n] = m->db; name[n++] = join(m->name, "bias"); }
    }
    double *losses = grab(updates * sizeof(double) + 8), *series[64], *states[64];
    for (int k = 0; k < n; k++) {
        char *state = join(name[k], ".momentum_buffer");
        J *kept = get(get(r, "state"), state);
        begun[k] = kept != NULL; v[k] = kept ? tensor(kept) : like(p[k]); trained[k] = 0;
        for (J *t = get(r, "trainable")->first; t; t = t->next) trained[k] |= !strcmp(t->text, name[k]);
        series[k] = grab((updates + 1) * p[k].size * sizeof(double) + 8);
        states[k] = grab(updates * p[k].size * sizeof(double) + 8);
        memcpy(series[k], p[k].v, p[k].size * sizeof(double));
    }
    Block *before = blocks;
    J *batch = get(r, "batches")->first;
    for (int u = 0; u < updates; u++, batch = batch->next) {
        int N = count(batch), s = 0;
        size_t wide = X.shape[0] ? X.size / X.shape[0] : 0, deep = T.shape[0] ? T.size / T.shape[0] : 0;
        Tensor x = X, t = T, y;
        x.shape[0] = t.shape[0] = N; x.size = N * wide; t.size = N * deep; x = like(x); t = like(t);
        for (J *index = batch->first; index; index = index->next, s++) {
            memcpy(x.v + s * wide, X.v + (size_t)index->number * wide, wide * sizeof(double));
            memcpy(t.v + s * deep, T.v + (size_t)index->number * deep, deep * sizeof(double));
        }
        for (int k = 0; k < n; k++) memset(d[k].v, 0, d[k].size * sizeof(double));
        y = forward(network, x);
        losses[u] = loss(last, y, t).v[0];
        if (*unsupported) return;
        backward(network, x, loss_backward(last, y, t, one));
        for (int k = 0; k < n; k++) {
            if (trained[k]) { step(own, p[k], d[k].v, v[k].v, !begun[k]); begun[k] = 1; }
            memcpy(series[k] + (u + 1) * p[k].size, p[k].v, p[k].size * sizeof(double));
            memcpy(states[k] + u * p[k].size, v[k].v, p[k].size * sizeof(double));
        }
        while (blocks != before) { Block *next = blocks->next; free(blocks); blocks = next; }
    }
    head(of);
    begin("", "loss", 0, NULL, updates); numbers(losses, updates, 0); printf("]}");
    for (int k = 0; k < n; k++) {
        begin(name[k], "param.", p[k].rank, p[k].shape, updates + 1); numbers(series[k], (updates + 1) * p[k].size, 0); printf("]}");
        if (own.momentum == 0 || !trained[k]) continue;
        begin(join(name[k], ".momentum_buffer"), "state.", p[k].rank, p[k].shape, updates);
        numbers(states[k], updates * p[k].size, 0); printf("]}");
    }
}

/* Answer a record: whether it could be. `head` writes what stands before the tensors. */
static int answer(const J *r, void (*head)(const J *), const J *of) {
    const char *kind = text(r, "kind");
    *unsupported = 0; tensors = 0;
    if (strcmp(text(r, "dtype"), "float64")) cannot("no %s", text(r, "dtype"));
    else if (!strcmp(kind, "vjp")) vjp(r, head, of);
    else if (!strcmp(kind, "optimize")) optimize(r, head, of);
    else if (!strcmp(kind, "train")) train(r, head, of);
    else cannot("no %s", kind);
    return !*unsupported;
}

/* ---- the two doors */

static char *line(void) {
    static char *buffer;
    static size_t room;
    size_t n = 0;
    int c;
    while ((c = getchar()) != EOF && c != '\n') {
        if (n + 2 > room) { room = room ? 2 * room : 1 << 16; if (!(buffer = realloc(buffer, room))) exit(1); }
        buffer[n++] = (char)c;
    }
    if (c == EOF && !n) return NULL;
    buffer[n] = 0;
    return buffer;
}

static void head_of_line(const J *r) { printf("{\"id\":%.0f,\"answer\":{", number(r, "id", 0)); }

static void serve(void) {
    if (!line()) return;
    puts("{\"protocol\":\"parity-exec\",\"version\":1,\"encoding\":\"hex\",\"kinds\":[\"vjp\",\"optimize\",\"train\"],"
         "\"classes\":[\"Linear\",\"Sigmoid\",\"Tanh\",\"ReLU\",\"Sequential\",\"MSELoss\",\"HalfSquaredError\",\"Objective\",\"SGD\"],"
         "\"dtypes\":[\"float64\"]}");
    fflush(stdout);
    while ((at = line())) {
        J *r = value();
        if (answer(r, head_of_line, r)) puts("}}");
        else printf("{\"id\":%.0f,\"unsupported\":\"%s\"}\n", number(r, "id", 0), unsupported);
        fflush(stdout);
        release();
    }
}

static int entries;

static void head_of_entry(const J *entry) {
    printf("%s{\"case\":\"%s\",\"family\":\"%s\",\"dtype\":\"%s\",\"answer\":{", entries++ ? ",\n" : "", text(entry, "case"),
           text(entry, "family"), text(entry, "dtype"));
}

static int work_through(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) { perror(path); return 1; }
    fseek(file, 0, SEEK_END);
    long n = ftell(file);
    rewind(file);
    char *content = grab(n + 1);
    if (fread(content, 1, n, file) != (size_t)n) { perror(path); return 1; }
    fclose(file);
    at = content;
    J *document = value();
    if (strcmp(text(document, "format"), "parity-vectors") || number(document, "version", 0) != 1) { fputs("mlp: expected parity-vectors, version 1\n", stderr); return 1; }
    puts("{\"format\":\"parity-answers\",\"version\":1,\"engine\":\"mlp.c\",\"answers\":[");
    for (J *entry = get(document, "records")->first; entry; entry = entry->next)
        if (answer(get(entry, "record"), head_of_entry, entry)) printf("}}");
    puts("\n]}");
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1) return work_through(argv[1]);
    serve();
    return 0;
}
