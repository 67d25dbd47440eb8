/* Remote: frames of another daemon's eeg port (7069) as samples of a device.
 *
 * A stream of frames of one size: u64 index, i64 t_ns, u32 flags, u32 age_us,
 * n × f32 (and perhaps more behind them, of a later revision). A frame that is
 * MISSING, or has a value that is not finite, is lost: the index moves on. The
 * stream has no way to be found again, so a frame that contradicts the ones
 * before it (an index that does not grow, a time that is not 1/128 s a frame, a
 * jump of more than a day) breaks it: nothing more is taken, and the socket is
 * shut down, so that the pump ends and the device is opened anew.
 *
 * Owner: intake thread. No allocation; reads outside bytes: fuzzed.
 */
#ifndef PD_REMOTE_H
#define PD_REMOTE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "pd_intake.h"
#include "pd_pump.h"

#define PD_REMOTE_HEAD 24                       /* bytes before the values */
#define PD_REMOTE_MAX_BYTES 4096                /* of a frame */

enum pd_remote_fault { PD_REMOTE_WHOLE, PD_REMOTE_INDEX, PD_REMOTE_TIME, PD_REMOTE_JUMP };

struct pd_remote {
    struct pd_intake *intake;
    uint32_t n_channels, frame_bytes;
    int fd;                                     /* shut down when the stream is broken; -1: none */
    _Atomic int64_t heard_ns;                   /* arrival of the last bytes, or PD_NO_TIME */
    _Atomic uint32_t fault;                     /* enum pd_remote_fault */
    struct pd_remote_state {                    /* plain: saved with the journal */
        uint64_t next;                          /* the least index that the next frame may have */
        uint64_t first_index;
        int64_t first_ns;
        uint32_t begun, n_pending;
        uint8_t pending[PD_REMOTE_MAX_BYTES];   /* of a frame that is not whole yet */
    } state;
};

/* The intake has n_channels values and no counter. 0 or -EINVAL. */
int pd_remote_init(struct pd_remote *remote, struct pd_intake *intake, uint32_t frame_bytes, int fd);

/* Signature of pd_driver.feed. */
void pd_remote_feed(void *remote, const uint8_t *bytes, size_t n, int64_t arrival_ns);

#endif
