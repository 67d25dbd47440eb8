/* What pd_artifact makes of a window's sums: values, scores, and the worst of them. */
#include "pd_artifact.h"

#include <math.h>
#include <string.h>

#include "pd_artifact_places.h"
#include "pd_artifact_sums.h"

static double *row_of(const struct pd_artifact *a, size_t place, enum pd_artifact_kind kind)
{
    return at(a, place + (size_t)kind * a->groups * PD_ARTIFACT_LANES);
}

const double *pd_artifact_scores(const struct pd_artifact *a, enum pd_artifact_kind kind)
{
    return row_of(a, a->scores, kind);
}

const double *pd_artifact_values(const struct pd_artifact *a, enum pd_artifact_kind kind)
{
    return row_of(a, a->values, kind);
}

static double score_of(const struct pd_artifact_curve *curve, double value)
{
    double ratio = curve->threshold / value, odds = 1;
    for (uint32_t i = 0; i < curve->power; i++) odds *= ratio;
    return isnan(value) ? NAN : 1 / (1 + odds);
}

static double over(const struct pd_artifact_curve *curve, double value, double size)
{
    double own = curve->weight * size;
    return value / sqrt(curve->floor * curve->floor + own * own);
}

/* -- each channel ------------------------------------------------------------------ */

static void read_spectrum(struct pd_artifact *a, uint32_t group, struct pd_artifact_power *power)
{
    const struct pd_artifact_config *config = &a->config;
    uint64_t blocks = a->count / config->hop;
    uint32_t half = config->n_blocks / 2, past = (uint32_t)(blocks % half);
    uint32_t oldest = (uint32_t)(blocks % config->n_blocks);
    double *sum = at(a, a->sum);
    pd_artifact_add(sum, spectrum(a, group, oldest), at(a, a->total + group * a->node), a->node);
    if (past) pd_artifact_add(sum, sum, at(a, a->prefix + group * a->node), a->node);
    pd_artifact_periodogram(config, sum, at(a, a->turns), bins(a), a->n_bins, oldest * config->hop,
                            power);
}

static void count_bins(const struct pd_artifact *a, double *eeg, double *emg)
{
    *eeg = *emg = 0;
    for (uint32_t bin = 0; bin < a->n_bins; bin++) {
        *eeg += (bins(a)[bin].use & PD_ARTIFACT_EEG) != 0;
        *emg += (bins(a)[bin].use & PD_ARTIFACT_MUSCLE) != 0;
    }
}

static void read_group(struct pd_artifact *a, uint32_t group)
{
    const struct pd_artifact_config *config = &a->config;
    const struct pd_artifact_curve *curve = config->curve;
    uint64_t blocks = a->count / config->hop;
    double samples = (double)config->hop * config->n_blocks, n_eeg, n_emg;
    double width = config->rate_hz / samples;
    struct pd_artifact_window window;
    struct pd_artifact_power power;
    pd_artifact_lanes *scratch = (pd_artifact_lanes *)(void *)at(a, a->scratch);
    pd_artifact_lanes *transients = (pd_artifact_lanes *)(void *)at(a, a->transients);
    pd_artifact_survey(config, stats(a, group), (uint32_t)(blocks % config->n_blocks), scratch,
                       &window, transients + (size_t)group * a->n_transients);
    read_spectrum(a, group, &power);
    count_bins(a, &n_eeg, &n_emg);
    for (uint32_t lane = 0; lane < PD_ARTIFACT_LANES; lane++) {
        double value[PD_ARTIFACT_KINDS];
        double there = samples - window.gone[lane];
        double lost = window.lost[lane] / samples, flat = window.flat[lane] / samples;
        double eeg_rms = sqrt(power.eeg[lane] * width);
        double line = power.line[0][lane] > power.line[1][lane] ? power.line[0][lane]
                                                                : power.line[1][lane];
        value[PD_ARTIFACT_CLIPPING] = there > 0 ? window.clipped[lane] / there : NAN;
        value[PD_ARTIFACT_DROPOUT] = lost > flat ? lost : flat;
        value[PD_ARTIFACT_LINE] = over(&curve[PD_ARTIFACT_LINE], sqrt(line * width), eeg_rms);
        value[PD_ARTIFACT_BLINK] = NAN;
        value[PD_ARTIFACT_EMG] = over(&curve[PD_ARTIFACT_EMG], power.emg[lane] / n_emg,
                                      power.eeg[lane] / n_eeg);
        value[PD_ARTIFACT_POP] = over(&curve[PD_ARTIFACT_POP], window.step[lane],
                                      window.rest[lane]);
        value[PD_ARTIFACT_DRIFT] = over(&curve[PD_ARTIFACT_DRIFT], fabs(window.trend[lane]),
                                        eeg_rms);
        for (uint32_t kind = 0; kind < PD_ARTIFACT_KINDS; kind++) {
            int whole = kind == PD_ARTIFACT_CLIPPING || kind == PD_ARTIFACT_DROPOUT
                        || window.gone[lane] == 0;
            int defined = whole && (a->available >> kind & 1);
            row_of(a, a->values, kind)[group * PD_ARTIFACT_LANES + lane] = defined ? value[kind]
                                                                                   : NAN;
        }
    }
}

/* -- blinks, which need all channels ----------------------------------------------- */

static double transient(const struct pd_artifact *a, uint32_t channel, uint32_t i)
{
    size_t group = channel / PD_ARTIFACT_LANES, lane = channel % PD_ARTIFACT_LANES;
    return at(a, a->transients)[(group * a->n_transients + i) * PD_ARTIFACT_LANES + lane];
}

