/* Grid: a frame of the 128 Hz grid, as the tick makes it, and its bytes on 7069.
 *
 * Any thread; nothing blocks or allocates.
 */
#ifndef PD_GRID_H
#define PD_GRID_H

#include <stdint.h>

enum {                              /* flags of a grid frame: those of WIRE.md */
    PD_GRID_MISSING = 1,
    PD_GRID_LATE = 2,
    PD_GRID_ARTIFACT = 4,
    PD_GRID_DISCONTINUITY = 8,
    PD_GRID_SIMULATED = 16,
    PD_GRID_BRIDGED = 32,
};

struct pd_grid {                    /* a frame of the grid ring; its index is the grid's */
    int64_t t_ns;
    int64_t due_ns;                 /* when it should have been published */
    uint32_t flags;
    uint32_t reserved;
    int64_t native;                 /* the values are those at this native index + fraction; */
    double fraction;                /* PD_NO_TIME where there are none */
    double value[];                 /* µV. MISSING and BRIDGED: bridged, for analysis; else MISSING: NaN */
};
#define PD_GRID_WORDS(n_channels) (5u + (uint32_t)(n_channels))

#define PD_FRAME_BYTES(n_channels) (24u + 4u * (uint32_t)(n_channels))

/* The PD_FRAME_BYTES of a frame on 7069, published now. */
void pd_grid_encode(const struct pd_grid *frame, uint64_t index, uint32_t n_channels,
                    int64_t now_ns, int64_t deadline_ns, uint8_t *out);

#endif
