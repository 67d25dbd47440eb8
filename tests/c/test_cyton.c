/* Cyton packets: what a damaged byte costs, and what it doesn't. */
#include <string.h>

#include "check.h"
#include "pd_cyton.h"

#define N 40
#define ROOM (2 * N)

static uint64_t seed = 88172645463325252ull;

static uint32_t draw(uint32_t below)                /* xorshift64 */
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % below;
}

struct stream {
    uint8_t byte[N * PD_CYTON_BYTES + 4096];
    size_t n;
    struct pd_cyton_packet sent[N];
};

/* Payload bytes that look like the protocol's own are as frequent as `tricky` in 100. */
static uint8_t payload(uint32_t tricky)
{
    static const uint8_t own[] = { 0xA0, 0xC0, 0xC1, 0xC3, 0xC6 };
    return draw(100) < tricky ? own[draw(sizeof own)] : (uint8_t)draw(256);
}

static void fill(struct stream *s, uint32_t first, uint32_t tricky)
{
    s->n = 0;
    for (int i = 0; i < N; i++) {
        struct pd_cyton_packet *p = &s->sent[i];
        memset(p, 0, sizeof *p);
        p->counter = (uint8_t)(first + (uint32_t)i);
        p->stop = 0xC0;
        for (int c = 0; c < 8; c++)
            p->count[c] = (int32_t)((uint32_t)payload(tricky) << 16 | (uint32_t)payload(tricky) << 8 |
                                    payload(tricky)) - 0x800000;
        /* The last auxiliary byte is what an inserted byte moves into the stop
         * byte's place: the one ambiguity that this file leaves out. */
        for (int a = 0; a < 5; a++) p->aux[a] = payload(tricky);
        pd_cyton_encode(p, s->byte + s->n);
        s->n += PD_CYTON_BYTES;
    }
}

static void erase(struct stream *s, size_t at, size_t n)
{
    memmove(s->byte + at, s->byte + at + n, s->n - at - n);
    s->n -= n;
}

static void insert(struct stream *s, size_t at, const uint8_t *bytes, size_t n)
{
    memmove(s->byte + at + n, s->byte + at, s->n - at);
    memcpy(s->byte + at, bytes, n);
    s->n += n;
}

/* Reads of `chunk` bytes, or 1..200 at random for 0. */
static size_t parse(const struct stream *s, size_t chunk, struct pd_cyton_packet out[ROOM])
{
    struct pd_cyton_parser parser;
    pd_cyton_parser_init(&parser);
    size_t found = 0;
    for (size_t at = 0; at < s->n;) {
        size_t n = chunk ? chunk : 1 + draw(200);
        if (n > s->n - at) n = s->n - at;
        size_t used;
        found += pd_cyton_parse(&parser, s->byte + at, n, out + found, ROOM - found, &used);
        at += used;
        if (used < n) break;
    }
    return found;
}

static int same(const struct pd_cyton_packet *a, const struct pd_cyton_packet *b)
{
    return a->counter == b->counter && a->stop == b->stop &&
           !memcmp(a->count, b->count, sizeof a->count) && !memcmp(a->aux, b->aux, sizeof a->aux);
}

/* All that was sent but [bad, bad + n_bad) came out, and nothing else. */
static int all_but(const struct stream *s, size_t bad, size_t n_bad,
                   const struct pd_cyton_packet *out, size_t found)
{
    size_t at = 0;
    for (size_t i = 0; i < N; i++) {
        if (i >= bad && i < bad + n_bad) continue;
        if (at == found || !same(&out[at], &s->sent[i])) return 0;
        at++;
    }
    return at == found;
}

static const size_t chunks[] = { 0, 1, 7, PD_CYTON_BYTES, 62, 4 * PD_CYTON_BYTES, 100000 };
#define N_CHUNKS (sizeof chunks / sizeof chunks[0])

static void test_clean_stream_comes_out_whole_in_any_chunks(void)
{
    static struct stream s;
    struct pd_cyton_packet out[ROOM];
    for (int round = 0; round < 50; round++) {
        fill(&s, draw(256), (uint32_t)round % 30);
        for (size_t c = 0; c < N_CHUNKS; c++) {
            size_t found = parse(&s, chunks[c], out);
            CHECK(all_but(&s, N, 0, out, found), "round %d, chunks of %zu: %zu", round, chunks[c], found);
        }
    }
}

