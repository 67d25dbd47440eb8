#include "pd_pll.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "pd_noise.h"
#include "pd_pll_places.h"
#include "pd_pll_run.h"

#define TURN 6.283185307179586
#define TURNS_64 18446744073709551616.0
#define DB 4.342944819032518        /* 10 / ln 10 */
#define FLAT 1e-10

/* -- state ------------------------------------------------------------------------- */

static void begin_block(const struct pd_pll *pll)
{
    double *angles = start_of(pll, pll->count / pll->hop);
    for (uint32_t f = 0; f < pll->n_frequencies; f++) {
        pd_noise_sincos(2 * pll->count * half_steps(pll)[f], &angles[2 * f + 1], &angles[2 * f]);
    }
    for (uint32_t g = 0; g < pll->n_groups; g++) {
        memset(open_of(pll, group_at(pll, g)), 0, pll->n_sums * PD_PLL_LANES * sizeof(double));
    }
}

void pd_pll_reset(struct pd_pll *pll)
{
    pll->count = pll->phase = 0;
    for (uint32_t g = 0; g < pll->n_groups; g++) {
        struct pd_pll_group *group = group_at(pll, g);
        memset(group, 0, sizeof *group);
        group->fresh = UINT64_MAX;
    }
    begin_block(pll);
}

int pd_pll_restore(struct pd_pll *pll, const void *saved, size_t bytes)
{
    struct pd_pll header;
    if (bytes != pll->bytes) return -EINVAL;
    memcpy(&header, saved, sizeof header);
    uint64_t count = header.count, phase = header.phase;
    header.count = pll->count;
    header.phase = pll->phase;
    const char *from = saved;
    size_t tables = pll->half_steps * sizeof(double), own = pll->own * sizeof(double);
    if (memcmp(&header, pll, sizeof header)) return -EINVAL;
    if (memcmp(from + tables, (const char *)pll + tables, own - tables)) return -EINVAL;
    memcpy((char *)pll + own, from + own, bytes - own);
    pll->count = count;
    pll->phase = phase;
    return 0;
}

/* -- reference ----------------------------------------------------------------------- */

static void set_phase(struct pd_pll *pll, uint64_t phase)
{
    pll->phase = phase;
    for (uint32_t g = 0; g < pll->n_groups; g++) group_at(pll, g)->fresh = UINT64_MAX;
}

void pd_pll_set_phase(struct pd_pll *pll, double turns)
{
    set_phase(pll, pd_noise_phase(turns));
}

/* Whole seconds by the frequency's fraction in 2^-64 turns: exact for centuries. */
void pd_pll_tie(struct pd_pll *pll, uint64_t index, int64_t t_ns)
{
    int64_t seconds = t_ns / 1000000000, rest = t_ns % 1000000000;
    double whole = floor(pll->ref_hz), turns = pll->ref_hz * ((double)rest * 1e-9);
    uint64_t phase = (uint64_t)((pll->ref_hz - whole) * TURNS_64) * (uint64_t)seconds;
    phase += pd_noise_phase(turns - trunc(turns));
    set_phase(pll, phase - index * pll->step);
}

static double radians(uint64_t phase)
{
    return (double)(int64_t)phase * (TURN / TURNS_64);
}

double pd_pll_reference(const struct pd_pll *pll, uint64_t index)
{
    return radians(pll->phase + index * pll->step);
}

static double wrapped(double rad)
{
    double turns = rad * (1 / TURN);
    return (turns - floor(turns + 0.5)) * TURN;
}

/* -- a window -------------------------------------------------------------------------- */

/* The newest window's sums about its middle, for eight channels. */
static void gather_window(const struct pd_pll *pll, const struct pd_pll_group *group, double *total)
{
    const double *parts[PD_PLL_MAX_SAMPLES / 64 + 3];
    double offsets[PD_PLL_MAX_SAMPLES / 64 + 3];
    uint32_t n = 0, hop = pll->hop, fill = (uint32_t)(pll->count % hop);
    uint64_t now = pll->count / hop, whole = (pll->samples - fill) / hop;
    uint32_t tail = (pll->samples - fill) % hop;
    size_t size = (size_t)pll->n_sums * PD_PLL_LANES;
    double *ended = total + size, *begun = ended + size, *middle = begun + size;
    if (tail) {
        uint64_t from = (now - whole) * hop - tail, row = from % hop;
        memset(begun, 0, size * sizeof *begun);
        pd_pll_gather(begun, at(pll, pll->rows) + row * pll->n_sums,
                      samples_of(group) + from % pll->n_rows * PD_PLL_LANES, pll->n_sums, tail);
        pd_pll_turn(pll, begun, begun, start_of(pll, now - whole - 1));
        parts[n++] = begun;
    }
    for (uint64_t block = now - whole; block < now; block++) parts[n++] = block_of(pll, group, block);
    if (fill) {
        pd_pll_turn(pll, ended, open_of(pll, group), start_of(pll, now));
        parts[n++] = ended;
    }
    /* A block's middle from the window's, in half windows; the newest block is the last part. */
    uint64_t last = fill ? now : now - 1;
    double newest = (double)(pll->count - last * hop);
    for (uint32_t i = 0; i < n; i++) {
        double away = (double)((n - 1 - i) * hop) + newest - 0.5 * hop;
        offsets[i] = 1 - 2 * away / pll->samples;
    }
    const double *start = start_of(pll, now);
    const double *end = at(pll, pll->ends) + (size_t)fill * 2 * pll->n_frequencies;
    for (uint32_t f = 0; f < 2 * pll->n_frequencies; f += 2) {
        middle[f] = start[f] * end[f] - start[f + 1] * end[f + 1];
        middle[f + 1] = start[f + 1] * end[f] + start[f] * end[f + 1];
    }
    pd_pll_collect(pll, total, parts, offsets, n, middle);
}

