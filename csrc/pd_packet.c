#include "pd_packet.h"

#include <math.h>
#include <string.h>

#include "pd_pack.h"

/* Everything but counts, channel numbers and answers, with all numbers at their widest. */
#define FIXED_BYTES 512
#define ANSWER_BYTES 96

void pd_packet_shape_init(struct pd_packet_shape *shape, uint32_t n_units, int64_t bin_ns)
{
    uint8_t *p = shape->head;
    shape->n_units = n_units;
    shape->bin_ms = (double)bin_ns * 1e-6;
    p = pd_pack_map(p, 3);
    p = PD_PACK_TEXT(p, "channel_ids");
    p = pd_pack_array(p, n_units);
    for (uint32_t u = 0; u < n_units; u++) p = pd_pack_uint(p, u);
    shape->head_bytes = (uint32_t)(p - shape->head);
}

uint32_t pd_packet_bound(uint32_t n_units)
{
    return FIXED_BYTES + 6 * n_units + ANSWER_BYTES * PD_PACKET_ANSWERS;
}

static uint8_t *put_counts(uint8_t *p, const struct pd_packet_shape *shape, const uint16_t *counts)
{
    const uint32_t n = shape->n_units;
    memcpy(p, shape->head, shape->head_bytes);
    p += shape->head_bytes;
    p = PD_PACK_TEXT(p, "spike_counts");
    p = pd_pack_array(p, n);
    uint32_t seen = 0;
    for (uint32_t u = 0; u < n; u++) {      /* a small count is its own byte */
        p[u] = (uint8_t)counts[u];
        seen |= counts[u];
    }
    if (seen < 0x80)
        p += n;
    else
        for (uint32_t u = 0; u < n; u++) p = pd_pack_uint(p, counts[u]);
    p = PD_PACK_TEXT(p, "bin_size_ms");
    return pd_pack_float(p, shape->bin_ms);
}

static uint8_t *put_kinematics(uint8_t *p, const float *k)
{
    p = PD_PACK_TEXT(p, "kinematics");
    p = pd_pack_map(p, 4);
    p = PD_PACK_TEXT(p, "vx");
    p = pd_pack_float(p, (double)k[2]);
    p = PD_PACK_TEXT(p, "vy");
    p = pd_pack_float(p, (double)k[3]);
    p = PD_PACK_TEXT(p, "x");
    p = pd_pack_float(p, (double)k[0]);
    p = PD_PACK_TEXT(p, "y");
    return pd_pack_float(p, (double)k[1]);
}

static uint8_t *put_intention(uint8_t *p, const struct pd_packet *packet)
{
    const struct pd_bins_trial *trial = packet->trial;
    const float *k = packet->kinematics;
    int aimed = trial && trial->target_id >= 0;
    double x = aimed ? (double)trial->target_x : (double)NAN;
    double y = aimed ? (double)trial->target_y : (double)NAN;
    double dx = x - (double)k[0], dy = y - (double)k[1];
    p = PD_PACK_TEXT(p, "intention");
    p = pd_pack_map(p, 4);
    p = PD_PACK_TEXT(p, "target_id");
    p = aimed ? pd_pack_int(p, trial->target_id) : pd_pack_nil(p);
    p = PD_PACK_TEXT(p, "target_x");
    p = pd_pack_float(p, x);
    p = PD_PACK_TEXT(p, "target_y");
    p = pd_pack_float(p, y);
    p = PD_PACK_TEXT(p, "distance_to_target");
    return pd_pack_float(p, sqrt(dx * dx + dy * dy));
}

