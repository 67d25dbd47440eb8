#include "pd_sim.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_noise.h"

#define SPIKE_FRACTION 0.01
#define SPIKE_NS (20.0 * PD_NS_PER_MS)
#define CHAOS_APART_S 5.0
#define LONGEST_STALL_S 3600.0
#define LONGEST_SCHEDULE (1ull << 48)       /* samples: beyond any run, far from overflow */

enum { KEY_DROP = 64, KEY_DUPLICATE, KEY_JITTER, KEY_CHAOS };

struct step {                       /* what becomes of one sample on its way */
    uint64_t n;
    int64_t arrival_ns, device_ns;
    uint32_t lost, copied, delayed;
};

/* -- faults ---------------------------------------------------------------------- */

static uint64_t end_of(const struct pd_sim_fault *fault)
{
    return fault->n > PD_SIM_FOREVER - fault->start ? PD_SIM_FOREVER : fault->start + fault->n;
}

static int is_active(const struct pd_sim_active *active, uint64_t n)
{
    return active->used && active->fault.start <= n && n < end_of(&active->fault);
}

static int loses_all(uint32_t kind)
{
    return kind == PD_SIM_BURST || kind == PD_SIM_GAP || kind == PD_SIM_WRAP ||
           kind == PD_SIM_UNPLUG;
}

static uint64_t earlier_edge(uint64_t edge, const struct pd_sim_fault *fault, uint64_t n)
{
    if (fault->start > n && fault->start < edge) edge = fault->start;
    if (end_of(fault) > n && end_of(fault) < edge) edge = end_of(fault);
    return edge;
}

static int valid_fault(const struct pd_sim_fault *fault, const struct pd_sim_config *config)
{
    const double value = fault->value;
    if (fault->kind >= PD_SIM_KINDS || fault->n == 0 || !(fabs(value) <= 1e12)) return 0;
    switch (fault->kind) {
    case PD_SIM_DROP:
    case PD_SIM_DUPLICATE: return value >= 0 && value <= 1;
    case PD_SIM_STALL: return (double)fault->n <= LONGEST_STALL_S * config->signal.rate_hz;
    case PD_SIM_WRAP: return value >= 1 && value <= 1e6;
    case PD_SIM_CLUMP: return value >= 1;
    case PD_SIM_DRIFT: return fabs(value) <= 1e5;
    case PD_SIM_RATE: return fabs(value) <= 50;
    case PD_SIM_EYES: return value == 1 || value == 2;
    case PD_SIM_FLATLINE:
    case PD_SIM_SATURATE:
    case PD_SIM_FORCE_POP:
        return fault->channels != 0 && (uint64_t)fault->channels >> config->signal.n_channels == 0;
    default: return 1;
    }
}

static void put_log(struct pd_sim *sim, const struct pd_sim_active *active, uint32_t what)
{
    const struct pd_sim_record record = { .fault = active->fault, .id = active->id,
                                          .did = active->did, .cause = active->cause,
                                          .what = what };
    pd_spsc_put(&sim->log, &record, sizeof record, NULL, 0);
}

static void add_fault(struct pd_sim *sim, const struct pd_sim_fault *fault, uint32_t cause)
{
    struct pd_sim_state *state = &sim->state;
    struct pd_sim_active added = { .fault = *fault, .id = ++state->next_id, .cause = cause,
                                   .used = 1 };
    const uint32_t turn = sim->config.modulus ? sim->config.modulus : 256;
    if (fault->kind == PD_SIM_WRAP) added.fault.n = (uint64_t)fault->value * turn;
    for (int slot = 0; slot < PD_SIM_MAX_FAULTS; slot++) {
        if (state->active[slot].used) continue;
        state->active[slot] = added;
        state->next_edge = state->cursor.next_edge = 0;
        put_log(sim, &added, PD_SIM_BEGAN);
        return;
    }
    put_log(sim, &added, PD_SIM_REFUSED);
}

/* -- chaos: seeded faults, each put in place when the one before it begins -------- */

static double between(uint64_t key, uint64_t counter, double low, double high)
{
    return low + (high - low) * pd_noise_uniform(key, counter);
}

