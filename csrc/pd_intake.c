#include "pd_intake.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* How far before its computed instant a packet may arrive and still be
 * believed: the edge is an estimate from jittered arrivals and the nominal rate,
 * which may be wrong by RATE_ERROR over a gap. */
#define EARLY_NS (20.0 * PD_NS_PER_MS)
#define EARLY_SAMPLES 3.0
#define RATE_ERROR 0.01
/* The edge creeps up by this fraction of real time, so that a device slower
 * than its nominal rate, or a delay that grew, does not leave it behind; over a
 * loss by no more than half of what may be early, or else one late packet after
 * it would make those that come in time look impossible. */
#define EDGE_CREEP 0.02
#define CREEP_MOST_NS (0.5 * EARLY_NS)
/* Packets in a row that continue each other from an impossible place. */
#define RESTART_RUN 8

int pd_intake_init(struct pd_intake *intake, struct pd_ring *ring,
                   struct pd_intake_counts *counts, double rate_hz, uint32_t modulus,
                   uint32_t n_values)
{
    if (!(rate_hz > 0) || n_values == 0 || n_values > PD_MAX_VALUES || modulus == 1 ||
        ring->words != PD_NATIVE_WORDS(n_values))
        return -EINVAL;
    memset(intake, 0, sizeof *intake);
    intake->ring = ring;
    intake->counts = counts;
    intake->period_ns = (double)PD_NS_PER_S / rate_hz;
    intake->modulus = modulus;
    intake->n_values = n_values;
    intake->state.next = pd_ring_next(ring);
    intake->state.origin = intake->state.next;
    intake->state.newest_ns = PD_NO_TIME;
    atomic_init(&counts->accepted, 0);
    atomic_init(&counts->lost, 0);
    atomic_init(&counts->duplicates, 0);
    atomic_init(&counts->strays, 0);
    atomic_init(&counts->resets, 0);
    atomic_init(&counts->junk_bytes, 0);
    atomic_init(&counts->last_arrival_ns, PD_NO_TIME);
    return 0;
}

static void count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Frames for [from, to), of which only the last ring-full is worth writing. */
static void push_lost(struct pd_intake *intake, uint64_t from, uint64_t to, int64_t arrival_ns)
{
    const uint64_t run = to - from;
    if (run > intake->ring->n_slots) {
        from = to - intake->ring->n_slots;
        pd_ring_skip(intake->ring, from);
    }
    struct pd_native *native = (struct pd_native *)intake->frame;
    memset(native, 0, sizeof *native);
    native->arrival_ns = arrival_ns;
    native->device_ns = PD_NO_TIME;
    native->flags = PD_NATIVE_LOST;
    native->lost_before = run > UINT32_MAX ? UINT32_MAX : (uint32_t)run;
    for (uint32_t v = 0; v < intake->n_values; v++) native->value[v] = NAN;
    for (; from < to; from++) pd_ring_push(intake->ring, intake->frame);
}

static void accept(struct pd_intake *intake, uint64_t index, uint32_t flags, uint32_t behind,
                   int64_t arrival_ns, int64_t device_ns, const double *values)
{
    struct pd_intake_state *state = &intake->state;
    uint64_t lost = index - state->next;
    if (lost) push_lost(intake, state->next, index, arrival_ns);

    struct pd_native *native = (struct pd_native *)intake->frame;
    memset(native, 0, sizeof *native);
    native->arrival_ns = arrival_ns;
    native->device_ns = device_ns;
    native->flags = flags;
    native->behind = behind;
    native->lost_before = lost > UINT32_MAX ? UINT32_MAX : (uint32_t)lost;
    native->duplicates = state->duplicates;
    native->junk_bytes = state->junk_bytes;
    native->marker = state->marker;
    memcpy(native->value, values, intake->n_values * sizeof(double));
    pd_ring_push(intake->ring, intake->frame);

    if (flags & PD_NATIVE_RESET) state->origin = index;
    double edge = (double)arrival_ns -
                  ((double)behind + (double)(index - state->origin)) * intake->period_ns;
    double creep = fmin(EDGE_CREEP * (double)(lost + 1) * intake->period_ns, CREEP_MOST_NS);
    if ((flags & PD_NATIVE_RESET) || edge < state->earliest_ns + creep)
        state->earliest_ns = edge;
    else
        state->earliest_ns += creep;

    state->started = 1;
    state->expect_reset = 0;
    state->held_run = 0;
    state->duplicates = state->junk_bytes = state->marker = 0;
    state->next = index + 1;
    state->newest_ns = arrival_ns;
    count(&intake->counts->accepted, 1);
    if (lost) count(&intake->counts->lost, lost);
    if (flags & PD_NATIVE_RESET) count(&intake->counts->resets, 1);
    atomic_store_explicit(&intake->counts->last_arrival_ns, arrival_ns, memory_order_relaxed);
}

