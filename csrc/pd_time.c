#define _GNU_SOURCE
#include "pd_time.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

static int64_t read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * PD_NS_PER_S + ts.tv_nsec;
}

int64_t pd_time_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t pd_time_wall_offset(void)
{
    /* The tightest of a few brackets: a preemption between two reads would
     * otherwise end up in every unix time that a client computes. */
    int64_t best_width = INT64_MAX, best = 0;
    for (int i = 0; i < 5; i++) {
        int64_t before = read_clock(CLOCK_MONOTONIC);
        int64_t wall = read_clock(CLOCK_REALTIME);
        int64_t after = read_clock(CLOCK_MONOTONIC);
        if (after - before < best_width) {
            best_width = after - before;
            best = wall - (before + (after - before) / 2);
        }
    }
    return best;
}

int pd_time_sleep_until(int64_t t_ns)
{
    struct timespec ts = { .tv_sec = t_ns / PD_NS_PER_S, .tv_nsec = t_ns % PD_NS_PER_S };
    return -clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

int pd_thread_promote(int priority, int cpu)
{
    cpu_set_t before, set;
    if (cpu >= 0) {
        if (cpu >= CPU_SETSIZE) return -EINVAL;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        int rc = pthread_getaffinity_np(pthread_self(), sizeof before, &before);
        if (rc == 0) rc = pthread_setaffinity_np(pthread_self(), sizeof set, &set);
        if (rc) return -rc;
    }
    struct sched_param param = { .sched_priority = priority };
    int rc = pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
    if (rc && cpu >= 0) pthread_setaffinity_np(pthread_self(), sizeof before, &before);
    return -rc;
}

void pd_thread_touch_stack(unsigned bytes)
{
    if (bytes > 256 * 1024) bytes = 256 * 1024;
    volatile char pad[bytes ? bytes : 1];
    for (unsigned i = 0; i < bytes; i += 1024) pad[i] = 0;
    (void)pad;
}

static int lock_object(struct dl_phdr_info *info, size_t size, void *result)
{
    (void)size;
    int64_t *locked = result;
    const uintptr_t here = (uintptr_t)&pd_text_lock;
    int ours = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + part->p_vaddr;
        if (part->p_type == PT_LOAD && here >= start && here < start + part->p_memsz) ours = 1;
    }
    if (!ours) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_R)) continue;
        uintptr_t start = (info->dlpi_addr + part->p_vaddr) & ~(uintptr_t)4095;
        uintptr_t end = info->dlpi_addr + part->p_vaddr + part->p_memsz;
        if (mlock((const void *)start, end - start) == 0)
            *locked += (int64_t)(end - start);
        else if (*locked == 0)
            *locked = -errno;
    }
    return 1;
}

int64_t pd_text_lock(void)
{
    int64_t locked = 0;
    dl_iterate_phdr(lock_object, &locked);
    return locked;
}

unsigned pd_fp_enter(void)
{
#if defined(__x86_64__)
    unsigned saved = _mm_getcsr();
    _mm_setcsr(saved | 0x8040);             /* FTZ | DAZ */
    return saved;
#elif defined(__aarch64__)
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"(saved | (1ull << 24)));
    return (unsigned)saved;
#else
    return 0;
#endif
}

void pd_fp_leave(unsigned saved)
{
#if defined(__x86_64__)
    _mm_setcsr(saved);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)saved));
#endif
    (void)saved;
}
