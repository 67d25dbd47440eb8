/* pd_cca: that neither the cut of the samples nor the instruction set changes a bit, that what
 * left the window has left none, what is refused, and that nothing reads or writes
 * outside. Against QR and SVD: tests/unit/test_cca.py. */
#include "block.h"
#include "check.h"
#include "pd_cca.h"
#include "random.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define gather_tile JOIN(gather_tile, SUFFIX)
#define gather_cross JOIN(gather_cross, SUFFIX)
#define turn JOIN(turn, SUFFIX)
#define combine JOIN(combine, SUFFIX)
#define equilibrate JOIN(equilibrate, SUFFIX)
#define swap JOIN(swap, SUFFIX)
#define exchange JOIN(exchange, SUFFIX)
#define root JOIN(root, SUFFIX)
#define whiten JOIN(whiten, SUFFIX)
#define square JOIN(square, SUFFIX)
#define tridiagonalise JOIN(tridiagonalise, SUFFIX)
#define largest_eigenvalue JOIN(largest_eigenvalue, SUFFIX)
#define pd_cca_gather JOIN(gather, SUFFIX)
#define pd_cca_finish JOIN(finish, SUFFIX)
#define pd_cca_combine JOIN(join, SUFFIX)
#define pd_cca_overtones JOIN(overtones, SUFFIX)
#define pd_cca_factorise JOIN(factorise, SUFFIX)
#define pd_cca_largest JOIN(largest, SUFFIX)

#define VERSIONED "../../csrc/pd_cca_sums.c"
#include "versions.h"
#define VERSIONED "../../csrc/pd_cca_solve.c"
#include "versions.h"

#undef pd_cca_gather
#undef pd_cca_finish
#undef pd_cca_combine
#undef pd_cca_overtones
#undef pd_cca_factorise
#undef pd_cca_largest

#define TARGETS 11
#define MOST_CHANNELS 9
#define MOST_SAMPLES 900

static double targets[TARGETS];
static double samples[MOST_SAMPLES * MOST_CHANNELS];

static void draw(void)
{
    for (uint32_t t = 0; t < TARGETS; t++) targets[t] = 8 + 0.7 * t;
    for (uint32_t i = 0; i < MOST_SAMPLES * MOST_CHANNELS; i++) samples[i] = 62e3 + uniform();
}

/* Exactly as large as it has to be, so that a sanitizer sees one byte more. */
static struct pd_cca *make(uint32_t channels, uint32_t hop, const uint32_t *windows,
                           uint32_t n_windows)
{
    struct pd_cca_config config = {.rate_hz = 250, .targets_hz = targets, .n_targets = TARGETS,
                                   .windows = windows, .n_windows = n_windows,
                                   .n_channels = channels, .n_harmonics = 5, .hop = hop};
    size_t bytes = pd_cca_bytes(&config);
    CHECK(bytes > 0, "hop %u", hop);
    struct pd_cca *cca = block(bytes);
    CHECK(pd_cca_init(cca, &config) == 0, "hop %u", hop);
    CHECK(cca->bytes == bytes, "%zu", cca->bytes);
    return cca;
}

static void any_cut_of_the_samples_gives_the_same_bits(void)
{
    const uint32_t windows[] = {63, 200};
    struct pd_cca *whole = make(9, 25, windows, 2), *cut = make(9, 25, windows, 2);
    double expected[TARGETS], rho[TARGETS];
    for (uint32_t at = 0; at < MOST_SAMPLES;) {
        uint32_t n = 1 + below(60);
        if (at + n > MOST_SAMPLES) n = MOST_SAMPLES - at;
        pd_cca_push(whole, samples + at * 9, 9, n);
        for (uint32_t i = 0; i < n; i++) pd_cca_push(cut, samples + (at + i) * 9, 9, 1);
        at += n;
        for (uint32_t w = 0; w < 2; w++) {
            enum pd_cca_state state = pd_cca_correlate(whole, w, expected);
            CHECK(state == pd_cca_correlate(cut, w, rho), "after %u", at);
            CHECK(state == (at < windows[w] ? PD_CCA_FILLING : PD_CCA_DEFINED), "after %u", at);
            CHECK(!memcmp(rho, expected, sizeof rho), "after %u", at);
        }
    }
    free(whole);
    free(cut);
}

static void what_left_the_window_left_no_bit(double value, enum pd_cca_state inside)
{
    const uint32_t windows[] = {100};
    for (uint32_t hop = 1; hop <= 100; hop += 33) {
        struct pd_cca *clean = make(8, hop, windows, 1), *struck = make(8, hop, windows, 1);
        double expected[TARGETS], rho[TARGETS];
        for (uint32_t at = 0; at < 450; at++) {
            double row[8];
            memcpy(row, samples + at * 8, sizeof row);
            pd_cca_push(clean, row, 8, 1);
            if (at == 222) row[3] = value;
            pd_cca_push(struck, row, 8, 1);
            enum pd_cca_state state = pd_cca_correlate(struck, 0, rho);
            pd_cca_correlate(clean, 0, expected);
            if (at >= 222 && at < 322) {
                CHECK(state == inside, "hop %u, sample %u: %d", hop, at, (int)state);
                CHECK((state == PD_CCA_DEFINED) == !isnan(rho[0]), "hop %u, sample %u", hop, at);
            } else {
                CHECK(!memcmp(rho, expected, sizeof rho), "hop %u, sample %u", hop, at);
            }
        }
        free(clean);
        free(struck);
    }
}

