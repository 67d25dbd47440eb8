/* Subscribers that answer every packet of port 7072, as many as one process can
 * hold: Python could not keep up with a thousand of them.
 *
 *   answering HOST PORT PREFIX FIRST N SECONDS SKIP_S PER_SESSION
 *
 * Opens N × PER_SESSION connections, attaches them to PREFIX-FIRST, PREFIX-FIRST+1, …, the first of
 * each session answers. Says one line a connection: session, packets, seconds between the
 * first and the last, p50, p99, p99.9 and max of |interval − 25 ms| in µs, numbers
 * that were jumped over, errors that came. Arrivals are stamped after the read. One line `ready` comes
 * before the counting begins, SKIP_S seconds after all are attached.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_NS 25000000LL
#define BUCKET_NS 10000LL
#define N_BUCKETS 10000             /* 100 ms */
#define ROOM 16384
#define READY 256

struct client {
    int fd, session, answers, attached;
    size_t n;
    int64_t first_ns, last_ns;
    uint64_t packets, jumped, errors, next_seq;
    int64_t worst_ns;
    uint16_t bucket[N_BUCKETS];
    uint8_t data[ROOM];
};

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static uint64_t number(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    while (bytes--) value = value << 8 | *at++;
    return value;
}

/* Bytes of the value at `at`, 0 when it is not all there. `items`: of a map or array. */
static size_t head(const uint8_t *at, size_t n, uint64_t *items)
{
    *items = 0;
    if (n == 0) return 0;
    uint8_t tag = at[0];
    size_t size = 1;
    if (tag <= 0x7f || tag >= 0xe0 || (tag >= 0xc0 && tag <= 0xc3)) size = 1;
    else if (tag <= 0x8f) *items = 2 * (tag & 15);
    else if (tag <= 0x9f) *items = tag & 15;
    else if (tag <= 0xbf) size = 1 + (tag & 31);
    else if (tag == 0xca || tag == 0xce || tag == 0xd2) size = 5;
    else if (tag == 0xcb || tag == 0xcf || tag == 0xd3) size = 9;
    else if (tag == 0xcc || tag == 0xd0) size = 2;
    else if (tag == 0xcd || tag == 0xd1) size = 3;
    else if (tag == 0xd9) { if (n < 2) return 0; size = 2 + at[1]; }
    else if (tag == 0xda) { if (n < 3) return 0; size = 3 + number(at + 1, 2); }
    else if (tag == 0xdc || tag == 0xde) {
        if (n < 3) return 0;
        size = 3;
        *items = number(at + 1, 2) * (tag == 0xde ? 2 : 1);
    } else { fprintf(stderr, "unexpected byte %02x\n", tag); exit(1); }
    return size <= n ? size : 0;
}

static size_t whole(const uint8_t *at, size_t n)
{
    size_t used = 0;
    uint64_t left = 1, items;
    while (left) {
        size_t size = head(at + used, n - used, &items);
        if (!size) return 0;
        used += size;
        left += items - 1;
    }
    return used;
}

/* `type` and `seq` stand first, in this order, after `stream`. */
static int is_data(const uint8_t *at, size_t n, uint64_t *seq)
{
    static const char start[] = "\xa4type\xa4" "data\xa6stream\xa6spikes\xa3seq";
    if (n < 40 || memcmp(at + 1, start, sizeof start - 1)) return 0;
    at += sizeof start;
    *seq = *at <= 0x7f ? *at : number(at + 1, 1 << (*at - 0xcc));
    return 1;
}

static void answer(struct client *c, uint64_t seq)
{
    uint8_t out[32] = "\x83\xa2vx\x01\xa2vy\xff\xa3seq\xce";
    for (int i = 0; i < 4; i++) out[14 + i] = (uint8_t)(seq >> (24 - 8 * i));
    if (send(c->fd, out, 18, MSG_NOSIGNAL) != 18) { perror("answer"); exit(1); }
}

