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
    return check_report("cyton");
}