static void undefined(struct pd_pll_report *report, enum pd_pll_state state)
{
    *report = (struct pd_pll_report){NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN,
                                     0, 0, (int32_t)state, 0};
}

static double root_sum(double x, double y)
{
    return sqrt(x * x + y * y);
}

static enum pd_pll_state judge(const struct pd_pll *pll, const struct pd_pll_lanes *lanes,
                               uint32_t lane)
{
    double size = lanes->cosine[lane] * lanes->cosine[lane] + lanes->sine[lane] * lanes->sine[lane];
    if (!(size > FLAT * FLAT * lanes->scale[lane])) return PD_PLL_FLAT;
    if (!(lanes->power[lane] > 2 * pll->threshold * lanes->beside[lane])) return PD_PLL_NOISE;
    return lanes->edge[lane] ? PD_PLL_OUTSIDE : PD_PLL_DEFINED;
}

static double subharmonic(const struct pd_pll *pll, const struct pd_pll_lanes *lanes, uint32_t lane)
{
    if (pll->n_half == 0) return NAN;
    double limit = 2 * pll->half_threshold * lanes->half_beside[lane];
    return lanes->half_power[lane] > limit ? 1 - limit / lanes->half_power[lane] : 0;
}

static void report_lane(const struct pd_pll *pll, const struct pd_pll_lanes *lanes, uint32_t lane,
                        struct pd_pll_report *out)
{
    undefined(out, judge(pll, lanes, lane));
    if (out->state != PD_PLL_DEFINED) return;
    out->defined = 1;
    double half = 0.5 * (pll->samples - 1.0), u = lanes->cosine[lane], v = -lanes->sine[lane];
    double turns = lanes->hertz[lane] / pll->rate_hz * half;
    out->phase_rad = wrapped(pd_noise_atan2(v, u) + TURN * (turns - floor(turns)));
    out->ref_phase_rad = pd_pll_reference(pll, pll->count - 1);
    out->phase_error_rad = wrapped(out->phase_rad - out->ref_phase_rad);
    /* The envelope counts from the reference's phase at the window's middle, between two samples. */
    uint64_t middle = pll->phase + pll->count * pll->step
                      - (pll->samples + 1ull) * (pll->step / 2);
    double c = lanes->error_cosine[lane], s = lanes->error_sine[lane];
    out->phase_error_mean = wrapped(pd_noise_atan2(s, c) - radians(middle));
    out->plv = fmin(root_sum(c, s), 1);
    out->phase_error_var = 1 - out->plv;
    out->sd_rad = sqrt(fmax(-2 * pd_noise_log(fmax(lanes->steady[lane], 1e-300)), 0));
    out->frequency_hz = lanes->hertz[lane];
    out->amplitude_uv = root_sum(u, v);
    double size = u * u + v * v;
    out->snr_db = DB * pd_noise_log(size / fmax(2 * lanes->noise[lane], 1e-30 * size));
    out->subharmonic = subharmonic(pll, lanes, lane);
}

/* Lanes, of `left`, that miss the same samples of the window as the first of them; counts
 * them out of `left`. */
static uint32_t alike(const struct pd_pll *pll, const struct pd_pll_group *group, uint32_t *left,
                      uint32_t *indices, uint32_t *n_missing)
{
    const uint8_t *missing = missing_of(pll, group);
    uint32_t first = *left & (0u - *left), same = *left;
    uint64_t from = pll->count - pll->samples;
    *n_missing = 0;
    for (uint32_t i = 0; i < pll->samples; i++) {
        uint32_t lost = missing[(from + i) % pll->n_rows];
        same &= lost & first ? lost : ~lost;
        if (lost & first && (*n_missing)++ < pll->samples / 4) indices[*n_missing - 1] = i;
    }
    *left &= ~same;
    return same;
}

