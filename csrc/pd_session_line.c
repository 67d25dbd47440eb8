#include <string.h>

#include "pd_session_parts.h"
#include "pd_time.h"

/* -- history and line --------------------------------------------------------------- */

uint64_t pd_session_base(const struct pd_session *session)
{
    return session->head > session->window ? session->head - session->window : 0;
}

uint32_t pd_session_message(const struct pd_session *session, uint64_t index,
                            const uint8_t **data, uint64_t *seq)
{
    if (index >= session->head || index < pd_session_base(session)) return 0;
    const struct pd_session_slot *slot = pd_session_slot_of(session, index);
    *data = slot->data;
    *seq = slot->seq;
    return slot->bytes;
}

static void put_in_line(struct pd_session *session, const struct pd_session_slot *slot,
                        int64_t release_ns)
{
    for (uint32_t word = 0; word < PD_SESSION_FLIGHTS / 64; word++) {
        if (!session->line_free[word]) continue;
        uint32_t bit = (uint32_t)__builtin_ctzll(session->line_free[word]);
        uint32_t place = word * 64 + bit;
        session->line_free[word] &= ~(1ull << bit);
        memcpy(session->line + (size_t)place * session->slot_bytes, slot,
               sizeof *slot + slot->bytes);
        session->flights[session->n_flights++] = (struct pd_session_flight){
            .release_ns = release_ns, .order = session->seq, .slot = place,
            .bytes = slot->bytes, .seq = slot->seq };
        return;
    }
    pd_session_add(&session->counts.lost, 1);          /* a line that is full loses, like any other */
}

void pd_session_release(struct pd_session *session, int64_t now_ns)
{
    while (session->n_flights) {
        uint32_t first = 0;
        for (uint32_t i = 1; i < session->n_flights; i++) {
            const struct pd_session_flight *a = &session->flights[i], *b = &session->flights[first];
            if (a->release_ns < b->release_ns
                || (a->release_ns == b->release_ns && a->order < b->order))
                first = i;
        }
        struct pd_session_flight flight = session->flights[first];
        if (flight.release_ns > now_ns) return;
        memcpy(pd_session_slot_of(session, session->head),
               session->line + (size_t)flight.slot * session->slot_bytes,
               sizeof(struct pd_session_slot) + flight.bytes);
        session->head++;
        session->newest_sent = flight.seq;
        session->has_sent = 1;
        session->line_free[flight.slot / 64] |= 1ull << flight.slot % 64;
        session->flights[first] = session->flights[--session->n_flights];
    }
}

/* The way of the packet that was just put in the slot after the head. */
void pd_session_dispatch(struct pd_session *session, struct pd_session_sent *sent, int64_t now_ns)
{
    struct pd_stress_fate fate;
    const struct pd_stress *stress = session->stress;
    if (!stress || !stress->on_line) {
        if (session->n_flights == 0) {
            session->head++;
            session->newest_sent = session->seq;
            session->has_sent = 1;
            return;
        }
        memset(&fate, 0, sizeof fate);      /* stress has just ended: behind what is under way */
        fate.copies = 1;
    } else {
        pd_stress_way(stress, session->seq, session->config.bins->bin_ns, &fate);
    }
    if (fate.cut) pd_session_say(session, PD_SAYS_CUT, session->seq, 0);
    if (fate.lost) {
        sent->flags |= PD_RECORD_LOST;
        pd_session_add(&session->counts.lost, 1);
        return;
    }
    for (int i = 0; i < fate.copies; i++) {
        int64_t release_ns = now_ns + fate.delay_ns[i];
        if (!fate.reordered) {              /* a way that keeps the order: nobody overtakes */
            if (session->line_ns != PD_NO_TIME && release_ns < session->line_ns)
                release_ns = session->line_ns;
            session->line_ns = release_ns;
        }
        if (sent->there_ns == PD_NO_TIME || release_ns < sent->there_ns)
            sent->there_ns = release_ns;
        put_in_line(session, pd_session_slot_of(session, session->head), release_ns);
    }
}

