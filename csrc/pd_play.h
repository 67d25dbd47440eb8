/* Player: rows that somebody else put in memory become samples by the clock.
 *
 * A ring of rows with one filler and one player. The filler (a reader thread, or
 * the caller on a virtual clock) writes rows and says how many there are; the
 * player hands each to the intake at start + at_ns. Its arrival time is that
 * computed instant, whenever advance() is called; a row that was not there when
 * it was due arrives when it is there, late as it is. Lost rows pass: the index
 * moves on. After the last row the driver ends.
 *
 * Owner: the intake thread; pd_play_room, _row, _fill and _finish: the filler.
 * The caller gives all memory. advance() neither allocates nor locks; its one
 * system call, at a marked row, is an eventfd write that can't block.
 */
#ifndef PD_PLAY_H
#define PD_PLAY_H

#include <stdatomic.h>
#include <stdint.h>

#include "pd_intake.h"
#include "pd_pump.h"

enum {                              /* flags of a row */
    PD_PLAY_LOST = 1,               /* was lost when it was recorded */
    PD_PLAY_RESET = 2,              /* the device had come back: a new segment */
    PD_PLAY_MARKED = 4,             /* tell marker_fd when it is played */
};

struct pd_play_row {
    int64_t at_ns;                  /* after the start; never less than the row before */
    int64_t device_ns;              /* or PD_NO_TIME */
    uint32_t flags;
    uint32_t behind;                /* newer rows that came in the same read */
    double value[];                 /* n_values of the intake */
};
#define PD_PLAY_WORDS(n_values) (3u + (uint32_t)(n_values))

struct pd_play {
    struct pd_intake *intake;
    uint64_t *rows;                 /* [n_rows × PD_PLAY_WORDS] */
    uint64_t n_rows;                /* a power of two */
    int marker_fd;                  /* eventfd, non-blocking; -1: nobody */
    _Atomic uint64_t filled;        /* rows that are there, counted from the first */
    _Atomic uint64_t end;           /* rows in all; UINT64_MAX until that is known */
    _Atomic uint64_t played;
    _Atomic uint64_t starved;       /* rows that were not there when they were due */
    _Atomic int64_t start_ns;       /* of row time 0, or PD_NO_TIME before the first advance */
    struct pd_play_state {          /* plain */
        uint64_t next;
        int64_t start_ns;
        int64_t waited_for;         /* row that was due and not there + 1; 0: none */
    } state;
};

/* `rows`: zeroed memory of n_rows (a power of two) × PD_PLAY_WORDS(n_values)
 * words. 0 or -EINVAL. */
int pd_play_init(struct pd_play *play, struct pd_intake *intake, uint64_t *rows, uint64_t n_rows,
                 int marker_fd);

/* Filler: how many rows can be written now. */
uint64_t pd_play_room(const struct pd_play *play);
/* Filler: the place of the k-th row that isn't there yet, k < pd_play_room. */
struct pd_play_row *pd_play_row(const struct pd_play *play, uint64_t k);
/* Filler: n more rows are there. */
void pd_play_fill(struct pd_play *play, uint64_t n);
/* Filler: there will be no more. */
void pd_play_finish(struct pd_play *play);

/* Signature of pd_driver.advance: PD_DRIVER_ENDED once all is played. */
int64_t pd_play_advance(void *play, int64_t now_ns);

#endif
