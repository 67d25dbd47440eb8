/* Vectors are the compiler's own (vector_size), as in pd_sos_run.c, and as wide: sums over
 * samples have to stay in registers. Each sum adds its samples oldest first, whatever the lanes. */
#include "pd_cca_sums.h"

#include <string.h>

#include "pd_cca.h"
#include "pd_simd.h"

#define INLINED static inline __attribute__((always_inline))
#define WIDTH 4                     /* lanes of a vector: PD_CCA_LANES is a multiple */
#define TILE 6                      /* channels at a time: sums enough to hide an addition's latency */
#define MOST_PARTS 5

typedef double lanes __attribute__((vector_size(WIDTH * sizeof(double)), aligned(sizeof(double)),
                                    may_alias));

#define AT(pointer, place) (*(lanes *)((pointer) + (place)))
#define READ(pointer, place) (*(const lanes *)((pointer) + (place)))

/* `tile` is a constant at each call, so the sums become registers. */
INLINED void gather_tile(const uint32_t tile, double *cross, uint32_t width, const double *x,
                         uint32_t stride, const double *rows, uint32_t n)
{
    for (uint32_t r = 0; r < width; r += WIDTH) {
        lanes sum[TILE];
        for (uint32_t c = 0; c < tile; c++) sum[c] = READ(cross, (size_t)c * width + r);
        for (uint32_t row = 0; row < n; row++) {
            lanes reference = READ(rows, (size_t)row * width + r);
            for (uint32_t c = 0; c < tile; c++) sum[c] += x[(size_t)row * stride + c] * reference;
        }
        for (uint32_t c = 0; c < tile; c++) AT(cross, (size_t)c * width + r) = sum[c];
    }
}

INLINED void gather_cross(const struct pd_cca_shape *shape, double *cross, const double *x,
                          const double *rows, uint32_t n)
{
    uint32_t left = shape->n_channels, tiles = (left + TILE - 1) / TILE;
    for (; tiles; tiles--) {
        uint32_t tile = (left + tiles - 1) / tiles;         /* nine channels: five and four */
        switch (tile) {
        case 1: gather_tile(1, cross, shape->width, x, shape->channel_lanes, rows, n); break;
        case 2: gather_tile(2, cross, shape->width, x, shape->channel_lanes, rows, n); break;
        case 3: gather_tile(3, cross, shape->width, x, shape->channel_lanes, rows, n); break;
        case 4: gather_tile(4, cross, shape->width, x, shape->channel_lanes, rows, n); break;
        case 5: gather_tile(5, cross, shape->width, x, shape->channel_lanes, rows, n); break;
        default: gather_tile(6, cross, shape->width, x, shape->channel_lanes, rows, n); break;
        }
        x += tile;
        cross += (size_t)tile * shape->width;
        left -= tile;
    }
}

PD_MULTIVERSION
void pd_cca_gather(const struct pd_cca_shape *shape, double *into, const double *samples,
                   const double *rows, uint32_t n, int first, double *centred)
{
    struct pd_cca_node node = pd_cca_node(shape, into);
    uint32_t padded = shape->channel_lanes;
    if (first) {
        memset(into, 0, pd_cca_node_doubles(shape) * sizeof *into);
        memcpy(node.base, samples, padded * sizeof *samples);
    }
    for (uint32_t row = 0; row < n; row++) {
        const double *in = samples + (size_t)row * padded;
        double *x = centred + (size_t)row * padded;
        for (uint32_t c = 0; c < padded; c += WIDTH) {
            AT(x, c) = READ(in, c) - READ(node.base, c);
            AT(node.mean, c) += READ(x, c);
        }
        for (uint32_t i = 0; i < shape->n_channels; i++) {
            for (uint32_t c = 0; c < padded; c += WIDTH) {
                AT(node.gram, (size_t)i * padded + c) += x[i] * READ(x, c);
            }
        }
    }
    gather_cross(shape, node.cross, centred, rows, n);
}

/* Cosines and sines, both in the node's own phase, into that of all time. */
INLINED void turn(double *row, uint32_t half, const double *rotation)
{
    for (uint32_t r = 0; r < half; r += WIDTH) {
        lanes cosine = READ(row, r), sine = READ(row, half + r);
        lanes c = READ(rotation, r), s = READ(rotation, half + r);
        AT(row, r) = cosine * c - sine * s;
        AT(row, half + r) = sine * c + cosine * s;
    }
}

