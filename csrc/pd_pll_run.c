/* Vectors are the compiler's own (vector_size), as in pd_sos_run.c, but of four lanes, twice: those of
 * eight, kept across a loop whose length is not a constant, GCC moves to and fro in memory on
 * processors whose registers hold four, at six times the time. Each sum adds its terms in one
 * order, whatever the lanes. */
#include "pd_pll_run.h"

#include <math.h>
#include <string.h>

#include "pd_noise.h"
#include "pd_simd.h"

#define INLINED static inline __attribute__((always_inline))
#define LANES PD_PLL_LANES

#define WIDTH 4                     /* lanes of a vector */

typedef double lanes __attribute__((vector_size(WIDTH * sizeof(double))));
typedef int64_t bits __attribute__((vector_size(WIDTH * sizeof(int64_t))));
typedef double lanes_at __attribute__((vector_size(WIDTH * sizeof(double)),
                                       aligned(sizeof(double)), may_alias));
typedef int64_t bits_at __attribute__((vector_size(WIDTH * sizeof(int64_t)),
                                       aligned(sizeof(int64_t)), may_alias));

#define AT(pointer, row) (*(lanes_at *)((pointer) + (size_t)(row) * LANES))
#define READ(pointer, row) (*(const lanes_at *)((pointer) + (size_t)(row) * LANES))

/* Macros, because vectors as arguments have another ABI on each instruction set. */
#define CHOOSE(mask, yes, no) ((lanes)(((mask) & (bits)(yes)) | (~(mask) & (bits)(no))))
#define MAGNITUDE(x) ((lanes)((bits)(x) & INT64_MAX))
#define ALL(x) ((x) + (lanes){0})

INLINED void take_root(lanes *x)
{
    double value[WIDTH];
    memcpy(value, x, sizeof value);
    for (uint32_t lane = 0; lane < WIDTH; lane++) value[lane] = sqrt(value[lane]);
    memcpy(x, value, sizeof value);
}

/* -- samples ----------------------------------------------------------------------- */

/* Magnitudes are compared by their bits: a larger one is a larger integer, and NaN the largest. */
PD_MULTIVERSION
int pd_pll_take(const double *x, size_t stride, uint32_t width, uint32_t n, double *samples,
                uint8_t *missing)
{
    const double largest = PD_PLL_LARGEST;
    int64_t largest_bits;
    memcpy(&largest_bits, &largest, sizeof largest_bits);
    bits beyond = {0};
    for (uint32_t row = 0; row < n; row++, x += stride) {
        double *to = samples + (size_t)row * LANES;
        if (width < LANES) memset(to, 0, LANES * sizeof *to);
        memcpy(to, x, width * sizeof *x);
        beyond |= largest_bits - (*(const bits_at *)to & INT64_MAX);
        beyond |= largest_bits - (*(const bits_at *)(to + WIDTH) & INT64_MAX);
    }
    int64_t any = 0;
    for (uint32_t lane = 0; lane < WIDTH; lane++) any |= beyond[lane];
    memset(missing, 0, n);
    if (any >= 0) return 0;
    for (uint32_t row = 0; row < n; row++) {
        double *to = samples + (size_t)row * LANES;
        for (uint32_t lane = 0; lane < width; lane++) {
            if (fabs(to[lane]) <= largest) continue;
            to[lane] = 0;
            missing[row] |= (uint8_t)(1u << lane);
        }
    }
    return 1;
}

PD_MULTIVERSION
void pd_pll_gather(double *sums, const double *rows, const double *samples, uint32_t n_sums,
                   uint32_t n)
{
    for (uint32_t r = 0; r < n_sums; r++) {
        lanes sum = READ(sums, r), second = READ(sums + WIDTH, r);
        for (uint32_t i = 0; i < n; i++) {
            double factor = rows[(size_t)i * n_sums + r];
            sum += factor * READ(samples, i);
            second += factor * READ(samples + WIDTH, i);
        }
        AT(sums, r) = sum;
        AT(sums + WIDTH, r) = second;
    }
}

INLINED void turn_pair(double *out, const double *in, double cosine, double sine)
{
    for (uint32_t side = 0; side < LANES; side += WIDTH) {
        lanes c = READ(in + side, 0), s = READ(in + side, 1);
        AT(out + side, 0) = cosine * c - sine * s;
        AT(out + side, 1) = sine * c + cosine * s;
    }
}

