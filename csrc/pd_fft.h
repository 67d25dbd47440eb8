/* Fourier transforms of any length, eight signals at once.
 *
 * X[k] = sum over j of x[j] exp(-2 pi i j k / n), not scaled; the inverse has the other sign and
 * is not scaled either: divide by n. Lengths of factors 2, 3 and 5 go in passes of radix 4, 2, 3
 * and 5 (Stockham's order, so nothing is permuted); any other length is Bluestein's convolution
 * over the next length that does. Rounding stays under 1e-14 of the largest value.
 *
 * Lanes. A complex number of eight signals is [2][PD_FFT_LANES] doubles, a real one
 * [PD_FFT_LANES]. Lanes never meet: each has the bits that it has alone, NaN in one
 * stays there, and the bits are the same on every instruction set (the tables are made of
 * pd_noise's sine, so no libm has a say).
 *
 * The caller gives all memory: tables (made by init, then read only, so a plan may be shared
 * by threads) and two buffers a call. Nothing allocates, blocks or fails after init.
 */
#ifndef PD_FFT_H
#define PD_FFT_H

#include <stddef.h>
#include <stdint.h>

#define PD_FFT_LANES 8
#define PD_FFT_MAX (1u << 20)
#define PD_FFT_MAX_PASSES 24

struct pd_fft {                     /* complex to complex */
    uint32_t n;
    uint32_t room;                  /* complex numbers that a buffer holds: n, or Bluestein's */
    uint32_t n_passes;
    uint8_t radix[PD_FFT_MAX_PASSES];
    const double *turns;            /* [room][2]: exp(-2 pi i k / room) */
    const double *chirp;            /* [n][2]: exp(-pi i k² / n); NULL where n has passes itself */
    const double *filter;           /* [room][2]: transform of the chirp's conjugate, over room */
};

struct pd_rfft {                    /* n real numbers to n / 2 + 1 complex ones */
    uint32_t n;
    uint32_t room;                  /* complex numbers that a buffer holds */
    struct pd_fft complex;          /* of n / 2 for an even n, of n for an odd one */
    const double *split;            /* [n / 4 + 1][2]: exp(-2 pi i k / n); NULL for an odd n */
};

/* Bytes of the tables; 0 for a length that is none or beyond PD_FFT_MAX. */
size_t pd_fft_table_bytes(uint32_t n);
size_t pd_rfft_table_bytes(uint32_t n);

/* Bytes of one buffer. */
size_t pd_fft_buffer_bytes(uint32_t n);
size_t pd_rfft_buffer_bytes(uint32_t n);

/* All memory 8-byte aligned (64 is faster). `a`, `b`: buffers, wanted for Bluestein's filter and
 * free afterwards. 0 or -EINVAL. */
int pd_fft_init(struct pd_fft *fft, uint32_t n, void *tables, size_t table_bytes, double *a,
                double *b);
int pd_rfft_init(struct pd_rfft *fft, uint32_t n, void *tables, size_t table_bytes, double *a,
                 double *b);

/* `a`: [n][2][PD_FFT_LANES]. Whichever of a and b is returned holds the transform; the other,
 * and what lies behind n, holds rubbish. */
double *pd_fft_forward(const struct pd_fft *fft, double *a, double *b);
double *pd_fft_inverse(const struct pd_fft *fft, double *a, double *b);

/* `a`: [n][PD_FFT_LANES]. Returned: [n / 2 + 1][2][PD_FFT_LANES], in a or b. */
double *pd_rfft_forward(const struct pd_rfft *fft, double *a, double *b);

#endif
