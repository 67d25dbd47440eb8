#include "pd_session.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_session_parts.h"
#include "pd_time.h"

#define LATE_NS PD_SESSION_JITTER_NS

static uint32_t power_of_two(uint64_t least)
{
    uint32_t n = 16;
    while (n < least) n *= 2;
    return n;
}

struct layout {
    uint32_t n_slots, slot_bytes, window;
    size_t slots, flights, sent, answers, records, bytes;
};

static int lay_out(const struct pd_session_config *config, struct layout *out)
{
    const struct pd_bins *bins = config->bins;
    if (bins->n_units == 0 || bins->n_units > PD_BINS_MAX_UNITS || bins->bin_ns < PD_NS_PER_MS
        || bins->bin_ns > 10 * PD_NS_PER_S || config->phase_ns < 0
        || config->phase_ns >= bins->bin_ns)
        return -EINVAL;
    if (config->live) {
        if (config->live->words < PD_SESSION_LIVE_WORDS(bins->n_units)
            || config->live->words > PD_SESSION_LIVE_MOST)
            return -EINVAL;
    } else {
        if (config->n_spans == 0) return -EINVAL;
        for (uint32_t i = 0; i < config->n_spans; i++)
            if (config->spans[i].start >= config->spans[i].stop
                || config->spans[i].stop > bins->n_bins)
                return -EINVAL;
    }
    uint64_t keep = (uint64_t)(PD_SESSION_KEEP_NS / bins->bin_ns);
    out->window = (uint32_t)(keep < 8 ? 8 : keep);
    out->n_slots = power_of_two(out->window);
    out->slot_bytes = (uint32_t)((sizeof(struct pd_session_slot) + pd_packet_bound(bins->n_units)
                                  + 63) & ~63ull);
    size_t at = 0;
    out->slots = at;
    at += (size_t)out->n_slots * out->slot_bytes;
    out->flights = at;
    at += PD_SESSION_FLIGHTS * sizeof(struct pd_session_flight);
    out->sent = at;
    at += out->n_slots * sizeof(struct pd_session_sent);
    out->answers = at;
    at += out->n_slots * sizeof(struct pd_packet_answer);
    out->records = (at + 63) & ~(size_t)63;
    size_t ring = pd_ring_bytes(PD_SESSION_RECORD_WORDS, config->record_slots);
    if (ring == 0) return -EINVAL;
    out->bytes = out->records + ring;
    return 0;
}

size_t pd_session_bytes(const struct pd_session_config *config)
{
    struct layout layout;
    return lay_out(config, &layout) ? 0 : layout.bytes;
}

size_t pd_session_line_bytes(const struct pd_session_config *config)
{
    struct layout layout;
    return lay_out(config, &layout) ? 0 : (size_t)PD_SESSION_FLIGHTS * layout.slot_bytes;
}

int pd_session_init(struct pd_session *session, const struct pd_session_config *config,
                    void *arena, size_t bytes, void *line)
{
    struct layout layout;
    uint8_t *memory = arena;
    if (lay_out(config, &layout) || bytes < layout.bytes) return -EINVAL;
    memset(session, 0, sizeof *session);
    session->config = *config;
    session->n_slots = session->n_sent = layout.n_slots;
    session->slot_bytes = layout.slot_bytes;
    session->window = layout.window;
    session->slots = memory + layout.slots;
    session->line = line;
    session->flights = (struct pd_session_flight *)(memory + layout.flights);
    session->sent = (struct pd_session_sent *)(memory + layout.sent);
    session->answers = (struct pd_packet_answer *)(memory + layout.answers);
    session->decoder = PD_NOBODY;
    session->bin = config->live ? 0 : config->spans[0].start;
    session->jumped = 1;
    session->last_ns = session->line_ns = PD_NO_TIME;
    memset(session->line_free, 0xff, sizeof session->line_free);
    atomic_store(&session->counts.decoder, PD_NOBODY);
    atomic_store(&session->counts.bin, session->bin);
    pd_hist_init(&session->loop, PD_SESSION_DESYNC_NS);
    return pd_ring_create(&session->records, memory + layout.records,
                          pd_ring_bytes(PD_SESSION_RECORD_WORDS, config->record_slots),
                          PD_SESSION_RECORD_WORDS, config->record_slots, 0);
}

/* -- clock and state ------------------------------------------------------------- */

static void set_clock(struct pd_session *session, int64_t now_ns)
{
    const int64_t period_ns = session->config.bins->bin_ns;
    uint32_t state = atomic_load_explicit(&session->counts.state, memory_order_relaxed);
    int runs = state == PD_SESSION_RUNNING
               && atomic_load_explicit(&session->counts.subscribers, memory_order_relaxed) > 0;
    if (runs && !session->is_running) {
        int64_t into = (now_ns - session->config.phase_ns) % period_ns;
        int64_t due_ns = now_ns + (into > 0 ? period_ns - into : -into);
        /* A pause shorter than a period does not make the next packet come early. */
        while (session->due_ns > due_ns) due_ns += period_ns;
        session->due_ns = due_ns;
        session->last_ns = PD_NO_TIME;
    }
    session->is_running = (uint32_t)runs;
}

