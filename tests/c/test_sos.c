/* pd_sos: the difference equation, whatever the blocks, the neighbours and the instruction
 * set; what a missing sample does; what is refused. Against SciPy: tests/unit/test_sos.py. */
#include "block.h"
#include "check.h"
#include "pd_sos.h"
#include "random.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define run_half JOIN(run_half, SUFFIX)
#define run_sections JOIN(run_sections, SUFFIX)
#define portion JOIN(portion, SUFFIX)
#define run_band JOIN(run_band, SUFFIX)
#define run_bands JOIN(run_bands, SUFFIX)
#define plus JOIN(plus, SUFFIX)
#define take JOIN(take, SUFFIX)
#define run_gaps JOIN(run_gaps, SUFFIX)
#define run_whole JOIN(run_whole, SUFFIX)
#define pd_sos_run JOIN(sos, SUFFIX)

#define VERSIONED "../../csrc/pd_sos_run.c"
#include "versions.h"

#undef pd_sos_run
#undef plus
#undef take

#define BANDS 9                     /* band i has i + 1 sections */
#define SECTIONS 45
#define MANY 19                     /* two groups of lanes and three channels */
#define ROWS 150
#define RATE_HZ 100.0               /* coasts for 100 samples */

static struct pd_sos_band bands[BANDS];
static struct pd_sos_section sections[SECTIONS];

static void design_all(void)
{
    uint32_t first = 0;
    for (uint32_t band = 0; band < BANDS; band++) {
        for (uint32_t i = 0; i <= band; i++) {
            double radius = 0.5 + 0.4 * uniform(), angle = 3 * uniform();
            sections[first + i] = (struct pd_sos_section){
                .b0 = 0.1 + uniform(), .b1 = uniform() - 0.5, .b2 = uniform() - 0.5,
                .a1 = -2 * radius * cos(angle), .a2 = radius * radius};
        }
        bands[band] = (struct pd_sos_band){.first = first, .n_sections = band + 1};
        int rc = pd_sos_design(&sections[first], band + 1, 1e-3, &bands[band].settle);
        CHECK(rc == 0, "band %u: %d", band, rc);
        first += band + 1;
    }
}

static struct pd_sos make(uint32_t n_channels)
{
    struct pd_sos sos;
    size_t bytes = pd_sos_state_bytes(SECTIONS, n_channels);
    int rc = pd_sos_init(&sos, bands, BANDS, sections, n_channels, RATE_HZ, block(bytes), bytes);
    CHECK(rc == 0, "%d", rc);
    return sos;
}

/* One channel through one band, the equation as it stands in the header; z is the state. */
static double equation(uint32_t band, double (*z)[2], double x)
{
    for (uint32_t i = 0; i < bands[band].n_sections; i++) {
        const struct pd_sos_section *s = &sections[bands[band].first + i];
        double y = s->b0 * x + z[i][0];
        z[i][0] = s->b1 * x - s->a1 * y + z[i][1];
        z[i][1] = s->b2 * x - s->a2 * y;
        x = y;
    }
    return x;
}

static void start(uint32_t band, double (*z)[2], double value)
{
    for (uint32_t i = 0; i < bands[band].n_sections; i++) {
        z[i][0] = sections[bands[band].first + i].level0 * value;
        z[i][1] = sections[bands[band].first + i].level1 * value;
    }
}

/* All of it, a sample at a time: equation, gaps, starts. */
static void expect(const double *x, uint32_t n_channels, uint32_t n, double *y)
{
    for (uint32_t channel = 0; channel < n_channels; channel++) {
        for (uint32_t band = 0; band < BANDS; band++) {
            double z[BANDS][2] = {{0}}, level = 0;
            uint32_t lost = UINT32_MAX;
            for (uint32_t row = 0; row < n; row++) {
                double value = x[row * n_channels + channel];
                double *at = &y[(row * BANDS + band) * n_channels + channel];
                if (!(fabs(value) <= PD_SOS_LARGEST)) {
                    lost += lost < UINT32_MAX;
                    equation(band, z, level);
                    *at = NAN;
                    continue;
                }
                if (lost > (uint32_t)(PD_SOS_COAST_S * RATE_HZ)) {
                    start(band, z, value);
                    level = value;
                }
                lost = 0;
                *at = equation(band, z, value);
                level += 1 / (PD_SOS_LEVEL_S * RATE_HZ) * (value - level);
            }
        }
    }
}

