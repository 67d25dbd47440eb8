/* Analysis behind a source: each sample in one step, each window once, whatever is lost. */
#include <string.h>

#include "pd_analysis.h"
#include "source_rig.h"

enum { VALUES = CHANNELS + 1, SIGNAL_SLOTS = 4096, WINDOW_SLOTS = 256, STEPS = 4 };

static const int64_t STEP_NS = 250 * PD_NS_PER_MS;
static const double targets_hz[] = { 8, 10, 12 };
static const uint32_t cca_windows[] = { 64, 125 };

struct bench {
    struct rig *rig;
    struct pd_analysis analysis;
    struct pd_ring signal, windows;
    void *signal_memory, *window_memory, *arena, *scratch;
    struct pd_sos_section section[2];
    struct pd_sos_band band[2];
    size_t arena_bytes, scratch_bytes;
    uint64_t next_window;
};

static struct pd_analysis_config config_of(struct bench *bench)
{
    struct pd_analysis_config config = {
        .rate_hz = bench->rig->rate_hz, .n_values = VALUES, .n_channels = CHANNELS, .n_picks = 2,
        .pick = { 1, 2 }, .step_ns = STEP_NS, .n_steps = STEPS, .wait_ns = 130 * PD_NS_PER_MS,
        .bands = bench->band, .sections = bench->section, .n_power = 1, .n_cca = 1, .n_sections = 2,
        .cca = { .rate_hz = bench->rig->rate_hz, .targets_hz = targets_hz, .windows = cca_windows,
                 .n_targets = 3, .n_windows = 2, .n_channels = 2, .n_harmonics = 2, .hop = 25 },
    };
    return config;
}

static void *lines(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) & ~(size_t)63);
    memset(memory, 0, (bytes + 63) & ~(size_t)63);
    return memory;
}

static struct bench *make(double rate_hz)
{
    struct bench *bench = calloc(1, sizeof *bench);
    bench->rig = rig_make(rate_hz);
    /* One-pole low-passes: designs are tested elsewhere. */
    for (int i = 0; i < 2; i++) {
        bench->section[i] = (struct pd_sos_section){ .b0 = 0.2, .a1 = -0.8 };
        bench->band[i] = (struct pd_sos_band){ .first = (uint32_t)i, .n_sections = 1 };
        CHECK(pd_sos_design(&bench->section[i], 1, 1e-3, &bench->band[i].settle) == 0);
    }
    struct pd_analysis_config config = config_of(bench);
    bench->signal_memory = rig_ring(&bench->signal, PD_SIGNAL_WORDS(VALUES), SIGNAL_SLOTS);
    bench->window_memory = rig_ring(&bench->windows, PD_WINDOW_WORDS(pd_analysis_values(&config)),
                                    WINDOW_SLOTS);
    bench->arena_bytes = pd_analysis_arena_bytes(&config);
    bench->scratch_bytes = pd_analysis_scratch_bytes(&config);
    CHECK(bench->arena_bytes > 0 && bench->scratch_bytes > 0);
    bench->arena = lines(bench->arena_bytes);
    bench->scratch = lines(bench->scratch_bytes);
    CHECK(pd_analysis_init(&bench->analysis, &config, bench->arena, bench->arena_bytes,
                           bench->scratch, bench->scratch_bytes, &bench->signal, &bench->windows,
                           0) == 0);
    bench->rig->source.analysis = &bench->analysis;
    return bench;
}

static void discard(struct bench *bench)
{
    free(bench->signal_memory);
    free(bench->window_memory);
    free(bench->arena);
    free(bench->scratch);
    rig_free(bench->rig);
    free(bench);
}

static struct pd_window *next_window(struct bench *bench, uint64_t *words)
{
    if (pd_ring_read(&bench->windows, bench->next_window, words)) return NULL;
    bench->next_window++;
    return (struct pd_window *)words;
}

/* The grid begins between two samples, so that no window ends on one. */
static int64_t grid_t0_ns(const struct bench *bench)
{
    return bench->rig->t0_ns - 1300 * PD_NS_PER_US;
}

static void step(struct bench *bench, int64_t now_ns)
{
    pd_source_step(&bench->rig->source, now_ns, grid_t0_ns(bench), UINT64_MAX);
}

