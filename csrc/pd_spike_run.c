/* The part that runs for each block, for all instruction sets. A run of rows (samples) goes
 * through one step after another in the tile, which stays in the second-level cache; what depends on the
 * order of samples (spikes, noise, bins) goes row by row in the last step, so that no result
 * knows where a block or a run of rows began. */
#include "pd_spike.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_simd.h"
#include "pd_spike_state.h"

#define FUSED 2                     /* sections that a sample goes through before the next one does */
#define CHUNK 64u                   /* channels that are looked at together for an edge */

typedef float lanes __attribute__((vector_size(32)));
typedef float lanes_at __attribute__((vector_size(32), aligned(4), may_alias));

typedef int32_t bits_at __attribute__((vector_size(32), aligned(4), may_alias));

#define INLINED static inline __attribute__((always_inline))

/* -- 1. rows into the tile, and what is missing ------------------------------------------ */

/* Whether all are there, told by their bits: NaN and infinity are the largest. */
INLINED int row_is_whole(const float *restrict row, uint32_t n)
{
    const float largest = PD_SPIKE_LARGEST;
    int32_t most, beyond = 0;
    memcpy(&most, &largest, sizeof most);
    for (uint32_t c = 0; c < n; c++) {
        int32_t bits;
        memcpy(&bits, &row[c], sizeof bits);
        beyond |= most - (bits & INT32_MAX);
    }
    return beyond >= 0;
}

INLINED int any_of(const uint8_t *missing, uint32_t n)
{
    uint64_t words[2] = {0};
    memcpy(words, missing, n);
    return (words[0] | words[1]) != 0;
}

/* Which groups of lanes a row's missing samples are in. */
INLINED void find_gaps(struct pd_spike_view *v, uint32_t r)
{
    const uint8_t *missing = v->missing + (size_t)r * v->head->n_padded;
    for (uint32_t group = 0; group < v->head->n_padded / PD_SPIKE_LANES; group++)
        v->gaps[group] |= (uint8_t)any_of(missing + group * PD_SPIKE_LANES, PD_SPIKE_LANES);
}

INLINED void find_missing(struct pd_spike_view *v, const float *restrict row, uint32_t r)
{
    const uint32_t n = v->head->n_padded;
    uint8_t *restrict missing = v->missing + (size_t)r * n;
    for (uint32_t c = 0; c < n; c++) missing[c] = !(fabsf(row[c]) <= PD_SPIKE_LARGEST);
    v->row_missing[r] = 1;
    find_gaps(v, r);
}

static void all_missing(struct pd_spike_view *v, uint32_t r)
{
    memset(v->missing + (size_t)r * v->head->n_padded, 1, v->head->n_channels);
    v->row_missing[r] = 1;
}

INLINED void load(struct pd_spike_view *v, const float *f32, const int16_t *i16, size_t x_stride,
                  uint32_t rows)
{
    const struct pd_spike *spike = v->head;
    const uint32_t n = spike->n_channels, n_padded = spike->n_padded;
    const float scale = spike->scale;
    for (uint32_t r = 0; r < rows; r++) {
        float *restrict row = v->tile + r * pd_spike_stride(spike);
        v->row_missing[r] = 0;
        if (i16 != NULL) {
            const int16_t *restrict x = i16 + r * x_stride;
            for (uint32_t c = 0; c < n; c++) row[c] = (float)x[c] * scale;
        } else {
            memcpy(row, f32 + r * x_stride, n * sizeof *row);
        }
        memset(row + n, 0, (n_padded - n) * sizeof *row);
        if (i16 == NULL && !row_is_whole(row, n)) find_missing(v, row, r);
    }
}

/* -- 2. band-pass ------------------------------------------------------------------------- */

/* `count` is a constant at each call, so z becomes registers. */
INLINED void run_sections(const struct pd_spike_section *section, const uint32_t count,
                          float *state, float *tile, size_t stride, uint32_t rows)
{
    lanes z[FUSED][2][2];
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < 2; k++) {
            z[i][k][0] = *(lanes_at *)(state + (2 * i + k) * PD_SPIKE_LANES);
            z[i][k][1] = *(lanes_at *)(state + (2 * i + k) * PD_SPIKE_LANES + 8);
        }
    }
    for (uint32_t r = 0; r < rows; r++, tile += stride) {
        lanes x[2] = {*(lanes_at *)tile, *(lanes_at *)(tile + 8)};
        for (uint32_t i = 0; i < count; i++) {
            const struct pd_spike_section *s = &section[i];
            for (uint32_t half = 0; half < 2; half++) {
                const lanes y = s->b0 * x[half] + z[i][0][half];
                z[i][0][half] = s->b1 * x[half] - s->a1 * y + z[i][1][half];
                z[i][1][half] = s->b2 * x[half] - s->a2 * y;
                x[half] = y;
            }
        }
        *(lanes_at *)tile = x[0];
        *(lanes_at *)(tile + 8) = x[1];
    }
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < 2; k++) {
            *(lanes_at *)(state + (2 * i + k) * PD_SPIKE_LANES) = z[i][k][0];
            *(lanes_at *)(state + (2 * i + k) * PD_SPIKE_LANES + 8) = z[i][k][1];
        }
    }
}

