#include "pd_cyton.h"

#include <math.h>
#include <string.h>

#define HEAD 0xA0u
#define STOP_FIRST 0xC0u
#define STOP_LAST 0xC6u
#define STOP_ACCELEROMETER 0xC0u
#define AUX_AT 26                   /* of the auxiliary bytes in a packet */
#define STOP_AT (PD_CYTON_BYTES - 1)
#define MAX_COUNT 8388607

/* The judge looks no further: a candidate, one that overlaps it by a byte, and
 * the two bytes after that. With so many at hand it never waits. */
#define LOOK (2 * PD_CYTON_BYTES + 1)

/* A counter further on than this is no evidence, whatever lies in between. */
#define MAX_REACH 16u

/* Evidence for a candidate, weighed by how seldom chance brings it about. */
#define BY_PLACE 4                  /* it stands where the last packet ended */
#define BY_COUNTER 3                /* its counter is due */
#define BY_NEXT_COUNTER 4           /* a packet with the next counter follows */
#define BY_NEXT_HEAD 1
#define NOT_FOLLOWED (-2)           /* something else than a packet follows */
#define CONTRADICTED (-3)           /* a packet follows that should have come before */

#define G_PER_COUNT (0.002 / 16.0)  /* LIS3DH at ±4 g, 12 bits left-justified */

#define PACKETS_AT_ONCE 64

enum verdict { TAKE, DROP, WAIT };

void pd_cyton_parser_init(struct pd_cyton_parser *parser)
{
    memset(parser, 0, sizeof *parser);
    parser->last_counter = PD_CYTON_NO_COUNTER;
}

static int is_stop(uint8_t byte)
{
    return byte >= STOP_FIRST && byte <= STOP_LAST;
}

/* How far on a counter is: 0 for the one due next. */
static uint8_t ahead(const struct pd_cyton_parser *parser, uint8_t counter)
{
    return (uint8_t)(counter - parser->last_counter - 1);
}

/* What the bytes after a candidate say; 0: there are none yet. */
static int followed(const struct pd_cyton_parser *parser, const uint8_t *at, size_t n)
{
    if (n <= PD_CYTON_BYTES) return 0;
    if (at[PD_CYTON_BYTES] != HEAD) return NOT_FOLLOWED;
    if (n <= PD_CYTON_BYTES + 1) return BY_NEXT_HEAD;
    uint8_t counter = at[1], next = at[PD_CYTON_BYTES + 1];
    if (next == (uint8_t)(counter + 1)) return BY_NEXT_COUNTER;
    if (parser->last_counter == PD_CYTON_NO_COUNTER) return BY_NEXT_HEAD;
    return ahead(parser, counter) < ahead(parser, next) ? BY_NEXT_HEAD : CONTRADICTED;
}

/* Whether the counter is as far on as `between` bytes since the last packet
 * account for: they may have been garbage, or that many packets. */
static int expected(const struct pd_cyton_parser *parser, uint8_t counter, size_t between)
{
    if (parser->last_counter == PD_CYTON_NO_COUNTER) return 0;
    size_t reach = (between + PD_CYTON_BYTES - 1) / PD_CYTON_BYTES;
    if (reach > MAX_REACH) reach = MAX_REACH;
    return ahead(parser, counter) <= reach;
}

static int has_expected_rival(const struct pd_cyton_parser *parser, const uint8_t *bytes, size_t n)
{
    for (size_t i = 1; i < PD_CYTON_BYTES && i + 1 < n; i++)
        if (bytes[i] == HEAD && expected(parser, bytes[i + 1], parser->junk + i)) return 1;
    return 0;
}

/* Whether a candidate at 1..32 speaks against one at 0 that has `own` evidence:
 * DROP, or WAIT while it may still, or TAKE. */