static void test_a_packet_is_there_with_its_last_byte(void)
{
    static struct stream s;
    struct pd_cyton_parser parser;
    struct pd_cyton_packet out;
    size_t used;
    pd_cyton_parser_init(&parser);
    fill(&s, 250, 20);
    for (size_t i = 0; i < N; i++) s.byte[i * PD_CYTON_BYTES + 2] &= 0x7F;
    pd_cyton_parse(&parser, s.byte, 2 * PD_CYTON_BYTES, &out, 1, &used);
    pd_cyton_parse(&parser, s.byte + used, 2 * PD_CYTON_BYTES - used, &out, 1, &used);
    for (size_t i = 2; i < N; i++) {
        const uint8_t *packet = s.byte + i * PD_CYTON_BYTES;
        for (size_t b = 0; b < PD_CYTON_BYTES; b++) {
            size_t found = pd_cyton_parse(&parser, packet + b, 1, &out, 1, &used);
            CHECK(found == (b == PD_CYTON_BYTES - 1), "packet %zu, byte %zu", i, b);
        }
    }
}

/* In one bad stream the reads of 1 and 7 bytes may end on a byte that makes a
 * shifted packet look whole (pd_cyton.h, ambiguity 3): left out there. */
static void damage_each_place(const char *what, void (*spoil)(struct stream *, size_t at),
                              size_t n_bad, size_t from, size_t to, int any_chunk)
{
    static struct stream s;
    struct pd_cyton_packet out[ROOM];
    for (size_t place = from; place < to; place++) {
        for (size_t c = 0; c < N_CHUNKS; c++) {
            if (!any_chunk && chunks[c] < PD_CYTON_BYTES) continue;
            fill(&s, draw(256), 4);
            size_t bad = 3 + draw(N - 8);
            spoil(&s, bad * PD_CYTON_BYTES + place);
            size_t found = parse(&s, chunks[c], out);
            CHECK(all_but(&s, bad, n_bad, out, found), "%s at byte %zu of packet %zu, chunks of %zu: %zu",
                  what, place, bad, chunks[c], found);
        }
    }
}

static void spoil_byte(struct stream *s, size_t at) { s->byte[at] ^= 0x15; }
static void drop_byte(struct stream *s, size_t at) { erase(s, at, 1); }
static void insert_zero(struct stream *s, size_t at) { insert(s, at, (uint8_t[]){ 0 }, 1); }
static void insert_stop(struct stream *s, size_t at) { insert(s, at, (uint8_t[]){ 0xC0 }, 1); }

static void insert_garbage(struct stream *s, size_t at)
{
    uint8_t garbage[300];
    size_t n = 1 + draw(sizeof garbage);
    for (size_t i = 0; i < n; i++) garbage[i] = payload(2);
    insert(s, at, garbage, n);
}

static void insert_banner(struct stream *s, size_t at)
{
    static const char text[] = "OpenBCI V3 8-16 channel\r\nFirmware: v3.1.1\r\n$$$";
    insert(s, at, (const uint8_t *)text, sizeof text - 1);
}

static void cut_rest(struct stream *s, size_t at)
{
    erase(s, at, PD_CYTON_BYTES - at % PD_CYTON_BYTES);
}

static void test_resync_loses_only_the_damaged_packet(void)
{
    damage_each_place("header", spoil_byte, 1, 0, 1, 1);
    damage_each_place("footer", spoil_byte, 1, 32, 33, 1);
    damage_each_place("byte dropped", drop_byte, 1, 0, 33, 1);
    damage_each_place("byte inserted", insert_zero, 1, 1, 33, 1);
    damage_each_place("rest cut off", cut_rest, 1, 1, 33, 0);
}

static void test_bytes_between_packets_cost_no_packet(void)
{
    for (int round = 0; round < 60; round++) {
        damage_each_place("zero", insert_zero, 0, 0, 1, 1);
        damage_each_place("stop byte", insert_stop, 0, 0, 1, 1);
        damage_each_place("garbage", insert_garbage, 0, 0, 1, 0);
        damage_each_place("banner", insert_banner, 0, 0, 1, 1);
    }
}