/* A new segment begins as many samples on as time has passed. */
static void accept_reset(struct pd_intake *intake, uint32_t behind, int64_t arrival_ns,
                         int64_t device_ns, const double *values)
{
    const struct pd_intake_state *state = &intake->state;
    uint64_t index = state->next;
    if (state->newest_ns != PD_NO_TIME) {
        double between = (double)(arrival_ns - state->newest_ns) / intake->period_ns - 1.0 - behind;
        if (between >= 0.5) index += (uint64_t)llround(between);
    }
    accept(intake, index, PD_NATIVE_RESET, behind, arrival_ns, device_ns, values);
}

/* How many samples beyond `next` can have been taken by this arrival; negative
 * when not even the next one can. */
static double room(const struct pd_intake *intake, uint32_t behind, int64_t arrival_ns)
{
    const struct pd_intake_state *state = &intake->state;
    double taken_ns = (double)arrival_ns - (double)behind * intake->period_ns;
    double margin = EARLY_NS + RATE_ERROR * fmax(0.0, taken_ns - (double)state->newest_ns);
    margin = fmax(margin, EARLY_SAMPLES * intake->period_ns);
    margin = fmin(margin, 0.4 * intake->modulus * intake->period_ns);
    return (taken_ns - state->earliest_ns + margin) / intake->period_ns -
           (double)(state->next - state->origin);
}

static void put_sample(struct pd_intake *intake, unsigned kind, uint64_t index, uint32_t behind,
                       int64_t arrival_ns, int64_t device_ns, const double *values)
{
    struct pd_spsc *tap = atomic_load_explicit(&intake->tap, memory_order_acquire);
    if (!tap || intake->has_bytes) return;
    struct {
        struct pd_journal_sample head;
        double value[PD_MAX_VALUES];
    } body = { .head = { .index = index, .device_ns = device_ns, .behind = behind,
                         .n_values = intake->n_values } };
    uint32_t bytes = intake->n_values * (uint32_t)sizeof(double);
    memcpy(body.value, values, bytes);
    pd_journal_put(tap, kind, intake->slot, arrival_ns, &body,
                   (uint32_t)sizeof body.head + bytes);
}

int pd_intake_counted(struct pd_intake *intake, uint32_t counter, uint32_t behind,
                      int64_t arrival_ns, int64_t device_ns, const double *values)
{
    struct pd_intake_state *state = &intake->state;
    const uint32_t modulus = intake->modulus;
    put_sample(intake, PD_JOURNAL_PACKET, counter, behind, arrival_ns, device_ns, values);
    counter %= modulus;
    if (!state->started || state->expect_reset) {
        accept_reset(intake, behind, arrival_ns, device_ns, values);
        state->last_counter = counter;
        return 1;
    }
    uint32_t skipped = (counter + 2 * modulus - state->last_counter - 1) % modulus;
    double beyond = room(intake, behind, arrival_ns) - (double)skipped;
    if (beyond >= 0) {
        uint64_t turns = (uint64_t)(beyond / modulus);
        accept(intake, state->next + skipped + turns * modulus, 0, behind, arrival_ns, device_ns,
               values);
        state->last_counter = counter;
        return 1;
    }
    int continues = state->held_run > 0 && counter == (state->held_counter + 1) % modulus;
    state->held_run = continues ? state->held_run + 1 : 1;
    state->held_counter = counter;
    if (state->held_run >= RESTART_RUN) {
        accept_reset(intake, behind, arrival_ns, device_ns, values);
        state->last_counter = counter;
        return 1;
    }
    state->duplicates++;
    /* Within the last quarter turn: a copy. Elsewhere: a damaged counter. */
    count(skipped >= modulus - modulus / 4 ? &intake->counts->duplicates : &intake->counts->strays,
          1);
    return 0;
}

int pd_intake_indexed(struct pd_intake *intake, uint64_t index, uint32_t behind,
                      int64_t arrival_ns, int64_t device_ns, const double *values)
{
    struct pd_intake_state *state = &intake->state;
    put_sample(intake, PD_JOURNAL_SAMPLE, index, behind, arrival_ns, device_ns, values);
    if (!state->started || state->expect_reset) {
        accept_reset(intake, behind, arrival_ns, device_ns, values);
        state->base = state->origin - index;        /* modulo 2^64, as is the sum below */
        return 1;
    }
    uint64_t absolute = state->base + index;
    if ((int64_t)(absolute - state->next) < 0) {
        state->duplicates++;
        count(&intake->counts->duplicates, 1);
        return 0;
    }
    accept(intake, absolute, 0, behind, arrival_ns, device_ns, values);
    return 1;
}

void pd_intake_junk(struct pd_intake *intake, uint32_t bytes)
{
    if (bytes == 0) return;
    intake->state.junk_bytes += bytes;
    count(&intake->counts->junk_bytes, bytes);
}

void pd_intake_mark(struct pd_intake *intake, uint32_t marker)
{
    intake->state.marker = marker;
}

void pd_intake_reset(struct pd_intake *intake)
{
    /* A journal that has not begun with this device gets its state first, with this in it. */
    struct pd_spsc *tap = atomic_load_explicit(&intake->tap, memory_order_acquire);
    if (tap && tap == intake->tap_begun)
        pd_journal_put(tap, PD_JOURNAL_RESET, intake->slot, 0, NULL, 0);
    if (intake->state.started) intake->state.expect_reset = 1;
}
