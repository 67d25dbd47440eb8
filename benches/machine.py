"""What this processor can do when it does nothing else: the limits beside the cost curves.

python -m benches.machine               what it has measured (needs a C compiler)

Rates are of one core in its thread's time, the fastest of many short runs: multiplications and
additions of doubles that are independent and stay in registers (that is how the kernels do them,
unfused, so that every machine has the same bits), fused multiply-adds for comparison, clock cycles
by a chain of integer additions, and bytes read from an array of a given size, which lies in the
cache that it fits.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

ROUNDS = 20_000
VECTORS = 12  # and two factors: AVX2 has sixteen registers
MEMORY = 1 << 28

SOURCE = """
#include <stddef.h>
#include <time.h>
#define ON(v) v(0) v(1) v(2) v(3) v(4) v(5)
#define AND(v) v(6) v(7) v(8) v(9) v(10) v(11)
#define LOAD(i) TYPE v##i = at[i];
#define STORE(i) at[i] = v##i;
#define PLUS(i) v##i += g;
#define TIMES(i) v##i *= f;
#define FUSE(i) v##i = v##i * f + g;
#define PROBE(NAME, FIRST, SECOND) \\
BUILD static void NAME(int rounds, TYPE *at) \\
{ \\
    TYPE f = at[12], g = at[13]; \\
    ON(LOAD) AND(LOAD) \\
    for (int i = 0; i < rounds; i++) { \\
        ON(FIRST) AND(SECOND) \\
        __asm__ volatile("" ::: "memory"); \\
    } \\
    ON(STORE) AND(STORE) \\
}
#define READ(NAME) \\
BUILD static void NAME(size_t n, const TYPE *at, TYPE *into) \\
{ \\
    TYPE a = {0}, b = {0}, c = {0}, d = {0}; \\
    for (size_t i = 0; i + 4 <= n; i += 4) { \\
        a += at[i]; b += at[i + 1]; c += at[i + 2]; d += at[i + 3]; \\
    } \\
    *into = a + b + c + d; \\
}
typedef double four __attribute__((vector_size(32)));
#define TYPE four
#define BUILD
PROBE(plain_pairs, PLUS, TIMES) PROBE(plain_fused, FUSE, FUSE) READ(plain_read)
#if defined(__x86_64__)
#undef BUILD
#define BUILD __attribute__((target("avx2,fma")))
PROBE(avx2_pairs, PLUS, TIMES) PROBE(avx2_fused, FUSE, FUSE) READ(avx2_read)
typedef double eight __attribute__((vector_size(64)));
#undef TYPE
#define TYPE eight
#undef BUILD
#define BUILD __attribute__((target("avx512f")))
PROBE(avx512_pairs, PLUS, TIMES) PROBE(avx512_fused, FUSE, FUSE) READ(avx512_read)
#endif

static int width(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return 8;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 4;
#endif
    return 0;
}

int lanes(void) { return width() ? width() : 4; }

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);      /* others' turns don't count */
    return at.tv_sec + 1e-9 * at.tv_nsec;
}

double arithmetic(int rounds, double *memory, int fused)
{
    double from = now();
    switch (width()) {
#if defined(__x86_64__)
    case 8: (fused ? avx512_fused : avx512_pairs)(rounds, (void *)memory); break;
    case 4: (fused ? avx2_fused : avx2_pairs)(rounds, (void *)memory); break;
#endif
    default: (fused ? plain_fused : plain_pairs)(rounds, (void *)memory);
    }
    return now() - from;
}

double reading(size_t doubles, const double *memory, double *into, int rounds)
{
    double from = now();
    for (int i = 0; i < rounds; i++) {
        switch (width()) {
#if defined(__x86_64__)
        case 8: avx512_read(doubles / 8, (const void *)memory, (void *)into); break;
        case 4: avx2_read(doubles / 4, (const void *)memory, (void *)into); break;
#endif
        default: plain_read(doubles / 4, (const void *)memory, (void *)into);
        }
        __asm__ volatile("" ::: "memory");
    }
    return now() - from;
}