static uint8_t *put_answers(uint8_t *p, const struct pd_packet *packet)
{
    p = PD_PACK_TEXT(p, "loop");
    p = pd_pack_array(p, packet->n_answers);
    for (uint32_t i = 0; i < packet->n_answers; i++) {
        const struct pd_packet_answer *answer = &packet->answers[i];
        p = pd_pack_map(p, 7);
        p = PD_PACK_TEXT(p, "seq");
        p = pd_pack_uint(p, answer->seq);
        p = PD_PACK_TEXT(p, "vx");
        p = pd_pack_float(p, answer->vx);
        p = PD_PACK_TEXT(p, "vy");
        p = pd_pack_float(p, answer->vy);
        p = PD_PACK_TEXT(p, "x");
        p = pd_pack_float(p, answer->x);
        p = PD_PACK_TEXT(p, "y");
        p = pd_pack_float(p, answer->y);
        p = PD_PACK_TEXT(p, "loop_ms");
        p = pd_pack_float(p, (double)answer->loop_ns * 1e-6);
        p = PD_PACK_TEXT(p, "desync");
        p = pd_pack_bool(p, (int)answer->desync);
    }
    return p;
}

uint32_t pd_packet_encode(uint8_t *out, const struct pd_packet_shape *shape,
                          const struct pd_packet *packet)
{
    uint8_t *p = pd_pack_map(out, 7);
    p = PD_PACK_TEXT(p, "type");
    p = PD_PACK_TEXT(p, "data");
    p = PD_PACK_TEXT(p, "stream");
    p = PD_PACK_TEXT(p, "spikes");
    p = PD_PACK_TEXT(p, "seq");
    p = pd_pack_uint(p, packet->seq);
    p = PD_PACK_TEXT(p, "t_ns");
    p = pd_pack_int(p, packet->t_ns);
    p = PD_PACK_TEXT(p, "age_us");
    p = pd_pack_int(p, packet->age_ns / 1000);
    p = PD_PACK_TEXT(p, "late");
    p = pd_pack_bool(p, (int)packet->late);
    p = PD_PACK_TEXT(p, "data");
    p = pd_pack_map(p, 8);
    p = PD_PACK_TEXT(p, "timestamp");
    p = pd_pack_float(p, (double)(packet->t_ns + packet->wall_offset_ns) * 1e-9);
    p = PD_PACK_TEXT(p, "sequence_number");
    p = pd_pack_uint(p, packet->bin);
    p = PD_PACK_TEXT(p, "spikes");
    p = put_counts(p, shape, packet->counts);
    p = put_kinematics(p, packet->kinematics);
    p = put_intention(p, packet);
    p = PD_PACK_TEXT(p, "trial_id");
    p = packet->trial ? pd_pack_int(p, packet->trial->id) : pd_pack_nil(p);
    p = PD_PACK_TEXT(p, "trial_time_ms");
    p = pd_pack_float(p, packet->trial ? packet->trial_ms : (double)NAN);
    p = put_answers(p, packet);
    return (uint32_t)(p - out);
}

uint32_t pd_packet_gap(uint8_t *out, uint64_t first_seq, uint64_t count)
{
    uint8_t *p = pd_pack_map(out, 5);
    p = PD_PACK_TEXT(p, "type");
    p = PD_PACK_TEXT(p, "gap");
    p = PD_PACK_TEXT(p, "stream");
    p = PD_PACK_TEXT(p, "spikes");
    p = PD_PACK_TEXT(p, "first_seq");
    p = pd_pack_uint(p, first_seq);
    p = PD_PACK_TEXT(p, "count");
    p = pd_pack_uint(p, count);
    p = PD_PACK_TEXT(p, "reason");
    p = PD_PACK_TEXT(p, "slow-client");
    return (uint32_t)(p - out);
}

uint32_t pd_packet_state(uint8_t *out, const char *state)
{
    uint8_t *p = pd_pack_map(out, 2);
    p = PD_PACK_TEXT(p, "type");
    p = PD_PACK_TEXT(p, "session");
    p = PD_PACK_TEXT(p, "state");
    p = pd_pack_text(p, state, (uint32_t)strlen(state));
    return (uint32_t)(p - out);
}