INLINED void run_group(const struct pd_spike *spike, float *state, float *tile, uint32_t rows)
{
    const size_t stride = pd_spike_stride(spike);
    uint32_t i = 0;
    for (; i + 2 <= spike->n_sections; i += 2)
        run_sections(spike->sections + i, 2, state + i * 2 * PD_SPIKE_LANES, tile, stride, rows);
    if (i < spike->n_sections)
        run_sections(spike->sections + i, 1, state + i * 2 * PD_SPIKE_LANES, tile, stride, rows);
}

static void start_lane(const struct pd_spike *spike, float *state, uint32_t lane, float value)
{
    for (uint32_t i = 0; i < spike->n_sections; i++) {
        state[(2 * i) * PD_SPIKE_LANES + lane] = spike->sections[i].level0 * value;
        state[(2 * i + 1) * PD_SPIKE_LANES + lane] = spike->sections[i].level1 * value;
    }
}

/* Until the row where the next channel begins anew, all rows go through together. */
INLINED void run_gaps(struct pd_spike_view *v, uint32_t group, float *state, float *tile,
                      uint32_t rows, int64_t level_row)
{
    const struct pd_spike *spike = v->head;
    const size_t stride = pd_spike_stride(spike);
    const uint32_t from = group * PD_SPIKE_LANES;
    uint32_t done = 0;
    for (uint32_t r = 0; r < rows; r++) {
        float *row = tile + r * stride;
        const uint8_t *missing = v->missing + (size_t)r * spike->n_padded + from;
        for (uint32_t lane = 0; lane < PD_SPIKE_LANES; lane++) {
            const uint32_t c = from + lane, bit = 1u << lane;
            if (v->row_missing[r] && missing[lane]) {
                row[lane] = v->last[c];
                if (r == level_row) v->level[c] = row[lane];
                if (v->lost[c] < UINT32_MAX) v->lost[c]++;
                if (v->lost[c] > spike->settle) v->starts[group] |= bit;
                continue;
            }
            if (v->starts[group] & bit) {
                run_group(spike, state, tile + done * stride, r - done);
                done = r;
                start_lane(spike, state, lane, row[lane]);
                v->starts[group] &= ~bit;
            }
            v->lost[c] = 0;
            v->last[c] = row[lane];
            if (r == level_row) v->level[c] = row[lane];
        }
    }
    run_group(spike, state, tile + done * stride, rows - done);
}

INLINED void filter(struct pd_spike_view *v, uint32_t rows)
{
    const struct pd_spike *spike = v->head;
    const size_t one = (size_t)spike->n_sections * 2 * PD_SPIKE_LANES;
    const float *newest = v->tile + (rows - 1) * pd_spike_stride(spike);
    /* The noise's window ends at this row, perhaps beyond the tile. */
    const int64_t left = (int64_t)(PD_SPIKE_WINDOW - 1 - spike->window_fill) * spike->every;
    const int64_t level_row = spike->noise_next + left - spike->index;
    for (uint32_t group = 0; group < spike->n_padded / PD_SPIKE_LANES; group++) {
        const uint32_t from = group * PD_SPIKE_LANES;
        if (v->gaps[group] || v->starts[group]) {
            run_gaps(v, group, v->z + group * one, v->tile + from, rows, level_row);
            v->gaps[group] = 0;
            continue;
        }
        memcpy(v->last + from, newest + from, PD_SPIKE_LANES * sizeof(float));
        if (level_row < rows)
            memcpy(v->level + from, v->tile + level_row * (int64_t)pd_spike_stride(spike) + from,
                   PD_SPIKE_LANES * sizeof(float));
        memset(v->lost + from, 0, PD_SPIKE_LANES * sizeof(uint32_t));
        run_group(spike, v->z + group * one, v->tile + from, rows);
    }
}

/* -- 3. reference ------------------------------------------------------------------------- */