/* Samples come and are lost by chance; every window and every sample is accounted for. */
static void test_every_sample_is_in_one_step_and_every_window_comes_once(unsigned seed)
{
    struct bench *bench = make(250);
    struct rig *rig = bench->rig;
    uint64_t words[64], state = seed * 2654435761u + 1;
    int64_t index = -1;
    uint64_t until = 0, lost = 0;
    uint64_t n = 0, steps_lost = 0;
    while (n < 8000) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        unsigned dice = (unsigned)(state >> 40) % 1000;
        uint64_t run = dice < 5 ? 1 + (state >> 20) % 4 : dice == 999 ? 60 + (state >> 20) % 600 : 0;
        if (run && n > 500) {
            n += run;
            lost += run;
        }
        arrive(rig, n, 0, taken_ns(rig, n) + PD_NS_PER_MS);
        step(bench, taken_ns(rig, n) + PD_NS_PER_MS);
        n++;
        for (struct pd_window *window; (window = next_window(bench, words));) {
            CHECK(index < 0 || window->index == index + 1, "window %lld after %lld",
                  (long long)window->index, (long long)index);
            index = window->index;
            CHECK(window->end_ns == grid_t0_ns(bench) + index * STEP_NS);
            CHECK(window->start_ns == window->end_ns - STEPS * STEP_NS);
            CHECK(window->first <= window->until && window->until >= until);
            until = window->until;
            CHECK(window->lost <= window->until - window->first);
            CHECK(window->bridged <= window->lost);
            if (window->until - window->first > 0 && window->arrival_ns != PD_NO_TIME)
                CHECK(window->arrival_ns <= window->closed_ns);
            int defined = window->value[0] == window->value[0];
            CHECK(!defined || (window->lost == window->bridged &&
                               !(window->flags & PD_WINDOW_FILLING)));
        }
    }
    step(bench, taken_ns(rig, n) + 2 * PD_NS_PER_S);
    for (struct pd_window *window; (window = next_window(bench, words));) {
        CHECK(window->index == ++index);
        steps_lost = window->lost;
    }
    CHECK(steps_lost == 0, "nothing is lost while nothing comes");
    CHECK(index >= (int64_t)(8000 / 62.5));

    /* The signal has all of it, in order, lost ones included. */
    uint64_t seen = 0, missing = 0, next = pd_ring_next(&bench->signal);
    CHECK(next == n);
    for (uint64_t i = pd_ring_oldest(&bench->signal); i < next; i++) {
        struct pd_signal *sample = (struct pd_signal *)words;
        if (pd_ring_read(&bench->signal, i, words)) continue;
        seen++;
        if (sample->flags & PD_SIGNAL_LOST) {
            missing++;
            CHECK((sample->value[0] == sample->value[0]) == !!(sample->flags & PD_SIGNAL_BRIDGED));
            CHECK(sample->value[VALUES - 1] != sample->value[VALUES - 1]);
        } else {
            CHECK(sample->value[0] == truth(rig, (double)i, 0));
            CHECK(llabs(sample->t_ns - taken_ns(rig, i) - PD_NS_PER_MS) < 2 * PD_NS_PER_MS);
        }
    }
    CHECK(seen > SIGNAL_SLOTS - 1024 && missing <= lost);
    discard(bench);
}

/* Of two twins one gets another analysis behind its source, in mid-run and with losses: the same
 * windows go on, and say the same. */
static void test_an_analysis_that_takes_another_s_place_goes_on_with_its_windows(unsigned seed)
{
    struct bench *both[2] = { make(250), make(250) }, *other = both[1];
    struct pd_analysis fresh;
    struct pd_analysis_config config = config_of(other);
    void *arena = lines(other->arena_bytes), *scratch = lines(other->scratch_bytes);
    uint64_t one[64], two[64], state = seed * 2654435761u + 1, n = 0;
    const uint64_t swap_at = 2000 + seed * 7;
    int compared = 0;
    while (n < 4000) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        if ((state >> 40) % 100 == 0 && n > 500) n += 1 + (state >> 20) % 3;
        if (n >= swap_at && other->rig->source.analysis == &other->analysis) {
            CHECK(pd_analysis_init(&fresh, &config, arena, other->arena_bytes, scratch,
                                   other->scratch_bytes, &other->signal, &other->windows, 0) == 0);
            pd_analysis_learn(&fresh, 1000, other->analysis.state->next - 11, grid_t0_ns(other));
            CHECK(pd_ring_next(&other->windows) == pd_ring_next(&both[0]->windows), "in silence");
            pd_source_replace(&other->rig->source, &fresh, grid_t0_ns(other));
            CHECK(other->rig->source.analysis == &fresh);
            CHECK(fresh.state->next == other->analysis.state->next);
            CHECK(fresh.state->window_next == other->analysis.state->window_next);
        }
        for (int i = 0; i < 2; i++) {
            arrive(both[i]->rig, n, 0, taken_ns(both[i]->rig, n) + PD_NS_PER_MS);
            step(both[i], taken_ns(both[i]->rig, n) + PD_NS_PER_MS);
        }
        n++;
        for (struct pd_window *mine; (mine = next_window(both[0], one));) {
            struct pd_window *theirs = next_window(other, two);
            CHECK(theirs != NULL && theirs->index == mine->index);
            CHECK(theirs->first == mine->first && theirs->until == mine->until);
            CHECK(theirs->lost == mine->lost && theirs->bridged == mine->bridged);
            CHECK(theirs->flags == mine->flags && theirs->closed_ns == mine->closed_ns);
            for (uint32_t i = 0; i < mine->n_values; i++) {
                if (mine->value[i] != mine->value[i]) continue;
                CHECK(fabs(theirs->value[i] - mine->value[i]) <= 1e-6 * (1 + fabs(mine->value[i])));
                compared += mine->first > swap_at;
            }
        }
        CHECK(next_window(other, two) == NULL);
    }
    CHECK(compared > 100);
    pd_source_replace(&other->rig->source, NULL, grid_t0_ns(other));
    CHECK(other->rig->source.analysis == &fresh, "NULL leaves what is there");
    free(arena);
    free(scratch);
    for (int i = 0; i < 2; i++) discard(both[i]);
}

