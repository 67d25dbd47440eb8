/* PD_MULTIVERSION before a function: the compiler builds it for several
 * instruction sets, and the loader takes the best that the processor has.
 *
 * Plain loops over channel lanes become vectors so; the results are the same
 * bits in every version, because all C here is built with -ffp-contract=off
 * and no loop adds the lanes of a vector together.
 *
 * Only where the loader can choose (GCC or Clang, x86-64, glibc), and never in
 * a sanitized build: the choice is made before a sanitizer has started. The
 * C tests define PD_MULTIVERSION themselves, to compile one version at a time.
 */
#ifndef PD_SIMD_H
#define PD_SIMD_H

#include <stdint.h>                 /* brings __GLIBC__ */

#ifndef PD_MULTIVERSION

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PD_SIMD_SANITIZED
#endif
#endif
#if defined(PD_SANITIZED) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PD_SIMD_SANITIZED
#endif

#if defined(__has_attribute)
#if __has_attribute(target_clones) && defined(__x86_64__) && defined(__GLIBC__) \
    && !defined(PD_SIMD_SANITIZED)
#define PD_MULTIVERSION __attribute__((target_clones("default", "avx2", "avx512f")))
#endif
#endif

#ifndef PD_MULTIVERSION
#define PD_MULTIVERSION
#endif

#endif

#endif