static void any_shape_stays_within_its_memory(void)
{
    for (uint32_t round = 0; round < 60; round++) {
        uint32_t channels = 1 + below(MOST_CHANNELS), windows[3];
        uint32_t hop = 1 + below(40), n_windows = 1 + below(3);
        for (uint32_t w = 0; w < n_windows; w++) {
            windows[w] = (hop > channels + 12 ? hop : channels + 12) + below(w ? 300 : 3);
        }
        struct pd_cca *cca = make(channels, hop, windows, n_windows);
        double *rho = block(TARGETS * sizeof *rho);
        for (uint32_t at = 0; at < MOST_SAMPLES;) {
            uint32_t n = 1 + below(2 * hop);
            if (at + n > MOST_SAMPLES) n = MOST_SAMPLES - at;
            pd_cca_push(cca, samples + at * channels, channels, n);
            at += n;
            for (uint32_t w = 0; w < n_windows; w++) {
                enum pd_cca_state state = pd_cca_correlate(cca, w, rho);
                CHECK(state == (at < windows[w] ? PD_CCA_FILLING : PD_CCA_DEFINED), "%u", at);
                for (uint32_t t = 0; t < TARGETS && state == PD_CCA_DEFINED; t++) {
                    CHECK(rho[t] > 0 && rho[t] <= 1, "%g", rho[t]);
                }
            }
        }
        free(rho);
        free(cca);
    }
}

static void a_copy_goes_on_elsewhere(void)
{
    const uint32_t windows[] = {90};
    struct pd_cca *first = make(4, 20, windows, 1), *second = make(4, 20, windows, 1);
    pd_cca_push(first, samples, 4, 333);
    unsigned char *saved = block(first->bytes);
    memcpy(saved, first, first->bytes);
    CHECK(pd_cca_restore(second, saved, first->bytes) == 0);
    double expected[TARGETS], rho[TARGETS];
    pd_cca_push(first, samples + 4 * 333, 4, 50);
    pd_cca_push(second, samples + 4 * 333, 4, 50);
    pd_cca_correlate(first, 0, expected);
    CHECK(pd_cca_correlate(second, 0, rho) == PD_CCA_DEFINED);
    CHECK(!memcmp(rho, expected, sizeof rho));

    targets[3] += 0.1;
    struct pd_cca *other = make(4, 20, windows, 1);
    CHECK(pd_cca_restore(other, saved, first->bytes) == -EINVAL, "another frequency");
    CHECK(pd_cca_restore(second, saved, first->bytes - 8) == -EINVAL, "cut short");
    CHECK(other->count == 0);
    draw();
    free(saved);
    free(first);
    free(second);
    free(other);
}

