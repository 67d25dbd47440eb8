/* A part of csrc, compiled once an instruction set, so that a test can compare the versions bit for
 * bit. Name the part in VERSIONED and include this; once more for each further part. Each function
 * and type of the part has a line before it that gives it a name of its own in each version:
 *
 *     #define run_band JOIN(run_band, SUFFIX)
 *     #define pd_sos_run JOIN(sos, SUFFIX)
 *     #define VERSIONED "../../csrc/pd_sos_run.c"
 *     #include "versions.h"
 *     #undef pd_sos_run             // the library's; the versions are sos_baseline, sos_avx2, …
 */
#ifndef VERSIONS_H
#define VERSIONS_H

#include <stdint.h>

#define JOIN_(name, suffix) name##_##suffix
#define JOIN(name, suffix) JOIN_(name, suffix)

/* Something of each version, in their order: EACH_VERSION(OF) with `#define OF(set) sos_##set`. */
#if defined(__x86_64__)
#define EACH_VERSION(of) {of(baseline), of(avx2), of(avx512)}
#define VERSIONS 3
#else
#define EACH_VERSION(of) {of(baseline)}
#define VERSIONS 1
#endif

static const char *const version_names[] = {"baseline", "AVX2 with FMA", "AVX-512"};

/* Whether this machine can run the version; the first one runs on each. */
static int machine_runs(uint32_t version)
{
#if defined(__x86_64__)
    if (version == 1) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (version == 2) return __builtin_cpu_supports("avx512f");
#endif
    return version == 0;
}

#endif

#define SUFFIX baseline
#undef PD_MULTIVERSION
#define PD_MULTIVERSION
#include VERSIONED

#if defined(__x86_64__)
#undef SUFFIX
#define SUFFIX avx2
#undef PD_MULTIVERSION
#define PD_MULTIVERSION __attribute__((target("avx2,fma")))
#include VERSIONED

#undef SUFFIX
#define SUFFIX avx512
#undef PD_MULTIVERSION
#define PD_MULTIVERSION __attribute__((target("avx512f")))
#include VERSIONED
#endif

#undef SUFFIX
#undef VERSIONED