static void plan_chaos(struct pd_sim *sim)
{
    struct pd_sim_state *state = &sim->state;
    if (!(sim->config.chaos_per_min > 0)) {
        state->chaos_next = PD_SIM_FOREVER;
        return;
    }
    static const uint32_t kinds[] = { PD_SIM_DROP, PD_SIM_BURST, PD_SIM_GAP, PD_SIM_DUPLICATE,
                                      PD_SIM_STALL, PD_SIM_CLUMP };
    static const double longest_s[] = { 5.0, 0.2, 2.0, 5.0, 1.5, 5.0 };
    const uint64_t key = sim->key_chaos, count = 8 * state->chaos_count++;
    const double rate_hz = sim->config.signal.rate_hz;
    double more_s = fmax(0.0, 60.0 / sim->config.chaos_per_min - CHAOS_APART_S);
    double apart_s = CHAOS_APART_S + more_s * pd_noise_exponential(key, count);
    uint32_t pick = (uint32_t)(6.0 * pd_noise_uniform(key, count + 1));
    struct pd_sim_fault fault = { .kind = kinds[pick] };
    fault.start = state->chaos_next + (uint64_t)(apart_s * rate_hz);
    fault.n = 1 + (uint64_t)(longest_s[pick] * between(key, count + 2, 0.02, 1.0) * rate_hz);
    fault.value = fault.kind == PD_SIM_CLUMP
                      ? (double)(PD_NS_PER_MS * (int64_t)between(key, count + 3, 16.0, 65.0))
                      : between(key, count + 3, 0.02, 0.3);
    state->chaos_next = fault.start;
    add_fault(sim, &fault, PD_SIM_CHAOS);
}

/* -- arrival ----------------------------------------------------------------------- */

static void set_period(struct pd_sim_cursor *cursor, double period_ns)
{
    if (period_ns == cursor->period_ns) return;
    cursor->anchor_ns += (double)(cursor->n - cursor->anchor_n) * cursor->period_ns;
    cursor->anchor_n = cursor->n;
    cursor->period_ns = period_ns;
}

/* What is active changes with this sample: works it out anew. */
static void cursor_edge(const struct pd_sim *sim, struct pd_sim_cursor *cursor)
{
    const struct pd_sim_config *config = &sim->config;
    const uint64_t n = cursor->n;
    double ppm = config->ppm, faster = 1.0;
    uint64_t newest_clump = 0;
    cursor->next_edge = PD_SIM_FOREVER;
    cursor->clump_ns = config->clump_ns;
    cursor->stall_end = 0;
    cursor->lost = cursor->busy = 0;
    for (int slot = 0; slot < PD_SIM_MAX_FAULTS; slot++) {
        const struct pd_sim_active *active = &sim->state.active[slot];
        const struct pd_sim_fault *fault = &active->fault;
        if (!active->used) continue;
        cursor->next_edge = earlier_edge(cursor->next_edge, fault, n);
        if (fault->kind == PD_SIM_UNPLUG && end_of(fault) == n) {
            cursor->back = 1;
            cursor->counter_zero = n;
        }
        if (fault->kind == PD_SIM_RESET && fault->start == n) {
            cursor->counter_zero = n;
            if (config->modulus == 0) cursor->back = 1;
        }
        if (!is_active(active, n)) continue;
        cursor->busy = 1;
        if (loses_all(fault->kind)) cursor->lost = 1;
        if (fault->kind == PD_SIM_STALL && end_of(fault) > cursor->stall_end)
            cursor->stall_end = end_of(fault);
        if (fault->kind == PD_SIM_CLUMP && active->id > newest_clump) {
            newest_clump = active->id;
            cursor->clump_ns = fault->value;
        }
        if (fault->kind == PD_SIM_DRIFT) ppm += fault->value;
        if (fault->kind == PD_SIM_RATE) faster *= 1.0 + 0.01 * fault->value;
    }
    set_period(cursor, (double)PD_NS_PER_S / config->signal.rate_hz * (1.0 + ppm * 1e-6) / faster);
}

static double taken_ns(const struct pd_sim_cursor *cursor, uint64_t n)
{
    return cursor->anchor_ns + (double)(n - cursor->anchor_n) * cursor->period_ns;
}

static double jitter_ns(const struct pd_sim *sim, uint64_t n)
{
    const uint64_t key = sim->key_jitter;
    const double mean_ns = sim->config.jitter_ns;
    const uint32_t law = sim->config.jitter_law;
    double jitter = 0.0;
    if (mean_ns > 0) jitter = mean_ns * pd_noise_exponential(key, 2 * n);
    if (mean_ns > 0 && law == PD_SIM_GAMMA)
        jitter = 0.5 * (jitter + mean_ns * pd_noise_exponential(key, 2 * n + 1));
    if (law == PD_SIM_SPIKES && pd_noise_uniform(key, 2 * n + 1) < SPIKE_FRACTION)
        jitter += SPIKE_NS;
    return jitter;
}

