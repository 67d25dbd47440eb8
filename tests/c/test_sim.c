/* The simulator: the same samples whatever the steps, machine and build, and
 * each fault's account in the native ring. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pd_sim.h"

#define CHANNELS 8
#define RATE 250
#define SLOTS 32768
#define QUEUE 65536
#define START_NS (5 * PD_NS_PER_S)

struct rig {
    struct pd_ring ring;
    struct pd_intake_counts counts;
    struct pd_intake intake;
    struct pd_sim sim;
    void *memory;
    uint8_t asked[QUEUE], log[QUEUE];
};

static struct pd_sim_config plain(void)
{
    struct pd_sim_config config = {
        .signal = { .seed = 7, .rate_hz = RATE, .n_channels = CHANNELS, .quantise = 1,
                    .background_uv = 10, .background_exponent = 1, .background_shared = 0.5,
                    .alpha_hz = 10.2, .alpha_uv = 5, .alpha_closed_gain = 3, .n_targets = 1,
                    .target = { { .hz = 12 } }, .ssvep_uv = 4, .ssvep_harmonics = 2,
                    .line_hz = 50, .line_uv = 8, .blink_per_min = 15, .emg_per_min = 6,
                    .pop_per_min = 2, .emg_uv = 30, .offset_uv = 30000, .drift_uv = 60,
                    .noise_uv = 0.3 },
        .stamps = 1, .delay_ns = 1e6, .jitter_ns = 0.2e6,
    };
    for (int c = 0; c < CHANNELS; c++) {
        config.signal.position[c][c % 3] = 1.0;
        config.signal.alpha_weight[c] = config.signal.ssvep_weight[c] = 0.1 * (c + 1);
        config.signal.blink_weight[c] = config.signal.emg_weight[c] = 1.0 - 0.1 * c;
    }
    return config;
}

static struct rig *rig_new(const struct pd_sim_config *config)
{
    struct rig *rig = calloc(1, sizeof *rig);
    const uint32_t words = PD_NATIVE_WORDS(config->signal.n_channels);
    size_t bytes = pd_ring_bytes(words, SLOTS);
    rig->memory = calloc(1, bytes);
    CHECK(pd_ring_create(&rig->ring, rig->memory, bytes, words, SLOTS, 0) == 0);
    CHECK(pd_intake_init(&rig->intake, &rig->ring, &rig->counts, config->signal.rate_hz,
                         config->modulus, config->signal.n_channels) == 0);
    CHECK(pd_sim_init(&rig->sim, config, &rig->intake, START_NS, rig->asked, rig->log, QUEUE) == 0);
    return rig;
}

static void rig_free(struct rig *rig)
{
    free(rig->memory);
    free(rig);
}

static uint64_t fnv(uint64_t hash, const void *data, size_t n)
{
    for (const uint8_t *byte = data; n--; byte++) hash = (hash ^ *byte) * 0x100000001b3ull;
    return hash;
}

static uint64_t ring_hash(struct rig *rig)
{
    uint64_t hash = 0xcbf29ce484222325ull, frame[PD_NATIVE_WORDS(CHANNELS)];
    for (uint64_t i = pd_ring_oldest(&rig->ring); i < pd_ring_next(&rig->ring); i++)
        if (pd_ring_read(&rig->ring, i, frame) == 0) hash = fnv(hash, frame, sizeof frame);
    return hash;
}

static uint64_t counted(_Atomic uint64_t *counter) { return atomic_load(counter); }

static struct pd_sim_config stressed(void)
{
    struct pd_sim_config config = plain();
    const struct pd_sim_fault schedule[] = {
        { PD_SIM_DROP, 0, 500, 500, 0.1 },       { PD_SIM_STALL, 0, 1500, 200, 0 },
        { PD_SIM_CLUMP, 0, 2000, 500, 16e6 },    { PD_SIM_DRIFT, 0, 2600, PD_SIM_FOREVER, 200 },
        { PD_SIM_UNPLUG, 0, 3000, 300, 0 },      { PD_SIM_DUPLICATE, 0, 3500, 400, 0.2 },
        { PD_SIM_FLATLINE, 3, 4000, 100, 0 },    { PD_SIM_FORCE_BLINK, 0, 4200, 1, 150 },
        { PD_SIM_RATE, 0, 4500, 500, 1 },        { PD_SIM_FORCE_POP, 4, 4700, 1, 900 },
        { PD_SIM_FORCE_EMG, 0, 5000, 100, 40 },  { PD_SIM_EYES, 0, 5100, 300, 2 },
    };
    memcpy(config.schedule, schedule, sizeof schedule);
    config.n_schedule = sizeof schedule / sizeof *schedule;
    config.chaos_per_min = 6;
    return config;
}

static void test_steps_of_any_size_give_the_same_ring(void)
{
    const struct pd_sim_config config = stressed();
    const int64_t end_ns = START_NS + 40 * PD_NS_PER_S;
    struct rig *once = rig_new(&config), *often = rig_new(&config);
    pd_sim_advance(&once->sim, end_ns);
    for (int64_t now_ns = START_NS, k = 0; now_ns < end_ns; now_ns += 137000 + (++k % 97) * 100000)
        pd_sim_advance(&often->sim, now_ns);
    pd_sim_advance(&often->sim, end_ns);
    CHECK(ring_hash(once) == ring_hash(often));
    CHECK(memcmp(&once->sim.state, &often->sim.state, sizeof once->sim.state) == 0);
    rig_free(once);
    rig_free(often);
}

static void test_saved_state_goes_on_as_if_never_stopped(void)
{
    const struct pd_sim_config config = stressed();
    struct rig *whole = rig_new(&config), *resumed = rig_new(&config);
    pd_sim_advance(&whole->sim, START_NS + 7 * PD_NS_PER_S);
    resumed->sim.state = whole->sim.state;
    double a[CHANNELS], b[CHANNELS];
    int differ = 0;
    for (int i = 0; i < 5000; i++) {
        pd_sim_truth(&whole->sim, a, NULL);
        pd_sim_truth(&resumed->sim, b, NULL);
        differ += memcmp(a, b, sizeof a) != 0;
    }
    CHECK(differ == 0, "%d samples", differ);
    rig_free(whole);
    rig_free(resumed);
}

/* The hash was taken on x86-64 with gcc 12 -O1; any build on any machine with
 * IEEE doubles must give it. */
