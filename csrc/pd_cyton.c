#include "pd_cyton.h"

#include <math.h>
#include <string.h>

#define HEAD 0xA0u
#define STOP_FIRST 0xC0u
#define STOP_LAST 0xC6u
/* Kinds of packets, by their stop byte; the firmware sets a stamped one once, then syncs. */
#define STOP_ACCELEROMETER 0xC0u
#define STOP_RAW 0xC1u
#define STOP_ACCELEROMETER_SET 0xC3u
#define STOP_ACCELEROMETER_SYNCED 0xC4u
#define STOP_RAW_SET 0xC5u
#define STOP_RAW_SYNCED 0xC6u
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
#define V_PER_COUNT (3.3 / 1023.0)  /* 10 bits of the PIC32's converter */
#define HOLD_PACKETS 25u            /* 0.1 s: two and a half periods of the accelerometer */
#define FIRST_AXIS 7u               /* stamped packets have one axis each, by counter % 10 */

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

uint32_t pd_cyton_n_aux(enum pd_cyton_aux aux)
{
    return aux == PD_CYTON_MARKER ? 0 : aux == PD_CYTON_DIGITAL ? 5 : 3;
}

void pd_cyton_driver_init(struct pd_cyton_driver *driver, struct pd_intake *intake,
                          uint32_t n_channels, const double *gain, enum pd_cyton_aux aux)
{
    memset(driver, 0, sizeof *driver);
    driver->intake = intake;
    driver->n_channels = n_channels;
    driver->aux = aux;
    driver->n_aux = pd_cyton_n_aux(aux);
    for (uint32_t c = 0; c < n_channels; c++)
        driver->uv_per_count[c] = pd_cyton_uv_per_count(gain[c]);
    pd_cyton_reset(driver);
}

void pd_cyton_reset(void *self)
{
    struct pd_cyton_driver *driver = self;
    memset(&driver->state, 0, sizeof driver->state);
    pd_cyton_parser_init(&driver->state.parser);
}

/* -- auxiliary bytes ----------------------------------------------------------- */

static int16_t word(const uint8_t *bytes)
{
    return (int16_t)((uint16_t)bytes[0] << 8 | bytes[1]);
}

static void hold(struct pd_cyton_state *state, uint32_t a, double value)
{
    state->aux[a] = value;
    state->hold[a] = HOLD_PACKETS;
}

/* Zeros stand between two readings. */
static void take_accelerometer(struct pd_cyton_state *state, const struct pd_cyton_packet *packet)
{
    static const uint8_t none[sizeof packet->aux];
    if (packet->stop == STOP_ACCELEROMETER) {
        if (memcmp(packet->aux, none, sizeof none) == 0) return;
        for (uint32_t a = 0; a < 3; a++) hold(state, a, word(packet->aux + 2 * a) * G_PER_COUNT);
        return;
    }
    uint32_t axis = packet->counter % 10u - FIRST_AXIS;
    if (axis < 3 && word(packet->aux)) hold(state, axis, word(packet->aux) * G_PER_COUNT);
}

/* `words`: three of them in a raw packet, one in a stamped one. */
static void take_raw(const struct pd_cyton_driver *driver, struct pd_cyton_state *state,
                     const struct pd_cyton_packet *packet, uint32_t words)
{
    static const uint8_t place[PD_CYTON_MAX_AUX] = { 0, 1, 2, 3, 5 };     /* D11 D12 D13 D17 D18 */
    switch (driver->aux) {
    case PD_CYTON_ANALOG:
        for (uint32_t a = 0; a < words; a++) hold(state, a, word(packet->aux + 2 * a) * V_PER_COUNT);
        break;
    case PD_CYTON_DIGITAL:
        for (uint32_t a = 0; a < PD_CYTON_MAX_AUX; a++)
            if (place[a] < 2 * words) hold(state, a, packet->aux[place[a]] != 0);
        break;
    case PD_CYTON_MARKER:
        if (word(packet->aux)) state->marker = (uint16_t)word(packet->aux);
        break;
    default:
        break;
    }
}

static void take_stamp(struct pd_cyton_state *state, const uint8_t *bytes)
{
    uint32_t ms = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
    if (state->stamped && ms < state->stamp_ms && state->stamp_ms - ms > UINT32_MAX / 2)
        state->stamp_turns++;
    state->stamp_ms = ms;
    state->stamped = 1;
}

