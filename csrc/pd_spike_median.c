/* The exact median of one sample's channels, by counting how many lie below a pivot.
 *
 * Each pass also finds the largest below and the smallest from the pivot on, so a pivot that lands in the
 * gap between the two middle values ends the search, and each pass narrows it to values that are
 * there. The average is a first guess some ten ranks off, for a thousand channels of noise with anything
 * in common; the next pivot is as many ranks further as are missing, by the density that was last seen, then
 * between the brackets in proportion. About five passes of 1,024 comparisons, whatever the
 * values: after PASSES the bracket is halved, which ends within 32 more. */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "pd_simd.h"
#include "pd_spike_state.h"

#define PASSES 16

static inline float value_of(int32_t key)
{
    const int32_t bits = pd_spike_key(key);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int32_t key_of(float value)
{
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return pd_spike_key(bits);
}

struct split {
    int32_t below;                  /* how many keys are less than the pivot */
    int32_t largest_below, smallest_above;
};

static inline __attribute__((always_inline))
struct split split_at(const int32_t *keys, uint32_t n, int32_t pivot)
{
    int32_t below = 0, largest = INT32_MIN, smallest = INT32_MAX;
    for (uint32_t i = 0; i < n; i++) {
        /* Masks, as GCC 12 makes no vectors of the same with conditions. */
        const int32_t key = keys[i], is = -(key < pivot);
        const int32_t less = (key & is) | (INT32_MIN & ~is);
        const int32_t more = (key & ~is) | (INT32_MAX & is);
        below -= is;
        largest = less > largest ? less : largest;
        smallest = more < smallest ? more : smallest;
    }
    return (struct split){below, largest, smallest};
}

PD_MULTIVERSION
float pd_spike_median(const int32_t *keys, uint32_t n_padded, uint32_t count, float guess,
                      float *slope)
{
    const int32_t first = (int32_t)(count - 1) / 2, second = (int32_t)count / 2;
    int32_t low = INT32_MIN, high = INT32_MAX - 1;          /* low <= both <= high */
    int32_t low_rank = -1, high_rank = -1;                  /* of low and high, once known */
    int32_t pivot = key_of(guess);
    float before = 0;
    int32_t before_below = -1;
    for (uint32_t pass = 0;; pass++) {
        const struct split s = split_at(keys, n_padded, pivot);
        if (s.below > first && s.below <= second)           /* in the gap of an even number */
            return (value_of(s.largest_below) + value_of(s.smallest_above)) * 0.5f;
        if (s.below <= first) {
            low = s.smallest_above;
            low_rank = s.below;
        } else {
            high = s.largest_below;
            high_rank = s.below - 1;
        }
        if (low == high || (first == second && low_rank == first)) return value_of(low);
        if (first == second && high_rank == first) return value_of(high);

        const float at = value_of(pivot);
        const int32_t ranks = s.below - before_below;
        if (before_below >= 0 && ranks != 0) {
            const float seen = (at - before) / (float)ranks;
            *slope = *slope > 0 ? *slope + (seen - *slope) * 0.125f : seen;
        }
        before = at;
        before_below = s.below;

        if (pass >= PASSES) {
            pivot = (int32_t)(low + ((int64_t)high - low + 1) / 2);
        } else if (low_rank >= 0 && second - low_rank == 1) {
            pivot = low + 1;
        } else if (high_rank >= 0 && high_rank == second) {
            pivot = high;
        } else if (low_rank >= 0 && high_rank >= 0) {
            const float share = ((float)(second - low_rank) - 0.5f) / (float)(high_rank - low_rank);
            const float from = value_of(low);
            pivot = key_of(from + (value_of(high) - from) * share);
        } else {
            const float step = *slope > 0 ? *slope : (fabsf(at) + 1) / (float)count;
            /* Further with each pass, so that a wrong density can't keep it on one side. */
            pivot = key_of(at + (float)(second - s.below) * step * (float)(1u << pass));
        }
        if (pivot <= low) pivot = low + 1;
        if (pivot > high) pivot = high;
    }
}