static void what_can_not_be_is_refused(void)
{
    uint32_t window = 60;
    double hz = 12;
    struct pd_cca_config good = {.rate_hz = 250, .targets_hz = &hz, .n_targets = 1,
                                 .windows = &window, .n_windows = 1, .n_channels = 8,
                                 .n_harmonics = 5, .hop = 25}, bad;
    CHECK(pd_cca_bytes(&good) > 0);
#define REFUSED(change) do { bad = good; change; \
        CHECK(pd_cca_bytes(&bad) == 0, #change); \
        CHECK(pd_cca_init(NULL, &bad) == -EINVAL, #change); } while (0)
    REFUSED(bad.rate_hz = NAN);
    REFUSED(bad.rate_hz = INFINITY);
    REFUSED(bad.rate_hz = 24);
    REFUSED(bad.n_channels = 0);
    REFUSED(bad.n_channels = PD_CCA_MAX_CHANNELS + 1);
    REFUSED(bad.n_targets = 0);
    REFUSED(bad.n_targets = PD_CCA_MAX_TARGETS + 1);
    REFUSED(bad.n_harmonics = 0);
    REFUSED(bad.n_harmonics = PD_CCA_MAX_HARMONICS + 1);
    REFUSED(bad.n_windows = 0);
    REFUSED(bad.n_windows = PD_CCA_MAX_WINDOWS + 1);
    REFUSED(bad.hop = 0);
    REFUSED(bad.hop = 61);
    REFUSED(hz = NAN);
    REFUSED(hz = -1);
    hz = 12;
    bad = good;
    window = 8 + 2 * 5 + 1;
    bad.hop = 1;
    CHECK(pd_cca_bytes(&bad) == 0, "all would correlate with 1");
    window++;
    CHECK(pd_cca_bytes(&bad) > 0);
}

/* -- instruction sets --------------------------------------------------------------- */

#define CHANNELS 9
#define HARMONICS 5
#define LONG 30

struct kit {
    void (*gather)(const struct pd_cca_shape *, double *, const double *, const double *, uint32_t,
                   int, double *);
    void (*finish)(const struct pd_cca_shape *, double *, const double *, uint32_t, const double *,
                   const double *, const double *);
    void (*join)(const struct pd_cca_shape *, double *, const double *const *, uint32_t);
    void (*overtones)(const struct pd_cca_shape *, double *);
    void (*factorise)(struct pd_cca_factor *, double *, size_t, uint32_t, const double *, double);
    void (*largest)(const struct pd_cca_factor *, const struct pd_cca_cross *, double *, double *);
};

/* Five nodes of LONG samples, joined, and a correlation of them. Nodes and rho into `out`. */
static void go(const struct kit *kit, const double *rows, const double *whitening, double *out)
{
    const struct pd_cca_shape shape = {CHANNELS, 16, 16, HARMONICS, 2 * HARMONICS * 16};
    size_t size = pd_cca_node_doubles(&shape);
    double rotation[2 * HARMONICS * 16], centred[LONG * 16], x[LONG * 16] = {0};
    static double work[CHANNELS * 2 * HARMONICS * 8];
    const double *parts[5];
    for (uint32_t i = 0; i < 16; i++) {
        rotation[i] = cos(i);
        rotation[HARMONICS * 16 + i] = sin(i);
    }
    kit->overtones(&shape, rotation);
    for (uint32_t p = 0; p < 5; p++) {
        double *node = out + p * size;
        for (uint32_t row = 0; row < LONG; row++) {
            memcpy(x + row * 16, samples + (p * LONG + row) * CHANNELS, CHANNELS * sizeof *x);
        }
        kit->gather(&shape, node, x, rows, 11, 1, centred);
        kit->gather(&shape, node, x + 11 * 16, rows + 11 * shape.width, LONG - 11, 0, centred);
        kit->finish(&shape, node, node, LONG, rows, rows + shape.width, rotation);
        parts[p] = node;
    }
    double *total = out + 5 * size;
    for (uint32_t n = 1; n <= 5; n++) kit->join(&shape, total, parts, n);
    struct pd_cca_node node = pd_cca_node(&shape, total);
    struct pd_cca_factor factor;
    kit->factorise(&factor, node.gram, 16, CHANNELS, node.mean, *node.n);
    CHECK(factor.rank == CHANNELS, "%u", factor.rank);
    struct pd_cca_cross cross = {node.cross, rotation, whitening, HARMONICS, 16};
    kit->largest(&factor, &cross, work, total + size);
}

#define KIT(set) \
    {gather_##set, finish_##set, join_##set, overtones_##set, factorise_##set, largest_##set}

static void every_instruction_set_gives_the_same_bits(void)
{
    static const struct kit kits[] = EACH_VERSION(KIT);
    const struct pd_cca_shape shape = {CHANNELS, 16, 16, HARMONICS, 2 * HARMONICS * 16};
    size_t n = 6 * pd_cca_node_doubles(&shape) + 16;
    double *rows = block(LONG * shape.width * sizeof *rows);
    double *whitening = block(2 * HARMONICS * HARMONICS * 16 * sizeof *whitening);
    double *expected = block(n * sizeof *expected), *out = block(n * sizeof *out);
    for (uint32_t i = 0; i < LONG * shape.width; i++) rows[i] = uniform() - 0.5;
    for (uint32_t i = 0; i < 2 * HARMONICS * HARMONICS * 16; i++) whitening[i] = 0.1 * uniform();
    go(&kits[0], rows, whitening, expected);
    for (uint32_t t = 0; t < 16; t++) CHECK(expected[n - 16 + t] > 0, "target %u", t);
    for (uint32_t version = 1; version < VERSIONS; version++) {
        if (!machine_runs(version)) continue;
        go(&kits[version], rows, whitening, out);
        CHECK(!memcmp(out, expected, n * sizeof *out), "%s", version_names[version]);
    }
    free(rows);
    free(whitening);
    free(expected);
    free(out);
}

int main(void)
{
    draw();
    any_cut_of_the_samples_gives_the_same_bits();
    what_left_the_window_left_no_bit(NAN, PD_CCA_MISSING);
    what_left_the_window_left_no_bit(-INFINITY, PD_CCA_MISSING);
    what_left_the_window_left_no_bit(1e200, PD_CCA_MISSING);
    what_left_the_window_left_no_bit(262e3, PD_CCA_DEFINED);
    any_shape_stays_within_its_memory();
    a_copy_goes_on_elsewhere();
    what_can_not_be_is_refused();
    every_instruction_set_gives_the_same_bits();
    return check_report("cca");
}
