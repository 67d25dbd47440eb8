/* Simulator: a seeded headset whose truth is known.
 *
 * Samples are a pure function of (configuration, index), and so is how they
 * arrive; a fault that is asked for while it runs changes both from a sample
 * on that the log names. Steps of any size give the same samples with the same
 * arrival times, so live and virtual runs agree to the bit.
 *
 * Sample n is taken at start + n/rate · (1 + ppm·1e-6) and arrives delay and
 * jitter later, never before the sample in front of it; with clumps, at the
 * next whole multiple of the clump after the start. Arrival times are those
 * computed instants, whenever advance() is called.
 *
 * Owner: the intake thread. Faults come in and the log goes out through queues,
 * so that another thread may ask and read. advance() neither allocates, locks
 * nor blocks.
 */
#ifndef PD_SIM_H
#define PD_SIM_H

#include <stdint.h>

#include "pd_intake.h"
#include "pd_pump.h"
#include "pd_sim_signal.h"
#include "pd_spsc.h"

#define PD_SIM_MAX_SCHEDULE 32
#define PD_SIM_MAX_FAULTS 64        /* scheduled and asked for, not yet over */
#define PD_SIM_FOREVER UINT64_MAX   /* length of a fault that lasts */

enum pd_sim_jitter { PD_SIM_EXPONENTIAL, PD_SIM_GAMMA, PD_SIM_SPIKES };

enum pd_sim_kind {                  /* of a fault; `value` and what `did` counts */
    /* samples that never arrive (did: lost) */
    PD_SIM_DROP,                    /* each with probability `value` */
    PD_SIM_BURST,                   /* n of them in a row */
    PD_SIM_GAP,                     /* n of them: silence */
    PD_SIM_WRAP,                    /* `value` whole turns of the packet counter */
    PD_SIM_UNPLUG,                  /* n; then the device comes back, counting from 0 */
    /* arrival */
    PD_SIM_DUPLICATE,               /* each twice with probability `value` (did: copies) */
    PD_SIM_STALL,                   /* n held back, then handed over at once (did: delayed) */
    PD_SIM_CLUMP,                   /* handed over every `value` ns (did: samples) */
    PD_SIM_DRIFT,                   /* the period is `value` ppm longer (did: samples) */
    PD_SIM_RATE,                    /* the rate is `value` percent higher (did: samples) */
    PD_SIM_RESET,                   /* the counter begins anew at 0 (did: 1) */
    /* signal (did: samples; 1 for what is triggered) */
    PD_SIM_FLATLINE, PD_SIM_SATURATE,   /* on the channels of the mask */
    PD_SIM_EYES,                    /* `value` 1: open, 2: closed */
    PD_SIM_FORCE_POP, PD_SIM_FORCE_BLINK, PD_SIM_FORCE_EMG,     /* `value` µV */
    PD_SIM_KINDS
};

struct pd_sim_fault {
    uint32_t kind, channels;        /* channels: bit mask */
    uint64_t start, n;              /* first sample and how many; start is set when asked live */
    double value;
};

enum { PD_SIM_SCHEDULED = 0, PD_SIM_ASKED = 1, PD_SIM_CHAOS = 2, PD_SIM_NATURE = 3 };
/* BEGAN: taken up, to begin at `start`. */
enum { PD_SIM_BEGAN = 1, PD_SIM_DONE = 2, PD_SIM_REFUSED = 3 };

struct pd_sim_record {              /* of the log */
    struct pd_sim_fault fault;      /* nature: kind FORCE_POP, _BLINK or _EMG */
    uint64_t id;                    /* same in BEGAN and DONE */
    uint64_t did;                   /* DONE: see pd_sim_kind */
    uint32_t cause, what;
};

struct pd_sim_config {
    struct pd_sim_signal_config signal;
    uint32_t modulus;               /* packet counter handed to the intake; 0: the index */
    uint32_t jitter_law;
    uint32_t stamps;                /* the instant a sample was taken as the device's stamp */
    uint32_t n_schedule;
    double delay_ns, jitter_ns;     /* jitter: mean; SPIKES: 1 % of 20 ms on top */
    double ppm, clump_ns;
    double drop, duplicate;         /* probabilities, all the time */
    double chaos_per_min;           /* seeded faults of the first two groups, 5 s apart at least */
    struct pd_sim_fault schedule[PD_SIM_MAX_SCHEDULE];
};

struct pd_sim_active {              /* a fault that is waiting or under way */
    struct pd_sim_fault fault;
    uint64_t id, did;
    uint32_t cause, used;
};

struct pd_sim_cursor {              /* how far arrival has come; a copy of it looks ahead */
    uint64_t n, next_edge;          /* the next sample; where what is active changes */
    uint64_t anchor_n, counter_zero;
    double anchor_ns, period_ns;    /* sample anchor_n was taken then, after start */
    double clump_ns;
    int64_t arrival_ns;             /* of the newest sample */
    uint64_t stall_end;             /* 0: none */
    uint32_t lost, busy;            /* all samples are; some fault is active */
    uint32_t back, reserved;        /* the next to arrive is the first after the device was away */
};

struct pd_sim {
    struct pd_intake *intake;
    struct pd_sim_config config;
    uint64_t key_drop, key_duplicate, key_jitter, key_chaos;
    struct pd_spsc asked, log;
    uint32_t log_nature;            /* also log what the signal itself begins */
    struct pd_sim_signal signal;
    struct pd_sim_state {           /* plain: saved and restored as it is */
        struct pd_sim_signal_state signal;
        struct pd_sim_cursor cursor;
        struct pd_sim_active active[PD_SIM_MAX_FAULTS];
        struct pd_sim_effect effect;
        uint64_t next_edge;         /* of the signal */
        uint64_t next_id, chaos_next, chaos_count;
        uint64_t dropped, duplicated;       /* by the configured probabilities */
        int64_t start_ns, now_ns;   /* PD_NO_TIME before the first advance */
    } state;
};

/* `intake` has n_channels values and this modulus; NULL: for pd_sim_truth only.
 * start_ns: when sample 0 is taken, or PD_NO_TIME for the first advance.
 * `asked` and `log` are the caller's memory for the queues, `queue_bytes` each
 * (a power of two). 0 or -EINVAL. */
int pd_sim_init(struct pd_sim *sim, const struct pd_sim_config *config, struct pd_intake *intake,
                int64_t start_ns, void *asked, void *log, uint32_t queue_bytes);

/* Signature of pd_driver.advance. */
int64_t pd_sim_advance(void *sim, int64_t now_ns);

/* One other thread. From the first sample taken after the last advance on;
 * `start` is ignored. Once the next advance has seen it, the log says BEGAN with the start, or REFUSED when
 * PD_SIM_MAX_FAULTS are pending. 0, -EINVAL, or -ENOSPC: asked too fast. */
int pd_sim_ask(struct pd_sim *sim, const struct pd_sim_fault *fault);

/* One other thread. 1 and the next record, or 0. What did not fit is counted
 * in log.dropped. */
int pd_sim_take_log(struct pd_sim *sim, struct pd_sim_record *record);

/* Without an intake: the next sample and what it is made of. */
void pd_sim_truth(struct pd_sim *sim, double *values, struct pd_sim_truth *truth);

/* Without an intake: a fault that another simulator of this configuration
 * logged as BEGAN. 0, or -EINVAL when its start has passed. */
int pd_sim_repeat(struct pd_sim *sim, const struct pd_sim_record *record);

#endif
