/* Messages of port 7072 in MessagePack, as docs/wire.md has them.
 *
 * Any thread. Nothing allocates; each function gives the bytes that it wrote,
 * and the caller has made sure of the room.
 */
#ifndef PD_PACKET_H
#define PD_PACKET_H

#include <stdint.h>

#include "pd_bins.h"

#define PD_PACKET_ANSWERS 16        /* at most, in one packet's `loop` */
#define PD_PACKET_GAP_BYTES 96
#define PD_PACKET_STATE_BYTES 48

struct pd_packet_answer {           /* an item of `loop` */
    uint64_t seq;
    double vx, vy, x, y;
    int64_t loop_ns;
    uint32_t desync, reserved;
};

struct pd_packet_shape {            /* what is the same in all packets of a dataset */
    uint32_t n_units, head_bytes;
    double bin_ms;
    uint8_t head[16 + 3 * PD_BINS_MAX_UNITS];   /* {"channel_ids":[…] of `spikes` */
};

struct pd_packet {
    uint64_t seq;
    int64_t t_ns, age_ns, wall_offset_ns;
    uint32_t late;
    uint32_t bin;                   /* in the dataset */
    const uint16_t *counts;
    const float *kinematics;        /* x y vx vy, NaN: nil */
    const struct pd_bins_trial *trial;  /* NULL between trials */
    double trial_ms;
    const struct pd_packet_answer *answers;
    uint32_t n_answers;
};

void pd_packet_shape_init(struct pd_packet_shape *shape, uint32_t n_units, int64_t bin_ns);

/* Bytes that the longest packet takes. */
uint32_t pd_packet_bound(uint32_t n_units);

uint32_t pd_packet_encode(uint8_t *out, const struct pd_packet_shape *shape,
                          const struct pd_packet *packet);

/* {"type":"gap",…}: a subscriber was too slow. */
uint32_t pd_packet_gap(uint8_t *out, uint64_t first_seq, uint64_t count);

/* {"type":"session","state":…} */
uint32_t pd_packet_state(uint8_t *out, const char *state);

#endif