typedef void run_fn(struct pd_sos *, const double *, size_t, uint32_t, double *, size_t,
                    uint32_t *);

static int same(const double *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (isnan(a[i]) && isnan(b[i])) continue;
        if (memcmp(&a[i], &b[i], sizeof *a) != 0) return 0;
    }
    return 1;
}

/* In blocks of random sizes, each in memory of its own. */
static void run_in_blocks(struct pd_sos *sos, run_fn *run, const double *x, uint32_t n, double *y)
{
    uint32_t channels = sos->n_channels, row = sos->n_bands * channels;
    for (uint32_t from = 0, count; from < n; from += count) {
        count = (uint32_t)(80 * uniform() * uniform());
        if (count > n - from) count = n - from;
        double *in = block((size_t)count * channels * sizeof *in);
        double *out = block((size_t)count * row * sizeof *out);
        if (count > 0) memcpy(in, x + from * channels, count * channels * sizeof *in);
        run(sos, in, channels, count, out, row, NULL);
        if (count > 0) memcpy(y + from * row, out, count * row * sizeof *out);
        free(in);
        free(out);
    }
}

static void matches(run_fn *run, const char *name, const double *x, uint32_t n_channels)
{
    struct pd_sos sos = make(n_channels);
    size_t n = (size_t)ROWS * BANDS * n_channels;
    double *y = block(n * sizeof *y), *expected = block(n * sizeof *expected);
    expect(x, n_channels, ROWS, expected);
    run_in_blocks(&sos, run, x, ROWS, y);
    CHECK(same(y, expected, n), "%s, %u channels", name, n_channels);
    free(y);
    free(expected);
    free(sos.state);
}

static void the_equation_holds(run_fn *run, const char *name)
{
    for (uint32_t channels = 1; channels <= MANY; channels++) {
        double *x = noise((size_t)ROWS * channels);
        matches(run, name, x, channels);
        free(x);
    }
}

static void gaps_coast_and_long_ones_start_anew(run_fn *run, const char *name)
{
    for (uint32_t channels = 1; channels <= MANY; channels += 3) {
        double *x = noise((size_t)ROWS * channels);
        for (uint32_t channel = 0; channel < channels; channel++) {
            static const double missing[] = {NAN, INFINITY, -INFINITY, 1.1 * PD_SOS_LARGEST};
            for (uint32_t row = channel % 3; row < ROWS; row++) {
                if (row < 10 || uniform() < 0.3 || (channel % 5 == 1 && row > 20 && row < 130)) {
                    x[row * channels + channel] = missing[row % 4];
                }
            }
        }
        matches(run, name, x, channels);
        free(x);
    }
}

static void exactly_the_coast_goes_on_and_one_more_starts_anew(void)
{
    struct pd_sos sos = make(1);
    double y[BANDS], one = 1, nan = NAN, two = 2;
    for (uint32_t extra = 0; extra < 2; extra++) {
        pd_sos_reset(&sos);
        sos_baseline(&sos, &one, 1, 1, y, BANDS, NULL);
        for (uint32_t i = 0; i < sos.coast + extra; i++) {
            sos_baseline(&sos, &nan, 1, 1, y, BANDS, NULL);
        }
        sos_baseline(&sos, &two, 1, 1, y, BANDS, NULL);
        double rest[1][2];
        start(0, rest, two);
        int anew = y[0] == equation(0, rest, two);
        CHECK(anew == (int)extra, "%u more than %u samples", extra, sos.coast);
    }
    free(sos.state);
}