PD_MULTIVERSION
void pd_cca_finish(const struct pd_cca_shape *shape, double *into, const double *node, uint32_t n,
                   const double *from, const double *until, const double *rotation)
{
    struct pd_cca_node raw = pd_cca_node(shape, node), out = pd_cca_node(shape, into);
    uint32_t padded = shape->channel_lanes, width = shape->width, half = width / 2;
    *out.n = n;
    memmove(out.base, raw.base, padded * sizeof *out.base);
    for (uint32_t c = 0; c < padded; c += WIDTH) AT(out.mean, c) = READ(raw.mean, c) / (double)n;
    for (uint32_t r = 0; r < width; r += WIDTH) AT(out.sums, r) = READ(until, r) - READ(from, r);
    for (uint32_t i = 0; i < shape->n_channels; i++) {
        double mean = out.mean[i], weight = n * mean;
        for (uint32_t c = 0; c < padded; c += WIDTH) {
            size_t place = (size_t)i * padded + c;
            AT(out.gram, place) = READ(raw.gram, place) - weight * READ(out.mean, c);
        }
        double *cross = out.cross + (size_t)i * width;
        for (uint32_t r = 0; r < width; r += WIDTH) {
            AT(cross, r) = READ(raw.cross, (size_t)i * width + r) - mean * READ(out.sums, r);
        }
        turn(cross, half, rotation);
    }
    turn(out.sums, half, rotation);
}

INLINED void combine(const uint32_t n_parts, const struct pd_cca_shape *shape, double *into,
                     const double *const *parts)
{
    struct pd_cca_node out = pd_cca_node(shape, into), node[MOST_PARTS];
    uint32_t padded = shape->channel_lanes, width = shape->width;
    double shift[MOST_PARTS][PD_CCA_MAX_CHANNELS], n[MOST_PARTS], total = 0;
    double mean[PD_CCA_MAX_CHANNELS] = {0};
    for (uint32_t p = 0; p < n_parts; p++) {
        node[p] = pd_cca_node(shape, parts[p]);
        n[p] = *node[p].n;
        total += n[p];
        for (uint32_t c = 0; c < padded; c++) {
            shift[p][c] = (node[p].base[c] - node[0].base[c]) + node[p].mean[c];
            mean[c] += n[p] * shift[p][c];
        }
    }
    for (uint32_t c = 0; c < padded; c++) {
        mean[c] /= total;
        for (uint32_t p = 0; p < n_parts; p++) shift[p][c] -= mean[c];
    }
    for (uint32_t i = 0; i < shape->n_channels; i++) {
        for (uint32_t c = 0; c < padded; c += WIDTH) {
            size_t place = (size_t)i * padded + c;
            lanes sum = READ(node[0].gram, place) + n[0] * shift[0][i] * READ(shift[0], c);
            for (uint32_t p = 1; p < n_parts; p++) {
                sum += READ(node[p].gram, place) + n[p] * shift[p][i] * READ(shift[p], c);
            }
            AT(out.gram, place) = sum;
        }
        for (uint32_t r = 0; r < width; r += WIDTH) {
            size_t place = (size_t)i * width + r;
            lanes sum = READ(node[0].cross, place) + shift[0][i] * READ(node[0].sums, r);
            for (uint32_t p = 1; p < n_parts; p++) {
                sum += READ(node[p].cross, place) + shift[p][i] * READ(node[p].sums, r);
            }
            AT(out.cross, place) = sum;
        }
    }
    for (uint32_t r = 0; r < width; r += WIDTH) {
        lanes sum = READ(node[0].sums, r);
        for (uint32_t p = 1; p < n_parts; p++) sum += READ(node[p].sums, r);
        AT(out.sums, r) = sum;
    }
    *out.n = total;
    memmove(out.base, node[0].base, padded * sizeof *out.base);
    memcpy(out.mean, mean, padded * sizeof *mean);
}

PD_MULTIVERSION
void pd_cca_combine(const struct pd_cca_shape *shape, double *into, const double *const *parts,
                    uint32_t n_parts)
{
    switch (n_parts) {
    case 1: if (into != parts[0]) memcpy(into, parts[0], pd_cca_node_doubles(shape) * 8); break;
    case 2: combine(2, shape, into, parts); break;
    case 3: combine(3, shape, into, parts); break;
    case 4: combine(4, shape, into, parts); break;
    default: combine(5, shape, into, parts); break;
    }
}

PD_MULTIVERSION
void pd_cca_overtones(const struct pd_cca_shape *shape, double *rotation)
{
    uint32_t stride = shape->target_lanes;
    double *cosines = rotation, *sines = rotation + (size_t)shape->n_harmonics * stride;
    for (uint32_t h = 1; h < shape->n_harmonics; h++) {
        size_t at = (size_t)h * stride, before = at - stride;
        for (uint32_t t = 0; t < stride; t += WIDTH) {
            lanes c = READ(cosines, before + t), s = READ(sines, before + t);
            AT(cosines, at + t) = c * READ(cosines, t) - s * READ(sines, t);
            AT(sines, at + t) = s * READ(cosines, t) + c * READ(sines, t);
        }
    }
}