static void test_samples_are_those_of_every_machine(void)
{
    const struct pd_sim_config config = plain();
    struct rig *rig = rig_new(&config);
    uint64_t hash = 0xcbf29ce484222325ull;
    double values[CHANNELS];
    for (int i = 0; i < 20000; i++) {
        pd_sim_truth(&rig->sim, values, NULL);
        hash = fnv(hash, values, sizeof values);
    }
    CHECK(hash == 0x638daba9b4858af4ull, "%#llx", (unsigned long long)hash);
    rig_free(rig);
}

static void test_arrival_is_in_order_and_never_before_the_sample(void)
{
    for (uint32_t law = PD_SIM_EXPONENTIAL; law <= PD_SIM_SPIKES; law++) {
        struct pd_sim_config config = stressed();
        config.jitter_law = law;
        config.jitter_ns = 3e6;
        struct rig *rig = rig_new(&config);
        uint64_t frame[PD_NATIVE_WORDS(CHANNELS)];
        const struct pd_native *native = (const struct pd_native *)frame;
        int64_t before_ns = 0;
        int early = 0, disorder = 0;
        pd_sim_advance(&rig->sim, START_NS + 40 * PD_NS_PER_S);
        for (uint64_t i = 0; i < pd_ring_next(&rig->ring); i++) {
            if (pd_ring_read(&rig->ring, i, frame) || native->flags & PD_NATIVE_LOST) continue;
            early += native->arrival_ns < native->device_ns;
            disorder += native->arrival_ns < before_ns;
            before_ns = native->arrival_ns;
        }
        CHECK(early == 0 && disorder == 0, "law %u: %d early, %d out of order", law, early,
              disorder);
        rig_free(rig);
    }
}

static void test_advance_says_when_the_next_sample_arrives(void)
{
    struct pd_sim_config config = plain();
    struct rig *rig = rig_new(&config);
    int64_t next_ns = pd_sim_advance(&rig->sim, START_NS);
    int wrong = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t before = counted(&rig->counts.accepted);
        pd_sim_advance(&rig->sim, next_ns - 1);
        wrong += counted(&rig->counts.accepted) != before;
        next_ns = pd_sim_advance(&rig->sim, next_ns);
        wrong += counted(&rig->counts.accepted) == before;
    }
    CHECK(wrong == 0, "%d", wrong);
    rig_free(rig);
}

static void test_behind_counts_down_within_each_delivery(void)
{
    struct pd_sim_config config = stressed();
    config.clump_ns = 32e6;
    struct rig *rig = rig_new(&config);
    uint64_t frame[PD_NATIVE_WORDS(CHANNELS)];
    const struct pd_native *native = (const struct pd_native *)frame;
    pd_sim_advance(&rig->sim, START_NS + 30 * PD_NS_PER_S);
    int64_t group_ns = 0;
    uint32_t behind = 0;
    int wrong = 0;
    for (uint64_t i = 0; i < pd_ring_next(&rig->ring); i++) {
        if (pd_ring_read(&rig->ring, i, frame) || native->flags & PD_NATIVE_LOST) continue;
        if (native->arrival_ns == group_ns) wrong += native->behind + 1 != behind;
        else wrong += behind != 0;
        group_ns = native->arrival_ns;
        behind = native->behind;
    }
    CHECK(wrong == 0, "%d", wrong);
    rig_free(rig);
}