static void test_a_good_packet_between_two_bad_ones_survives(void)
{
    static struct stream s;
    struct pd_cyton_packet out[ROOM];
    for (int round = 0; round < 200; round++) {
        fill(&s, draw(256), 4);
        s.byte[10 * PD_CYTON_BYTES + 32] = 0x55;
        s.byte[12 * PD_CYTON_BYTES] = 0x55;
        size_t found = parse(&s, round % 2 ? PD_CYTON_BYTES : 100000, out);
        size_t good = 0;
        for (size_t i = 0; i < found; i++) good += same(&out[i], &s.sent[11]);
        CHECK(found == N - 2 && good == 1, "round %d: %zu packets", round, found);
    }
}

/* A header and a stop byte 32 apart, inside the damaged packet and the next. */
static void test_a_false_frame_in_the_data_does_not_win(void)
{
    static struct stream s;
    struct pd_cyton_packet out[ROOM];
    for (size_t at = 3; at < 26; at++) {
        for (size_t c = 0; c < N_CHUNKS; c++) {
            fill(&s, 77, 0);
            uint8_t *bad = s.byte + 10 * PD_CYTON_BYTES;
            bad[32] = 0x55;
            bad[at] = 0xA0;
            bad[at + 1] = 3;
            bad[PD_CYTON_BYTES + at - 1] = 0xC2;
            struct pd_cyton_packet *next = &s.sent[11];
            struct pd_cyton_parser fresh;
            size_t used;
            pd_cyton_parser_init(&fresh);
            pd_cyton_parse(&fresh, bad + PD_CYTON_BYTES, 2 * PD_CYTON_BYTES, next, 1, &used);
            size_t found = parse(&s, chunks[c], out);
            CHECK(all_but(&s, 10, 1, out, found), "at %zu, chunks of %zu: %zu", at, chunks[c], found);
        }
    }
}

static void test_a_wrong_counter_costs_no_framing(void)
{
    static struct stream s;
    struct pd_cyton_packet out[ROOM];
    for (int wrong = 0; wrong < 256; wrong++) {
        fill(&s, 5, 0);
        s.byte[20 * PD_CYTON_BYTES + 1] = (uint8_t)wrong;
        s.sent[20].counter = (uint8_t)wrong;
        size_t found = parse(&s, PD_CYTON_BYTES, out);
        CHECK(all_but(&s, N, 0, out, found), "counter %d: %zu", wrong, found);
    }
}

static void test_counts_survive_encoding_and_are_clipped(void)
{
    const int32_t in[8] = { 0, 1, -1, 8388607, -8388608, 8388608, -8388609, 123456 };
    const int32_t want[8] = { 0, 1, -1, 8388607, -8388608, 8388607, -8388608, 123456 };
    struct pd_cyton_packet packet = { .counter = 9, .stop = 0xC1 }, out;
    memcpy(packet.count, in, sizeof in);
    uint8_t bytes[PD_CYTON_BYTES];
    pd_cyton_encode(&packet, bytes);
    struct pd_cyton_parser parser;
    size_t used;
    pd_cyton_parser_init(&parser);
    CHECK(pd_cyton_parse(&parser, bytes, sizeof bytes, &out, 1, &used) == 1);
    for (int c = 0; c < 8; c++) CHECK(out.count[c] == want[c], "channel %d: %d", c, out.count[c]);
    CHECK(fabs(pd_cyton_uv_per_count(24) - 0.02235174) < 1e-8);     /* OpenBCI data format */
}

static void test_a_full_output_loses_nothing(void)
{
    static struct stream s;
    struct pd_cyton_packet out[ROOM];
    fill(&s, 1, 5);
    struct pd_cyton_parser parser;
    pd_cyton_parser_init(&parser);
    size_t at = 0, found = 0, used, got;
    do {
        got = pd_cyton_parse(&parser, s.byte + at, s.n - at, out + found, 1, &used);
        at += used;
        found += got;
    } while (got);
    CHECK(at == s.n && all_but(&s, N, 0, out, found), "%zu", found);
}

/* -- driver ------------------------------------------------------------------ */

#define SLOTS 4096
static _Atomic uint64_t memory[8 + SLOTS * (1 + PD_NATIVE_WORDS(21))];

struct rig {
    struct pd_ring ring;
    struct pd_intake_counts counts;
    struct pd_intake intake;
    struct pd_cyton_driver driver;
};

static void set_up(struct rig *rig)
{
    const double gain[8] = { 24, 24, 24, 24, 24, 24, 12, 1 };
    CHECK(!pd_ring_create(&rig->ring, memory, sizeof memory, PD_NATIVE_WORDS(11), SLOTS, 0));
    CHECK(!pd_intake_init(&rig->intake, &rig->ring, &rig->counts, 250, 256, 11));
    pd_cyton_driver_init(&rig->driver, &rig->intake, PD_CYTON_CHANNELS, gain, PD_CYTON_ACCEL);
}