/* Eight additions a round, each waiting for the one before it: a cycle each. 0: not known here. */
double cycles(int rounds)
{
#if defined(__x86_64__)
    double from = now();
    unsigned long x = 0;
    for (int i = 0; i < rounds; i++) {
        __asm__ volatile("add $1,%0; add $3,%0; add $1,%0; add $3,%0;"
                         "add $1,%0; add $3,%0; add $1,%0; add $3,%0" : "+r"(x));
    }
    return now() - from;
#else
    return 0;
#endif
}
"""


def aligned(doubles: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], ctypes.c_void_p]:
    """Memory that has to be kept, and the address within it of so many doubles on a cache line."""
    memory = np.full(doubles + 8, 0.5)
    return memory, ctypes.c_void_p(memory.ctypes.data + -memory.ctypes.data % 64)


@dataclass(frozen=True)
class Machine:
    """Rates a second; a rate of reading is measured when it is asked for."""

    library: ctypes.CDLL

    def fastest(self, run: Callable[[], float], times: int = 30) -> float:
        return min(run() for _ in range(times))

    def rate(self, fused: bool) -> float:
        width = self.library.lanes()
        memory, at = aligned(16 * width)
        memory[:] = 1 - 1e-9 * np.arange(1, len(memory) + 1)  # no factor makes them denormal
        seconds = self.fastest(lambda: float(self.library.arithmetic(ROUNDS, at, int(fused))))
        return float(ROUNDS * VECTORS * width / seconds)

    @cached_property
    def operations(self) -> float:
        """Multiplications and additions, unfused, half and half."""
        return self.rate(fused=False)

    @cached_property
    def fused(self) -> float:
        """Fused multiply-adds."""
        return self.rate(fused=True)

    @cached_property
    def hertz(self) -> float | None:
        """Cycles, or None where they can't be counted."""
        seconds = self.fastest(lambda: float(self.library.cycles(ROUNDS)))
        return 8 * ROUNDS / seconds if seconds > 0 else None

    def bytes_read(self, nbytes: int) -> float:
        """Of an array of so many bytes, read again and again."""
        doubles = min(max(nbytes, 4096), MEMORY) // 256 * 32
        memory, at = aligned(doubles)
        _sink, into = aligned(8)
        rounds = max(1, (1 << 21) // (8 * doubles))
        size = ctypes.c_size_t(doubles)
        seconds = self.fastest(lambda: float(self.library.reading(size, at, into, rounds)), 12)
        del memory
        return 8.0 * doubles * rounds / seconds


def machine() -> Machine | None:
    """None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "machine.c"), Path(folder, "machine.so")
        source.write_text(SOURCE)
        flags = ["-std=gnu11", "-O2", "-ffp-contract=fast", "-shared", "-fPIC", "-Wno-psabi"]
        subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
        loaded = ctypes.CDLL(str(library))
    loaded.arithmetic.restype = loaded.reading.restype = loaded.cycles.restype = ctypes.c_double
    return Machine(loaded)


def told(one: Machine) -> str:
    """A line for tables: rates, and a cycle's share where cycles are known."""

    def share(rate: float) -> str:
        return f" ({rate / one.hertz:.1f} a cycle)" if one.hertz is not None else ""

    return (
        f"{one.operations / 1e9:.1f} G multiplications and additions/s{share(one.operations)}, "
        f"{one.fused / 1e9:.1f} G fused multiply-adds/s{share(one.fused)}, "
        f"{one.bytes_read(1 << 17) / 1e9:.0f} GB/s from 128 KiB{share(one.bytes_read(1 << 17))}, "
        f"{one.bytes_read(MEMORY) / 1e9:.0f} GB/s from memory"
    )


def main() -> None:
    one = machine()
    print("a C compiler is missing: nothing measured" if one is None else told(one))


if __name__ == "__main__":
    main()
