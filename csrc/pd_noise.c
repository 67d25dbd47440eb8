#include "pd_noise.h"

#include <math.h>
#include <string.h>

#define TURN 6.283185307179586
#define SQRT2 1.4142135623730951

/* -- arithmetic ------------------------------------------------------------------ */

static double from_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint64_t to_bits(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* sin and cos of a whole number of 2^-64 turns; polynomials of fdlibm's k_sin.c
 * and k_cos.c over an eighth of a turn. */
void pd_noise_sincos(uint64_t phase, double *sine, double *cosine)
{
    uint64_t quarter = (phase + (1ull << 61)) >> 62;
    double r = (double)(int64_t)(phase - (quarter << 62)) * (TURN / 18446744073709551616.0);
    double z = r * r;
    double s = r + r * z * (-1.66666666666666324348e-01 + z * (8.33333333332248946124e-03 +
               z * (-1.98412698298579493134e-04 + z * (2.75573137070700676789e-06 +
               z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
    double c = 1.0 - 0.5 * z + z * z * (4.16666666666666019037e-02 +
               z * (-1.38888888888741095749e-03 + z * (2.48015872894767294178e-05 +
               z * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 -
               z * 1.13596475577881948265e-11)))));
    double swap_s = quarter & 1 ? c : s, swap_c = quarter & 1 ? s : c;
    *sine = quarter & 2 ? -swap_s : swap_s;
    *cosine = (quarter + 1) & 2 ? -swap_c : swap_c;
}

uint64_t pd_noise_phase(double turns)
{
    return turns < 0 ? 0 - (uint64_t)(-turns * 18446744073709551616.0)
                     : (uint64_t)(turns * 18446744073709551616.0);
}

double pd_noise_cos(double turns)
{
    double sine, cosine;
    pd_noise_sincos(pd_noise_phase(turns), &sine, &cosine);
    return cosine;
}

/* Natural logarithm of a normal x > 0, by 2 artanh((m - 1) / (m + 1)). */
double pd_noise_log(double x)
{
    uint64_t bits = to_bits(x);
    int exponent = (int)(bits >> 52) - 1023;
    double m = from_bits((bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull);
    if (m > SQRT2) {
        m *= 0.5;
        exponent++;
    }
    double s = (m - 1.0) / (m + 1.0), z = s * s, sum = 0.0;
    for (int k = 21; k >= 1; k -= 2) sum = sum * z + 1.0 / (double)k;
    return 2.0 * s * sum + (double)exponent * 0.6931471805599453;
}

/* x = k·ln 2 + r, ln 2 in two parts (fdlibm's e_exp.c); Taylor's series of r. */
double pd_noise_exp(double x)
{
    double scaled = x * 1.4426950408889634;
    int64_t k = (int64_t)(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    double r = x - (double)k * 6.93147180369123816490e-01;
    r -= (double)k * 1.90821492927058770002e-10;
    double sum = 1.0;
    for (int i = 13; i >= 1; i--) sum = 1.0 + sum * r / (double)i;
    return sum * from_bits((uint64_t)(k + 1023) << 52);
}

/* atan of a ratio up to 1: less the nearest of atan(k / 8), and Taylor's series of the rest. */
static double atan_ratio(double small, double large)
{
    static const double eighths[9] = {
        0.0, 0.12435499454676144, 0.24497866312686414, 0.35877067027057225, 0.46364760900080609,
        0.5585993153435624, 0.64350110879328437, 0.7188299996216245, 0.78539816339744828,
    };
    int k = (int)(small / large * 8.0 + 0.5);
    double near = (double)k * 0.125;
    double t = (small - near * large) / (large + near * small), z = t * t, sum = 0.0;
    for (int i = 13; i >= 1; i -= 2) sum = 1.0 / (double)i - sum * z;
    return eighths[k] + t * sum;
}

double pd_noise_atan2(double y, double x)
{
    double across = fabs(x), up = fabs(y), angle;
    if (!(across + up < INFINITY)) return NAN;
    if (across == 0.0 && up == 0.0) return 0.0;
    angle = up <= across ? atan_ratio(up, across) : TURN / 4 - atan_ratio(across, up);
    if (x < 0.0) angle = TURN / 2 - angle;
    return y < 0.0 ? -angle : angle;
}

static double tan_turns(double turns)
{
    double sine, cosine;
    pd_noise_sincos(pd_noise_phase(turns), &sine, &cosine);
    return sine / cosine;
}

/* -- random numbers ------------------------------------------------------------ */

#define GOLDEN 0x9e3779b97f4a7c15ull

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t pd_noise_key(uint64_t seed, uint64_t purpose)
{
    return mix(mix(seed + GOLDEN) ^ (purpose + 1) * 0xd1342543de82ef95ull);
}

static uint64_t draw(uint64_t key, uint64_t counter)
{
    return mix(key + counter * GOLDEN);
}

double pd_noise_uniform(uint64_t key, uint64_t counter)
{
    return ((double)(draw(key, counter) >> 12) + 0.5) * 0x1p-52;
}

double pd_noise_exponential(uint64_t key, uint64_t counter)
{
    return -pd_noise_log(pd_noise_uniform(key, counter));
}

/* Box and Muller 1958: 32 bits for the radius (to 6.7 sd), 32 for the angle. */
void pd_noise_normals(uint64_t key, uint64_t n, double *out, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += 2) {
        uint64_t bits = draw(key, n * (PD_NOISE_WIDTH / 2) + i / 2);
        double radius = sqrt(-2.0 * pd_noise_log(((double)(bits >> 32) + 0.5) * 0x1p-32));
        double sine, cosine;
        pd_noise_sincos(bits << 32, &sine, &cosine);
        out[i] = radius * cosine;
        if (i + 1 < count) out[i + 1] = radius * sine;
    }
}

/* -- filters --------------------------------------------------------------------- */

double pd_noise_corner(double hz, double rate_hz)
{
    double warped = tan_turns(0.5 * fmin(hz / rate_hz, 0.49));
    return (1.0 - warped) / (1.0 + warped);
}

void pd_cascade_add(struct pd_cascade *cascade, double pole, double zero)
{
    cascade->pole[cascade->n] = pole;
    cascade->zero[cascade->n++] = zero;
}

static double cascade_power(const struct pd_cascade *cascade, double cycles)
{
    double c = 2.0 * pd_noise_cos(cycles), power = 1.0;
    for (uint32_t k = 0; k < cascade->n; k++) {
        double p = cascade->pole[k], z = cascade->zero[k];
        power *= (1.0 + z * z - z * c) / (1.0 + p * p - p * c);
    }
    return power;
}

void pd_cascade_normalise(struct pd_cascade *cascade, double low_hz, double high_hz,
                          double rate_hz)
{
    const int steps = 400;
    double step = pd_noise_log(high_hz / low_hz) / steps, power = 0.0;
    for (int i = 0; i < steps; i++) {
        double hz = low_hz * pd_noise_exp(((double)i + 0.5) * step);
        power += cascade_power(cascade, hz / rate_hz) * 2.0 / rate_hz * hz * step;
    }
    cascade->gain = 1.0 / sqrt(power);
}

void pd_cascade_run(const struct pd_cascade *cascade, double *state, uint32_t stride, double *x,
                    uint32_t width)
{
    for (uint32_t k = 0; k < cascade->n; k++) {
        const double pole = cascade->pole[k], zero = cascade->zero[k];
        double *memory = state + (size_t)k * stride;
        for (uint32_t c = 0; c < width; c++) {
            double in = x[c];
            x[c] = in + memory[c];
            memory[c] = pole * x[c] - zero * in;
        }
    }
    for (uint32_t c = 0; c < width; c++) x[c] *= cascade->gain;
}

struct pd_wander pd_wander_of(double tau_s, double rate_hz)
{
    double keep = pd_noise_exp(-1.0 / (tau_s * rate_hz)), lost = 1.0 - keep;
    double rest = 1.0 - keep * keep;
    /* Σ ((n + 1) keep^n)² = (1 + keep²) / (1 - keep²)³ */
    double variance = lost * lost * lost * lost * (1.0 + keep * keep) / (rest * rest * rest);
    return (struct pd_wander){ .keep = keep, .scale = 1.0 / sqrt(variance) };
}

double pd_wander_step(const struct pd_wander *wander, double *first, double *second,
                      double normal)
{
    double lost = 1.0 - wander->keep;
    *first += lost * (normal * wander->scale - *first);
    *second += lost * (*first - *second);
    return *second;
}