static const struct pd_native *frame(const struct rig *rig, uint64_t index)
{
    static uint64_t words[PD_NATIVE_WORDS(11)];
    CHECK(!pd_ring_read(&rig->ring, index, words), "frame %llu", (unsigned long long)index);
    return (const struct pd_native *)words;
}

static void test_feed_scales_by_each_gain_and_reads_the_accelerometer(void)
{
    struct rig rig;
    set_up(&rig);
    struct pd_cyton_packet packet = { .counter = 7, .stop = 0xC0,
                                      .count = { 1, -2, 3, -4, 5, -6, 7, -8 },
                                      .aux = { 0x1F, 0x40, 0xE0, 0xC0, 0x00, 0x08 } };
    uint8_t bytes[2 * PD_CYTON_BYTES];
    pd_cyton_encode(&packet, bytes);
    packet.counter = 8;
    packet.stop = 0xC1;
    pd_cyton_encode(&packet, bytes + PD_CYTON_BYTES);
    pd_cyton_feed(&rig.driver, bytes, sizeof bytes, PD_NS_PER_S);
    const struct pd_native *first = frame(&rig, 0);
    CHECK(first->behind == 1 && first->arrival_ns == PD_NS_PER_S);
    CHECK(fabs(first->value[0] - 4.5e6 / 24 / 8388607) < 1e-15);
    CHECK(fabs(first->value[6] - 7 * 4.5e6 / 12 / 8388607) < 1e-14);
    CHECK(fabs(first->value[7] + 8 * 4.5e6 / 8388607) < 1e-12);
    CHECK(first->value[8] == 1.0 && first->value[9] == -1.0 && first->value[10] == 0.001);
    const struct pd_native *second = frame(&rig, 1);
    CHECK(second->behind == 0 && second->value[8] == 1.0, "a reading is held between two packets");
    for (int i = 9; i < 9 + 25; i++) {
        packet.counter = (uint8_t)i;
        pd_cyton_encode(&packet, bytes);
        pd_cyton_feed(&rig.driver, bytes, PD_CYTON_BYTES, PD_NS_PER_S + (i - 7) * 4 * PD_NS_PER_MS);
    }
    CHECK(isnan(frame(&rig, 26)->value[8]), "raw aux is no accelerometer: the reading is too old");
}

static void test_stamped_packets_bring_one_axis_each_and_the_boards_time(void)
{
    struct rig rig;
    set_up(&rig);
    uint8_t bytes[PD_CYTON_BYTES];
    for (int i = 0; i < 20; i++) {
        const uint32_t ms = 0xFFFFFFF0u + 4 * (uint32_t)i;      /* goes round on the way */
        struct pd_cyton_packet packet = {
            .counter = (uint8_t)i, .stop = i ? 0xC4 : 0xC3,
            .aux = { i % 10 >= 7 ? (uint8_t)(i % 10) : 0, 0, (uint8_t)(ms >> 24), (uint8_t)(ms >> 16),
                     (uint8_t)(ms >> 8), (uint8_t)ms } };
        pd_cyton_encode(&packet, bytes);
        pd_cyton_feed(&rig.driver, bytes, sizeof bytes, PD_NS_PER_S + i * 4 * PD_NS_PER_MS);
        const struct pd_native *native = frame(&rig, (uint64_t)i);
        CHECK(native->device_ns == (0xFFFFFFF0ll + 4 * i) * PD_NS_PER_MS);
        for (int a = 0; a < 3; a++)
            CHECK(i < 7 + a ? isnan(native->value[8 + a])
                            : native->value[8 + a] == (7 + a) * 256 * 0.002 / 16, "axis %d of %d", a, i);
    }
}

/* A driver of its own form, fed packet by packet. */
static void set_up_as(struct rig *rig, uint32_t n_channels, enum pd_cyton_aux aux)
{
    double gain[16];
    for (int c = 0; c < 16; c++) gain[c] = 24;
    const uint32_t n = n_channels + pd_cyton_n_aux(aux);
    CHECK(!pd_ring_create(&rig->ring, memory, sizeof memory, PD_NATIVE_WORDS(n), 64, 0));
    CHECK(!pd_intake_init(&rig->intake, &rig->ring, &rig->counts, n_channels > 8 ? 125 : 250,
                          n_channels > 8 ? 128 : 256, n));
    pd_cyton_driver_init(&rig->driver, &rig->intake, n_channels, gain, aux);
}