static void a_missing_sample_leaves_the_other_channels_alone(void)
{
    struct pd_sos whole = make(MANY), torn = make(MANY);
    size_t n = (size_t)ROWS * BANDS * MANY;
    double *x = noise(ROWS * MANY), *y = block(n * sizeof *y), *z = block(n * sizeof *z);
    sos_baseline(&whole, x, MANY, ROWS, y, BANDS * MANY, NULL);
    for (uint32_t row = 0; row < ROWS; row += 7) x[row * MANY + 4] = NAN;
    sos_baseline(&torn, x, MANY, ROWS, z, BANDS * MANY, NULL);
    for (size_t i = 0; i < n; i++) {
        if (i % MANY == 4) {
            CHECK(isnan(z[i]) == (i / MANY / BANDS % 7 == 0), "value %zu is %g", i, z[i]);
        } else {
            CHECK(y[i] == z[i], "value %zu: %a, %a", i, y[i], z[i]);
        }
    }
    free(x);
    free(y);
    free(z);
    free(whole.state);
    free(torn.state);
}

static void values_since_the_gap_are_counted(void)
{
    struct pd_sos sos = make(3);
    double x[7 * 3], y[7 * BANDS * 3];
    uint32_t fed[7 * 3];
    for (uint32_t i = 0; i < 21; i++) x[i] = 1;
    x[2 * 3 + 1] = NAN;
    sos_baseline(&sos, x, 3, 7, y, BANDS * 3, fed);
    static const uint32_t torn[7] = {1, 2, 0, 1, 2, 3, 4};
    for (uint32_t row = 0; row < 7; row++) {
        CHECK(fed[row * 3] == row + 1, "row %u: %u", row, fed[row * 3]);
        CHECK(fed[row * 3 + 1] == torn[row], "row %u: %u", row, fed[row * 3 + 1]);
    }
    CHECK(pd_sos_fed(&sos, 2) == 7);
    x[2 * 3 + 1] = 1;
    sos_baseline(&sos, x, 3, 7, y, BANDS * 3, fed);
    CHECK(fed[0] == 8 && fed[6 * 3] == 14 && fed[1] == 5, "%u, %u, %u", fed[0], fed[18], fed[1]);
    pd_sos_lanes(&sos, 0)->fed[0] = UINT32_MAX - 3;
    sos_baseline(&sos, x, 3, 7, y, BANDS * 3, fed);
    CHECK(fed[2 * 3] == UINT32_MAX && pd_sos_fed(&sos, 0) == UINT32_MAX, "%u", fed[6]);
    free(sos.state);
}

static void a_band_is_defined_for_whole_settled_windows(void)
{
    struct pd_sos sos = make(1);
    double x = 1, y[BANDS];
    uint32_t settle = bands[3].settle;
    for (uint32_t n = 1; n <= settle + 10; n++) {
        sos_baseline(&sos, &x, 1, 1, y, BANDS, NULL);
        CHECK(pd_sos_defined(&sos, 3, 0, 1) == (n >= settle), "%u of %u", n, settle);
        CHECK(pd_sos_defined(&sos, 3, 0, 5) == (n >= settle + 4), "%u of %u", n, settle);
    }
    CHECK(!pd_sos_defined(&sos, 3, 0, UINT32_MAX));
    free(sos.state);
}

static void settle_is_where_the_tail_of_the_response_is_small(void)
{
    enum { LONG = 20000 };
    static double h[LONG];
    for (uint32_t band = 0; band < BANDS; band++) {
        double z[BANDS][2] = {{0}}, total = 0, tail = 0;
        for (uint32_t i = 0; i < LONG; i++) total += h[i] = fabs(equation(band, z, i == 0));
        uint32_t settle = LONG;
        while (settle > 0 && tail + h[settle - 1] <= 1e-3 * total) tail += h[--settle];
        CHECK(settle == bands[band].settle, "%u, not %u", bands[band].settle, settle);
    }
}