INLINED float sum_of(const float *row, const int32_t *use, uint32_t n)
{
    lanes sums[4] = {{0}};
    for (uint32_t c = 0; c < n; c += 32) {
        for (uint32_t i = 0; i < 4 && c + 8 * i < n; i++) {
            const uint32_t at = c + 8 * i;
            sums[i] += (lanes)(*(const bits_at *)(row + at) & *(const bits_at *)(use + at));
        }
    }
    float halves[16];
    *(lanes_at *)halves = sums[0] + sums[2];
    *(lanes_at *)(halves + 8) = sums[1] + sums[3];
    for (uint32_t half = 8; half; half /= 2)
        for (uint32_t i = 0; i < half; i++) halves[i] += halves[i + half];
    return halves[0];
}

/* The reference of one row; NAN when no good channel is there. */
INLINED float reference_of(struct pd_spike_view *v, const float *restrict row, uint32_t r)
{
    struct pd_spike *spike = v->head;
    const uint32_t n = spike->n_padded;
    const int32_t *use = v->good;
    int32_t *restrict keys = v->keys;
    uint32_t count = spike->n_good;
    if (v->row_missing[r]) {
        const uint8_t *missing = v->missing + (size_t)r * n;
        int32_t counted = 0;
        for (uint32_t c = 0; c < n; c++) {
            keys[c] = ((int32_t)missing[c] - 1) & v->good[c];
            counted -= keys[c];
        }
        count = (uint32_t)counted;
        if (count == 0) return NAN;
        use = keys;
    }
    const float mean = sum_of(row, use, n) / (float)count;
    if (spike->reference == PD_SPIKE_AVERAGE) return mean;
    for (uint32_t c = 0; c < n; c++) {
        int32_t bits;
        memcpy(&bits, &row[c], sizeof bits);
        keys[c] = (pd_spike_key(bits) & use[c]) | (INT32_MAX & ~use[c]);
    }
    return pd_spike_median(keys, n, count, mean, &spike->slope);
}

INLINED void refer(struct pd_spike_view *v, uint32_t rows)
{
    const struct pd_spike *spike = v->head;
    for (uint32_t r = 0; r < rows; r++) {
        const float *row = v->tile + r * pd_spike_stride(spike);
        v->reference[r] = 0;
        if (spike->reference == PD_SPIKE_NO_REFERENCE) continue;
        const float reference = reference_of(v, row, r);
        if (reference == reference) v->reference[r] = reference;
        else all_missing(v, r);
    }
}

INLINED void subtract(struct pd_spike_view *v, uint32_t rows)
{
    const struct pd_spike *spike = v->head;
    for (uint32_t r = 0; r < rows; r++) {
        float *restrict row = v->tile + r * pd_spike_stride(spike);
        const float reference = v->reference[r];
        for (uint32_t c = 0; c < spike->n_channels; c++) row[c] -= reference;
        v->reference[r] = 0;
        if (v->row_missing[r]) find_gaps(v, r);
    }
}

/* -- 4. noise, 5. spikes, 6. bins: row by row --------------------------------------------- */

static void found_edge(struct pd_spike_view *v, uint32_t c, float value, struct pd_spike_out *out)
{
    const int64_t index = v->head->index;
    if (index < v->ready[c] || index < v->quiet[c]) return;
    v->ready[c] = index + v->head->refractory;
    if (v->counts[c] < UINT16_MAX) v->counts[c]++;
    if (out->n_events < out->max_events) {
        out->events[out->n_events++] = (struct pd_spike_event){index, c, value};
    } else {
        out->overflow++;
    }
}

INLINED void find_edges(struct pd_spike_view *v, float *row, float reference,
                        struct pd_spike_out *out)
{
    const uint32_t n = v->head->n_padded;
    int32_t edges[CHUNK];
    for (uint32_t from = 0; from < n; from += CHUNK) {
        const uint32_t width = n - from < CHUNK ? n - from : CHUNK;
        float *restrict d = row + from;
        const float *restrict low = v->low + from, *restrict high = v->high + from;
        int32_t *restrict outside = v->outside + from;
        int32_t any = 0;
        for (uint32_t c = 0; c < width; c++) {
            d[c] -= reference;
            const int32_t now = -((d[c] < low[c]) | (d[c] > high[c]));
            edges[c] = now & ~outside[c];
            outside[c] = now;
            any |= edges[c];
        }
        if (!any) continue;
        for (uint32_t c = 0; c < width; c++)
            if (edges[c]) found_edge(v, from + c, d[c], out);
    }
}

