/* The part of the transforms that runs, for all instruction sets. Vectors are the compiler's own
 * (vector_size), as in pd_sos_run.c, but half as wide as the lanes: GCC 12 takes vectors that are
 * wider than the registers apart in memory, which costs three times the time with AVX2. */
#include "pd_fft.h"

#include <string.h>

#include "pd_simd.h"

#define WIDTH 4                     /* lanes of a vector: PD_FFT_LANES is a multiple */

typedef double lanes __attribute__((vector_size(WIDTH * sizeof(double))));
typedef double lanes_at __attribute__((vector_size(WIDTH * sizeof(double)),
                                       aligned(sizeof(double)), may_alias));

#define INLINED static inline __attribute__((always_inline))

#define SIN_3 0.8660254037844386    /* of a third of a turn */
#define COS_5 0.30901699437494745   /* of a fifth, and of two */
#define SIN_5 0.9510565162951535
#define COS_25 (-0.8090169943749475)
#define SIN_25 0.5877852522924731

#define ROW (2 * PD_FFT_LANES)

/* y[k] = sum over j of x[j] exp(-2 pi i j k / radix), in place; `radix` is a constant. */
INLINED void butterfly(const uint32_t radix, lanes *re, lanes *im)
{
    if (radix == 2) {
        lanes r = re[0] - re[1], i = im[0] - im[1];
        re[0] += re[1], im[0] += im[1];
        re[1] = r, im[1] = i;
    } else if (radix == 3) {
        lanes sum_r = re[1] + re[2], sum_i = im[1] + im[2];
        lanes odd_r = SIN_3 * (re[1] - re[2]), odd_i = SIN_3 * (im[1] - im[2]);
        lanes even_r = re[0] - 0.5 * sum_r, even_i = im[0] - 0.5 * sum_i;
        re[0] += sum_r, im[0] += sum_i;
        re[1] = even_r + odd_i, im[1] = even_i - odd_r;
        re[2] = even_r - odd_i, im[2] = even_i + odd_r;
    } else if (radix == 4) {
        lanes a_r = re[0] + re[2], a_i = im[0] + im[2], b_r = re[0] - re[2], b_i = im[0] - im[2];
        lanes c_r = re[1] + re[3], c_i = im[1] + im[3], d_r = re[1] - re[3], d_i = im[1] - im[3];
        re[0] = a_r + c_r, im[0] = a_i + c_i;
        re[1] = b_r + d_i, im[1] = b_i - d_r;
        re[2] = a_r - c_r, im[2] = a_i - c_i;
        re[3] = b_r - d_i, im[3] = b_i + d_r;
    } else {
        lanes p_r = re[1] + re[4], p_i = im[1] + im[4], q_r = re[2] + re[3], q_i = im[2] + im[3];
        lanes s_r = re[1] - re[4], s_i = im[1] - im[4], t_r = re[2] - re[3], t_i = im[2] - im[3];
        lanes a_r = re[0] + COS_5 * p_r + COS_25 * q_r, a_i = im[0] + COS_5 * p_i + COS_25 * q_i;
        lanes b_r = re[0] + COS_25 * p_r + COS_5 * q_r, b_i = im[0] + COS_25 * p_i + COS_5 * q_i;
        lanes c_r = SIN_5 * s_r + SIN_25 * t_r, c_i = SIN_5 * s_i + SIN_25 * t_i;
        lanes d_r = SIN_25 * s_r - SIN_5 * t_r, d_i = SIN_25 * s_i - SIN_5 * t_i;
        re[0] += p_r + q_r, im[0] += p_i + q_i;
        re[1] = a_r + c_i, im[1] = a_i - c_r;
        re[2] = b_r + d_i, im[2] = b_i - d_r;
        re[3] = b_r - d_i, im[3] = b_i + d_r;
        re[4] = a_r - c_i, im[4] = a_i + c_r;
    }
}

/* One butterfly of one vector: `step` between what it takes, `apart` between what it gives, each
 * turned by its power of w; NULL: not turned. */