static void report_lanes(const struct pd_pll *pll, struct pd_pll_group *group,
                         const struct pd_pll_fit *fit, uint32_t which)
{
    struct pd_pll_lanes lanes;
    double *total = at(pll, pll->work);
    gather_window(pll, group, total);
    pd_pll_solve(pll, fit, total, &lanes);
    for (uint32_t lane = 0; lane < PD_PLL_LANES; lane++) {
        if (which >> lane & 1) report_lane(pll, &lanes, lane, &group->report[lane]);
    }
}

static void refresh(const struct pd_pll *pll, uint32_t index)
{
    struct pd_pll_group *group = group_at(pll, index);
    uint32_t width = pll->n_channels - index * PD_PLL_LANES, n_missing = 0;
    if (group->fresh == pll->count) return;
    group->fresh = pll->count;
    if (pll->count < pll->samples) {
        for (uint32_t i = 0; i < PD_PLL_LANES; i++) undefined(&group->report[i], PD_PLL_FILLING);
        return;
    }
    struct pd_pll_fit whole = fit_at(pll, pll->whole), part = fit_at(pll, pll->part);
    uint32_t left = (1u << (width < PD_PLL_LANES ? width : PD_PLL_LANES)) - 1;
    if (group->missed <= pll->count - pll->samples) {
        report_lanes(pll, group, &whole, left);
        return;
    }
    uint32_t indices[PD_PLL_MAX_SAMPLES / 4];
    while (left) {
        uint32_t same = alike(pll, group, &left, indices, &n_missing);
        if (n_missing > pll->samples / 4) {
            for (uint32_t i = 0; i < PD_PLL_LANES; i++) {
                if (same >> i & 1) undefined(&group->report[i], PD_PLL_MISSING);
            }
        } else if (n_missing == 0) {
            report_lanes(pll, group, &whole, same);
        } else {
            const double *gram = at(pll, pll->gram);
            memcpy(part.gram, gram, (size_t)pll->n_sums * pll->n_sums * sizeof *gram);
            for (uint32_t i = 0; i < n_missing; i++) {
                pd_pll_count_sample(pll, part.gram, indices[i], -1);
            }
            pd_pll_factorise(pll, &part);
            report_lanes(pll, group, &part, same);
        }
    }
}

/* -- samples --------------------------------------------------------------------------- */

static void judge_lock(struct pd_pll_group *group)
{
    for (uint32_t lane = 0; lane < PD_PLL_LANES; lane++) {
        const struct pd_pll_report *report = &group->report[lane];
        int good = report->defined && report->plv >= PD_PLL_LOCKS;
        int bad = !report->defined || report->plv < PD_PLL_OPENS;
        uint32_t streak = good ? group->streak[lane] + 1u : 0;
        group->streak[lane] = (uint8_t)(streak < PD_PLL_STREAK ? streak : PD_PLL_STREAK);
        if (streak >= PD_PLL_STREAK) group->locked[lane] = 1;
        if (bad) group->locked[lane] = 0;
    }
}

static void end_block(struct pd_pll *pll)
{
    uint64_t block = pll->count / pll->hop - 1;
    for (uint32_t g = 0; g < pll->n_groups; g++) {
        struct pd_pll_group *group = group_at(pll, g);
        pd_pll_turn(pll, block_of(pll, group, block), open_of(pll, group), start_of(pll, block));
    }
    begin_block(pll);
    for (uint32_t g = 0; g < pll->n_groups; g++) {
        refresh(pll, g);
        judge_lock(group_at(pll, g));
    }
}

void pd_pll_push(struct pd_pll *pll, const double *x, size_t stride, uint32_t n)
{
    while (n) {
        uint32_t held = (uint32_t)(pll->count % pll->hop), room = pll->hop - held;
        uint32_t taken = n < room ? n : room;
        const double *rows = at(pll, pll->rows) + (size_t)held * pll->n_sums;
        uint64_t row = pll->count % pll->n_rows;
        for (uint32_t g = 0; g < pll->n_groups; g++) {
            struct pd_pll_group *group = group_at(pll, g);
            uint32_t first = g * PD_PLL_LANES, width = pll->n_channels - first;
            if (width > PD_PLL_LANES) width = PD_PLL_LANES;
            double *samples = samples_of(group) + row * PD_PLL_LANES;
            uint8_t *missing = missing_of(pll, group) + row;
            if (pd_pll_take(x + first, stride, width, taken, samples, missing)) {
                for (uint32_t i = 0; i < taken; i++) {
                    if (missing[i]) group->missed = pll->count + i + 1;
                }
            }
            pd_pll_gather(open_of(pll, group), rows, samples, pll->n_sums, taken);
        }
        pll->count += taken;
        x += taken * stride;
        n -= taken;
        if (taken == room) end_block(pll);
    }
}

void pd_pll_read(struct pd_pll *pll, uint32_t channel, struct pd_pll_report *report)
{
    struct pd_pll_group *group = group_at(pll, channel / PD_PLL_LANES);
    uint32_t lane = channel % PD_PLL_LANES;
    refresh(pll, channel / PD_PLL_LANES);
    *report = group->report[lane];
    report->locked = report->defined && group->locked[lane];
}