/* Every pair by its own angle, or back by it (direction -1). */
INLINED void turn_all(const struct pd_pll *pll, double *out, const double *in,
                      const double *angles, double direction)
{
    for (uint32_t f = 0; f < pll->n_frequencies; f++) {
        size_t row = (size_t)row_of(pll, f) * LANES;
        turn_pair(out + row, in + row, angles[2 * f], direction * angles[2 * f + 1]);
    }
    for (uint32_t i = 0; i < pll->n_slopes; i++) {
        size_t row = (size_t)(pll->n_poly + 2 * pll->n_mains + 2 * i) * LANES;
        const double *angle = angles + 2 * pll->slope[i];
        turn_pair(out + row, in + row, angle[0], direction * angle[1]);
    }
}

PD_MULTIVERSION
void pd_pll_turn(const struct pd_pll *pll, double *out, const double *sums, const double *start)
{
    memcpy(out, sums, pll->n_poly * LANES * sizeof *out);
    turn_all(pll, out, sums, start, 1.0);
}

INLINED void collect_side(const struct pd_pll *pll, double *total, const double *const *parts,
                          const double *offsets, uint32_t n_parts, uint32_t side)
{
    lanes power[4] = {{0}};
    for (uint32_t i = 0; i < n_parts; i++) {
        const double *part = parts[i] + side;
        double a = offsets[i];
        lanes p0 = READ(part, 0), p1 = READ(part, 1);
        power[0] += p0;
        power[1] += p1 + a * p0;
        if (pll->n_poly < 4) continue;
        lanes p2 = READ(part, 2), p3 = READ(part, 3);
        power[2] += p2 + (2 * a) * p1 + (a * a) * p0;
        power[3] += p3 + (3 * a) * p2 + (3 * a * a) * p1 + (a * a * a) * p0;
    }
    for (uint32_t r = 0; r < pll->n_poly; r++) AT(total, r) = power[r];
    for (uint32_t i = 0; i < 2 * pll->n_slopes; i++) {
        uint32_t of = pll->n_poly + 2 * pll->slope[i / 2] + i % 2;
        uint32_t r = pll->n_poly + 2 * pll->n_mains + i;
        lanes sum = READ(total, r);
        for (uint32_t j = 0; j < n_parts; j++) sum += offsets[j] * READ(parts[j] + side, of);
        AT(total, r) = sum;
    }
}

PD_MULTIVERSION
void pd_pll_collect(const struct pd_pll *pll, double *total, const double *const *parts,
                    const double *offsets, uint32_t n_parts, const double *middle)
{
    uint32_t r = pll->n_poly;
    for (; r + 1 < pll->n_sums; r += 2) {                   /* two rows: four sums in registers */
        lanes sum[4] = {{0}};
        for (uint32_t i = 0; i < n_parts; i++) {
            const double *part = parts[i] + (size_t)r * LANES;
            sum[0] += READ(part, 0);
            sum[1] += READ(part + WIDTH, 0);
            sum[2] += READ(part, 1);
            sum[3] += READ(part + WIDTH, 1);
        }
        double *to = total + (size_t)r * LANES;
        AT(to, 0) = sum[0];
        AT(to + WIDTH, 0) = sum[1];
        AT(to, 1) = sum[2];
        AT(to + WIDTH, 1) = sum[3];
    }
    collect_side(pll, total, parts, offsets, n_parts, 0);
    collect_side(pll, total + WIDTH, parts, offsets, n_parts, WIDTH);
    turn_all(pll, total, total, middle, -1.0);
}

/* -- four fits ---------------------------------------------------------------------- */

struct sinusoid {
    lanes cosine, sine, power;
};

/* Barycentric weights of n nodes at frequencies of the lanes. */
INLINED void interpolate(uint32_t n, const double *hertz, const double *weights, const lanes *at_hertz,
                         lanes *l)
{
    lanes sum = {0};
    for (uint32_t k = 0; k < n; k++) {
        lanes away = *at_hertz - hertz[k], least = ALL(1e-11);
        away = CHOOSE(MAGNITUDE(away) < least, least, away);    /* at a node: just beside it */
        l[k] = weights[k] / away;
        sum += l[k];
    }
    for (uint32_t k = 0; k < n; k++) l[k] = l[k] / sum;
}

