#include "pd_hist.h"

#define SUB (1u << PD_HIST_SUB_BITS)

static unsigned bucket_of(uint64_t ns)
{
    if (ns < SUB) return (unsigned)ns;
    unsigned top = 63u - (unsigned)__builtin_clzll(ns);
    if (top >= PD_HIST_TOP_BIT) return PD_HIST_BUCKETS - 1;
    unsigned shift = top - PD_HIST_SUB_BITS;
    return ((shift + 1) << PD_HIST_SUB_BITS) + (unsigned)((ns >> shift) & (SUB - 1));
}

static int64_t upper_edge(unsigned bucket)
{
    if (bucket < SUB) return bucket;
    unsigned shift = (bucket >> PD_HIST_SUB_BITS) - 1;
    uint64_t base = SUB + (bucket & (SUB - 1));
    return (int64_t)(((base + 1) << shift) - 1);
}

static void bump(_Atomic uint64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

void pd_hist_init(struct pd_hist *hist, int64_t deadline_ns)
{
    hist->deadline_ns = deadline_ns;
    atomic_init(&hist->count, 0);
    atomic_init(&hist->missed, 0);
    atomic_init(&hist->max_ns, 0);
    for (unsigned i = 0; i < PD_HIST_BUCKETS; i++) atomic_init(&hist->bucket[i], 0);
}

void pd_hist_add(struct pd_hist *hist, int64_t ns)
{
    if (ns < 0) ns = 0;
    bump(&hist->bucket[bucket_of((uint64_t)ns)]);
    if (ns > atomic_load_explicit(&hist->max_ns, memory_order_relaxed))
        atomic_store_explicit(&hist->max_ns, ns, memory_order_relaxed);
    if (ns > hist->deadline_ns) bump(&hist->missed);
    bump(&hist->count);
}

int64_t pd_hist_quantile(const struct pd_hist *hist, double q)
{
    /* Totalled here instead of trusting `count`: the owner may be between its
     * two stores, and a rank beyond the buckets would read as the maximum. */
    uint64_t total = 0;
    for (unsigned i = 0; i < PD_HIST_BUCKETS; i++)
        total += atomic_load_explicit(&hist->bucket[i], memory_order_relaxed);
    if (total == 0) return 0;
    double exact = q * (double)total;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact || rank == 0) rank++;
    int64_t max_ns = atomic_load_explicit(&hist->max_ns, memory_order_relaxed);
    uint64_t below = 0;
    for (unsigned i = 0; i < PD_HIST_BUCKETS; i++) {
        below += atomic_load_explicit(&hist->bucket[i], memory_order_relaxed);
        if (below >= rank) {
            int64_t edge = upper_edge(i);
            return edge < max_ns ? edge : max_ns;
        }
    }
    return max_ns;
}

static uint64_t grown(const _Atomic uint64_t *now, _Atomic uint64_t *before)
{
    uint64_t count = atomic_load_explicit(now, memory_order_relaxed);
    uint64_t by = count - atomic_load_explicit(before, memory_order_relaxed);
    atomic_store_explicit(before, count, memory_order_relaxed);
    return by;
}

void pd_hist_since(const struct pd_hist *hist, struct pd_hist *before, struct pd_hist *since)
{
    pd_hist_init(since, hist->deadline_ns);
    uint64_t total = 0;
    int64_t max_ns = 0;
    int64_t ever_ns = atomic_load_explicit(&hist->max_ns, memory_order_relaxed);
    for (unsigned i = 0; i < PD_HIST_BUCKETS; i++) {
        uint64_t by = grown(&hist->bucket[i], &before->bucket[i]);
        atomic_store_explicit(&since->bucket[i], by, memory_order_relaxed);
        total += by;
        if (by) max_ns = upper_edge(i);
    }
    atomic_store_explicit(&since->count, total, memory_order_relaxed);
    atomic_store_explicit(&since->missed, grown(&hist->missed, &before->missed),
                          memory_order_relaxed);
    atomic_store_explicit(&since->max_ns, max_ns < ever_ns ? max_ns : ever_ns,
                          memory_order_relaxed);
}
