/* The plan: which passes, and their tables. */
#include "pd_fft.h"

#include <errno.h>
#include <string.h>

#include "pd_noise.h"

static uint32_t without_2_3_5(uint32_t n)
{
    while (n % 2 == 0) n /= 2;
    while (n % 3 == 0) n /= 3;
    while (n % 5 == 0) n /= 5;
    return n;
}

/* Bluestein's convolution has n products on either side of the first. */
static uint32_t room_of(uint32_t n)
{
    if (without_2_3_5(n) == 1) return n;
    uint32_t room = 2 * n - 1;
    while (without_2_3_5(room) != 1) room++;
    return room;
}

static int is_length(uint32_t n)
{
    return n >= 1 && n <= PD_FFT_MAX;
}

static size_t doubles_of(uint32_t n)
{
    uint32_t room = room_of(n);
    return 2 * (size_t)room + (room != n ? 2 * ((size_t)n + room) : 0);
}

size_t pd_fft_table_bytes(uint32_t n)
{
    return is_length(n) ? doubles_of(n) * sizeof(double) : 0;
}

size_t pd_fft_buffer_bytes(uint32_t n)
{
    return is_length(n) ? (size_t)room_of(n) * 2 * PD_FFT_LANES * sizeof(double) : 0;
}

/* exp(-2 pi i part / whole) for part < whole <= 2 PD_FFT_MAX, the angle exact to 2^-64 turns. */
static void turn(uint64_t part, uint64_t whole, double *z)
{
    uint64_t high = (part << 40) / whole, rest = (part << 40) % whole;
    uint64_t phase = (high << 24) + (rest << 24) / whole;
    pd_noise_sincos(0 - phase, &z[1], &z[0]);
}

static uint32_t plan_passes(uint32_t n, uint8_t *radix)
{
    static const uint8_t radices[] = {4, 2, 3, 5};
    uint32_t count = 0;
    for (uint32_t i = 0; i < sizeof radices; i++) {
        while (n % radices[i] == 0) {
            radix[count++] = radices[i];
            n /= radices[i];
        }
    }
    return count;
}

/* The chirp repeats after 2n: k² is taken modulo that, so its angle is exact, too. */
static void make_chirp(const struct pd_fft *fft, double *chirp)
{
    for (uint64_t k = 0; k < fft->n; k++) turn(k * k % (2ull * fft->n), 2ull * fft->n, &chirp[2 * k]);
}

static void make_filter(struct pd_fft *fft, double *filter, double *a, double *b)
{
    const size_t row = 2 * PD_FFT_LANES;
    memset(a, 0, fft->room * row * sizeof *a);
    for (uint32_t k = 0; k < fft->n; k++) {
        double re = fft->chirp[2 * k], im = -fft->chirp[2 * k + 1];
        uint32_t mirrored = k == 0 ? 0 : fft->room - k;
        a[k * row] = a[mirrored * row] = re;
        a[k * row + PD_FFT_LANES] = a[mirrored * row + PD_FFT_LANES] = im;
    }
    const double *chirp = fft->chirp;
    uint32_t n = fft->n;
    fft->chirp = NULL;              /* the passes alone, over the whole room */
    fft->n = fft->room;
    const double *transform = pd_fft_forward(fft, a, b);
    fft->chirp = chirp;
    fft->n = n;
    for (uint32_t k = 0; k < fft->room; k++) {
        filter[2 * k] = transform[k * row] / fft->room;
        filter[2 * k + 1] = transform[k * row + PD_FFT_LANES] / fft->room;
    }
}

int pd_fft_init(struct pd_fft *fft, uint32_t n, void *tables, size_t table_bytes, double *a,
                double *b)
{
    if (!is_length(n) || table_bytes < pd_fft_table_bytes(n)) return -EINVAL;
    if ((uintptr_t)tables % sizeof(double)) return -EINVAL;
    double *turns = tables;
    *fft = (struct pd_fft){.n = n, .room = room_of(n), .turns = turns};
    fft->n_passes = plan_passes(fft->room, fft->radix);
    for (uint32_t k = 0; k < fft->room; k++) turn(k, fft->room, &turns[2 * k]);
    if (fft->room == n) return 0;
    double *chirp = turns + 2 * (size_t)fft->room, *filter = chirp + 2 * (size_t)n;
    fft->chirp = chirp;
    fft->filter = filter;
    make_chirp(fft, chirp);
    make_filter(fft, filter, a, b);
    return 0;
}

/* -- of real numbers: an even number of them are half as many complex ones --------------- */

static uint32_t complex_of(uint32_t n)
{
    return n % 2 ? n : n / 2;
}

static size_t split_doubles(uint32_t n)
{
    return n % 2 ? 0 : 2 * ((size_t)n / 4 + 1);
}

size_t pd_rfft_table_bytes(uint32_t n)
{
    if (!is_length(n)) return 0;
    return pd_fft_table_bytes(complex_of(n)) + split_doubles(n) * sizeof(double);
}

static uint32_t real_room(uint32_t n)
{
    uint32_t room = room_of(complex_of(n)), bins = n / 2 + 1;
    return room > bins ? room : bins;
}

size_t pd_rfft_buffer_bytes(uint32_t n)
{
    return is_length(n) ? (size_t)real_room(n) * 2 * PD_FFT_LANES * sizeof(double) : 0;
}

int pd_rfft_init(struct pd_rfft *fft, uint32_t n, void *tables, size_t table_bytes, double *a,
                 double *b)
{
    if (!is_length(n) || table_bytes < pd_rfft_table_bytes(n)) return -EINVAL;
    if ((uintptr_t)tables % sizeof(double)) return -EINVAL;
    *fft = (struct pd_rfft){.n = n, .room = real_room(n)};
    double *split = tables;
    size_t split_bytes = split_doubles(n) * sizeof(double);
    for (uint32_t k = 0; k < split_doubles(n) / 2; k++) turn(k, n, &split[2 * k]);
    if (split_bytes > 0) fft->split = split;
    return pd_fft_init(&fft->complex, complex_of(n), (unsigned char *)tables + split_bytes,
                       table_bytes - split_bytes, a, b);
}
