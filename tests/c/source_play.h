/* A source that is played samples as they are taken, some of them lost. */
#ifndef SOURCE_PLAY_H
#define SOURCE_PLAY_H

#include "source_rig.h"

/* 1.1 ms: so that no grid instant lies on the edge of a rule. */
#define GRID_OFFSET_NS 1100000
#define STEP_NS PD_NS_PER_MS

struct run {
    uint64_t first, n;              /* lost samples */
};

static int is_lost(const struct run *runs, int n_runs, uint64_t index)
{
    for (int i = 0; i < n_runs; i++)
        if (index >= runs[i].first && index < runs[i].first + runs[i].n) return 1;
    return 0;
}

/* Sample i arrives when it was taken; the source is stepped in between. */
static void play(struct rig *rig, uint64_t first, uint64_t end, const struct run *runs, int n_runs)
{
    const int64_t grid_t0_ns = rig->t0_ns + GRID_OFFSET_NS;
    for (uint64_t i = first; i < end; i++) {
        if (!is_lost(runs, n_runs, i)) arrive(rig, i, 0, taken_ns(rig, i));
        for (int64_t now_ns = taken_ns(rig, i); now_ns < taken_ns(rig, i + 1); now_ns += STEP_NS)
            pd_source_step(&rig->source, now_ns, grid_t0_ns, UINT64_MAX);
    }
}

static double position(const struct rig *rig, int64_t t_ns)
{
    return (double)(t_ns - rig->t0_ns) / rig->period_ns;
}

static int count_events(struct rig *rig, uint32_t kind)
{
    struct pd_event event;
    int n = 0;
    while (next_event(rig, &event)) n += event.kind == kind;
    return n;
}

#endif