INLINED void cross(const uint32_t radix, const double *x, double *y, size_t step, size_t apart,
                   const double *const *w, size_t re, size_t im)
{
    lanes r[5], i[5];
    for (uint32_t j = 0; j < radix; j++) {
        r[j] = *(const lanes_at *)(x + j * step + re);
        i[j] = *(const lanes_at *)(x + j * step + im);
    }
    butterfly(radix, r, i);
    *(lanes_at *)(y + re) = r[0];
    *(lanes_at *)(y + im) = i[0];
    for (uint32_t k = 1; k < radix; k++) {
        if (w != NULL) {
            lanes turned = r[k] * w[k][0] - i[k] * w[k][1];
            i[k] = r[k] * w[k][1] + i[k] * w[k][0];
            r[k] = turned;
        }
        *(lanes_at *)(y + k * apart + re) = r[k];
        *(lanes_at *)(y + k * apart + im) = i[k];
    }
}

/* One pass over numbers that `stride` passes before have made: y[q + s (r p + k)] is the k-th of
 * the butterfly over x[q + s (p + j m)], turned by p k s. `re`, `im`: where in a row which
 * part lies; the inverse has them the other way round. */
INLINED void run_pass(const uint32_t radix, uint32_t n, uint32_t stride, const double *turns,
                      const double *x, double *y, size_t re, size_t im)
{
    uint32_t m = n / (stride * radix);
    size_t step = (size_t)m * stride * ROW, apart = (size_t)stride * ROW;
    for (size_t at = 0; at < apart; at += ROW) {
        for (size_t lane = at; lane < at + PD_FFT_LANES; lane += WIDTH) {
            cross(radix, x + lane, y + lane, step, apart, NULL, re, im);
        }
    }
    for (uint32_t p = 1; p < m; p++) {
        const double *w[5];
        for (uint32_t k = 1; k < radix; k++) w[k] = turns + 2 * (size_t)stride * p * k;
        x += apart;
        y += radix * apart;
        for (size_t at = 0; at < apart; at += ROW) {
            for (size_t lane = at; lane < at + PD_FFT_LANES; lane += WIDTH) {
                cross(radix, x + lane, y + lane, step, apart, w, re, im);
            }
        }
    }
}

INLINED double *run_passes(const struct pd_fft *fft, double *a, double *b, size_t re, size_t im)
{
    uint32_t stride = 1;
    for (uint32_t pass = 0; pass < fft->n_passes; pass++) {
        switch (fft->radix[pass]) {
        case 2: run_pass(2, fft->room, stride, fft->turns, a, b, re, im); break;
        case 3: run_pass(3, fft->room, stride, fft->turns, a, b, re, im); break;
        case 4: run_pass(4, fft->room, stride, fft->turns, a, b, re, im); break;
        default: run_pass(5, fft->room, stride, fft->turns, a, b, re, im);
        }
        stride *= fft->radix[pass];
        double *other = a;
        a = b;
        b = other;
    }
    return a;
}

/* z[k] *= w[k] */
INLINED void multiply(double *z, const double *w, uint32_t n, size_t re, size_t im)
{
    for (uint32_t k = 0; k < n; k++, z += ROW, w += 2) {
        for (double *at = z; at < z + PD_FFT_LANES; at += WIDTH) {
            lanes r = *(const lanes_at *)(at + re), i = *(const lanes_at *)(at + im);
            *(lanes_at *)(at + re) = r * w[0] - i * w[1];
            *(lanes_at *)(at + im) = r * w[1] + i * w[0];
        }
    }
}

/* A transform as a convolution with the chirp; the convolution by two transforms, `there` and
 * `back`, of which the second runs the other way. */
