/* pd_resample: the sum itself, what it may read, and that neither the number of
 * channels nor the instruction set changes a bit of it. Whether the filter is
 * a good one is tested in tests/unit/test_resample.py. */
#include "check.h"
#include "pd_resample.h"
#include "random.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define pd_resample_at JOIN(resample, SUFFIX)
#define VERSIONED "../../csrc/pd_resample.c"
#include "versions.h"
#undef pd_resample_at

#define PHASES 64
#define TAPS 22
#define MANY 19                     /* two blocks of lanes and three channels */

static struct pd_resample make(double **table, uint32_t phases, uint32_t taps)
{
    *table = noise((size_t)(phases + 1) * taps);
    return (struct pd_resample){.table = *table, .phases = phases, .taps = taps,
                                .ahead = (int32_t)taps / 2};
}

static void between_rows_the_weights_are_interpolated(void)
{
    double *table, *rows = noise(TAPS), y;
    struct pd_resample resample = make(&table, PHASES, TAPS);
    for (uint32_t row = 0; row < PHASES; row++) {
        for (double between = 0; between < 1; between += 0.25) {
            double expected = 0;
            for (uint32_t tap = 0; tap < TAPS; tap++) {
                expected += ((1 - between) * table[row * TAPS + tap]
                             + between * table[(row + 1) * TAPS + tap]) * rows[tap];
            }
            pd_resample_at(&resample, rows, 1, 1, (row + between) / PHASES, &y);
            CHECK(fabs(y - expected) < 1e-14, "row %u + %g: %g off", row, between, y - expected);
        }
    }
    free(table);
    free(rows);
}

static void every_fraction_stays_inside_the_table(void)
{
    static const uint32_t phases[] = {1, 3, 49, 64, 1000};
    double y[MANY];
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
        double *table, *rows = noise(TAPS * MANY);
        struct pd_resample resample = make(&table, phases[i], TAPS);
        pd_resample_at(&resample, rows, MANY, MANY, 0.0, y);
        pd_resample_at(&resample, rows, MANY, MANY, nextafter(1.0, 0.0), y);
        double last = 0;
        for (uint32_t tap = 0; tap < TAPS; tap++) {
            last += table[(size_t)phases[i] * TAPS + tap] * rows[tap * MANY];
        }
        CHECK(fabs(y[0] - last) < 1e-11, "%u phases: %g off", phases[i], y[0] - last);
        free(table);
        free(rows);
    }
}

static void a_channel_is_the_same_alone_and_among_others(void)
{
    double *table, *rows = noise(TAPS * MANY);
    struct pd_resample resample = make(&table, PHASES, TAPS);
    for (uint32_t n = 1; n <= MANY; n++) {
        double fraction = uniform(), among[MANY], alone;
        pd_resample_at(&resample, rows, MANY, n, fraction, among);
        for (uint32_t channel = 0; channel < n; channel++) {
            pd_resample_at(&resample, rows + channel, MANY, 1, fraction, &alone);
            CHECK(memcmp(&alone, &among[channel], sizeof alone) == 0, "channel %u of %u: %a, %a",
                  channel, n, alone, among[channel]);
        }
    }
    free(table);
    free(rows);
}

static void a_missing_sample_stays_in_its_channel(void)
{
    double *table, *rows = noise(TAPS * MANY), y[MANY];
    struct pd_resample resample = make(&table, PHASES, TAPS);
    rows[5 * MANY + 3] = NAN;
    pd_resample_at(&resample, rows, MANY, MANY, 0.3, y);
    for (uint32_t channel = 0; channel < MANY; channel++) {
        CHECK(isnan(y[channel]) == (channel == 3), "channel %u is %g", channel, y[channel]);
    }
    free(table);
    free(rows);
}

typedef void resample_fn(const struct pd_resample *, const double *, uint32_t, uint32_t, double,
                         double *);

static void agrees_with_the_baseline(resample_fn *version, const char *name)
{
    double *table, *rows = noise(TAPS * MANY);
    struct pd_resample resample = make(&table, PHASES, TAPS);
    for (uint32_t n = 1; n <= MANY; n++) {
        double fraction = uniform(), expected[MANY], y[MANY];
        resample_baseline(&resample, rows, MANY, n, fraction, expected);
        version(&resample, rows, MANY, n, fraction, y);
        CHECK(memcmp(y, expected, n * sizeof *y) == 0, "%s differs at %u channels", name, n);
    }
    free(table);
    free(rows);
}

#define RUN(set) resample_##set

int main(void)
{
    static resample_fn *const runs[] = EACH_VERSION(RUN);
    between_rows_the_weights_are_interpolated();
    every_fraction_stays_inside_the_table();
    a_channel_is_the_same_alone_and_among_others();
    a_missing_sample_stays_in_its_channel();
    agrees_with_the_baseline(pd_resample_at, "the version chosen at run time");
    for (uint32_t version = 1; version < VERSIONS; version++) {
        if (machine_runs(version)) agrees_with_the_baseline(runs[version], version_names[version]);
    }
    return check_report("resample");
}
