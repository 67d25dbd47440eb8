/* Random numbers, the same in each run: Knuth's multiplier modulo 2^64 (MMIX). */
#ifndef RANDOM_H
#define RANDOM_H

#include "block.h"

#include <stddef.h>
#include <stdint.h>

static uint64_t random_state = 1;

static double uniform(void)         /* in [0, 1) */
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(random_state >> 11) * 0x1p-53;
}

static uint32_t below(uint32_t n)
{
    return (uint32_t)(uniform() * n);
}

static double *noise(size_t n)      /* in [-0.5, 0.5), the caller frees it */
{
    double *x = block(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = uniform() - 0.5;
    return x;
}

#endif
