#include <math.h>
#include <string.h>

#include "pd_session_parts.h"
#include "pd_time.h"

#define DROP_PACKETS 4

/* -- records -------------------------------------------------------------------------- */

static void record(struct pd_session *session, uint64_t seq)
{
    const struct pd_session_sent *sent = pd_session_sent_of(session, seq);
    int answered = (sent->flags & PD_RECORD_ANSWERED) != 0;
    union {
        struct pd_session_record record;
        uint64_t words[PD_SESSION_RECORD_WORDS];
    } out = { .record = { .seq = seq, .t_ns = sent->t_ns, .bin = sent->bin, .flags = sent->flags,
                          .vx = answered ? sent->vx : NAN, .vy = answered ? sent->vy : NAN,
                          .x = answered ? sent->x : NAN, .y = answered ? sent->y : NAN,
                          .loop_ns = answered ? sent->loop_ns : PD_NO_TIME } };
    if (!answered && (sent->flags & PD_RECORD_DECODER) && !(sent->flags & PD_RECORD_LOST))
        pd_session_add(&session->counts.missed, 1);
    pd_ring_push(&session->records, out.words);
}

/* Records for all packets that are settled: answered, spoiled, lost, or too old. */
void pd_session_close_settled(struct pd_session *session)
{
    const uint32_t settled = PD_RECORD_ANSWERED | PD_RECORD_INVALID | PD_RECORD_LOST;
    while (session->closed < session->seq
           && (pd_session_sent_of(session, session->closed)->flags & settled
               || session->closed + session->window <= session->seq))
        record(session, session->closed++);
}

void pd_session_watch(struct pd_session *session, int64_t now_ns)
{
    const int64_t period_ns = session->config.bins->bin_ns;
    if (session->last_ns != PD_NO_TIME) {
        int64_t error_ns = now_ns - session->last_ns - period_ns;
        if (error_ns > PD_SESSION_JITTER_NS || error_ns < -PD_SESSION_JITTER_NS) {
            if (!(session->in_trouble & IN_JITTER))
                pd_session_say(session, PD_SAYS_JITTER, session->seq, error_ns);
            session->in_trouble |= IN_JITTER;
            session->steady_ns = now_ns + PD_SESSION_STEADY_NS;
        } else if (session->in_trouble & IN_JITTER && now_ns >= session->steady_ns) {
            session->in_trouble &= ~(uint32_t)IN_JITTER;
            pd_session_say(session, PD_SAYS_STEADY, session->seq, error_ns);
        }
    }
    session->last_ns = now_ns;
    if (session->decoder == PD_NOBODY || session->in_trouble & IN_DROP) return;
    uint64_t silent = session->seq - session->newest_answered;
    if (silent > DROP_PACKETS && (int64_t)silent * period_ns > PD_SESSION_DROP_NS) {
        session->in_trouble |= IN_DROP;
        pd_session_say(session, PD_SAYS_DROP, session->newest_answered + 1, (int64_t)silent);
    }
}

/* -- answers --------------------------------------------------------------------------- */

static void claim(struct pd_session *session, uint32_t connection)
{
    session->decoder = connection;
    session->newest_answered = session->seq ? session->seq - 1 : 0;
    session->in_trouble &= IN_JITTER;
    session->in_time = 0;
    atomic_store_explicit(&session->counts.decoder, connection, memory_order_relaxed);
    pd_session_say(session, PD_SAYS_DECODER, session->seq, connection);
}

void pd_session_left(struct pd_session *session, uint32_t connection)
{
    if (session->decoder != connection) return;
    session->decoder = PD_NOBODY;
    atomic_store_explicit(&session->counts.decoder, PD_NOBODY, memory_order_relaxed);
    pd_session_say(session, PD_SAYS_DECODER_LEFT, session->seq, connection);
}

