/* What the tests of source and engine share: a device in virtual time, its
 * intake and rings, and a resampler that is good enough to judge by. */
#ifndef SOURCE_RIG_H
#define SOURCE_RIG_H

#include <string.h>

#include "check.h"
#include "pd_intake.h"
#include "pd_source.h"

#define TURN 6.283185307179586

enum { HALF = 12, TAPS = 2 * HALF, PHASES = 512, CHANNELS = 3, NATIVE_SLOTS = 1024, GRID_SLOTS = 4096,
       EVENT_SLOTS = 1024 };

static double rig_table[PHASES + 1][TAPS];

/* A windowed sinc with its cut at half the native rate; each row sums to 1. */
static void rig_design(void)
{
    for (int j = 0; j <= PHASES; j++) {
        double sum = 0;
        for (int k = 0; k < TAPS; k++) {
            double u = k - (HALF - 1) - (double)j / PHASES;
            double sinc = u == 0 ? 1 : sin(TURN / 2 * u) / (TURN / 2 * u);
            double window = fabs(u) >= HALF ? 0 : 0.42 + 0.5 * cos(TURN / 2 * u / HALF) +
                                                      0.08 * cos(TURN * u / HALF);
            rig_table[j][k] = sinc * window;
            sum += rig_table[j][k];
        }
        for (int k = 0; k < TAPS; k++) rig_table[j][k] /= sum;
    }
}

struct rig {
    double rate_hz, period_ns;
    int64_t t0_ns;                  /* of sample 0 */
    struct pd_ring native, grid, events;
    void *native_memory, *grid_memory, *event_memory, *arena;
    struct pd_intake intake;
    struct pd_intake_counts counts;
    struct pd_source_config config;
    struct pd_source source;
    uint64_t next_event;
};

static struct pd_source_config rig_config(double rate_hz)
{
    return (struct pd_source_config){
        .rate_hz = rate_hz, .hold_ns = 20 * PD_NS_PER_MS, .bridge_ns = 20 * PD_NS_PER_MS,
        .lost_after_ns = 100 * PD_NS_PER_MS,
        .delay_ns = (int64_t)ceil(HALF * 1e9 / rate_hz),
        .n_channels = CHANNELS, .n_values = CHANNELS + 1, .slot = 2,
        .resample = { .table = &rig_table[0][0], .phases = PHASES, .taps = TAPS, .ahead = HALF },
    };
}

static void *rig_ring(struct pd_ring *ring, uint32_t words, uint32_t n_slots)
{
    size_t bytes = pd_ring_bytes(words, n_slots);
    void *memory = calloc(1, bytes);
    CHECK(pd_ring_create(ring, memory, bytes, words, n_slots, 0) == 0);
    return memory;
}

static void *rig_source(struct rig *rig, struct pd_source *source, struct pd_ring *grid)
{
    size_t bytes = pd_source_arena_bytes(&rig->config);
    void *arena = calloc(1, bytes);
    CHECK(pd_source_init(source, &rig->config, arena, bytes,
                         rig->config.rate_hz > 0 ? &rig->native : NULL, grid, &rig->events) == 0);
    return arena;
}

static struct rig *rig_make(double rate_hz)
{
    if (rig_table[0][0] == 0 && rig_table[1][0] == 0) rig_design();
    struct rig *rig = calloc(1, sizeof *rig);
    rig->rate_hz = rate_hz;
    rig->period_ns = 1e9 / rate_hz;
    rig->t0_ns = 1000 * PD_NS_PER_S;
    rig->config = rig_config(rate_hz);
    rig->native_memory = rig_ring(&rig->native, PD_NATIVE_WORDS(CHANNELS + 1), NATIVE_SLOTS);
    rig->grid_memory = rig_ring(&rig->grid, PD_GRID_WORDS(CHANNELS), GRID_SLOTS);
    rig->event_memory = rig_ring(&rig->events, PD_EVENT_WORDS, EVENT_SLOTS);
    CHECK(pd_intake_init(&rig->intake, &rig->native, &rig->counts, rate_hz, 0, CHANNELS + 1) == 0);
    rig->arena = rig_source(rig, &rig->source, &rig->grid);
    return rig;
}

static void rig_free(struct rig *rig)
{
    free(rig->native_memory);
    free(rig->grid_memory);
    free(rig->event_memory);
    free(rig->arena);
    free(rig);
}

static int64_t taken_ns(const struct rig *rig, uint64_t index)
{
    return rig->t0_ns + (int64_t)llround((double)index * rig->period_ns);
}

/* The signal at native position p: a ramp that tells the position, 10 Hz and a
 * constant of 50 mV. */
static double truth(const struct rig *rig, double p, unsigned channel)
{
    if (channel == 0) return p;
    if (channel == 1) return 100 * sin(TURN * 10 * p / rig->rate_hz);
    return 50000;
}

static void arrive(struct rig *rig, uint64_t index, uint32_t behind, int64_t arrival_ns)
{
    double value[CHANNELS + 1] = { 0 };
    for (unsigned ch = 0; ch < CHANNELS; ch++) value[ch] = truth(rig, (double)index, ch);
    pd_intake_indexed(&rig->intake, index, behind, arrival_ns, PD_NO_TIME, value);
}

struct grid_frame {                 /* struct pd_grid with its values */
    int64_t t_ns, due_ns;
    uint32_t flags, reserved;
    int64_t native;
    double fraction;
    double value[CHANNELS];
};

static struct grid_frame frame_at(const struct pd_ring *grid, uint64_t index)
{
    union {
        struct grid_frame frame;
        uint64_t words[PD_GRID_WORDS(CHANNELS)];
    } out = { .words = { 0 } };
    int rc = pd_ring_read(grid, index, out.words);
    CHECK(rc == 0, "grid frame %llu", (unsigned long long)index);
    return out.frame;
}

/* The next event that the tick told; 0 when there is none. */
static int next_event(struct rig *rig, struct pd_event *event)
{
    union {
        struct pd_event event;
        uint64_t words[PD_EVENT_WORDS];
    } out;
    if (pd_ring_read(&rig->events, rig->next_event, out.words)) return 0;
    rig->next_event++;
    *event = out.event;
    return 1;
}

#endif
