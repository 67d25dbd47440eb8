/* Time: one clock for everything, CLOCK_MONOTONIC in int64 nanoseconds.
 *
 * Any thread. Nothing here allocates; only pd_time_sleep_until blocks.
 */
#ifndef PD_TIME_H
#define PD_TIME_H

#include <stdint.h>

#define PD_NS_PER_US 1000LL
#define PD_NS_PER_MS 1000000LL
#define PD_NS_PER_S 1000000000LL
#define PD_GRID_NS 7812500LL      /* 1/128 s: exact in nanoseconds */
#define PD_BEAT_NS 25000000LL     /* heartbeat */
#define PD_NO_TIME INT64_MIN      /* "there is no such instant" */

int64_t pd_time_now(void);

/* Wall clock minus monotonic clock, both read now: unix_ns = t_ns + offset. */
int64_t pd_time_wall_offset(void);

/* Sleeps until t_ns on the monotonic clock. 0, or -EINTR when a signal came. */
int pd_time_sleep_until(int64_t t_ns);

/* Promotes the calling thread to SCHED_FIFO `priority` (1..99) and, for
 * cpu >= 0, binds it to that core. 0, or -errno with the thread as it was:
 * the caller reports that as degraded and goes on. */
int pd_thread_promote(int priority, int cpu);

/* Touches `bytes` of the calling thread's stack, so that no later call faults. */
void pd_thread_touch_stack(unsigned bytes);

/* Locks the memory of the code that this is a part of (a library, with all in it), and
 * touches it. Returns bytes locked, or -errno. */
int64_t pd_text_lock(void);

/* Denormals count as zero from enter to leave, in the calling thread only. */
unsigned pd_fp_enter(void);
void pd_fp_leave(unsigned saved);

#endif