static void judge(struct pd_session *session, uint64_t seq, int64_t loop_ns)
{
    if (loop_ns > PD_SESSION_DESYNC_NS) {
        pd_session_add(&session->counts.desyncs, 1);
        session->in_time = 0;
        if (!(session->in_trouble & IN_DESYNC)) pd_session_say(session, PD_SAYS_DESYNC, seq, loop_ns);
        session->in_trouble |= IN_DESYNC;
    } else if (++session->in_time >= PD_SESSION_RECOVERED && session->in_trouble & IN_DESYNC) {
        session->in_trouble &= ~(uint32_t)IN_DESYNC;
        pd_session_say(session, PD_SAYS_IN_TIME, seq, session->in_time);
    }
    if (session->in_trouble & IN_DROP) {
        session->in_trouble &= ~(uint32_t)IN_DROP;
        pd_session_say(session, PD_SAYS_BACK, seq, (int64_t)(seq - session->newest_answered) - 1);
    }
    if (seq > session->newest_answered) session->newest_answered = seq;
}

static void integrate(struct pd_session *session, const struct pd_session_sent *sent,
                      const struct pd_answer *answer)
{
    const double bin_s = (double)session->config.bins->bin_ns * 1e-9;
    if (sent->leg < session->cursor_leg) return;    /* of a leg that is over */
    if (sent->leg > session->cursor_leg) {
        session->cursor_leg = sent->leg;
        session->x = (double)sent->leg_x;
        session->y = (double)sent->leg_y;
    }
    session->x = answer->has_position ? answer->x : session->x + answer->vx * bin_s;
    session->y = answer->has_position ? answer->y : session->y + answer->vy * bin_s;
}

enum pd_session_refusal pd_session_answer(struct pd_session *session, uint32_t connection,
                                          const struct pd_answer *answer, int64_t now_ns,
                                          uint64_t *seq)
{
    *seq = answer->has_seq ? answer->seq : session->newest_sent;
    if (session->decoder == PD_NOBODY) claim(session, connection);
    if (session->decoder != connection) return PD_REFUSED_TAKEN;
    const int invalid = answer->kind == PD_ANSWER_INVALID;
    enum pd_session_refusal refusal = PD_REFUSED_NOT;
    struct pd_session_sent *sent = pd_session_sent_of(session, *seq);
    if (*seq >= session->seq || (!answer->has_seq && !session->has_sent))
        refusal = PD_REFUSED_NEVER_SENT;
    else if (*seq + session->window <= session->seq)
        refusal = PD_REFUSED_TOO_OLD;
    else if (sent->flags & PD_RECORD_LOST || now_ns < sent->there_ns)
        refusal = PD_REFUSED_NEVER_SENT;
    else if (sent->flags & (PD_RECORD_ANSWERED | PD_RECORD_INVALID))
        refusal = PD_REFUSED_TWICE;
    if (invalid && refusal == PD_REFUSED_NOT) {
        sent->flags |= PD_RECORD_INVALID | PD_RECORD_DECODER;
        pd_session_close_settled(session);
    }
    if (invalid) refusal = PD_REFUSED_INVALID;
    if (refusal != PD_REFUSED_NOT) {
        pd_session_add(&session->counts.invalid, 1);
        return refusal;
    }

    sent->loop_ns = now_ns - sent->sent_ns;
    integrate(session, sent, answer);
    sent->flags |= PD_RECORD_ANSWERED | PD_RECORD_DECODER;
    if (sent->loop_ns > PD_SESSION_DESYNC_NS) sent->flags |= PD_RECORD_DESYNC;
    sent->vx = (float)answer->vx;
    sent->vy = (float)answer->vy;
    sent->x = (float)session->x;
    sent->y = (float)session->y;
    session->answers[session->answers_put++ & (session->n_sent - 1)] = (struct pd_packet_answer){
        .seq = *seq, .vx = answer->vx, .vy = answer->vy, .x = session->x, .y = session->y,
        .loop_ns = sent->loop_ns, .desync = sent->loop_ns > PD_SESSION_DESYNC_NS };
    pd_hist_add(&session->loop, sent->loop_ns);
    if (session->loops) pd_hist_add(session->loops, sent->loop_ns);
    pd_session_add(&session->counts.answered, 1);
    judge(session, *seq, sent->loop_ns);
    pd_session_close_settled(session);
    return PD_REFUSED_NOT;
}
