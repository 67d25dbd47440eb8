/* The block of memory behind pd_spike.h, for pd_spike*.c alone.
 *
 * The head comes first, then the arrays in the order of struct pd_spike_view. Channels
 * are padded to PD_SPIKE_LANES; those that nobody has are 0 and never good. The view's pointers
 * are made for each call and never kept.
 */
#ifndef PD_SPIKE_STATE_H
#define PD_SPIKE_STATE_H

#include "pd_spike.h"

#define PD_SPIKE_LANES 16u          /* channels that go together: a cache line */
#define PD_SPIKE_ROWS 32u           /* samples that go together: 1,024 channels are 128 KiB */

struct pd_spike_section {
    float b0, b1, b2, a1, a2, level0, level1, reserved;
};

struct pd_spike {
    uint64_t bytes;
    int64_t index;                  /* of the next sample */
    int64_t bin, bin_start, bin_end;
    int64_t noise_next;             /* index of the next sample of the noise */
    int64_t window_start;           /* index of its window's first sample */
    double bin_samples;
    uint32_t window_fill;           /* rows of the window so far */
    uint32_t every, settle, refractory;
    uint32_t n_channels, n_padded, n_sections, n_good;
    uint32_t reference, reference_on, polarity;
    float threshold, scale;
    float slope;                    /* median: value a rank, only to begin the search */
    struct pd_spike_section sections[PD_SPIKE_MAX_SECTIONS];
    uint64_t reserved[7];
};

struct pd_spike_view {
    struct pd_spike *head;
    float *z;                       /* [groups][n_sections][2][LANES] */
    float *last;                    /* newest input of the filter */
    float *level;                   /* input of the filter where the noise's window ended */
    float *noise;                   /* NaN while there is none */
    float *low, *high;              /* inside is low <= d <= high */
    int32_t *outside;               /* the newest sample was; -1 or 0 */
    int32_t *good;                  /* -1 or 0 */
    uint32_t *lost;                 /* length of the gap now, saturating */
    uint32_t *windows;              /* that the noise has in it, at most TRACK */
    uint32_t *starts;               /* [groups] bit: the lane's next value begins it anew */
    int64_t *ready;                 /* index from which on it may spike again */
    int64_t *quiet;                 /* index from which on it is settled */
    uint16_t *counts;               /* of the bin now */
    uint8_t *flags;
    float *window;                  /* [WINDOW][n_padded] of |d| */
    /* of one run of rows, nothing that is kept: */
    float *tile;                    /* [ROWS][n_padded + LANES]: the odd stride keeps the rows of
                                       a group out of one another's cache sets */
    int32_t *keys;                  /* [n_padded] */
    uint8_t *missing;               /* [ROWS][n_padded], of rows that have any */
    uint8_t *gaps;                  /* [groups]: some row misses some lane */
    uint32_t *row_missing;          /* [ROWS] */
    float *reference;               /* [ROWS] */
};

static inline size_t pd_spike_stride(const struct pd_spike *spike)
{
    return spike->n_padded + PD_SPIKE_LANES;
}

/* Lays the arrays out from `memory` on; returns their end. memory may be NULL: then only
 * the size is of use. */
static inline size_t pd_spike_lay_out(struct pd_spike_view *view, unsigned char *memory,
                                      uint32_t n_padded, uint32_t n_sections)
{
    size_t at = 0, n = n_padded, groups = n / PD_SPIKE_LANES;
#define PD_TAKE(field, count)                                                             \
    do {                                                                                  \
        view->field = memory ? (void *)(memory + at) : NULL;                              \
        at += ((count) * sizeof *view->field + 63) / 64 * 64;                             \
    } while (0)
    PD_TAKE(head, 1);
    PD_TAKE(z, groups * n_sections * 2 * PD_SPIKE_LANES);
    PD_TAKE(last, n);
    PD_TAKE(level, n);
    PD_TAKE(noise, n);
    PD_TAKE(low, n);
    PD_TAKE(high, n);
    PD_TAKE(outside, n);
    PD_TAKE(good, n);
    PD_TAKE(lost, n);
    PD_TAKE(windows, n);
    PD_TAKE(starts, groups);
    PD_TAKE(ready, n);
    PD_TAKE(quiet, n);
    PD_TAKE(counts, n);
    PD_TAKE(flags, n);
    PD_TAKE(window, (size_t)PD_SPIKE_WINDOW * n);
    PD_TAKE(tile, PD_SPIKE_ROWS * (n + PD_SPIKE_LANES));
    PD_TAKE(keys, n);
    PD_TAKE(missing, PD_SPIKE_ROWS * n);
    PD_TAKE(gaps, groups);
    PD_TAKE(row_missing, PD_SPIKE_ROWS);
    PD_TAKE(reference, PD_SPIKE_ROWS);
#undef PD_TAKE
    return at;
}

static inline struct pd_spike_view pd_spike_view(struct pd_spike *spike)
{
    struct pd_spike_view view;
    pd_spike_lay_out(&view, (unsigned char *)spike, spike->n_padded, spike->n_sections);
    return view;
}

/* From the noise, or from its absence. */
static inline void pd_spike_arm(struct pd_spike_view *v, uint32_t channel)
{
    const float at = v->head->threshold * v->noise[channel];
    const int armed = v->noise[channel] > 0;
    const uint32_t polarity = v->head->polarity;
    v->low[channel] = armed && (polarity & PD_SPIKE_NEGATIVE) ? -at : -__builtin_inff();
    v->high[channel] = armed && (polarity & PD_SPIKE_POSITIVE) ? at : __builtin_inff();
}

/* Noise of all channels from the window, which is full. pd_spike_noise.c */
void pd_spike_take_window(struct pd_spike_view *v);

/* Median of the n_padded keys, of which `count` (at least one) are below INT32_MAX; begun
 * at `guess`. pd_spike_median.c */
float pd_spike_median(const int32_t *keys, uint32_t n_padded, uint32_t count, float guess,
                      float *slope);

/* A float as an integer in the same order, and back: the same function. */
static inline int32_t pd_spike_key(int32_t bits)
{
    return bits ^ ((bits >> 31) & INT32_MAX);
}

#endif