static void a_repeated_pole_settles_later_than_its_radius_says(void)
{
    struct pd_sos_section s[4];
    uint32_t one, four;
    for (uint32_t i = 0; i < 4; i++) {
        s[i] = (struct pd_sos_section){.b0 = 1, .a1 = -1.8, .a2 = 0.81};
    }
    CHECK(pd_sos_design(s, 1, 1e-3, &one) == 0);
    CHECK(pd_sos_design(s, 4, 1e-3, &four) == 0);
    double radius = log(1e-3) / log(0.9);
    CHECK(one > radius && four > 2 * radius, "%u and %u, the radius says %g", one, four, radius);
}

static void a_constant_is_at_rest_from_the_first_sample(void)
{
    struct pd_sos sos = make(MANY);
    double x[MANY], y[MANY * BANDS], later[MANY * BANDS];
    for (uint32_t i = 0; i < MANY; i++) x[i] = 62e3;
    sos_baseline(&sos, x, MANY, 1, y, MANY * BANDS, NULL);
    for (uint32_t i = 0; i < 500; i++) sos_baseline(&sos, x, MANY, 1, later, MANY * BANDS, NULL);
    for (uint32_t i = 0; i < MANY * BANDS; i++) {
        CHECK(fabs(y[i] - later[i]) <= 1e-11 * fabs(y[i]), "%g moves to %g", y[i], later[i]);
    }
    free(sos.state);
}

static void a_seed_is_a_past_and_zeros_are_rest(void)
{
    struct pd_sos started = make(2), seeded = make(2);
    double x[] = {3, 5}, y[2 * BANDS], z[2 * BANDS], zeros[] = {0, NAN};
    sos_baseline(&started, x, 2, 1, y, 2 * BANDS, NULL);
    pd_sos_seed(&seeded, x);
    sos_baseline(&seeded, x, 2, 1, z, 2 * BANDS, NULL);
    CHECK(same(y, z, 2 * BANDS));
    pd_sos_seed(&seeded, zeros);
    sos_baseline(&seeded, x, 2, 1, z, 2 * BANDS, NULL);
    double rest[BANDS][2] = {{0}};
    CHECK(z[0] == equation(0, rest, x[0]), "from rest: %g", z[0]);
    CHECK(z[1] == y[1], "NaN starts anew: %g, %g", z[1], y[1]);
    free(started.state);
    free(seeded.state);
}

static void a_copied_state_goes_on_elsewhere(void)
{
    struct pd_sos here = make(MANY), there = make(MANY);
    double *x = noise(ROWS * MANY), y[MANY * BANDS], z[MANY * BANDS];
    double *many = block((size_t)ROWS * MANY * BANDS * sizeof *many);
    sos_baseline(&here, x, MANY, ROWS, many, MANY * BANDS, NULL);
    memcpy(there.state, here.state, pd_sos_state_bytes(SECTIONS, MANY));
    sos_baseline(&here, x, MANY, 1, y, MANY * BANDS, NULL);
    sos_baseline(&there, x, MANY, 1, z, MANY * BANDS, NULL);
    CHECK(same(y, z, MANY * BANDS));
    free(x);
    free(many);
    free(here.state);
    free(there.state);
}

static void the_largest_values_leave_no_infinity(void)
{
    struct pd_sos sos = make(1);
    double y[BANDS];
    for (uint32_t i = 0; i < 300; i++) {
        double x = i % 3 ? PD_SOS_LARGEST : -PD_SOS_LARGEST;
        sos_baseline(&sos, &x, 1, 1, y, BANDS, NULL);
        for (uint32_t band = 0; band < BANDS; band++) CHECK(isfinite(y[band]), "%g", y[band]);
    }
    free(sos.state);
}

static int designed(struct pd_sos_section s)
{
    uint32_t settle;
    return pd_sos_design(&s, 1, 1e-3, &settle);
}

