/* pd_spsc: records whole and in order, or dropped and counted. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "check.h"
#include "pd_spsc.h"

/* A record of n bytes whose content is a function of its number. */
static uint32_t make(uint32_t number, uint8_t *out)
{
    uint32_t n = 4 + number * 7919 % 57;
    memcpy(out, &number, 4);
    for (uint32_t i = 4; i < n; i++) out[i] = (uint8_t)(number * 31 + i);
    return n;
}

static int is_record(uint32_t number, const uint8_t *bytes, int64_t n)
{
    uint8_t expected[64];
    return n == make(number, expected) && memcmp(bytes, expected, (size_t)n) == 0;
}

static void test_init_refuses(void)
{
    static uint8_t buffer[64];
    struct pd_spsc queue;
    CHECK(pd_spsc_init(&queue, buffer, 0) == -EINVAL);
    CHECK(pd_spsc_init(&queue, buffer, 8) == -EINVAL);
    CHECK(pd_spsc_init(&queue, buffer, 48) == -EINVAL);
    CHECK(pd_spsc_init(&queue, buffer, 64) == 0);
}

static void test_records_wrap_around_the_end(void)
{
    static uint8_t buffer[128];
    struct pd_spsc queue;
    uint8_t record[64], out[64];
    pd_spsc_init(&queue, buffer, sizeof buffer);
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t n = make(i, record), head = n * (i % 3) / 2;       /* 0, half, all */
        CHECK(pd_spsc_put(&queue, record, head, record + head, n - head) == 0);
        CHECK(is_record(i, out, pd_spsc_take(&queue, out, sizeof out)), "record %u", i);
    }
    CHECK(pd_spsc_take(&queue, out, sizeof out) == 0);
    CHECK(queue.dropped == 0);
}

static void test_what_does_not_fit_is_dropped_whole(void)
{
    static uint8_t buffer[64];
    struct pd_spsc queue;
    uint8_t record[64] = { 1 }, out[64];
    pd_spsc_init(&queue, buffer, sizeof buffer);
    CHECK(pd_spsc_put(&queue, NULL, 0, record, 61) == -ENOSPC, "more than the buffer");
    CHECK(pd_spsc_put(&queue, record, 20, record, 20) == 0);
    CHECK(pd_spsc_put(&queue, record, 17, NULL, 0) == -ENOSPC, "one byte too many");
    CHECK(pd_spsc_put(&queue, record, 16, NULL, 0) == 0, "to the last byte");
    CHECK(pd_spsc_put(&queue, record, UINT32_MAX, record, UINT32_MAX) == -ENOSPC);
    CHECK(queue.dropped == 3);
    CHECK(pd_spsc_take(&queue, out, sizeof out) == 40);
    CHECK(pd_spsc_take(&queue, out, sizeof out) == 16);
    CHECK(pd_spsc_take(&queue, out, sizeof out) == 0);
    CHECK(pd_spsc_put(&queue, record, 60, NULL, 0) == 0, "all of it is free again");
}

static void test_a_record_too_big_for_the_consumer_stays(void)
{
    static uint8_t buffer[64];
    struct pd_spsc queue;
    uint8_t record[64], out[64];
    pd_spsc_init(&queue, buffer, sizeof buffer);
    uint32_t n = make(3, record);
    pd_spsc_put(&queue, record, n, NULL, 0);
    CHECK(pd_spsc_take(&queue, out, n - 1) == -EMSGSIZE);
    CHECK(is_record(3, out, pd_spsc_take(&queue, out, n)));
}

/* -- two threads ----------------------------------------------------------------- */

enum { RECORDS = 200000 };

static struct pd_spsc shared;
static _Atomic int done;

static void *produce(void *refused)
{
    uint8_t record[64];
    for (uint32_t i = 0; i < RECORDS; i++) {
        uint32_t n = make(i, record);
        *(uint64_t *)refused += pd_spsc_put(&shared, record, 4, record + 4, n - 4) != 0;
        if (i % 64 == 0) sched_yield();
    }
    atomic_store(&done, 1);
    return NULL;
}

static void test_a_consumer_beside_the_producer(void)
{
    static uint8_t buffer[1024];
    uint64_t refused = 0, taken = 0, wrong = 0;
    pd_spsc_init(&shared, buffer, sizeof buffer);
    pthread_t producer;
    pthread_create(&producer, NULL, produce, &refused);
    uint8_t out[64];
    uint32_t least = 0;
    for (;;) {
        int last = atomic_load(&done);
        int64_t n = pd_spsc_take(&shared, out, sizeof out);
        if (n == 0) {
            if (last) break;
            sched_yield();
            continue;
        }
        uint32_t number;
        memcpy(&number, out, 4);
        wrong += number < least || !is_record(number, out, n);
        least = number + 1;
        taken++;
    }
    pthread_join(producer, NULL);
    CHECK(wrong == 0, "%llu", (unsigned long long)wrong);
    CHECK(taken + refused == RECORDS && shared.dropped == refused);
    CHECK(taken > 0);
}

int main(void)
{
    test_init_refuses();
    test_records_wrap_around_the_end();
    test_what_does_not_fit_is_dropped_whole();
    test_a_record_too_big_for_the_consumer_stays();
    test_a_consumer_beside_the_producer();
    return check_report("spsc");
}