static int chance(const struct pd_sim *sim, const struct pd_sim_active *active, uint64_t n)
{
    uint64_t key = active->fault.kind == PD_SIM_DROP ? sim->key_drop : sim->key_duplicate;
    return pd_noise_uniform(pd_noise_key(key, active->id), n) < active->fault.value;
}

static int64_t arrival_of(const struct pd_sim *sim, struct pd_sim_cursor *cursor,
                          struct step *step, double at_ns)
{
    const double delay_ns = sim->config.delay_ns;
    double there_ns = at_ns + delay_ns + jitter_ns(sim, step->n);
    if (cursor->stall_end) {
        double held_ns = taken_ns(cursor, cursor->stall_end) + delay_ns;
        step->delayed = held_ns > there_ns;
        there_ns = fmax(there_ns, held_ns);
    }
    int64_t arrival_ns = (int64_t)(there_ns + 0.5), clump_ns = (int64_t)cursor->clump_ns;
    if (clump_ns > 0) arrival_ns = (arrival_ns + clump_ns - 1) / clump_ns * clump_ns;
    arrival_ns += sim->state.start_ns;
    if (step->n > 0 && arrival_ns < cursor->arrival_ns) arrival_ns = cursor->arrival_ns;
    return arrival_ns;
}

static struct step cursor_step(const struct pd_sim *sim, struct pd_sim_cursor *cursor)
{
    const struct pd_sim_config *config = &sim->config;
    if (cursor->n >= cursor->next_edge) cursor_edge(sim, cursor);
    struct step step = { .n = cursor->n, .lost = cursor->lost };
    double at_ns = taken_ns(cursor, step.n);
    step.device_ns = sim->state.start_ns + (int64_t)(at_ns + 0.5);
    step.arrival_ns = cursor->arrival_ns = arrival_of(sim, cursor, &step, at_ns);
    cursor->n++;

    if (config->drop > 0 && pd_noise_uniform(sim->key_drop, step.n) < config->drop) step.lost = 1;
    if (config->duplicate > 0 && pd_noise_uniform(sim->key_duplicate, step.n) < config->duplicate)
        step.copied = 1;
    for (int slot = 0; cursor->busy && slot < PD_SIM_MAX_FAULTS; slot++) {
        const struct pd_sim_active *active = &sim->state.active[slot];
        if (!is_active(active, step.n)) continue;
        if (active->fault.kind == PD_SIM_DROP && chance(sim, active, step.n)) step.lost = 1;
        if (active->fault.kind == PD_SIM_DUPLICATE && chance(sim, active, step.n))
            step.copied = 1;
    }
    return step;
}

/* Each loss and copy is put down once: to the first fault that did it, or to
 * the configured probability. */
static void account(struct pd_sim *sim, const struct step *step)
{
    struct pd_sim_state *state = &sim->state;
    uint32_t lost = step->lost, copied = step->copied && !step->lost;
    for (int slot = 0; state->cursor.busy && slot < PD_SIM_MAX_FAULTS; slot++) {
        struct pd_sim_active *active = &state->active[slot];
        if (!is_active(active, step->n)) continue;
        const uint32_t kind = active->fault.kind;
        if (loses_all(kind) || (kind == PD_SIM_DROP && chance(sim, active, step->n))) {
            active->did += lost;
            lost = 0;
        } else if (kind == PD_SIM_DUPLICATE && chance(sim, active, step->n)) {
            active->did += copied;
            copied = 0;
        } else if (kind == PD_SIM_STALL) {
            active->did += step->delayed;
        } else if (kind == PD_SIM_FORCE_POP || kind == PD_SIM_FORCE_BLINK ||
                   kind == PD_SIM_FORCE_EMG) {
            active->did = 1;
        } else if (kind != PD_SIM_DROP && kind != PD_SIM_DUPLICATE) {
            active->did++;
        }
    }
    state->dropped += lost;
    state->duplicated += copied;
}

/* -- signal ------------------------------------------------------------------------ */

static void trigger(struct pd_sim_signal *signal, const struct pd_sim_fault *fault)
{
    if (fault->kind == PD_SIM_FORCE_POP)
        pd_sim_signal_pop(signal, fault->value, fault->channels);
    if (fault->kind == PD_SIM_FORCE_BLINK) pd_sim_signal_blink(signal, fault->value);
    if (fault->kind == PD_SIM_FORCE_EMG) pd_sim_signal_emg(signal, fault->value, fault->n);
}

