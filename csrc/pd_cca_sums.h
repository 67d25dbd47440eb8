/* Sums over a stretch of samples, and how stretches are joined: pd_cca's arithmetic.
 * A node is one stretch: gathered, it has sums where `mean` is, all of them about base and in the
 * block's own phase; finished, it is what the struct says. Stateless; any thread; nothing allocates
 * or fails. All arrays are 8-byte aligned; channels and targets padded to eight, the padding
 * being 0. */
#ifndef PD_CCA_SUMS_H
#define PD_CCA_SUMS_H

#include <stddef.h>
#include <stdint.h>

struct pd_cca_shape {
    uint32_t n_channels, channel_lanes, target_lanes, n_harmonics;
    uint32_t width;                 /* 2 × n_harmonics × target_lanes: cosines, then sines */
};

struct pd_cca_node {
    double *n;                      /* samples */
    double *base;                   /* [channel_lanes] the first sample */
    double *mean;                   /* [channel_lanes] less base */
    double *gram;                   /* [n_channels][channel_lanes] about the mean */
    double *sums;                   /* [width] of the references */
    double *cross;                  /* [n_channels][width], samples less mean × references */
};

static inline size_t pd_cca_node_doubles(const struct pd_cca_shape *shape)
{
    return 8 + 2 * (size_t)shape->channel_lanes
           + (size_t)shape->n_channels * shape->channel_lanes
           + (1 + (size_t)shape->n_channels) * shape->width;
}

static inline struct pd_cca_node pd_cca_node(const struct pd_cca_shape *shape, const double *place)
{
    struct pd_cca_node node = {.n = (double *)(uintptr_t)place};
    node.base = node.n + 8;
    node.mean = node.base + shape->channel_lanes;
    node.gram = node.mean + shape->channel_lanes;
    node.sums = node.gram + (size_t)shape->n_channels * shape->channel_lanes;
    node.cross = node.sums + shape->width;
    return node;
}

/* Adds n samples [n][channel_lanes] with references rows [n][width]. `first`: the node begins
 * here. centred: n × channel_lanes doubles to work in. */
void pd_cca_gather(const struct pd_cca_shape *shape, double *into, const double *samples,
                   const double *rows, uint32_t n, int first, double *centred);

/* A gathered node becomes a finished one: n samples, whose references sum to
 * `until` - `from`, in phases turned by `rotation`. into may be `node`. */
void pd_cca_finish(const struct pd_cca_shape *shape, double *into, const double *node, uint32_t n,
                   const double *from, const double *until, const double *rotation);

/* Finished nodes that follow each other, 1 to 5, as one; `into` may be any of them. */
void pd_cca_combine(const struct pd_cca_shape *shape, double *into, const double *const *parts,
                    uint32_t n_parts);

/* rotation [2][n_harmonics][target_lanes], fundamentals given: the other harmonics. */
void pd_cca_overtones(const struct pd_cca_shape *shape, double *rotation);

#endif
