/* pd_slab: blocks of one size together, zeroed again, and given back to the system. */
#include <stdint.h>
#include <string.h>

#include "check.h"
#include "pd_slab.h"

static int is_zero(const uint8_t *at, size_t n)
{
    while (n--)
        if (*at++) return 0;
    return 1;
}

static void test_blocks_lie_apart_zeroed_and_on_a_cache_line(void)
{
    enum { N = 128, BYTES = 70001 };
    struct pd_slab slab = { 0 };
    uint8_t *block[N];
    for (int i = 0; i < N; i++) {
        block[i] = pd_slab_take(&slab, BYTES);
        CHECK(block[i] && (uintptr_t)block[i] % 64 == 0 && is_zero(block[i], BYTES));
        memset(block[i], i + 1, BYTES);
    }
    for (int i = 0; i < N; i++)
        for (int at = 0; at < BYTES; at += 1000) CHECK(block[i][at] == (uint8_t)(i + 1));
    /* One that is taken again is the one that came back, and zeroed. */
    pd_slab_give(&slab, block[77]);
    CHECK(pd_slab_take(&slab, BYTES) == block[77] && is_zero(block[77], BYTES));
    for (int i = 0; i < N; i++) pd_slab_give(&slab, block[i]);
    CHECK(slab.chunks == NULL);
}

static void test_sizes_do_not_mix(void)
{
    struct pd_slab slab = { 0 };
    uint8_t *small = pd_slab_take(&slab, 1), *large = pd_slab_take(&slab, 5 * PD_SLAB_PAGE + 1);
    CHECK(small && large && is_zero(large, 5 * PD_SLAB_PAGE + 1));
    CHECK((uintptr_t)large % PD_SLAB_PAGE == 0);    /* where a huge page can begin */
    uint8_t *after = pd_slab_take(&slab, 64);
    CHECK(after == small + 64);
    pd_slab_give(&slab, small);
    pd_slab_give(&slab, large);
    pd_slab_give(&slab, NULL);
    CHECK(slab.chunks != NULL);
    pd_slab_give(&slab, after);
    CHECK(slab.chunks == NULL);
    CHECK(pd_slab_take(&slab, 0) == NULL);
}

static void test_a_size_that_there_is_not_is_refused(void)
{
    struct pd_slab slab = { 0 };
    CHECK(pd_slab_take(&slab, SIZE_MAX / 2) == NULL);
    CHECK(slab.chunks == NULL);
}

int main(void)
{
    test_blocks_lie_apart_zeroed_and_on_a_cache_line();
    test_sizes_do_not_mix();
    test_a_size_that_there_is_not_is_refused();
    return check_report("slab");
}