/* A window whose last sample is there is closed at once; one that lacks samples waits. */
static void test_a_window_waits_for_its_samples_and_no_longer_than_it_may(void)
{
    struct bench *bench = make(250);
    struct rig *rig = bench->rig;
    uint64_t words[64];
    for (uint64_t n = 0; n < 750; n++) {
        arrive(rig, n, 0, taken_ns(rig, n));
        step(bench, taken_ns(rig, n));
    }
    struct pd_window last = { 0 };
    for (struct pd_window *window; (window = next_window(bench, words));) last = *window;
    CHECK(last.end_ns == grid_t0_ns(bench) + 3 * PD_NS_PER_S);
    CHECK(last.closed_ns == taken_ns(rig, 749), "%lld", (long long)(last.closed_ns - last.end_ns));
    CHECK(!(last.flags & PD_WINDOW_TIMED_OUT) && last.until == 750);

    int64_t end_ns = last.end_ns + STEP_NS;
    step(bench, end_ns + 129 * PD_NS_PER_MS);
    CHECK(next_window(bench, words) == NULL, "it still waits");
    step(bench, end_ns + 131 * PD_NS_PER_MS);
    struct pd_window *window = next_window(bench, words);
    CHECK(window && window->flags & PD_WINDOW_TIMED_OUT && window->until == 750);
    discard(bench);
}

/* What is saved in the middle goes on elsewhere with the same bits. */
static void test_the_arena_is_the_whole_state(void)
{
    struct bench *one = make(250), *other = make(250);
    uint64_t a[64], b[64];
    double value[VALUES] = { 0 };
    for (uint64_t n = 0; n < 1500; n++) {
        if (n == 700) {
            pd_analysis_settle(&one->analysis);
            memcpy(other->arena, one->arena, one->arena_bytes);
            other->next_window = one->next_window = 0;
            pd_ring_skip(&other->windows, pd_ring_next(&one->windows));
            other->next_window = one->next_window = pd_ring_next(&one->windows);
        }
        for (int ch = 0; ch < VALUES; ch++) value[ch] = truth(one->rig, (double)n, (unsigned)ch % 3);
        int64_t t_ns = one->rig->t0_ns + (int64_t)n * 4 * PD_NS_PER_MS;
        struct bench *both[] = { one, other };
        for (int i = 0; i < (n < 700 ? 1 : 2); i++) {
            struct pd_analysis *analysis = &both[i]->analysis;
            pd_analysis_begin(analysis, t_ns, one->rig->t0_ns);
            while (pd_analysis_end_ns(analysis, one->rig->t0_ns) <= t_ns)
                pd_analysis_close(analysis, t_ns, one->rig->t0_ns, 0);
            pd_analysis_take(analysis, n, t_ns, 0, t_ns, value);
        }
    }
    unsigned compared = 0;
    for (struct pd_window *window; (window = next_window(one, a)); compared++) {
        struct pd_window *same = next_window(other, b);
        CHECK(same && memcmp(window, same, one->windows.words * sizeof(uint64_t)) == 0);
        CHECK(window->value[0] == window->value[0], "a power that is undefined shows nothing");
    }
    CHECK(compared >= 10);
    discard(one);
    discard(other);
}

static void test_what_can_not_be_is_refused(void)
{
    struct bench *bench = make(250);
    struct pd_analysis_config config = config_of(bench);
    struct pd_analysis none;
    config.pick[0] = CHANNELS;
    CHECK(pd_analysis_arena_bytes(&config) == 0);
    config = config_of(bench);
    config.cca.n_channels = 3;
    CHECK(pd_analysis_arena_bytes(&config) == 0);
    config = config_of(bench);
    config.n_steps = PD_ANALYSIS_MAX_STEPS + 1;
    CHECK(pd_analysis_arena_bytes(&config) == 0);
    config = config_of(bench);
    CHECK(pd_analysis_init(&none, &config, bench->arena, bench->arena_bytes - 64, bench->scratch,
                           bench->scratch_bytes, &bench->signal, &bench->windows, 0) < 0);
    CHECK(pd_analysis_init(&none, &config, bench->arena, bench->arena_bytes, bench->scratch,
                           bench->scratch_bytes, &bench->windows, &bench->signal, 0) < 0);
    discard(bench);
}

int main(void)
{
    for (unsigned seed = 1; seed <= 5; seed++)
        test_every_sample_is_in_one_step_and_every_window_comes_once(seed);
    test_a_window_waits_for_its_samples_and_no_longer_than_it_may();
    test_the_arena_is_the_whole_state();
    test_what_can_not_be_is_refused();
    for (unsigned seed = 1; seed <= 6; seed++)
        test_an_analysis_that_takes_another_s_place_goes_on_with_its_windows(seed);
    return check_report("analysis");
}