INLINED void fit_sinusoid(uint32_t n, const double *data, const double *form, const lanes *l,
                          struct sinusoid *fit)
{
    lanes c = {0}, s = {0}, cc = {0}, cs = {0}, ss = {0};
    for (uint32_t i = 0; i < n; i++) {
        c += l[i] * READ(data, 2 * i);
        s += l[i] * READ(data, 2 * i + 1);
        lanes row_cc = {0}, row_cs = {0}, row_ss = {0};
        for (uint32_t k = i; k < n; k++, form += 3) {
            row_cc += l[k] * form[0];
            row_cs += l[k] * form[1];
            row_ss += l[k] * form[2];
        }
        cc += l[i] * row_cc;
        cs += l[i] * row_cs;
        ss += l[i] * row_ss;
    }
    lanes determinant = cc * ss - cs * cs;
    fit->cosine = (ss * c - cs * s) / determinant;
    fit->sine = (cc * s - cs * c) / determinant;
    fit->power = fit->cosine * c + fit->sine * s;
}

/* Where the parabola through three equidistant points has its top, in steps, -1..1. */
INLINED void find_top(const lanes *three, lanes *steps)
{
    lanes curve = three[0] - 2.0 * three[1] + three[2], slope = 0.5 * (three[0] - three[2]);
    lanes away = slope / curve, one = ALL(1.0), none = {0};
    away = CHOOSE(away < one, away, one);
    away = CHOOSE(away > -one, away, -one);
    *steps = CHOOSE(curve < none, away, none);
}

INLINED void search(const struct pd_pll *pll, const struct pd_pll_fit *fit, const double *nodes,
                    lanes *hertz, uint32_t *edge)
{
    double power[PD_PLL_MAX_GRID][WIDTH];
    for (uint32_t g = 0; g < pll->n_grid; g++) {
        const double *l = at(pll, pll->grid) + (size_t)g * pll->n_nodes;
        const double *white = fit->white + 3 * (size_t)g;
        lanes c = {0}, s = {0};
        for (uint32_t k = 0; k < pll->n_nodes; k++) {
            c += l[k] * READ(nodes, 2 * k);
            s += l[k] * READ(nodes, 2 * k + 1);
        }
        *(lanes_at *)power[g] = white[0] * c * c + (2 * white[1]) * c * s + white[2] * s * s;
    }
    double step = (pll->high_hz - pll->low_hz) / (pll->n_grid - 1);
    lanes three[3], base, steps;
    for (uint32_t lane = 0; lane < WIDTH; lane++) {
        uint32_t best = 0;
        for (uint32_t g = 1; g < pll->n_grid; g++) {
            best = power[g][lane] > power[best][lane] ? g : best;
        }
        edge[lane] = best == 0 || best == pll->n_grid - 1;
        best = best < 1 ? 1 : best > pll->n_grid - 2 ? pll->n_grid - 2 : best;
        for (uint32_t i = 0; i < 3; i++) three[i][lane] = power[best + i - 1][lane];
        base[lane] = pll->low_hz + best * step;
    }
    find_top(three, &steps);
    *hertz = base + step * steps;
}