static enum verdict against_rivals(const struct pd_cyton_parser *parser, const uint8_t *bytes,
                                   size_t n, int own)
{
    enum verdict verdict = TAKE;
    for (size_t i = 1; i < PD_CYTON_BYTES && i < n; i++) {
        if (bytes[i] != HEAD) continue;
        size_t left = n - i;
        int complete = left >= PD_CYTON_BYTES;
        if (complete && !is_stop(bytes[i + STOP_AT])) continue;
        int by_counter = left < 2 || expected(parser, bytes[i + 1], parser->junk + i);
        int rank = by_counter ? BY_COUNTER : 0;
        int behind = complete ? followed(parser, bytes + i, left) : 0;
        if (complete && rank + behind > own) return DROP;
        int may_grow = left < PD_CYTON_BYTES + 2 && behind >= 0;
        if (may_grow && rank + BY_NEXT_COUNTER > own) verdict = WAIT;
    }
    return verdict;
}

/* What to do with the byte at bytes[0] and the packet that may begin there. */
static enum verdict judge(const struct pd_cyton_parser *parser, const uint8_t *bytes, size_t n)
{
    if (bytes[0] != HEAD) return DROP;
    if (n < PD_CYTON_BYTES) return WAIT;
    if (!is_stop(bytes[STOP_AT])) return DROP;
    int behind = followed(parser, bytes, n);
    int by_counter = expected(parser, bytes[1], parser->junk);
    int sure = by_counter || (parser->synced && !has_expected_rival(parser, bytes, n));
    if (behind == BY_NEXT_COUNTER || (sure && behind >= 0)) return TAKE;

    int own = behind + (parser->synced ? BY_PLACE : by_counter ? BY_COUNTER : 0);
    enum verdict verdict = against_rivals(parser, bytes, n, own);
    if (verdict != TAKE) return verdict;
    if (n < PD_CYTON_BYTES + 2 && behind >= 0)  /* what speaks for it is yet to come */
        return parser->last_counter == PD_CYTON_NO_COUNTER ? TAKE : WAIT;
    return own > 0 ? TAKE : DROP;
}