static void set_state(struct pd_session *session, enum pd_session_state state)
{
    atomic_store_explicit(&session->counts.state, state, memory_order_relaxed);
}

void pd_session_subscribers(struct pd_session *session, uint32_t n, int64_t now_ns)
{
    atomic_store_explicit(&session->counts.subscribers, n, memory_order_relaxed);
    set_clock(session, now_ns);
}

void pd_session_pause(struct pd_session *session)
{
    if (atomic_load_explicit(&session->counts.state, memory_order_relaxed) != PD_SESSION_RUNNING)
        return;
    set_state(session, PD_SESSION_PAUSED);
    session->is_running = 0;
}

void pd_session_resume(struct pd_session *session, int64_t now_ns)
{
    if (atomic_load_explicit(&session->counts.state, memory_order_relaxed) != PD_SESSION_PAUSED)
        return;
    set_state(session, PD_SESSION_RUNNING);
    set_clock(session, now_ns);
}

static void set_bin(struct pd_session *session, uint32_t span, uint32_t bin)
{
    session->span = span;
    session->bin = bin;
    atomic_store_explicit(&session->counts.bin, bin, memory_order_relaxed);
}

void pd_session_seek(struct pd_session *session, uint32_t bin, int64_t now_ns)
{
    const struct pd_session_config *config = &session->config;
    if (config->live) return;
    uint32_t span = 0;
    while (span < config->n_spans && config->spans[span].stop <= bin) span++;
    if (span == config->n_spans) {
        span = 0;
        bin = config->spans[0].start;
    } else if (bin < config->spans[span].start) {
        bin = config->spans[span].start;
    }
    set_bin(session, span, bin);
    session->jumped = 1;
    if (atomic_load_explicit(&session->counts.state, memory_order_relaxed) == PD_SESSION_ENDED) {
        set_state(session, PD_SESSION_RUNNING);
        set_clock(session, now_ns);
    }
}

void pd_session_set_stress(struct pd_session *session, const struct pd_stress *stress)
{
    session->stress = stress;
}

static void advance(struct pd_session *session)
{
    const struct pd_session_config *config = &session->config;
    uint32_t bin = session->bin + 1, span = session->span;
    if (bin == config->spans[span].stop) {
        if (++span == config->n_spans) {
            span = 0;
            if (!config->loop) {
                set_state(session, PD_SESSION_ENDED);
                session->is_running = 0;
                pd_session_say(session, PD_SAYS_ENDED, session->seq, 0);
            }
        }
        bin = config->spans[span].start;
    }
    set_bin(session, span, bin);
}

int64_t pd_session_next(const struct pd_session *session)
{
    int64_t next_ns = session->is_running ? session->due_ns : PD_SESSION_NEVER;
    for (uint32_t i = 0; i < session->n_flights; i++)
        if (session->flights[i].release_ns < next_ns) next_ns = session->flights[i].release_ns;
    return next_ns;
}

/* -- packets -------------------------------------------------------------------------- */

static const float nowhere[4] = { NAN, NAN, NAN, NAN };

/* The bin that is next, as a packet. 0: a live source has none yet. */
static int fetch(struct pd_session *session, struct pd_packet *packet, uint16_t *counts)
{
    const struct pd_bins *bins = session->config.bins;
    const uint32_t n = bins->n_units, bin = session->bin;
    if (session->config.live) {
        uint64_t frame[PD_SESSION_LIVE_MOST];
        const struct pd_ring *ring = session->config.live;
        uint64_t next = pd_ring_next(ring);
        if (session->jumped || session->live_next + session->window < next)
            session->live_next = next ? next - 1 : 0;
        if (pd_ring_read(ring, session->live_next, frame)) return 0;
        packet->t_ns = (int64_t)frame[1];
        memcpy(counts, frame + PD_SESSION_LIVE_HEAD, n * sizeof *counts);
        session->live_next++;
        set_bin(session, 0, (uint32_t)frame[0]);
        packet->bin = session->bin;
        packet->kinematics = nowhere;
        return 1;
    }
    if (bins->wide) {
        memcpy(counts, (const uint16_t *)bins->counts + (size_t)bin * n, n * sizeof *counts);
    } else {
        const uint8_t *narrow = (const uint8_t *)bins->counts + (size_t)bin * n;
        for (uint32_t u = 0; u < n; u++) counts[u] = narrow[u];
    }
    packet->t_ns = session->due_ns;
    packet->bin = bin;
    packet->kinematics = bins->kinematics + 4 * (size_t)bin;
    if (bins->trial_of[bin] != PD_BINS_NONE) {
        packet->trial = &bins->trials[bins->trial_of[bin]];
        packet->trial_ms = (double)(bin - packet->trial->start) * session->config.shape->bin_ms;
    }
    return 1;
}