static void feed_one(struct rig *rig, struct pd_cyton_packet packet, int64_t t_ns)
{
    uint8_t bytes[PD_CYTON_BYTES];
    pd_cyton_encode(&packet, bytes);
    pd_cyton_feed(&rig->driver, bytes, sizeof bytes, t_ns);
}

static void read_words(const struct rig *rig, uint64_t index, uint64_t *words)
{
    CHECK(!pd_ring_read(&rig->ring, index, words));
}

static void test_inputs_and_markers_are_read_from_raw_packets(void)
{
    uint64_t words[PD_NATIVE_WORDS(16)];
    const struct pd_native *native = (const struct pd_native *)words;
    struct rig rig;
    set_up_as(&rig, 8, PD_CYTON_DIGITAL);
    /* The firmware's order: D11 D12, D13 D17, 0 D18. */
    feed_one(&rig, (struct pd_cyton_packet){ .stop = 0xC1, .aux = { 1, 0, 0, 1, 0, 1 } }, PD_NS_PER_S);
    read_words(&rig, 0, words);
    const double want[] = { 1, 0, 0, 1, 1 };
    CHECK(!memcmp(native->value + 8, want, sizeof want));

    set_up_as(&rig, 8, PD_CYTON_ANALOG);
    feed_one(&rig, (struct pd_cyton_packet){ .stop = 0xC1, .aux = { 3, 0xFF, 0, 0, 0, 1 } }, PD_NS_PER_S);
    read_words(&rig, 0, words);
    CHECK(native->value[8] == 3.3 && native->value[9] == 0 && fabs(native->value[10] - 3.3 / 1023) < 1e-15);

    set_up_as(&rig, 8, PD_CYTON_MARKER);
    for (uint8_t i = 0; i < 3; i++)
        feed_one(&rig, (struct pd_cyton_packet){ .counter = i, .stop = 0xC1,
                                                 .aux = { 0, i == 1 ? 'M' : 0 } },
                 PD_NS_PER_S + i * 4 * PD_NS_PER_MS);
    for (uint64_t i = 0; i < 3; i++) {
        read_words(&rig, i, words);
        CHECK(native->marker == (i == 1 ? 'M' : 0), "marker %u at %u", native->marker, (unsigned)i);
    }
}

static void test_a_daisys_halves_make_a_sample_and_a_lost_half_loses_it(void)
{
    enum { PAIRS = 300 };
    uint64_t words[PD_NATIVE_WORDS(16)];
    const struct pd_native *native = (const struct pd_native *)words;
    struct rig rig;
    set_up_as(&rig, 16, PD_CYTON_MARKER);
    for (int i = 0; i <= 2 * PAIRS; i++) {      /* begins with the half of a sample before it */
        if (i == 101 || i == 202) continue;     /* a first half and a second half are lost */
        struct pd_cyton_packet packet = { .counter = (uint8_t)i, .stop = 0xC1 };
        for (int c = 0; c < 8; c++) packet.count[c] = 100 * i + c;
        feed_one(&rig, packet, PD_NS_PER_S + i * 4 * PD_NS_PER_MS);
        if (i % 2 || i == 0 || i == 102) continue;
        uint64_t pair = (uint64_t)(i / 2 - 1);
        CHECK(pd_ring_next(&rig.ring) == pair + 1, "after packet %d: %u", i, (unsigned)pd_ring_next(&rig.ring));
        read_words(&rig, pair, words);
        const double scale = pd_cyton_uv_per_count(24);
        for (int c = 0; c < 16; c++)
            CHECK(native->value[c] == (c < 8 ? 100 * (i - 1) + c : 100 * i + c - 8) * scale);
        CHECK(native->lost_before == (i == 104 || i == 204), "%d: %u", i, native->lost_before);
    }
    CHECK(atomic_load(&rig.counts.lost) == 2 && atomic_load(&rig.counts.accepted) == PAIRS - 2);
}