static void signal_edge(struct pd_sim *sim)
{
    struct pd_sim_state *state = &sim->state;
    const uint64_t n = state->signal.n;
    uint64_t newest_eyes = 0;
    if (n == state->chaos_next) plan_chaos(sim);
    state->effect = (struct pd_sim_effect){ 0 };
    state->next_edge = state->chaos_next;
    for (int slot = 0; slot < PD_SIM_MAX_FAULTS; slot++) {
        struct pd_sim_active *active = &state->active[slot];
        const struct pd_sim_fault *fault = &active->fault;
        if (!active->used) continue;
        if (end_of(fault) <= n) {
            put_log(sim, active, PD_SIM_DONE);
            active->used = 0;
            continue;
        }
        state->next_edge = earlier_edge(state->next_edge, fault, n);
        if (fault->start > n) continue;
        if (fault->kind == PD_SIM_FLATLINE) state->effect.flat |= fault->channels;
        if (fault->kind == PD_SIM_SATURATE) state->effect.saturated |= fault->channels;
        if (fault->kind == PD_SIM_EYES && active->id > newest_eyes) {
            newest_eyes = active->id;
            state->effect.eyes = (uint32_t)fault->value;
        }
        if (fault->start == n) trigger(&sim->signal, fault);
    }
}

static void log_nature(struct pd_sim *sim, const struct pd_sim_occurrence *began)
{
    const uint32_t kind = began->part == PD_SIM_BLINK ? PD_SIM_FORCE_BLINK
                        : began->part == PD_SIM_EMG   ? PD_SIM_FORCE_EMG
                                                      : PD_SIM_FORCE_POP;
    const struct pd_sim_active nature = {
        .fault = { .kind = kind, .channels = began->channels, .start = began->start,
                   .n = began->n, .value = began->uv },
        .cause = PD_SIM_NATURE,
    };
    put_log(sim, &nature, PD_SIM_BEGAN);
}

static void next_sample(struct pd_sim *sim, double *values, struct pd_sim_truth *truth)
{
    struct pd_sim_state *state = &sim->state;
    struct pd_sim_occurrence began[3];
    if (state->signal.n >= state->next_edge) signal_edge(sim);
    uint32_t n_began = pd_sim_signal_next(&sim->signal, &state->effect, values, truth, began);
    for (uint32_t i = 0; sim->log_nature && i < n_began; i++) log_nature(sim, &began[i]);
}

/* -- interface --------------------------------------------------------------------- */

static int valid(const struct pd_sim_config *config, const struct pd_intake *intake)
{
    const double at_least_0[] = { config->delay_ns, config->jitter_ns, config->clump_ns,
                                  config->drop, config->duplicate, config->chaos_per_min };
    for (size_t i = 0; i < sizeof at_least_0 / sizeof *at_least_0; i++)
        if (!(at_least_0[i] >= 0 && at_least_0[i] <= 1e12)) return 0;
    if (config->drop > 1 || config->duplicate > 1 || config->jitter_law > PD_SIM_SPIKES ||
        config->n_schedule > PD_SIM_MAX_SCHEDULE || config->modulus == 1 ||
        !(fabs(config->ppm) <= 1e5))
        return 0;
    for (uint32_t i = 0; i < config->n_schedule; i++)
        if (!valid_fault(&config->schedule[i], config) ||
            config->schedule[i].start > LONGEST_SCHEDULE)
            return 0;
    return !intake || (intake->n_values == config->signal.n_channels &&
                       intake->modulus == config->modulus);
}

int pd_sim_init(struct pd_sim *sim, const struct pd_sim_config *config, struct pd_intake *intake,
                int64_t start_ns, void *asked, void *log, uint32_t queue_bytes)
{
    memset(sim, 0, sizeof *sim);
    if (!valid(config, intake) || pd_spsc_init(&sim->asked, asked, queue_bytes) ||
        pd_spsc_init(&sim->log, log, queue_bytes))
        return -EINVAL;
    sim->config = *config;
    sim->intake = intake;
    struct pd_sim_state *state = &sim->state;
    int rc = pd_sim_signal_init(&sim->signal, &state->signal, &config->signal);
    if (rc) return rc;

    sim->key_drop = pd_noise_key(config->signal.seed, KEY_DROP);
    sim->key_duplicate = pd_noise_key(config->signal.seed, KEY_DUPLICATE);
    sim->key_jitter = pd_noise_key(config->signal.seed, KEY_JITTER);
    sim->key_chaos = pd_noise_key(config->signal.seed, KEY_CHAOS);
    state->start_ns = start_ns;
    state->now_ns = PD_NO_TIME;
    for (uint32_t i = 0; i < config->n_schedule; i++)
        add_fault(sim, &config->schedule[i], PD_SIM_SCHEDULED);
    plan_chaos(sim);
    return 0;
}