/* The roles of a channel that is not ignored and has a value for each sample; 0 otherwise. */
static uint8_t part_of(const struct pd_artifact *a, uint32_t channel)
{
    int counts = !(roles(a)[channel] & PD_ARTIFACT_IGNORED)
                 && !isnan(row_of(a, a->values, PD_ARTIFACT_POP)[channel]);
    return counts ? roles(a)[channel] : 0;
}

static double larger(double so_far, double value)
{
    return fabs(value) > so_far ? fabs(value) : so_far;
}

/* The window's. Of each frontal channel, into values. */
static double read_blink(struct pd_artifact *a)
{
    const struct pd_artifact_curve *curve = &a->config.curve[PD_ARTIFACT_BLINK];
    const uint32_t n = a->config.n_channels;
    double *value = row_of(a, a->values, PD_ARTIFACT_BLINK);
    double window = 0, squares = 0, n_front = 0, n_back = 0;
    uint8_t part[PD_ARTIFACT_MAX_CHANNELS];
    for (uint32_t c = 0; c < n; c++) {
        part[c] = part_of(a, c);
        value[c] = part[c] & PD_ARTIFACT_FRONTAL ? 0 : NAN;
        n_front += (part[c] & PD_ARTIFACT_FRONTAL) != 0;
        n_back += (part[c] & PD_ARTIFACT_BEHIND) != 0;
    }
    if (n_front == 0 || n_back == 0) {
        for (uint32_t c = 0; c < n; c++) value[c] = NAN;
        return NAN;
    }
    for (uint32_t i = 0; i < a->n_transients; i++) {
        double front = 0, back = 0;
        for (uint32_t c = 0; c < n; c++) {
            if (part[c] & PD_ARTIFACT_FRONTAL) front += transient(a, c, i);
            if (!(part[c] & PD_ARTIFACT_BEHIND)) continue;
            back += transient(a, c, i);
            squares += transient(a, c, i) * transient(a, c, i);
        }
        back /= n_back;
        window = larger(window, front / n_front - back);
        for (uint32_t c = 0; c < n; c++) {
            if (part[c] & PD_ARTIFACT_FRONTAL) value[c] = larger(value[c],
                                                                 transient(a, c, i) - back);
        }
    }
    double size = sqrt(squares / (n_back * a->n_transients));
    for (uint32_t c = 0; c < n; c++) value[c] = over(curve, value[c], size);
    return over(curve, window, size);
}

/* -- the window -------------------------------------------------------------------- */

/* The least-th largest of n values, or the smallest. Reorders them. */
static double from_the_top(double *values, uint32_t n, uint32_t least)
{
    uint32_t last = least < n ? least : n;
    for (uint32_t i = 0; i < last; i++) {
        for (uint32_t j = i + 1; j < n; j++) {
            double held = values[i];
            int more = values[j] > held;
            values[i] = more ? values[j] : held;
            values[j] = more ? held : values[j];
        }
    }
    return values[last - 1];
}

static void report_kind(struct pd_artifact *a, enum pd_artifact_kind kind, double window)
{
    struct pd_artifact_report *report = &a->report;
    const double *value = row_of(a, a->values, kind);
    double *score = row_of(a, a->scores, kind), worst = NAN;
    double used[PD_ARTIFACT_MAX_CHANNELS];
    uint32_t n = 0;
    report->channel[kind] = a->config.n_channels;
    report->undefined[kind] = 0;
    for (uint32_t c = 0; c < a->config.n_channels; c++) {
        score[c] = score_of(&a->config.curve[kind], value[c]);
        if (roles(a)[c] & PD_ARTIFACT_IGNORED) continue;
        int expected = kind != PD_ARTIFACT_BLINK || (roles(a)[c] & PD_ARTIFACT_FRONTAL);
        if (isnan(value[c])) {
            report->undefined[kind] += expected;
            continue;
        }
        used[n++] = value[c];
        if (!(value[c] <= worst)) {
            worst = value[c];
            report->channel[kind] = c;
        }
    }
    if (kind == PD_ARTIFACT_BLINK) worst = window;
    else if (n > 0) worst = from_the_top(used, n, a->config.curve[kind].least);
    report->value[kind] = worst;
    report->score[kind] = score_of(&a->config.curve[kind], worst);
    if (!isnan(worst)) report->defined |= 1u << kind;
}

void pd_artifact_read(struct pd_artifact *a, struct pd_artifact_report *report)
{
    uint64_t blocks = a->count / a->config.hop;
    if (a->read != blocks) {
        int full = blocks >= a->config.n_blocks;
        double blink = NAN;
        memset(&a->report, 0, sizeof a->report);
        a->report.available = a->available;
        a->report.end = blocks * a->config.hop;
        a->report.samples = full ? a->config.hop * a->config.n_blocks : 0;
        if (full) {
            for (uint32_t group = 0; group < a->groups; group++) read_group(a, group);
            if (a->available >> PD_ARTIFACT_BLINK & 1) blink = read_blink(a);
        } else {
            double *value = at(a, a->values);
            size_t n = (size_t)PD_ARTIFACT_KINDS * a->groups * PD_ARTIFACT_LANES;
            for (size_t i = 0; i < n; i++) value[i] = NAN;
        }
        for (uint32_t kind = 0; kind < PD_ARTIFACT_KINDS; kind++) report_kind(a, kind, blink);
        a->read = blocks;
    }
    *report = a->report;
}
