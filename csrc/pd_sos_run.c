/* The part of the filter bank that runs each tick, for all instruction sets.
 *
 * Vectors are the compiler's own (vector_size, GCC and Clang), not loops over lanes: a
 * section's state has to stay in registers from sample to sample, and GCC keeps arrays of
 * lanes in memory. Through the sections they are of half the lanes, twice: the states of four
 * sections are then eight of AVX2's sixteen registers; of all lanes they would be all sixteen, and
 * in memory again (benches/sos_lanes.py measures the three). */
#include "pd_sos.h"

#include <math.h>
#include <string.h>

#include "pd_simd.h"

#define BLOCK 32                    /* rows that a group of lanes stays with: in and out, 4 KiB */
#define FUSED 4                     /* sections that a sample goes through before the next sample
                                       does: they overlap, where one alone waits for itself */
#define HALF (PD_SOS_LANES / 2)

typedef double half __attribute__((vector_size(HALF * sizeof(double)),
                                   aligned(sizeof(double)), may_alias));
typedef double lanes __attribute__((vector_size(PD_SOS_LANES * sizeof(double))));
typedef double lanes_at __attribute__((vector_size(PD_SOS_LANES * sizeof(double)),
                                       aligned(sizeof(double)), may_alias));
typedef int64_t bits __attribute__((vector_size(PD_SOS_LANES * sizeof(int64_t))));
typedef int64_t bits_at __attribute__((vector_size(PD_SOS_LANES * sizeof(int64_t)),
                                       aligned(sizeof(int64_t)), may_alias));

#define INLINED static inline __attribute__((always_inline))

/* `count` is a constant at each call, so z and the loops over it become registers. `state`
 * is z0 of the first section; PD_SOS_LANES on is z1, and again as far the next section. */
INLINED void run_half(const struct pd_sos_section *section, const uint32_t count, double *state,
                      const double *in, double *out, size_t out_stride, uint32_t n)
{
    struct pd_sos_section s[FUSED];
    half z0[FUSED], z1[FUSED];
    for (uint32_t i = 0; i < count; i++) {
        s[i] = section[i];
        z0[i] = *(const half *)(state + 2 * i * PD_SOS_LANES);
        z1[i] = *(const half *)(state + (2 * i + 1) * PD_SOS_LANES);
    }
    for (uint32_t row = 0; row < n; row++) {
        half x = *(const half *)(in + row * PD_SOS_LANES);
        for (uint32_t i = 0; i < count; i++) {
            half y = s[i].b0 * x + z0[i];
            z0[i] = s[i].b1 * x - s[i].a1 * y + z1[i];
            z1[i] = s[i].b2 * x - s[i].a2 * y;
            x = y;
        }
        *(half *)(out + row * out_stride) = x;
    }
    for (uint32_t i = 0; i < count; i++) {
        *(half *)(state + 2 * i * PD_SOS_LANES) = z0[i];
        *(half *)(state + (2 * i + 1) * PD_SOS_LANES) = z1[i];
    }
}

INLINED void run_sections(const struct pd_sos_section *section, const uint32_t count,
                          double (*state)[2][PD_SOS_LANES], const double *in, double *out,
                          size_t out_stride, uint32_t n)
{
    for (uint32_t from = 0; from < PD_SOS_LANES; from += HALF) {
        run_half(section, count, state[0][0] + from, in + from, out + from, out_stride, n);
    }
}

/* Five sections go as three and two, not as four and one. */
INLINED uint32_t portion(uint32_t left)
{
    if (left <= FUSED || left >= 2 * FUSED) return left < FUSED ? left : FUSED;
    return (left + 1) / 2;
}

INLINED void run_band(const struct pd_sos_section *section, uint32_t n_sections,
                      double (*state)[2][PD_SOS_LANES], const double *x, double *y,
                      size_t y_stride, uint32_t n, uint32_t width)
{
    double between[BLOCK][PD_SOS_LANES];
    const double *in = x;
    for (uint32_t left = n_sections, count; left > 0; left -= count) {
        count = portion(left);
        int direct = left == count && width == PD_SOS_LANES;
        double *out = direct ? y : between[0];
        size_t stride = direct ? y_stride : PD_SOS_LANES;
        switch (count) {
        case 1: run_sections(section, 1, state, in, out, stride, n); break;
        case 2: run_sections(section, 2, state, in, out, stride, n); break;
        case 3: run_sections(section, 3, state, in, out, stride, n); break;
        default: run_sections(section, FUSED, state, in, out, stride, n);
        }
        section += count;
        state += count;
        in = out;
    }
    if (width == PD_SOS_LANES) return;
    for (uint32_t row = 0; row < n; row++) {
        for (uint32_t lane = 0; lane < width; lane++) y[row * y_stride + lane] = between[row][lane];
    }
}

INLINED void run_bands(const struct pd_sos *sos, struct pd_sos_lanes *lane_state,
                       double (*x)[PD_SOS_LANES], double *y, size_t y_stride, uint32_t n,
                       uint32_t width)
{
    for (uint32_t band = 0; band < sos->n_bands; band++) {
        uint32_t first = sos->bands[band].first;
        run_band(sos->sections + first, sos->bands[band].n_sections, lane_state->z + first, x[0],
                 y + (size_t)band * sos->n_channels, y_stride, n, width);
    }
}

