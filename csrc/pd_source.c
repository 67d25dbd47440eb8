#include "pd_source.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* History in seconds beyond what the settings ask for: a frame waits delay +
 * hold + lost_after at most, needs one filter length before that, and a bridge
 * reaches back over a whole loss. */
#define HISTORY_S 1.0
#define REPORT_EVERY 64             /* samples between two reports of the clock */
/* A window's last sample: how long after its time it is first looked for (the clock goes by the
 * earliest arrivals), how often then, and for how long (by then a frame has become due). */
#define LAST_SAMPLE_NS (300 * PD_NS_PER_US)
#define LOOK_EVERY_NS PD_NS_PER_MS
#define LOOK_FOR_NS PD_GRID_NS

static uint32_t rows_for(const struct pd_source_config *config)
{
    double wait_ns = (double)config->delay_ns + (double)config->hold_ns +
                     (double)config->lost_after_ns + (double)config->bridge_ns;
    double want = (HISTORY_S + wait_ns / PD_NS_PER_S) * config->rate_hz +
                  2.0 * config->resample.taps + 16;
    uint32_t n = 64;
    while (n < want && n < (1u << 20)) n *= 2;
    return n;
}

static size_t align64(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

size_t pd_source_arena_bytes(const struct pd_source_config *config)
{
    if (config->n_channels == 0 || config->n_channels > config->n_values ||
        config->n_values > PD_MAX_VALUES || !(config->rate_hz >= 0 && config->rate_hz <= 100000))
        return 0;
    size_t n_rows = config->rate_hz > 0 ? rows_for(config) : 1;
    return align64(sizeof(struct pd_source_state)) +
           align64(2 * n_rows * config->n_values * sizeof(double)) +
           align64(n_rows * sizeof(uint32_t));
}

int pd_source_init(struct pd_source *source, const struct pd_source_config *config, void *arena,
                   size_t arena_bytes, const struct pd_ring *native, struct pd_ring *grid,
                   struct pd_ring *events)
{
    size_t need = pd_source_arena_bytes(config);
    if (need == 0 || arena_bytes < need || grid->words != PD_GRID_WORDS(config->n_channels) ||
        events->words != PD_EVENT_WORDS || (config->rate_hz > 0) != (native != NULL))
        return -EINVAL;
    if (native && (native->words != PD_NATIVE_WORDS(config->n_values) ||
                   config->resample.taps == 0 || config->resample.phases == 0))
        return -EINVAL;
    memset(source, 0, sizeof *source);
    source->config = *config;
    source->native = native;
    source->grid = grid;
    source->events = events;
    source->n_rows = native ? rows_for(config) : 1;
    source->period_ns = native ? (double)PD_NS_PER_S / config->rate_hz : 0;
    char *at = arena;
    source->state = (struct pd_source_state *)at;
    at += align64(sizeof(struct pd_source_state));
    source->rows = (double *)at;
    at += align64(2 * (size_t)source->n_rows * config->n_values * sizeof(double));
    source->run = (uint32_t *)at;

    pd_ring_create(&source->reports, source->report_memory, sizeof source->report_memory,
                   PD_REPORT_WORDS, PD_REPORT_SLOTS, 0);
    struct pd_source_state *state = source->state;
    state->newest_ns = PD_NO_TIME;
    state->silent_since_ns = PD_NO_TIME;
    state->discontinuity = 1;
    state->grid_next = pd_ring_next(grid);
    if (native) {
        pd_clock_init(&state->clock, config->rate_hz, config->prior_ppm, config->transport_ns);
        state->next = state->good_until = state->valid_from = pd_ring_next(native);
    }
    atomic_init(&source->taken, state->next);
    return 0;
}

static void tell(struct pd_source *source, uint32_t kind, int64_t now_ns, int64_t a, int64_t b,
                 int64_t c, double x)
{
    union {
        struct pd_event event;
        uint64_t words[PD_EVENT_WORDS];
    } out = { .event = { .t_ns = now_ns, .kind = kind, .source = source->config.slot,
                         .a = a, .b = b, .c = c, .x = x } };
    if (!source->muted) pd_ring_push(source->events, out.words);
}

static double *row_of(const struct pd_source *source, uint64_t index)
{
    return source->rows + (size_t)(index & (source->n_rows - 1)) * source->config.n_values;
}

static void set_row(struct pd_source *source, uint64_t index, const double *values, uint32_t run)
{
    const size_t bytes = source->config.n_values * sizeof(double);
    double *row = row_of(source, index);
    memcpy(row, values, bytes);
    memcpy(row + (size_t)source->n_rows * source->config.n_values, values, bytes);
    source->run[index & (source->n_rows - 1)] = run;
}

static int bridgeable(const struct pd_source *source, uint64_t run)
{
    return (double)run * source->period_ns <= (double)source->config.bridge_ns;
}

/* Straight lines across the `lost` samples before `index`, whose row is set; auxiliary values
 * stay missing. */
static void bridge(struct pd_source *source, uint64_t index, uint32_t lost)
{
    const double *left = row_of(source, index - lost - 1), *right = row_of(source, index);
    double between[PD_MAX_VALUES];
    for (uint32_t k = 1; k <= lost; k++) {
        double w = (double)k / (double)(lost + 1);
        for (uint32_t ch = 0; ch < source->config.n_channels; ch++)
            between[ch] = left[ch] + w * (right[ch] - left[ch]);
        for (uint32_t ch = source->config.n_channels; ch < source->config.n_values; ch++)
            between[ch] = NAN;
        set_row(source, index - lost - 1 + k, between, lost);
    }
}

union report {
    struct pd_clock_report report;
    uint64_t words[PD_REPORT_WORDS];
};

static double publish_report(struct pd_source *source)
{
    union report out = { .words = { 0 } };
    pd_clock_get_report(&source->state->clock, &out.report);
    pd_ring_push(&source->reports, out.words);
    return out.report.rate_hz;
}

int pd_source_get_report(const struct pd_source *source, struct pd_clock_report *report)
{
    union report in;
    int rc = -EAGAIN;
    for (int attempt = 0; rc && attempt < 100; attempt++) {
        uint64_t next = pd_ring_next(&source->reports);
        if (next == 0) return -EAGAIN;
        rc = pd_ring_read(&source->reports, next - 1, in.words);
    }
    if (rc == 0) *report = in.report;
    return rc;
}

/* What this window's samples are waited for is there: closes it, and all that ended before t_ns. */
static void close_windows(struct pd_source *source, int64_t now_ns, int64_t t_ns, uint32_t flags)
{
    while (pd_analysis_end_ns(source->analysis, source->grid_t0_ns) <= t_ns)
        pd_analysis_close(source->analysis, now_ns, source->grid_t0_ns, flags);
}

static int64_t time_of(const struct pd_source *source, uint64_t index)
{
    const struct pd_clock *clock = &source->state->clock;
    if (!pd_clock_is_locked(clock)) return PD_NO_TIME;
    double t_ns = pd_clock_time_ns(clock, (double)index, source->grid_t0_ns);
    return fabs(t_ns) < 4e18 ? source->grid_t0_ns + (int64_t)t_ns : PD_NO_TIME;
}

static void deliver(struct pd_source *source, uint64_t index, int64_t now_ns, uint32_t flags,
                    int64_t arrival_ns)
{
    struct pd_analysis *analysis = source->analysis;
    int64_t t_ns = time_of(source, index);
    if (t_ns != PD_NO_TIME) {
        pd_analysis_begin(analysis, t_ns, source->grid_t0_ns);
        close_windows(source, now_ns, t_ns, 0);
    }
    pd_analysis_take(analysis, index, t_ns, flags, arrival_ns, row_of(source, index));
}

/* Sample `index` is there, so that those lost before it are final, too: all go to the analysis. */
static void deliver_until(struct pd_source *source, uint64_t index, int64_t now_ns,
                          const struct pd_native *native, int did)
{
    struct pd_analysis *analysis = source->analysis;
    if (analysis == NULL) return;
    if (did == PD_CLOCK_RELOCKED) pd_analysis_relocked(analysis);
    uint64_t from = analysis->state->next;
    uint64_t oldest = index + 1 > source->n_rows ? index + 1 - source->n_rows : 0;
    if (native->flags & PD_NATIVE_RESET || from < index - native->lost_before)
        from = index - native->lost_before;
    for (uint64_t i = from > oldest ? from : oldest; i < index; i++) {
        uint32_t run = source->run[i & (source->n_rows - 1)];
        deliver(source, i, now_ns, run && bridgeable(source, run) && i > source->state->valid_from
                                       ? PD_SIGNAL_LOST | PD_SIGNAL_BRIDGED : PD_SIGNAL_LOST,
                PD_NO_TIME);
    }
    deliver(source, index, now_ns, native->flags & PD_NATIVE_RESET ? PD_SIGNAL_RESET : 0,
            native->arrival_ns);
}

static void take_sample(struct pd_source *source, int64_t now_ns, const struct pd_native *native)
{
    struct pd_source_state *state = source->state;
    const uint64_t index = state->next;
    const int64_t silent_since_ns = state->silent_since_ns;

    /* Neither here nor lost: overwritten before a tick that came seconds late. */
    int64_t unseen = (int64_t)(index - native->lost_before - state->good_until);
    if (unseen > 0)
        tell(source, PD_EVENT_OVERRUN, now_ns, (int64_t)state->good_until, unseen, 0, 0);
    if (native->lost_before)
        tell(source, PD_EVENT_GAP, now_ns, (int64_t)(index - native->lost_before),
             native->lost_before, 0, 0);
    if (native->duplicates || native->junk_bytes)
        tell(source, PD_EVENT_REFUSED, now_ns, (int64_t)index, native->duplicates,
             native->junk_bytes, 0);
    if (silent_since_ns != PD_NO_TIME) {
        tell(source, PD_EVENT_RESUMED, now_ns, (int64_t)index, 0, 0,
             (double)(native->arrival_ns - silent_since_ns) / PD_NS_PER_S);
        state->silent_since_ns = PD_NO_TIME;
    }
    set_row(source, index, native->value, 0);
    if (native->flags & PD_NATIVE_RESET) {
        tell(source, PD_EVENT_RESET, now_ns, (int64_t)index, 0, 0, 0);
        pd_clock_restart(&state->clock);
        state->valid_from = index;
        state->discontinuity = 1;
    } else if (native->lost_before && bridgeable(source, native->lost_before) &&
               index - native->lost_before > state->valid_from) {
        bridge(source, index, native->lost_before);
    }
    state->good_until = index + 1;
    state->newest_ns = native->arrival_ns;

    int did = pd_clock_observe(&state->clock, index, native->arrival_ns, native->behind);
    if (did == PD_CLOCK_NONE) {
        if (index % REPORT_EVERY == 0) publish_report(source);
    } else {
        uint32_t kind = did == PD_CLOCK_LOCKED     ? PD_EVENT_CLOCK_LOCKED
                        : did == PD_CLOCK_RELOCKED ? PD_EVENT_CLOCK_RELOCKED
                                                   : PD_EVENT_CLOCK_FOLLOWED;
        tell(source, kind, now_ns, (int64_t)index, 0, 0, publish_report(source));
        if (did == PD_CLOCK_RELOCKED) state->discontinuity = 1;
    }
    if (native->marker) {
        int64_t t_ns = native->arrival_ns;
        if (pd_clock_is_locked(&state->clock))
            t_ns += llround(pd_clock_time_ns(&state->clock, (double)index, t_ns));
        tell(source, PD_EVENT_MARKER, now_ns, (int64_t)index, native->marker, t_ns, 0);
    }
    deliver_until(source, index, now_ns, native, did);
}

/* Takes native samples until one at or past index `until` was there (beyond it where that
 * one is lost: only the next sample ends a loss), but none at or past `limit`. */
static void take(struct pd_source *source, int64_t now_ns, int64_t until, uint64_t limit)
{
    struct pd_source_state *state = source->state;
    while (state->next < limit && (int64_t)state->good_until <= until) {
        int rc = pd_ring_read(source->native, state->next, source->sample);
        if (rc == -EAGAIN) break;
        const struct pd_native *native = (const struct pd_native *)source->sample;
        if (rc == -EOVERFLOW) {
            /* Gone before this tick saw it: a loss longer than the ring, or a tick
             * that came seconds too late. The next sample will tell which. */
            uint64_t oldest = pd_ring_oldest(source->native);
            if (oldest <= state->next) oldest = state->next + 1;
            state->next = state->valid_from = oldest;
            continue;
        }
        if (native->flags & PD_NATIVE_LOST) {
            set_row(source, state->next, native->value, native->lost_before);
            /* A loss that has no sample before it can't be bridged. */
            if (state->next == state->valid_from) state->valid_from++;
        } else {
            take_sample(source, now_ns, native);
        }
        state->next++;
    }
    atomic_store_explicit(&source->taken, state->next, memory_order_release);
}

/* Flags for a frame at native position `index` + fraction, whose oldest sample is
 * `oldest`; MISSING without BRIDGED when it can't be computed. */
static uint32_t look_for_losses(const struct pd_source *source, uint64_t oldest, uint64_t index,
                                double fraction)
{
    const double near = 0.5 * (double)PD_GRID_NS / source->period_ns;
    uint32_t flags = 0;
    for (uint32_t k = 0; k < source->config.resample.taps; k++) {
        uint64_t n = oldest + k;
        uint32_t run = source->run[n & (source->n_rows - 1)];
        if (run == 0) continue;
        if (!bridgeable(source, run)) return PD_GRID_MISSING;
        flags |= PD_GRID_BRIDGED;
        if (fabs((double)(int64_t)(n - index) - fraction) <= near) flags |= PD_GRID_MISSING;
    }
    return flags;
}

static void push_frame(struct pd_source *source, int64_t t_ns, int64_t due_ns, uint32_t flags)
{
    struct pd_grid *frame = (struct pd_grid *)source->frame;
    frame->t_ns = t_ns;
    frame->due_ns = due_ns;
    frame->flags = flags | source->config.flags;
    if (source->analysis && t_ns < source->analysis->state->artifact_until_ns)
        frame->flags |= PD_GRID_ARTIFACT;
    frame->reserved = 0;
    pd_ring_push(source->grid, source->frame);
}

static void push_missing(struct pd_source *source, int64_t t_ns, int64_t due_ns)
{
    struct pd_grid *frame = (struct pd_grid *)source->frame;
    for (uint32_t ch = 0; ch < source->config.n_channels; ch++) frame->value[ch] = NAN;
    frame->native = PD_NO_TIME;
    frame->fraction = 0;
    push_frame(source, t_ns, due_ns, PD_GRID_MISSING);
}

/* One frame for grid instant t_ns: 1 when it was emitted, 0 when it has to wait
 * for a sample that is late. */
static int emit(struct pd_source *source, int64_t now_ns, int64_t t_ns, int64_t due_ns,
                uint64_t limit)
{
    struct pd_source_state *state = source->state;
    const struct pd_resample *resample = &source->config.resample;
    if (!source->native) {
        push_missing(source, t_ns, due_ns);
        return 1;
    }
    for (;;) {
        if (!pd_clock_is_locked(&state->clock)) {
            uint64_t before = state->next;
            take(source, now_ns, (int64_t)before, limit);
            if (state->next != before) continue;
            break;
        }
        const uint64_t base = state->next;
        double relative = pd_clock_index(&state->clock, t_ns, base);
        double whole = floor(relative);
        if (!(fabs(whole) < 1e12)) break;
        int64_t index = (int64_t)base + (int64_t)whole;
        int64_t newest = index + resample->ahead;
        if (newest >= (int64_t)state->good_until) {
            take(source, now_ns, newest, limit);
            if (state->next != base) continue;      /* the clock has learnt: ask it again */
            if (state->silent_since_ns == PD_NO_TIME) {
                if (now_ns < due_ns + source->config.lost_after_ns) return 0;
                state->silent_since_ns = state->newest_ns;
                tell(source, PD_EVENT_SILENT, now_ns, (int64_t)state->good_until - 1, 0, 0,
                     (double)(now_ns - state->newest_ns) / PD_NS_PER_S);
            }
            break;
        }
        int64_t oldest = newest - (int64_t)resample->taps + 1;
        if (oldest < (int64_t)state->valid_from || oldest + source->n_rows < (int64_t)state->next)
            break;
        double fraction = relative - whole;
        uint32_t flags = look_for_losses(source, (uint64_t)oldest, (uint64_t)index, fraction);
        if (flags == PD_GRID_MISSING) break;
        struct pd_grid *frame = (struct pd_grid *)source->frame;
        pd_resample_at(resample, row_of(source, (uint64_t)oldest), source->config.n_values,
                       source->config.n_channels, fraction, frame->value);
        frame->native = index;
        frame->fraction = fraction;
        if (state->discontinuity && !(flags & PD_GRID_MISSING)) {
            flags |= PD_GRID_DISCONTINUITY;
            state->discontinuity = 0;
        }
        push_frame(source, t_ns, due_ns, flags);
        return 1;
    }
    push_missing(source, t_ns, due_ns);
    return 1;
}

int64_t pd_source_due(const struct pd_source *source, int64_t grid_t0_ns)
{
    return grid_t0_ns + (int64_t)pd_ring_next(source->grid) * PD_GRID_NS +
           source->config.delay_ns + source->config.hold_ns;
}

static void mute(struct pd_source *source, int muted)
{
    source->muted = muted;
    if (source->analysis) source->analysis->muted = muted;
}

void pd_source_warm(struct pd_source *source, uint64_t first, uint64_t until, int64_t grid_t0_ns)
{
    struct pd_source_state *state = source->state;
    uint64_t oldest = pd_ring_oldest(source->native);
    if (first < oldest) first = oldest;
    state->next = state->good_until = state->valid_from = first;
    source->grid_t0_ns = grid_t0_ns;
    mute(source, 1);
    take(source, 0, INT64_MAX, until);
    mute(source, 0);
}

/* First step in a plan: up to where the source before it got, which has told of
 * all that; and what that still had to flag, this one has. */
static void take_over(struct pd_source *source)
{
    const struct pd_source_state *before = source->before->state;
    struct pd_source_state *state = source->state;
    mute(source, 1);
    take(source, 0, INT64_MAX, before->next);
    mute(source, 0);
    if (source->analysis && source->before->analysis)
        pd_analysis_follow(source->analysis, source->before->analysis);
    if (pd_clock_is_locked(&state->clock)) state->discontinuity = before->discontinuity;
    state->silent_since_ns = before->silent_since_ns;
    source->before = NULL;
}

void pd_source_replace(struct pd_source *source, struct pd_analysis *analysis, int64_t grid_t0_ns)
{
    const struct pd_analysis *before = source->analysis;
    if (analysis == NULL || analysis == before) return;
    if (before) pd_analysis_succeed(analysis, before, grid_t0_ns);
    source->analysis = analysis;
}

/* Windows whose samples are all there, without waiting for the one after them, and windows that
 * have waited long enough. Returns how many windows this step closed. */
static int step_windows(struct pd_source *source, int64_t now_ns, uint64_t before)
{
    struct pd_analysis *analysis = source->analysis;
    int64_t next_ns = time_of(source, analysis->state->next);
    pd_analysis_begin(analysis, now_ns, source->grid_t0_ns);
    /* The sample after a window's last may be due after this instant: by one period, no more. */
    int64_t soon_ns = now_ns + (int64_t)source->period_ns;
    if (next_ns != PD_NO_TIME) close_windows(source, now_ns, next_ns < soon_ns ? next_ns : soon_ns, 0);
    close_windows(source, now_ns, now_ns - analysis->config.wait_ns, PD_WINDOW_TIMED_OUT);
    return (int)(pd_ring_next(analysis->windows) - before);
}

int64_t pd_source_window_due(const struct pd_source *source, int64_t now_ns, int64_t grid_t0_ns)
{
    const struct pd_analysis *analysis = source->analysis;
    if (analysis == NULL) return INT64_MAX;
    int64_t next_ns = time_of(source, analysis->state->next);
    if (next_ns == PD_NO_TIME) return INT64_MAX;
    int64_t left_ns = pd_analysis_end_ns(analysis, grid_t0_ns) - next_ns;
    if (left_ns <= 0 || left_ns > PD_NS_PER_S) return INT64_MAX;    /* far away, or not begun */
    double before = ceil((double)left_ns / source->period_ns);  /* samples until its end */
    int64_t due_ns = next_ns + (int64_t)((before - 1.0) * source->period_ns) + LAST_SAMPLE_NS;
    if (due_ns > now_ns) return due_ns;
    return now_ns - due_ns < LOOK_FOR_NS ? now_ns + LOOK_EVERY_NS : INT64_MAX;
}

int pd_source_step(struct pd_source *source, int64_t now_ns, int64_t grid_t0_ns, uint64_t limit)
{
    int emitted = 0;
    uint64_t windows = source->analysis ? pd_ring_next(source->analysis->windows) : 0;
    source->grid_t0_ns = grid_t0_ns;
    if (source->before) take_over(source);
    for (;;) {
        int64_t due_ns = pd_source_due(source, grid_t0_ns);
        if (due_ns > now_ns) break;
        int64_t t_ns = due_ns - source->config.delay_ns - source->config.hold_ns;
        if (!emit(source, now_ns, t_ns, due_ns, limit)) break;
        emitted++;
    }
    if (source->native) take(source, now_ns, INT64_MAX, limit);
    if (source->analysis) emitted += step_windows(source, now_ns, windows);
    source->state->grid_next = pd_ring_next(source->grid);
    return emitted;
}