static void test_after_a_reset_nothing_pending_is_left(void)
{
    struct rig rig;
    set_up(&rig);
    struct pd_driver driver = { .self = &rig.driver, .intake = &rig.intake, .feed = pd_cyton_feed,
                                .reset = pd_cyton_reset };
    feed_one(&rig, (struct pd_cyton_packet){ .counter = 5, .stop = 0xC0, .aux = { 1 } }, PD_NS_PER_S);
    const uint8_t part[20] = { 0xA0, 6 };
    pd_driver_feed(&driver, part, sizeof part, PD_NS_PER_S);
    pd_driver_reset(&driver);
    feed_one(&rig, (struct pd_cyton_packet){ .counter = 0, .stop = 0xC0 }, 3 * PD_NS_PER_S);
    const struct pd_native *native = frame(&rig, 500);      /* 2 s later */
    CHECK(native->flags == PD_NATIVE_RESET && native->lost_before == 499 && isnan(native->value[8]));
    CHECK(native->junk_bytes == 0);
}

static void test_feed_counts_what_is_behind_over_a_long_stall(void)
{
    enum { MANY = 1500 };
    static uint8_t bytes[MANY * PD_CYTON_BYTES];
    struct rig rig;
    set_up(&rig);
    struct pd_cyton_packet packet = { .stop = 0xC0 };
    pd_cyton_encode(&packet, bytes);
    pd_cyton_feed(&rig.driver, bytes, PD_CYTON_BYTES, PD_NS_PER_S);
    for (int i = 0; i < MANY; i++) {
        packet.counter = (uint8_t)(i + 1);
        packet.count[0] = i + 1;
        pd_cyton_encode(&packet, bytes + i * PD_CYTON_BYTES);
    }
    pd_cyton_feed(&rig.driver, bytes, sizeof bytes, PD_NS_PER_S + MANY * 4 * PD_NS_PER_MS);
    CHECK(rig.counts.accepted == MANY + 1 && rig.counts.lost == 0);
    for (int i = 1; i <= MANY; i++)
        CHECK(frame(&rig, (uint64_t)i)->behind == (uint32_t)(MANY - i), "packet %d", i);
}

static void test_a_copy_is_not_counted_as_behind(void)
{
    struct rig rig;
    set_up(&rig);
    uint8_t bytes[3 * PD_CYTON_BYTES];
    struct pd_cyton_packet packet = { .counter = 1, .stop = 0xC0 };
    pd_cyton_encode(&packet, bytes);
    packet.counter = 2;
    pd_cyton_encode(&packet, bytes + PD_CYTON_BYTES);
    pd_cyton_encode(&packet, bytes + 2 * PD_CYTON_BYTES);
    pd_cyton_feed(&rig.driver, bytes, sizeof bytes, PD_NS_PER_S);
    CHECK(frame(&rig, 0)->behind == 1);
    CHECK(rig.counts.accepted == 2 && rig.counts.duplicates == 1);
}

static void test_junk_is_told_with_the_packet_that_follows(void)
{
    struct rig rig;
    set_up(&rig);
    uint8_t bytes[PD_CYTON_BYTES + 3] = "$$$";
    struct pd_cyton_packet packet = { .stop = 0xC0 };
    pd_cyton_encode(&packet, bytes + 3);
    pd_cyton_feed(&rig.driver, bytes, sizeof bytes, PD_NS_PER_S);
    CHECK(rig.counts.junk_bytes == 3 && frame(&rig, 0)->junk_bytes == 3);
}

int main(void)
{
    test_clean_stream_comes_out_whole_in_any_chunks();
    test_a_packet_is_there_with_its_last_byte();
    test_resync_loses_only_the_damaged_packet();
    test_bytes_between_packets_cost_no_packet();
    test_a_good_packet_between_two_bad_ones_survives();
    test_a_false_frame_in_the_data_does_not_win();
    test_a_wrong_counter_costs_no_framing();
    test_counts_survive_encoding_and_are_clipped();
    test_a_full_output_loses_nothing();
    test_feed_scales_by_each_gain_and_reads_the_accelerometer();
    test_feed_counts_what_is_behind_over_a_long_stall();
    test_a_copy_is_not_counted_as_behind();
    test_junk_is_told_with_the_packet_that_follows();
    test_stamped_packets_bring_one_axis_each_and_the_boards_time();
    test_inputs_and_markers_are_read_from_raw_packets();
    test_a_daisys_halves_make_a_sample_and_a_lost_half_loses_it();
    test_after_a_reset_nothing_pending_is_left();
    return check_report("cyton");
}