/* A leg is what the cursor is integrated over: a trial, or what follows a jump. */
static void begin_leg(struct pd_session *session, const struct pd_packet *packet)
{
    uint32_t trial = packet->trial ? packet->trial->start : PD_BINS_NONE;
    int is_new = session->jumped || packet->bin != session->last_bin + 1
                 || (trial != session->leg_trial && trial != PD_BINS_NONE);
    session->jumped = 0;
    session->last_bin = packet->bin;
    session->leg_trial = trial;
    if (!is_new) return;
    session->leg++;
    session->leg_x = isnan(packet->kinematics[0]) ? 0.0f : packet->kinematics[0];
    session->leg_y = isnan(packet->kinematics[1]) ? 0.0f : packet->kinematics[1];
}

static void make(struct pd_session *session, int64_t now_ns, int64_t wall_offset_ns)
{
    const int64_t period_ns = session->config.bins->bin_ns;
    uint16_t counts[PD_BINS_MAX_UNITS];
    struct pd_packet_answer answers[PD_PACKET_ANSWERS];
    struct pd_packet packet = { .seq = session->seq, .wall_offset_ns = wall_offset_ns,
                                .counts = counts, .answers = answers };
    int64_t late_ns = now_ns - session->due_ns;
    if (!fetch(session, &packet, counts)) {
        session->due_ns = now_ns + PD_NS_PER_MS;        /* look again */
        return;
    }
    begin_leg(session, &packet);
    packet.age_ns = now_ns > packet.t_ns ? now_ns - packet.t_ns : 0;
    packet.late = late_ns > LATE_NS;
    if (session->lateness) pd_hist_add(session->lateness, late_ns);
    if (session->stress)
        pd_stress_counts(session->stress, session->seq,
                         (double)session->seq * (double)period_ns * 1e-9, counts);
    while (session->answers_taken < session->answers_put && packet.n_answers < PD_PACKET_ANSWERS)
        answers[packet.n_answers++] =
            session->answers[session->answers_taken++ & (session->n_sent - 1)];

    pd_session_watch(session, now_ns);
    struct pd_session_slot *slot = pd_session_slot_of(session, session->head);
    slot->seq = session->seq;
    slot->bytes = pd_packet_encode(slot->data, session->config.shape, &packet);
    struct pd_session_sent *sent = pd_session_sent_of(session, session->seq);
    memset(sent, 0, sizeof *sent);
    sent->sent_ns = now_ns;
    sent->there_ns = PD_NO_TIME;
    sent->t_ns = session->due_ns;
    sent->bin = packet.bin;
    sent->leg = session->leg;
    sent->leg_x = session->leg_x;
    sent->leg_y = session->leg_y;
    if (session->decoder != PD_NOBODY) sent->flags = PD_RECORD_DECODER;
    pd_session_dispatch(session, sent, now_ns);
    session->seq++;
    pd_session_add(&session->counts.packets, 1);
    pd_session_close_settled(session);
    session->due_ns += period_ns * (1 + (late_ns >= period_ns ? late_ns / period_ns : 0));
    if (!session->config.live) advance(session);
}

void pd_session_prefetch(const struct pd_session *session)
{
    const uint8_t *head = (const uint8_t *)session, *rest = (const uint8_t *)&session->records;
    for (size_t at = 0; at < offsetof(struct pd_session, loop) + 64; at += 64)
        __builtin_prefetch(head + at, 1);
    for (size_t at = 0; at < sizeof *session - offsetof(struct pd_session, records); at += 64)
        __builtin_prefetch(rest + at, 1);
}

/* By now the session itself is here: what it points to, in one wait and not one after the other. */
static void prefetch_places(struct pd_session *session)
{
    const struct pd_bins *bins = session->config.bins;
    const uint8_t *slot = (const uint8_t *)pd_session_slot_of(session, session->head);
    const uint8_t *sent = (const uint8_t *)pd_session_sent_of(session, session->seq);
    for (size_t at = 0; at < session->slot_bytes / 2; at += 64) __builtin_prefetch(slot + at, 1);
    __builtin_prefetch(sent, 1);
    __builtin_prefetch(sent + 64, 1);
    __builtin_prefetch(&session->answers[session->answers_taken & (session->n_sent - 1)]);
    if (session->config.live) return;
    const size_t row = (size_t)session->bin * bins->n_units * (bins->wide ? 2 : 1);
    for (size_t at = 0; at < (size_t)bins->n_units * (bins->wide ? 2 : 1); at += 64)
        __builtin_prefetch((const uint8_t *)bins->counts + row + at);
    __builtin_prefetch(&bins->kinematics[(size_t)session->bin * 4]);
    __builtin_prefetch(&bins->trial_of[session->bin]);
}

void pd_session_step(struct pd_session *session, int64_t now_ns, int64_t wall_offset_ns)
{
    if (session->is_running && now_ns >= session->due_ns) {
        prefetch_places(session);
        make(session, now_ns, wall_offset_ns);
    }
    if (session->n_flights) pd_session_release(session, now_ns);
}