INLINED void follow_envelope(const struct pd_pll *pll, const struct pd_pll_fit *fit,
                             const double *nodes, const struct sinusoid *sinusoid, const lanes *hertz,
                             uint32_t side, struct pd_pll_lanes *out)
{
    lanes coefficient[2 * PD_PLL_MOST_DEGREE];
    uint32_t wide = 2 * pll->n_nodes;
    for (uint32_t i = 0; i < 2 * pll->n_degree; i++) {
        lanes sum = {0};
        for (uint32_t k = 0; k < wide; k++) {
            sum += fit->envelope[(size_t)i * wide + k] * READ(nodes, k);
        }
        coefficient[i] = sum;
    }
    /* The fit's own phasor against the reference, from the first point on. */
    double seconds = pll->samples / pll->rate_hz;
    lanes re = sinusoid->cosine, im = -sinusoid->sine, size = re * re + im * im;
    lanes first_c, first_s, step_c, step_s;
    for (uint32_t lane = 0; lane < WIDTH; lane++) {
        double turns = ((*hertz)[lane] - pll->ref_hz) * seconds / PD_PLL_POINTS, sine, cosine;
        turns = fabs(turns) < 0.05 * PD_PLL_POINTS ? turns : 0;     /* NaN: the result is NaN, too */
        pd_noise_sincos(pd_noise_phase(turns), &sine, &cosine);
        step_c[lane] = cosine;
        step_s[lane] = sine;
        turns *= 0.5 - 0.5 * PD_PLL_POINTS;
        pd_noise_sincos(pd_noise_phase(turns - (int)turns), &sine, &cosine);
        first_c[lane] = cosine;
        first_s[lane] = sine;
    }
    take_root(&size);
    lanes model_re = (re * first_c - im * first_s) / size;
    lanes model_im = (re * first_s + im * first_c) / size;
    lanes sum_re = {0}, sum_im = {0}, rest_re = {0}, rest_im = {0};
    for (uint32_t point = 0; point < PD_PLL_POINTS; point++) {
        double tau = (2.0 * point + 1.0) / PD_PLL_POINTS - 1.0, before = 0, legendre = 1;
        lanes z_re = {0}, z_im = {0};
        for (uint32_t l = 0; l < pll->n_degree; l++) {
            z_re += legendre * coefficient[2 * l];
            z_im -= legendre * coefficient[2 * l + 1];
            double next = ((2.0 * l + 1.0) * tau * legendre - l * before) / (l + 1.0);
            before = legendre;
            legendre = next;
        }
        lanes length = z_re * z_re + z_im * z_im;
        take_root(&length);
        z_re = z_re / length;
        z_im = z_im / length;
        sum_re += z_re;
        sum_im += z_im;
        rest_re += z_re * model_re + z_im * model_im;
        rest_im += z_im * model_re - z_re * model_im;
        lanes moved = model_re * step_c - model_im * step_s;
        model_im = model_re * step_s + model_im * step_c;
        model_re = moved;
    }
    AT(out->error_cosine + side, 0) = sum_re / (double)PD_PLL_POINTS;
    AT(out->error_sine + side, 0) = sum_im / (double)PD_PLL_POINTS;
    lanes rest = (rest_re * rest_re + rest_im * rest_im)
                 / (double)(PD_PLL_POINTS * PD_PLL_POINTS);
    take_root(&rest);
    AT(out->steady + side, 0) = rest;
}

/* Rows from..to less what `count` shares of rows `first` on put into them: as many rows at a time as
 * let additions overlap. */
INLINED void take_out(const double *gram, uint32_t n_sums, uint32_t first, uint32_t count,
                      const lanes *share, double *total, uint32_t from, uint32_t to)
{
    uint32_t i = from;
    for (; i + 4 <= to; i += 4) {
        const double *factors = gram + (size_t)first * n_sums + i;
        lanes sum[4] = {READ(total, i), READ(total, i + 1), READ(total, i + 2), READ(total, i + 3)};
        for (uint32_t k = 0; k < count; k++, factors += n_sums) {
            for (uint32_t j = 0; j < 4; j++) sum[j] -= factors[j] * share[k];
        }
        for (uint32_t j = 0; j < 4; j++) AT(total, i + j) = sum[j];
    }
    for (; i < to; i++) {
        const double *factors = gram + (size_t)first * n_sums + i;
        lanes sum = READ(total, i);
        for (uint32_t k = 0; k < count; k++, factors += n_sums) sum -= *factors * share[k];
        AT(total, i) = sum;
    }
}