static void what_cannot_be_is_refused(void)
{
    CHECK(designed((struct pd_sos_section){.b0 = 1, .a1 = -1}) == -EDOM, "a pole at 1");
    CHECK(designed((struct pd_sos_section){.b0 = 1, .a2 = 1}) == -EDOM, "poles at ±i");
    CHECK(designed((struct pd_sos_section){.b0 = 1, .a1 = 2.1, .a2 = 0.9}) == -EDOM);
    CHECK(designed((struct pd_sos_section){.b0 = NAN}) == -EINVAL);
    CHECK(designed((struct pd_sos_section){.b0 = 1, .a1 = INFINITY}) == -EINVAL);
    CHECK(designed((struct pd_sos_section){.b0 = 1, .a1 = -1 + 1e-8}) == -ERANGE, "settles never");
    CHECK(designed((struct pd_sos_section){.b0 = 0}) == 0, "silence is a filter");
    struct pd_sos_section s = {.b0 = 1}, loud[30];
    uint32_t settle;
    for (uint32_t i = 0; i < 30; i++) loud[i] = (struct pd_sos_section){.b0 = 1e6, .a1 = -0.5};
    CHECK(pd_sos_design(loud, 23, 1e-3, &settle) == 0);
    CHECK(pd_sos_design(loud, 24, 1e-3, &settle) == -EINVAL, "1e150 and more");
    CHECK(pd_sos_design(&s, 0, 1e-3, &settle) == -EINVAL);
    CHECK(pd_sos_design(&s, 1, 0, &settle) == -EINVAL);
    CHECK(pd_sos_design(&s, 1, NAN, &settle) == -EINVAL);

    CHECK(pd_sos_state_bytes(0, 1) == 0 && pd_sos_state_bytes(1, 0) == 0);
    CHECK(pd_sos_state_bytes(PD_SOS_MAX_SECTIONS + 1, 1) == 0);
    size_t need = pd_sos_state_bytes(SECTIONS, 8);
    unsigned char *state = block(need + 8);
    struct pd_sos sos;
    CHECK(pd_sos_init(&sos, bands, BANDS, sections, 8, RATE_HZ, state, need - 1) == -EINVAL);
    CHECK(pd_sos_init(&sos, bands, BANDS, sections, 8, RATE_HZ, state + 4, need) == -EINVAL);
    CHECK(pd_sos_init(&sos, bands, BANDS, sections, 8, NAN, state, need) == -EINVAL);
    CHECK(pd_sos_init(&sos, bands, 0, sections, 8, RATE_HZ, state, need) == -EINVAL);
    CHECK(pd_sos_init(&sos, bands + 1, 1, sections, 8, RATE_HZ, state, need) == -EINVAL);
    free(state);
}

static void version(run_fn *run, const char *name)
{
    the_equation_holds(run, name);
    gaps_coast_and_long_ones_start_anew(run, name);
}

#define RUN(set) sos_##set

int main(void)
{
    static run_fn *const runs[] = EACH_VERSION(RUN);
    design_all();
    version(pd_sos_run, "the version chosen at run time");
    for (uint32_t i = 0; i < VERSIONS; i++) {
        if (machine_runs(i)) version(runs[i], version_names[i]);
    }
    exactly_the_coast_goes_on_and_one_more_starts_anew();
    a_missing_sample_leaves_the_other_channels_alone();
    values_since_the_gap_are_counted();
    a_band_is_defined_for_whole_settled_windows();
    settle_is_where_the_tail_of_the_response_is_small();
    a_repeated_pole_settles_later_than_its_radius_says();
    a_constant_is_at_rest_from_the_first_sample();
    a_seed_is_a_past_and_zeros_are_rest();
    a_copied_state_goes_on_elsewhere();
    the_largest_values_leave_no_infinity();
    what_cannot_be_is_refused();
    return check_report("sos");
}