INLINED uint32_t plus(uint32_t fed, uint32_t n)
{
    return fed <= UINT32_MAX - n ? fed + n : UINT32_MAX;
}

/* Rows into lanes, those that no channel has being 0. Whether all values are there, told
 * by their bits: a larger magnitude is a larger integer, and NaN the largest. As comparisons of
 * doubles this would cost as much as the filters: GCC takes the vector apart for them. */
INLINED int take(const double *x, size_t x_stride, uint32_t n, uint32_t width,
                 double (*rows)[PD_SOS_LANES])
{
    double largest = PD_SOS_LARGEST;
    int64_t largest_bits;
    memcpy(&largest_bits, &largest, sizeof largest_bits);
    bits beyond = {0};
    for (uint32_t row = 0; row < n; row++) {
        if (width == PD_SOS_LANES) {
            memcpy(rows[row], x + row * x_stride, sizeof rows[row]);
        } else {
            memset(rows[row], 0, sizeof rows[row]);
            memcpy(rows[row], x + row * x_stride, width * sizeof(double));
        }
        beyond |= largest_bits - (*(const bits_at *)rows[row] & INT64_MAX);
    }
    int64_t any = 0;
    for (uint32_t lane = 0; lane < PD_SOS_LANES; lane++) any |= beyond[lane];
    return any >= 0;
}

/* Until the row where the next channel starts, all rows go through together. */
INLINED void run_gaps(const struct pd_sos *sos, struct pd_sos_lanes *state,
                      double (*rows)[PD_SOS_LANES], double *y, size_t y_stride, uint32_t n,
                      uint32_t width, uint32_t *fed)
{
    uint32_t lost[BLOCK] = {0}, done = 0;
    for (uint32_t row = 0; row < n; row++) {
        for (uint32_t lane = 0; lane < width; lane++) {
            double value = rows[row][lane];
            uint32_t bit = 1u << lane;
            if (!(fabs(value) <= PD_SOS_LARGEST)) {
                lost[row] |= bit;
                state->fed[lane] = 0;
                state->lost[lane] = plus(state->lost[lane], 1);
                if (state->lost[lane] > sos->coast) state->starts |= bit;
                rows[row][lane] = state->level[lane];
            } else {
                if (state->starts & bit) {
                    run_bands(sos, state, rows + done, y + done * y_stride, y_stride, row - done,
                              width);
                    done = row;
                    pd_sos_start_lane(sos, state, lane, value);
                }
                state->level[lane] += sos->level_gain * (value - state->level[lane]);
                state->lost[lane] = 0;
                state->fed[lane] = plus(state->fed[lane], 1);
            }
            if (fed != NULL) fed[(size_t)row * sos->n_channels + lane] = state->fed[lane];
        }
    }
    run_bands(sos, state, rows + done, y + done * y_stride, y_stride, n - done, width);
    for (uint32_t row = 0; row < n; row++) {
        for (uint32_t lane = 0; lane < width; lane++) {
            if (!(lost[row] & 1u << lane)) continue;
            double *at = y + row * y_stride + lane;
            for (uint32_t band = 0; band < sos->n_bands; band++) {
                at[(size_t)band * sos->n_channels] = NAN;
            }
        }
    }
}

INLINED void run_whole(const struct pd_sos *sos, struct pd_sos_lanes *state,
                       double (*rows)[PD_SOS_LANES], double *y, size_t y_stride, uint32_t n,
                       uint32_t width, uint32_t *fed)
{
    run_bands(sos, state, rows, y, y_stride, n, width);
    lanes level = *(const lanes_at *)state->level;
    for (uint32_t row = 0; row < n; row++) {
        level += sos->level_gain * (*(const lanes_at *)rows[row] - level);
    }
    *(lanes_at *)state->level = level;
    for (uint32_t row = 0; fed != NULL && row < n; row++) {
        for (uint32_t lane = 0; lane < width; lane++) {
            fed[(size_t)row * sos->n_channels + lane] = plus(state->fed[lane], row + 1);
        }
    }
    for (uint32_t lane = 0; lane < PD_SOS_LANES; lane++) {
        state->fed[lane] = plus(state->fed[lane], n);
        state->lost[lane] = 0;
    }
}

PD_MULTIVERSION
void pd_sos_run(struct pd_sos *restrict sos, const double *restrict x, size_t x_stride, uint32_t n,
                double *restrict y, size_t y_stride, uint32_t *restrict fed)
{
    double rows[BLOCK][PD_SOS_LANES];
    for (uint32_t channel = 0; channel < sos->n_channels; channel += PD_SOS_LANES) {
        struct pd_sos_lanes *state = pd_sos_lanes(sos, channel / PD_SOS_LANES);
        uint32_t left = sos->n_channels - channel;
        uint32_t width = left < PD_SOS_LANES ? left : PD_SOS_LANES;
        for (uint32_t from = 0, count; from < n; from += count) {
            count = n - from < BLOCK ? n - from : BLOCK;
            int there = take(x + from * x_stride + channel, x_stride, count, width, rows);
            double *out = y + from * y_stride + channel;
            uint32_t *counts = fed ? fed + (size_t)from * sos->n_channels + channel : NULL;
            if (there && !state->starts) {
                run_whole(sos, state, rows, out, y_stride, count, width, counts);
            } else {
                run_gaps(sos, state, rows, out, y_stride, count, width, counts);
            }
        }
    }
}
