/* Log-linear histogram of durations, for the deadline ledger.
 *
 * One owner thread adds; any thread may read at any time (each counter is a
 * relaxed atomic: a reader sees a count that was true a moment ago). Values
 * are nanoseconds, 0 .. 2^42 (73 minutes), kept to 1 part in 32; larger ones
 * count in the last bucket. Nothing allocates or fails.
 */
#ifndef PD_HIST_H
#define PD_HIST_H

#include <stdatomic.h>
#include <stdint.h>

#define PD_HIST_SUB_BITS 5
#define PD_HIST_TOP_BIT 42
#define PD_HIST_BUCKETS ((PD_HIST_TOP_BIT - PD_HIST_SUB_BITS + 1) << PD_HIST_SUB_BITS)

struct pd_hist {
    int64_t deadline_ns;                    /* > deadline counts as missed; set once */
    _Atomic uint64_t count;
    _Atomic uint64_t missed;
    _Atomic int64_t max_ns;
    _Atomic uint64_t bucket[PD_HIST_BUCKETS];
};

void pd_hist_init(struct pd_hist *hist, int64_t deadline_ns);

/* Owner thread. A negative duration (woken early) counts as 0. */
void pd_hist_add(struct pd_hist *hist, int64_t ns);

/* Any thread. The value below which the fraction q (0..1) of the counts lie,
 * at the upper edge of its bucket and never above the maximum; 0 when empty. */
int64_t pd_hist_quantile(const struct pd_hist *hist, double q);

/* Any one thread. `since` gets what was added since `before` was taken, and
 * `before` becomes what is there now; both have been through pd_hist_init. The
 * maximum is the upper edge of the highest bucket that grew. */
void pd_hist_since(const struct pd_hist *hist, struct pd_hist *before, struct pd_hist *since);

#endif
