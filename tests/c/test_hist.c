/* pd_hist against exact quantiles of the same numbers. */
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "pd_hist.h"

enum { N = 20000 };

static uint64_t seed = 88172645463325252ull;

static double draw(void)                            /* xorshift64, [0, 1) */
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (double)(seed >> 11) / (double)(1ull << 53);
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void test_quantiles_are_exact_to_one_part_in_32(void)
{
    static struct pd_hist hist;
    static int64_t value[N];
    static const double q[] = { 0.0, 1e-4, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0 };
    pd_hist_init(&hist, 1000);
    for (int i = 0; i < N; i++) {
        value[i] = (int64_t)pow(10.0, 12.6 * draw());
        pd_hist_add(&hist, value[i]);
    }
    qsort(value, N, sizeof *value, ascending);
    for (unsigned k = 0; k < sizeof q / sizeof *q; k++) {
        int rank = (int)ceil(q[k] * N);
        int64_t exact = value[rank ? rank - 1 : 0], got = pd_hist_quantile(&hist, q[k]);
        CHECK(got >= exact && (double)got <= (double)exact * (1 + 1.0 / 32), "q %g: %lld for %lld",
              q[k], (long long)got, (long long)exact);
    }
    CHECK(pd_hist_quantile(&hist, 1.0) == value[N - 1], "the maximum is exact");
    CHECK(hist.max_ns == value[N - 1] && hist.count == N);
}

static void test_small_values_are_exact(void)
{
    static struct pd_hist hist;
    pd_hist_init(&hist, 0);
    for (int64_t ns = 0; ns < 64; ns++) pd_hist_add(&hist, ns);
    for (int64_t ns = 0; ns < 64; ns++)
        CHECK(pd_hist_quantile(&hist, (double)(ns + 1) / 64) == ns);
}

/* Every power of two, and its neighbours, lie in a bucket that holds them. */
static void test_bucket_edges(void)
{
    for (int bit = 1; bit < PD_HIST_TOP_BIT; bit++) {
        for (int64_t off = -1; off <= 1; off++) {
            static struct pd_hist hist;
            pd_hist_init(&hist, 0);
            int64_t ns = (1ll << bit) + off;
            pd_hist_add(&hist, ns);
            pd_hist_add(&hist, 1ll << 45);          /* so that the maximum hides nothing */
            int64_t got = pd_hist_quantile(&hist, 0.5);
            CHECK(got >= ns && got - ns <= ns / 32, "%lld: %lld", (long long)ns, (long long)got);
        }
    }
}

static void test_what_is_out_of_range(void)
{
    static struct pd_hist hist;
    pd_hist_init(&hist, 100);
    CHECK(pd_hist_quantile(&hist, 0.5) == 0, "empty");
    pd_hist_add(&hist, -5);
    CHECK(pd_hist_quantile(&hist, 1.0) == 0 && hist.max_ns == 0 && hist.missed == 0);
    pd_hist_add(&hist, INT64_MAX);
    CHECK(hist.max_ns == INT64_MAX && hist.count == 2);
    CHECK(pd_hist_quantile(&hist, 1.0) >= (1ll << PD_HIST_TOP_BIT) - 1);
}

static void test_over_the_deadline_is_missed(void)
{
    static struct pd_hist hist;
    pd_hist_init(&hist, 100);
    pd_hist_add(&hist, 99);
    pd_hist_add(&hist, 100);
    CHECK(hist.missed == 0);
    pd_hist_add(&hist, 101);
    CHECK(hist.missed == 1 && hist.count == 3);
}

/* -- a reader beside the owner ------------------------------------------------- */

static struct pd_hist shared;
static _Atomic int done;

static void *add(void *unused)
{
    (void)unused;
    for (int i = 0; i < 300000; i++) pd_hist_add(&shared, 1000 + i % 1000);
    atomic_store(&done, 1);
    return NULL;
}

static void test_a_reader_beside_the_owner_sees_values_that_were_added(void)
{
    pd_hist_init(&shared, 1500);
    pthread_t owner;
    pthread_create(&owner, NULL, add, NULL);
    uint64_t count = 0;
    int wrong = 0;
    do {
        int64_t p50 = pd_hist_quantile(&shared, 0.5);
        uint64_t now = atomic_load(&shared.count);
        wrong += p50 != 0 && (p50 < 1000 || p50 >= 2000);
        wrong += now < count;
        count = now;
    } while (!atomic_load(&done));
    pthread_join(owner, NULL);
    CHECK(wrong == 0, "%d", wrong);
    CHECK(shared.count == 300000 && shared.missed == 300 * 499, "%llu",
          (unsigned long long)shared.missed);
}

int main(void)
{
    test_quantiles_are_exact_to_one_part_in_32();
    test_small_values_are_exact();
    test_bucket_edges();
    test_what_is_out_of_range();
    test_over_the_deadline_is_missed();
    test_a_reader_beside_the_owner_sees_values_that_were_added();
    return check_report("hist");
}