static void take_aux(const struct pd_cyton_driver *driver, struct pd_cyton_state *state,
                     const struct pd_cyton_packet *packet)
{
    for (uint32_t a = 0; a < driver->n_aux; a++)
        if (state->hold[a]) state->hold[a]--;
    int stamped = packet->stop >= STOP_ACCELEROMETER_SET;
    int accelerometer = packet->stop == STOP_ACCELEROMETER ||
                        packet->stop == STOP_ACCELEROMETER_SET ||
                        packet->stop == STOP_ACCELEROMETER_SYNCED;
    if (!stamped) state->stamped = 0;
    if (stamped) take_stamp(state, packet->aux + 2);
    if (accelerometer && driver->aux == PD_CYTON_ACCEL) take_accelerometer(state, packet);
    else if (stamped ? !accelerometer : packet->stop == STOP_RAW)
        take_raw(driver, state, packet, stamped ? 1 : 3);
}

/* -- samples ------------------------------------------------------------------- */

/* Takes a packet; whether it completes a sample. */
static int take_packet(const struct pd_cyton_driver *driver, struct pd_cyton_state *state,
                       const struct pd_cyton_packet *packet)
{
    take_aux(driver, state, packet);
    if (driver->n_channels == PD_CYTON_CHANNELS) return 1;
    if (packet->counter % 2) {
        memcpy(state->half, packet->count, sizeof state->half);
        state->half_counter = packet->counter;
        state->have_half = 1;
        return 0;
    }
    int whole = state->have_half && packet->counter == (uint8_t)(state->half_counter + 1);
    state->have_half = 0;
    return whole;
}

static void deliver(struct pd_cyton_driver *driver, const struct pd_cyton_packet *packet,
                    uint32_t behind, int64_t arrival_ns)
{
    struct pd_cyton_state *state = &driver->state;
    const uint32_t n = driver->n_channels;
    const int32_t *count = n > PD_CYTON_CHANNELS ? state->half : packet->count;
    double value[PD_CYTON_MAX_CHANNELS + PD_CYTON_MAX_AUX];
    for (uint32_t c = 0; c < PD_CYTON_CHANNELS; c++) value[c] = count[c] * driver->uv_per_count[c];
    for (uint32_t c = PD_CYTON_CHANNELS; c < n; c++)
        value[c] = packet->count[c - PD_CYTON_CHANNELS] * driver->uv_per_count[c];
    for (uint32_t a = 0; a < driver->n_aux; a++)
        value[n + a] = state->hold[a] ? state->aux[a] : NAN;
    int64_t device_ns = PD_NO_TIME;
    if (state->stamped)
        device_ns = ((int64_t)state->stamp_turns << 32 | state->stamp_ms) * PD_NS_PER_MS;
    /* Counters 1 and 2 are sample 0, and so on: 255 and 0 are the last. */
    uint32_t counter = n > PD_CYTON_CHANNELS ? (uint8_t)(packet->counter - 1) / 2u : packet->counter;
    if (state->marker) pd_intake_mark(driver->intake, state->marker);
    state->marker = 0;
    pd_intake_counted(driver->intake, counter, behind, arrival_ns, device_ns, value);
}

/* Walks through a chunk's packets; with a driver it hands over what they make. Returns how
 * many samples that is, a packet that repeats the counter before it not counted:
 * a copy says nothing about when the ones before it were taken. */
static uint32_t walk(const struct pd_cyton_driver *driver, struct pd_cyton_state *state,
                     const uint8_t *bytes, size_t n, struct pd_cyton_driver *to, uint32_t total,
                     int64_t arrival_ns)
{
    struct pd_cyton_packet packet[PACKETS_AT_ONCE];
    uint32_t distinct = 0;
    size_t used = 0, found;
    do {
        size_t took;
        uint32_t last_counter = state->parser.last_counter;
        found = pd_cyton_parse(&state->parser, bytes + used, n - used, packet, PACKETS_AT_ONCE,
                               &took);
        used += took;
        for (size_t i = 0; i < found; i++) {
            if (to) pd_intake_junk(to->intake, packet[i].junk_before - state->junk_told);
            state->junk_told = 0;
            int whole = take_packet(driver, state, &packet[i]);
            distinct += whole && packet[i].counter != last_counter;
            last_counter = packet[i].counter;
            if (to && whole) deliver(to, &packet[i], total - distinct, arrival_ns);
        }
    } while (found == PACKETS_AT_ONCE);
    return distinct;
}

void pd_cyton_feed(void *self, const uint8_t *bytes, size_t n, int64_t arrival_ns)
{
    struct pd_cyton_driver *driver = self;
    struct pd_cyton_state scout = driver->state;
    uint32_t total = walk(driver, &scout, bytes, n, NULL, 0, arrival_ns);
    walk(driver, &driver->state, bytes, n, driver, total, arrival_ns);
    /* Garbage without an end is to be seen, too. */
    pd_intake_junk(driver->intake, driver->state.parser.junk - driver->state.junk_told);
    driver->state.junk_told = driver->state.parser.junk;
}