static void take(struct client *c, int64_t from_ns)
{
    ssize_t got = recv(c->fd, c->data + c->n, ROOM - c->n, 0);
    int64_t t_ns = now();
    if (got <= 0) { fprintf(stderr, "session %d ended\n", c->session); exit(1); }
    c->n += (size_t)got;
    size_t at = 0, size;
    while ((size = whole(c->data + at, c->n - at))) {
        uint64_t seq;
        if (!is_data(c->data + at, size, &seq)) {
            if (!memcmp(c->data + at + 1, "\xa4type\xa8metadata", 14)) c->attached++;
            c->errors += !memcmp(c->data + at + 1, "\xa4type\xa5" "error", 11);
        } else if (c->attached >= 2) {      /* the first greeting is the default session's */
            if (c->answers) answer(c, seq);
            if (from_ns && c->last_ns) {
                int64_t error_ns = t_ns - c->last_ns - PERIOD_NS;
                if (error_ns < 0) error_ns = -error_ns;
                int64_t bucket = error_ns / BUCKET_NS;
                c->bucket[bucket < N_BUCKETS ? bucket : N_BUCKETS - 1]++;
                if (error_ns > c->worst_ns) c->worst_ns = error_ns;
                c->jumped += seq - c->next_seq;
                c->packets++;
            }
            if (from_ns) {
                if (!c->first_ns) c->first_ns = t_ns;
                c->last_ns = t_ns;
            }
            c->next_seq = seq + 1;
        }
        at += size;
    }
    memmove(c->data, c->data + at, c->n - at);
    c->n -= at;
}

static double quantile_us(const struct client *c, double q)
{
    uint64_t sum = 0, wanted = (uint64_t)(q * (double)c->packets);
    for (int i = 0; i < N_BUCKETS; i++)
        if ((sum += c->bucket[i]) > wanted) return (double)((i + 1) * BUCKET_NS) / 1e3;
    return (double)c->worst_ns / 1e3;
}

/* Zeroed. Two thousand clients in pages of 4 kB would mostly wait for page tables. */
static void *in_large_pages(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) { perror("memory"); exit(1); }
    madvise(at, bytes, MADV_HUGEPAGE);
    return memset(at, 0, bytes);
}

int main(int argc, char **argv)
{
    if (argc != 9) return 2;
    const int first = atoi(argv[4]), n_sessions = atoi(argv[5]), each = atoi(argv[8]);
    const int n = n_sessions * each;
    const int64_t run_ns = (int64_t)(atof(argv[6]) * 1e9), skip_ns = (int64_t)(atof(argv[7]) * 1e9);
    struct client *clients = in_large_pages((size_t)n * sizeof *clients);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2])) };
    inet_pton(AF_INET, argv[1], &to.sin_addr);
    int epoll = epoll_create1(0), one = 1;
    for (int i = 0; i < n; i++) {
        struct client *c = &clients[i];
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        c->session = first + i / each;
        c->answers = i % each == 0;
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) { perror("connect"); return 1; }
        uint8_t out[80] = "\x81\xa6" "attach";
        int bytes = snprintf((char *)out + 9, 70, "%s-%d", argv[3], c->session);
        out[8] = (uint8_t)(0xa0 | bytes);
        if (send(c->fd, out, (size_t)(9 + bytes), 0) < 0) { perror("attach"); return 1; }
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };
        epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
        if (i % 50 == 49) usleep(20000);    /* the port's backlog is not what is measured */
    }
    int64_t from_ns = 0, start_ns = now() + skip_ns, end_ns = start_ns + run_ns;
    for (int64_t t_ns = now(); t_ns < end_ns; t_ns = now()) {
        struct epoll_event ready[READY];
        int got = epoll_wait(epoll, ready, READY, 10);
        if (!from_ns && t_ns >= start_ns) {
            from_ns = t_ns;
            puts("ready");
            fflush(stdout);
        }
        for (int i = 0; i < got; i++) take(ready[i].data.ptr, from_ns);
    }
    for (int i = 0; i < n; i++) {
        struct client *c = &clients[i];
        printf("%d %lu %.6f %.1f %.1f %.1f %.1f %lu %lu\n", c->session, c->packets,
               (double)(c->last_ns - c->first_ns) / 1e9, quantile_us(c, 0.5), quantile_us(c, 0.99),
               quantile_us(c, 0.999), (double)c->worst_ns / 1e3, c->jumped, c->errors);
    }
    return 0;
}