INLINED void mark_missing(struct pd_spike_view *v, uint32_t r)
{
    const uint8_t *missing = v->missing + (size_t)r * v->head->n_padded;
    for (uint32_t from = 0; from < v->head->n_padded; from += PD_SPIKE_LANES) {
        if (!any_of(missing + from, PD_SPIKE_LANES)) continue;
        for (uint32_t c = from; c < from + PD_SPIKE_LANES; c++) {
            if (!missing[c]) continue;
            v->quiet[c] = v->head->index + 1 + v->head->settle;
            v->flags[c] |= PD_SPIKE_FLAG_MISSING;
        }
    }
}

static void give_row(const struct pd_spike_view *v, const float *row, uint32_t r, float *y)
{
    const uint8_t *missing = v->missing + (size_t)r * v->head->n_padded;
    memcpy(y, row, v->head->n_channels * sizeof *y);
    if (!v->row_missing[r]) return;
    for (uint32_t c = 0; c < v->head->n_channels; c++)
        if (missing[c]) y[c] = NAN;
}

INLINED void feed_noise(struct pd_spike_view *v, const float *row)
{
    struct pd_spike *spike = v->head;
    if (spike->index != spike->noise_next) return;
    float *restrict to = v->window + (size_t)spike->window_fill * spike->n_padded;
    for (uint32_t c = 0; c < spike->n_padded; c++) to[c] = fabsf(row[c]);
    spike->noise_next += spike->every;
    if (++spike->window_fill < PD_SPIKE_WINDOW) return;
    pd_spike_take_window(v);
    spike->window_fill = 0;
    spike->window_start = spike->noise_next;
}

static void end_bin(struct pd_spike_view *v, struct pd_spike_out *out)
{
    struct pd_spike *spike = v->head;
    const uint32_t n = spike->n_channels;
    const size_t at = (size_t)out->n_bins * n;
    memcpy(out->counts + at, v->counts, n * sizeof *v->counts);
    for (uint32_t c = 0; out->flags != NULL && c < n; c++) {
        uint8_t flags = v->flags[c];
        if (v->quiet[c] > spike->bin_start) flags |= PD_SPIKE_FLAG_SETTLING;
        if (!(v->noise[c] > 0)) flags |= PD_SPIKE_FLAG_UNARMED;
        out->flags[at + c] = flags;
    }
    memset(v->counts, 0, n * sizeof *v->counts);
    memset(v->flags, 0, n);
    out->n_bins++;
    spike->bin++;
    spike->bin_start = spike->bin_end;
    spike->bin_end = (int64_t)floor((double)(spike->bin + 1) * spike->bin_samples);
}

INLINED void detect(struct pd_spike_view *v, uint32_t rows, struct pd_spike_out *out, uint32_t at)
{
    struct pd_spike *spike = v->head;
    for (uint32_t r = 0; r < rows; r++) {
        float *row = v->tile + r * pd_spike_stride(spike);
        if (v->row_missing[r]) mark_missing(v, r);
        find_edges(v, row, v->reference[r], out);
        if (out->y != NULL) give_row(v, row, r, out->y + (at + r) * out->y_stride);
        feed_noise(v, row);
        spike->index++;
        if (spike->index == spike->bin_end) end_bin(v, out);
    }
}

INLINED int run(struct pd_spike *spike, const float *f32, const int16_t *i16, size_t x_stride,
                uint32_t n, struct pd_spike_out *out)
{
    if (pd_spike_bins(spike, n) > out->max_bins) return -ENOSPC;
    struct pd_spike_view v = pd_spike_view(spike);
    out->n_bins = out->n_events = 0;
    out->overflow = 0;
    for (uint32_t at = 0, rows; at < n; at += rows) {
        rows = n - at < PD_SPIKE_ROWS ? n - at : PD_SPIKE_ROWS;
        load(&v, f32 ? f32 + at * x_stride : NULL, i16 ? i16 + at * x_stride : NULL, x_stride,
             rows);
        if (spike->reference_on == PD_SPIKE_ON_RAW) {
            refer(&v, rows);
            subtract(&v, rows);
            filter(&v, rows);
        } else {
            filter(&v, rows);
            refer(&v, rows);
        }
        detect(&v, rows, out, at);
    }
    return 0;
}

PD_MULTIVERSION
int pd_spike_run_f32(struct pd_spike *spike, const float *x, size_t x_stride, uint32_t n,
                     struct pd_spike_out *out)
{
    return run(spike, x, NULL, x_stride, n, out);
}

PD_MULTIVERSION
int pd_spike_run_i16(struct pd_spike *spike, const int16_t *x, size_t x_stride, uint32_t n,
                     struct pd_spike_out *out)
{
    return run(spike, NULL, x, x_stride, n, out);
}