/* What was asked for begins with the first sample taken since the last advance,
 * so that it does not matter how far this one goes. */
static void take_asked(struct pd_sim *sim)
{
    const struct pd_sim_cursor *cursor = &sim->state.cursor;
    struct pd_sim_fault fault;
    while (pd_spsc_take(&sim->asked, &fault, sizeof fault) == sizeof fault) {
        double since_ns = (double)(sim->state.now_ns - sim->state.start_ns) - cursor->anchor_ns;
        fault.start = cursor->n;
        if (cursor->period_ns > 0 && since_ns >= 0) {
            uint64_t untaken = cursor->anchor_n + (uint64_t)(since_ns / cursor->period_ns) + 1;
            if (untaken > fault.start) fault.start = untaken;
        }
        add_fault(sim, &fault, PD_SIM_ASKED);
    }
}

static void deliver(struct pd_sim *sim, const struct step *step, uint32_t behind,
                    const double *values)
{
    struct pd_sim_cursor *cursor = &sim->state.cursor;
    const uint32_t modulus = sim->config.modulus;
    int64_t device_ns = sim->config.stamps ? step->device_ns : PD_NO_TIME;
    if (cursor->back) pd_intake_reset(sim->intake);
    cursor->back = 0;
    for (uint32_t times = 0; times <= step->copied; times++) {
        if (modulus)
            pd_intake_counted(sim->intake, (uint32_t)((step->n - cursor->counter_zero) % modulus),
                              behind, step->arrival_ns, device_ns, values);
        else
            pd_intake_indexed(sim->intake, step->n, behind, step->arrival_ns, device_ns, values);
    }
}

/* How many more samples come with the one that `cursor` has just passed. */
static uint32_t count_behind(const struct pd_sim *sim, struct pd_sim_cursor cursor)
{
    const int64_t arrival_ns = cursor.arrival_ns;
    uint32_t behind = 0;
    for (;;) {
        struct step step = cursor_step(sim, &cursor);
        if (step.arrival_ns != arrival_ns) return behind;
        behind += !step.lost;
    }
}

int64_t pd_sim_advance(void *self, int64_t now_ns)
{
    struct pd_sim *sim = self;
    struct pd_sim_state *state = &sim->state;
    double values[PD_SIM_MAX_CHANNELS];
    int64_t group_ns = PD_NO_TIME;
    uint32_t left = 0;              /* to be delivered of this group */
    if (state->start_ns == PD_NO_TIME) state->start_ns = now_ns;
    if (state->now_ns == PD_NO_TIME) state->now_ns = now_ns;
    take_asked(sim);
    if (now_ns > state->now_ns) state->now_ns = now_ns;
    for (;;) {
        struct pd_sim_cursor ahead = state->cursor;
        struct step step = cursor_step(sim, &ahead);
        if (step.arrival_ns > now_ns) return step.arrival_ns;
        state->cursor = ahead;
        if (step.arrival_ns != group_ns) {
            group_ns = step.arrival_ns;
            left = count_behind(sim, ahead) + !step.lost;
        }
        account(sim, &step);
        next_sample(sim, values, NULL);
        if (!step.lost) deliver(sim, &step, --left, values);
    }
}

int pd_sim_ask(struct pd_sim *sim, const struct pd_sim_fault *fault)
{
    if (!valid_fault(fault, &sim->config)) return -EINVAL;
    return pd_spsc_put(&sim->asked, fault, sizeof *fault, NULL, 0);
}

int pd_sim_take_log(struct pd_sim *sim, struct pd_sim_record *record)
{
    return pd_spsc_take(&sim->log, record, sizeof *record) == sizeof *record;
}

void pd_sim_truth(struct pd_sim *sim, double *values, struct pd_sim_truth *truth)
{
    next_sample(sim, values, truth);
}

int pd_sim_repeat(struct pd_sim *sim, const struct pd_sim_record *record)
{
    if (record->fault.start < sim->state.signal.n) return -EINVAL;
    add_fault(sim, &record->fault, record->cause);
    return 0;
}