/* Runs one fault from sample 1000 on for 40 s; what it did, from the log. */
static struct rig *run_fault(uint32_t modulus, struct pd_sim_fault fault, uint64_t *did)
{
    struct pd_sim_config config = plain();
    struct pd_sim_record record;
    config.modulus = modulus;
    fault.start = 1000;
    config.schedule[0] = fault;
    config.n_schedule = 1;
    struct rig *rig = rig_new(&config);
    pd_sim_advance(&rig->sim, START_NS + 40 * PD_NS_PER_S);
    *did = UINT64_MAX;
    while (pd_sim_take_log(&rig->sim, &record))
        if (record.what == PD_SIM_DONE) *did = record.did;
    return rig;
}

static void test_each_loss_is_in_the_ring_as_long_as_it_was(void)
{
    const struct { struct pd_sim_fault fault; uint64_t lost; } cases[] = {
        { { PD_SIM_BURST, 0, 0, 7, 0 }, 7 },    { { PD_SIM_GAP, 0, 0, 125, 0 }, 125 },
        { { PD_SIM_GAP, 0, 0, 300, 0 }, 300 },  { { PD_SIM_WRAP, 0, 0, 1, 1 }, 256 },
        { { PD_SIM_WRAP, 0, 0, 1, 3 }, 768 },   { { PD_SIM_DROP, 0, 0, 2500, 0.2 }, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (uint32_t modulus = 0; modulus <= 256; modulus += 256) {
            uint64_t did;
            struct rig *rig = run_fault(modulus, cases[i].fault, &did);
            uint64_t lost = counted(&rig->counts.lost);
            CHECK(lost == did && (cases[i].lost == 0 || lost == cases[i].lost),
                  "case %zu, counter %u: %llu lost, the log says %llu", i, modulus,
                  (unsigned long long)lost, (unsigned long long)did);
            CHECK(lost > 0 && counted(&rig->counts.resets) == 1);
            rig_free(rig);
        }
    }
}

static void test_copies_are_counted_and_refused(void)
{
    for (uint32_t modulus = 0; modulus <= 256; modulus += 256) {
        uint64_t did;
        const struct pd_sim_fault copies = { PD_SIM_DUPLICATE, 0, 0, 2500, 0.2 };
        struct rig *rig = run_fault(modulus, copies, &did);
        CHECK(did > 400 && did < 600 && counted(&rig->counts.duplicates) == did);
        CHECK(counted(&rig->counts.lost) == 0 && counted(&rig->counts.strays) == 0);
        rig_free(rig);
    }
}

static void test_a_stall_loses_nothing_and_ends_in_a_backlog(void)
{
    uint64_t did, frame[PD_NATIVE_WORDS(CHANNELS)];
    const struct pd_native *native = (const struct pd_native *)frame;
    struct rig *rig = run_fault(256, (struct pd_sim_fault){ PD_SIM_STALL, 0, 0, 500, 0 }, &did);
    CHECK(counted(&rig->counts.lost) == 0 && did >= 495 && did <= 500, "%llu",
          (unsigned long long)did);
    CHECK(pd_ring_read(&rig->ring, 1000, frame) == 0 && native->behind >= 495, "%u",
          native->behind);
    CHECK(native->arrival_ns >= START_NS + 6 * PD_NS_PER_S);
    rig_free(rig);
}

static void test_an_unplugged_device_comes_back_as_a_reset(void)
{
    for (uint32_t modulus = 0; modulus <= 256; modulus += 256) {
        uint64_t did;
        struct rig *rig = run_fault(modulus, (struct pd_sim_fault){ PD_SIM_UNPLUG, 0, 0, 777, 0 },
                                    &did);
        uint64_t lost = counted(&rig->counts.lost);
        CHECK(did == 777 && counted(&rig->counts.resets) == 2);
        CHECK(lost >= 776 && lost <= 778, "%llu", (unsigned long long)lost);
        rig_free(rig);
    }
}

static void test_a_reset_counter_is_found_by_the_intake(void)
{
    uint64_t did;
    struct rig *rig = run_fault(256, (struct pd_sim_fault){ PD_SIM_RESET, 0, 0, 1, 0 }, &did);
    CHECK(did == 1 && counted(&rig->counts.resets) == 2, "%llu resets",
          (unsigned long long)counted(&rig->counts.resets));
    rig_free(rig);
}

static void test_drift_and_rate_move_the_instants(void)
{
    const struct { struct pd_sim_fault fault; double last_s; } cases[] = {
        { { PD_SIM_DRIFT, 0, 0, PD_SIM_FOREVER, 200 }, 4.0 + 20.0 * (1 + 200e-6) },
        { { PD_SIM_RATE, 0, 0, PD_SIM_FOREVER, 1 }, 4.0 + 20.0 / 1.01 },
        { { PD_SIM_RATE, 0, 0, 1250, -1 }, 4.0 + 5.0 / 0.99 + 15.0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t did, frame[PD_NATIVE_WORDS(CHANNELS)];
        const struct pd_native *native = (const struct pd_native *)frame;
        struct rig *rig = run_fault(0, cases[i].fault, &did);
        CHECK(pd_ring_read(&rig->ring, 6000, frame) == 0);
        double off_ns = (double)(native->device_ns - START_NS) - 1e9 * cases[i].last_s;
        CHECK(fabs(off_ns) <= 2, "case %zu: %.1f ns", i, off_ns);
        rig_free(rig);
    }
}

static void test_bad_configurations_and_faults_are_refused(void)
{
    struct pd_sim *sim = calloc(1, sizeof *sim);
    static uint8_t asked[QUEUE], log[QUEUE];
    struct pd_sim_config config = plain();
    config.signal.rate_hz = 15;
    CHECK(pd_sim_init(sim, &config, NULL, 0, asked, log, QUEUE) == -EINVAL);
    config = plain();
    config.signal.n_channels = 33;
    CHECK(pd_sim_init(sim, &config, NULL, 0, asked, log, QUEUE) == -EINVAL);
    config = plain();
    config.drop = NAN;
    CHECK(pd_sim_init(sim, &config, NULL, 0, asked, log, QUEUE) == -EINVAL);
    config = plain();
    CHECK(pd_sim_init(sim, &config, NULL, 0, asked, log, 1000) == -EINVAL);
    CHECK(pd_sim_init(sim, &config, NULL, 0, asked, log, QUEUE) == 0);
    CHECK(pd_sim_ask(sim, &(struct pd_sim_fault){ PD_SIM_KINDS, 0, 0, 1, 0 }) == -EINVAL);
    CHECK(pd_sim_ask(sim, &(struct pd_sim_fault){ PD_SIM_GAP, 0, 0, 0, 0 }) == -EINVAL);
    CHECK(pd_sim_ask(sim, &(struct pd_sim_fault){ PD_SIM_FLATLINE, 1u << 8, 0, 9, 0 }) == -EINVAL);
    CHECK(pd_sim_ask(sim, &(struct pd_sim_fault){ PD_SIM_STALL, 0, 0, PD_SIM_FOREVER, 0 }) ==
          -EINVAL);
    free(sim);
}

static void *ask_a_hundred(void *argument)
{
    struct rig *rig = argument;
    for (int i = 0; i < 100;) {
        const struct pd_sim_fault fault = { PD_SIM_FORCE_BLINK, 0, 0, 1, 100 };
        if (pd_sim_ask(&rig->sim, &fault) == 0) i++;
    }
    return NULL;
}

/* Another thread asks and reads the log while this one advances. */
static void test_faults_asked_from_another_thread_all_end_in_the_log(void)
{
    const struct pd_sim_config config = plain();
    struct rig *rig = rig_new(&config);
    pthread_t thread;
    int64_t now_ns = START_NS;
    int done = 0, refused = 0;
    pthread_create(&thread, NULL, ask_a_hundred, rig);
    for (int round = 0; round < 100000 && done + refused < 100; round++) {
        struct pd_sim_record record;
        pd_sim_advance(&rig->sim, now_ns += PD_NS_PER_MS);
        while (pd_sim_take_log(&rig->sim, &record)) {
            done += record.what == PD_SIM_DONE;
            refused += record.what == PD_SIM_REFUSED;
        }
    }
    pthread_join(thread, NULL);
    CHECK(done + refused == 100, "%d + %d", done, refused);
    rig_free(rig);
}

int main(void)
{
    test_steps_of_any_size_give_the_same_ring();
    test_saved_state_goes_on_as_if_never_stopped();
    test_samples_are_those_of_every_machine();
    test_arrival_is_in_order_and_never_before_the_sample();
    test_advance_says_when_the_next_sample_arrives();
    test_behind_counts_down_within_each_delivery();
    test_each_loss_is_in_the_ring_as_long_as_it_was();
    test_copies_are_counted_and_refused();
    test_a_stall_loses_nothing_and_ends_in_a_backlog();
    test_an_unplugged_device_comes_back_as_a_reset();
    test_a_reset_counter_is_found_by_the_intake();
    test_drift_and_rate_move_the_instants();
    test_bad_configurations_and_faults_are_refused();
    test_faults_asked_from_another_thread_all_end_in_the_log();
    return check_report("sim");
}
