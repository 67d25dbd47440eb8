/* Simulator: a seeded headset on a bench of one.
 *
 * Samples are a pure function of (config, seed, index); how they arrive is a
 * pure function of (config, seed, faults asked for). Steps of any size give
 * the same samples, so live and virtual runs agree.
 *
 * Owner: intake thread. advance() neither allocates nor blocks.
 */
#ifndef PD_SIM_H
#define PD_SIM_H

#include <stdint.h>

#include "pd_intake.h"
#include "pd_pump.h"

#define PD_SIM_MAX_SSVEP 8
#define PD_SIM_MAX_CHANNELS PD_MAX_VALUES

struct pd_sim;                      /* laid out in pd_sim.c's own way, below */

#endif