static void decode(const uint8_t *bytes, struct pd_cyton_packet *packet)
{
    packet->counter = bytes[1];
    packet->stop = bytes[STOP_AT];
    for (int c = 0; c < PD_CYTON_CHANNELS; c++) {
        const uint8_t *b = bytes + 2 + 3 * c;
        uint32_t raw = (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
        packet->count[c] = (int32_t)(raw ^ 0x800000u) - 0x800000;
    }
    memcpy(packet->aux, bytes + AUX_AT, sizeof packet->aux);
}

size_t pd_cyton_parse(struct pd_cyton_parser *parser, const uint8_t *bytes, size_t n,
                      struct pd_cyton_packet *out, size_t room, size_t *used)
{
    size_t begin = 0, end = parser->n_pending, found = 0;
    *used = 0;
    while (found < room) {
        if (end - begin < LOOK && *used < n) {
            memmove(parser->pending, parser->pending + begin, end - begin);
            end -= begin;
            begin = 0;
            size_t take = sizeof parser->pending - end;
            if (take > n - *used) take = n - *used;
            memcpy(parser->pending + end, bytes + *used, take);
            end += take;
            *used += take;
        }
        if (begin == end) break;
        enum verdict verdict = judge(parser, parser->pending + begin, end - begin);
        if (verdict == WAIT) break;
        if (verdict == DROP) {
            begin++;
            if (parser->junk < UINT32_MAX) parser->junk++;
            parser->synced = 0;
            continue;
        }
        struct pd_cyton_packet *packet = &out[found++];
        decode(parser->pending + begin, packet);
        packet->junk_before = parser->junk;
        parser->junk = 0;
        parser->synced = 1;
        parser->last_counter = packet->counter;
        begin += PD_CYTON_BYTES;
    }
    memmove(parser->pending, parser->pending + begin, end - begin);
    parser->n_pending = (uint32_t)(end - begin);
    return found;
}

void pd_cyton_encode(const struct pd_cyton_packet *packet, uint8_t out[PD_CYTON_BYTES])
{
    out[0] = HEAD;
    out[1] = packet->counter;
    for (int c = 0; c < PD_CYTON_CHANNELS; c++) {
        int32_t count = packet->count[c];
        if (count > MAX_COUNT) count = MAX_COUNT;
        if (count < -MAX_COUNT - 1) count = -MAX_COUNT - 1;
        out[2 + 3 * c] = (uint8_t)((uint32_t)count >> 16);
        out[3 + 3 * c] = (uint8_t)((uint32_t)count >> 8);
        out[4 + 3 * c] = (uint8_t)count;
    }
    memcpy(out + AUX_AT, packet->aux, sizeof packet->aux);
    out[STOP_AT] = packet->stop;
}

double pd_cyton_uv_per_count(double gain)
{
    return 4.5e6 / gain / (double)MAX_COUNT;
}

void pd_cyton_driver_init(struct pd_cyton_driver *driver, struct pd_intake *intake,
                          const double gain[PD_CYTON_CHANNELS])
{
    memset(driver, 0, sizeof *driver);
    driver->intake = intake;
    for (int c = 0; c < PD_CYTON_CHANNELS; c++)
        driver->uv_per_count[c] = pd_cyton_uv_per_count(gain[c]);
    pd_cyton_parser_init(&driver->parser);
}

/* The board sends zeros between two readings of its 25 Hz accelerometer. */
static void accelerometer(const struct pd_cyton_packet *packet, double g[PD_CYTON_AUX])
{
    static const uint8_t none[sizeof packet->aux];
    int present = packet->stop == STOP_ACCELEROMETER &&
                  memcmp(packet->aux, none, sizeof none) != 0;
    for (int a = 0; a < PD_CYTON_AUX; a++) {
        int16_t raw = (int16_t)(packet->aux[2 * a] << 8 | packet->aux[2 * a + 1]);
        g[a] = present ? raw * G_PER_COUNT : NAN;
    }
}

static void deliver(struct pd_cyton_driver *driver, const struct pd_cyton_packet *packet,
                    uint32_t behind, int64_t arrival_ns)
{
    double value[PD_CYTON_CHANNELS + PD_CYTON_AUX];
    for (int c = 0; c < PD_CYTON_CHANNELS; c++)
        value[c] = packet->count[c] * driver->uv_per_count[c];
    accelerometer(packet, value + PD_CYTON_CHANNELS);
    pd_intake_junk(driver->intake, packet->junk_before);
    pd_intake_counted(driver->intake, packet->counter, behind, arrival_ns, PD_NO_TIME, value);
}

/* Walks through a chunk's packets; with a driver it hands them over. Returns how
 * many there are, a packet that repeats the counter before it not counted:
 * a copy says nothing about when the ones before it were taken. */
static uint32_t walk(struct pd_cyton_parser *parser, const uint8_t *bytes, size_t n,
                     struct pd_cyton_driver *driver, uint32_t total, int64_t arrival_ns)
{
    struct pd_cyton_packet packet[PACKETS_AT_ONCE];
    uint32_t distinct = 0;
    size_t used = 0, found;
    do {
        size_t took;
        uint32_t last_counter = parser->last_counter;
        found = pd_cyton_parse(parser, bytes + used, n - used, packet, PACKETS_AT_ONCE, &took);
        used += took;
        for (size_t i = 0; i < found; i++) {
            distinct += packet[i].counter != last_counter;
            last_counter = packet[i].counter;
            if (driver) deliver(driver, &packet[i], total - distinct, arrival_ns);
        }
    } while (found == PACKETS_AT_ONCE);
    return distinct;
}

void pd_cyton_feed(void *self, const uint8_t *bytes, size_t n, int64_t arrival_ns)
{
    struct pd_cyton_driver *driver = self;
    struct pd_cyton_parser scout = driver->parser;
    uint32_t total = walk(&scout, bytes, n, NULL, 0, arrival_ns);
    walk(&driver->parser, bytes, n, driver, total, arrival_ns);
}