INLINED void solve_side(const struct pd_pll *pll, const struct pd_pll_fit *fit, double *total,
                        uint32_t side, struct pd_pll_lanes *out)
{
    uint32_t n = pll->n_sums, nodes_at = pll->n_nuisance;
    lanes best, l[PD_PLL_MAX_NODES], share[2 * PD_PLL_MAX_NODES], three[3], steps, scale = {0};
    for (uint32_t j = 0; j < nodes_at; j++) {
        if (j) take_out(fit->gram, n, 0, j, share, total, j, j + 1);
        share[j] = fit->inverse[j] * READ(total, j);
        scale += share[j] * share[j];
    }
    take_out(fit->gram, n, 0, nodes_at, share, total, nodes_at, n);
    AT(out->scale + side, 0) = scale;

    const double *nodes = total + (size_t)nodes_at * LANES;
    const double *hertz = at(pll, pll->hertz), *weights = at(pll, pll->weights);
    const double *node_hertz = hertz + pll->n_mains;
    struct sinusoid sinusoid;
    search(pll, fit, nodes, &best, out->edge + side);
    /* Once more, eight times as near: the parabola is then right to 1e-5 of a bin. With few turns a
     * window power is no parabola yet, and it takes three rounds. */
    int curved = pll->n_poly > 2, rounds = curved ? 1 : 3;
    double near = (pll->high_hz - pll->low_hz) / (pll->n_grid - 1) / (curved ? 8 : 2);
    for (int round = 0; round < rounds; round++, near /= 8) {
        for (int i = 0; i < 3; i++) {
            lanes here = best + (i - 1) * near;
            interpolate(pll->n_nodes, node_hertz, weights, &here, l);
            fit_sinusoid(pll->n_nodes, nodes, fit->forms, l, &sinusoid);
            three[i] = sinusoid.power;
        }
        find_top(three, &steps);
        best += near * steps;
    }
    lanes low = ALL(pll->low_hz), high = ALL(pll->high_hz);
    best = CHOOSE(best < high, best, high);
    best = CHOOSE(best > low, best, low);
    interpolate(pll->n_nodes, node_hertz, weights, &best, l);
    fit_sinusoid(pll->n_nodes, nodes, fit->forms, l, &sinusoid);
    AT(out->hertz + side, 0) = best;
    AT(out->power + side, 0) = sinusoid.power;
    AT(out->cosine + side, 0) = sinusoid.cosine;
    AT(out->sine + side, 0) = sinusoid.sine;
    for (uint32_t k = 0; k < pll->n_nodes; k++) {
        share[2 * k] = l[k] * sinusoid.cosine;
        share[2 * k + 1] = l[k] * sinusoid.sine;
    }

    uint32_t beside = nodes_at + 2 * pll->n_nodes, half = beside + 2 * pll->n_beside,
             half_beside = half + 2 * pll->n_half;
    lanes noise = {0}, weighted = {0}, none = {0};
    take_out(fit->gram, n, nodes_at, 2 * pll->n_nodes, share, total, beside, n);
    for (uint32_t i = beside; i < half; i++) {
        lanes rest = READ(total, i);
        noise += rest * rest;
        weighted += hertz[pll->n_mains + (i - nodes_at) / 2] * (rest * rest);
    }
    AT(out->noise + side, 0) = noise / fit->norm[0];
    AT(out->beside + side, 0) = weighted / (fit->norm[0] * best);

    AT(out->half_power + side, 0) = none;
    AT(out->half_beside + side, 0) = none;
    if (pll->n_half) {
        lanes lower_hertz = 0.5 * best;
        interpolate(pll->n_half, hertz + pll->n_mains + (half - nodes_at) / 2,
                    weights + pll->n_nodes, &lower_hertz, l);
        struct sinusoid lower;
        fit_sinusoid(pll->n_half, total + (size_t)half * LANES, fit->half_forms, l, &lower);
        AT(out->half_power + side, 0) = lower.power;
        for (uint32_t k = 0; k < pll->n_half; k++) {
            share[2 * k] = l[k] * lower.cosine;
            share[2 * k + 1] = l[k] * lower.sine;
        }
        take_out(fit->gram, n, half, 2 * pll->n_half, share, total, half_beside, n);
        weighted = none;
        for (uint32_t i = half_beside; i < n; i++) {
            lanes rest = READ(total, i);
            weighted += hertz[pll->n_mains + (i - nodes_at) / 2] * (rest * rest);
        }
        AT(out->half_beside + side, 0) = weighted / (fit->norm[1] * 0.5 * best);
    }
    follow_envelope(pll, fit, nodes, &sinusoid, &best, side, out);
}

PD_MULTIVERSION
void pd_pll_solve(const struct pd_pll *pll, const struct pd_pll_fit *fit, double *total,
                  struct pd_pll_lanes *out)
{
    for (uint32_t side = 0; side < LANES; side += WIDTH) {
        solve_side(pll, fit, total + side, side, out);
    }
}