INLINED double *convolve(const struct pd_fft *fft, double *a, double *b, size_t re, size_t im,
                         double *(*there)(const struct pd_fft *, double *, double *),
                         double *(*back)(const struct pd_fft *, double *, double *))
{
    struct pd_fft smooth = *fft;
    smooth.n = fft->room;
    smooth.chirp = NULL;
    multiply(a, fft->chirp, fft->n, re, im);
    memset(a + (size_t)fft->n * ROW, 0, (size_t)(fft->room - fft->n) * ROW * sizeof *a);
    double *spectrum = there(&smooth, a, b);
    multiply(spectrum, fft->filter, fft->room, re, im);
    double *convolved = back(&smooth, spectrum, spectrum == a ? b : a);
    multiply(convolved, fft->chirp, fft->n, re, im);
    return convolved;
}

PD_MULTIVERSION
double *pd_fft_forward(const struct pd_fft *fft, double *a, double *b)
{
    const size_t re = 0, im = PD_FFT_LANES;
    if (fft->chirp == NULL) return run_passes(fft, a, b, re, im);
    return convolve(fft, a, b, re, im, pd_fft_forward, pd_fft_inverse);
}

PD_MULTIVERSION
double *pd_fft_inverse(const struct pd_fft *fft, double *a, double *b)
{
    const size_t re = PD_FFT_LANES, im = 0;
    if (fft->chirp == NULL) return run_passes(fft, a, b, re, im);
    return convolve(fft, a, b, re, im, pd_fft_inverse, pd_fft_forward);
}

/* Z, of the even samples and i times the odd ones, into X: with E and O the transforms of
 * either, X[k] = E + w^k O, and X[n/2 - k] = conj(E - w^k O). */
INLINED void split_lanes(double *z, const double *split, uint32_t half)
{
    lanes first_r = *(lanes_at *)z, first_i = *(lanes_at *)(z + PD_FFT_LANES);
    double *last = z + (size_t)half * ROW;
    *(lanes_at *)z = first_r + first_i;
    *(lanes_at *)(z + PD_FFT_LANES) = (lanes){0};
    *(lanes_at *)last = first_r - first_i;
    *(lanes_at *)(last + PD_FFT_LANES) = (lanes){0};
    for (uint32_t k = 1; 2 * k <= half; k++) {
        double *low = z + (size_t)k * ROW, *high = z + (size_t)(half - k) * ROW;
        lanes low_r = *(lanes_at *)low, low_i = *(lanes_at *)(low + PD_FFT_LANES);
        lanes high_r = *(lanes_at *)high, high_i = *(lanes_at *)(high + PD_FFT_LANES);
        lanes even_r = 0.5 * (low_r + high_r), even_i = 0.5 * (low_i - high_i);
        lanes odd_r = 0.5 * (low_i + high_i), odd_i = 0.5 * (high_r - low_r);
        double w_r = split[2 * k], w_i = split[2 * k + 1];
        lanes turned_r = odd_r * w_r - odd_i * w_i, turned_i = odd_r * w_i + odd_i * w_r;
        *(lanes_at *)high = even_r - turned_r;
        *(lanes_at *)(high + PD_FFT_LANES) = turned_i - even_i;
        *(lanes_at *)low = even_r + turned_r;
        *(lanes_at *)(low + PD_FFT_LANES) = even_i + turned_i;
    }
}

PD_MULTIVERSION
double *pd_rfft_forward(const struct pd_rfft *fft, double *a, double *b)
{
    if (fft->split != NULL) {       /* [n] real lanes lie as [n / 2] complex ones do */
        double *z = pd_fft_forward(&fft->complex, a, b);
        for (size_t lane = 0; lane < PD_FFT_LANES; lane += WIDTH) {
            split_lanes(z + lane, fft->split, fft->n / 2);
        }
        return z;
    }
    for (uint32_t k = fft->n; k-- > 0;) {
        memmove(a + (size_t)k * ROW, a + (size_t)k * PD_FFT_LANES, PD_FFT_LANES * sizeof *a);
        memset(a + (size_t)k * ROW + PD_FFT_LANES, 0, PD_FFT_LANES * sizeof *a);
    }
    return pd_fft_forward(&fft->complex, a, b);
}
