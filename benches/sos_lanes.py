"""Why the filter bank's kernel uses the compiler's vector type: four sections over six samples of
eight lanes, written as plain loops over the lanes, with vectors of eight, and with vectors of four,
twice, built alike.

python -m benches.sos_lanes         needs a C compiler
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np

SECTIONS, SAMPLES, LANES = 4, 6, 8
ROUNDS = 5_000

SOURCE = """
#include <time.h>
#define SECTIONS 4
#define SAMPLES 6
#define LANES 8
#define BUILDS __attribute__((target_clones("default", "avx2", "avx512f")))
typedef double eight __attribute__((vector_size(64), may_alias));
typedef double four __attribute__((vector_size(32), may_alias));

BUILDS void plain(const double (*restrict c)[5], double (*restrict z)[2][LANES],
                  const double (*restrict x)[LANES], double (*restrict y)[LANES])
{
    double z0[SECTIONS][LANES], z1[SECTIONS][LANES];
    for (int i = 0; i < SECTIONS; i++)
        for (int k = 0; k < LANES; k++) z0[i][k] = z[i][0][k], z1[i][k] = z[i][1][k];
    for (int n = 0; n < SAMPLES; n++) {
        double in[LANES];
        for (int k = 0; k < LANES; k++) in[k] = x[n][k];
        for (int i = 0; i < SECTIONS; i++) {
            for (int k = 0; k < LANES; k++) {
                double out = c[i][0] * in[k] + z0[i][k];
                z0[i][k] = c[i][1] * in[k] - c[i][3] * out + z1[i][k];
                z1[i][k] = c[i][2] * in[k] - c[i][4] * out;
                in[k] = out;
            }
        }
        for (int k = 0; k < LANES; k++) y[n][k] = in[k];
    }
    for (int i = 0; i < SECTIONS; i++)
        for (int k = 0; k < LANES; k++) z[i][0][k] = z0[i][k], z[i][1][k] = z1[i][k];
}

#define WITH(NAME, TYPE, STEP) \\
BUILDS void NAME(const double (*restrict c)[5], double (*restrict z)[2][LANES], \\
                 const double (*restrict x)[LANES], double (*restrict y)[LANES]) \\
{ \\
    for (int from = 0; from < LANES; from += STEP) { \\
        TYPE z0[SECTIONS], z1[SECTIONS]; \\
        for (int i = 0; i < SECTIONS; i++) { \\
            z0[i] = *(TYPE *)(z[i][0] + from); \\
            z1[i] = *(TYPE *)(z[i][1] + from); \\
        } \\
        for (int n = 0; n < SAMPLES; n++) { \\
            TYPE in = *(const TYPE *)(x[n] + from); \\
            for (int i = 0; i < SECTIONS; i++) { \\
                TYPE out = c[i][0] * in + z0[i]; \\
                z0[i] = c[i][1] * in - c[i][3] * out + z1[i]; \\
                z1[i] = c[i][2] * in - c[i][4] * out; \\
                in = out; \\
            } \\
            *(TYPE *)(y[n] + from) = in; \\
        } \\
        for (int i = 0; i < SECTIONS; i++) { \\
            *(TYPE *)(z[i][0] + from) = z0[i]; \\
            *(TYPE *)(z[i][1] + from) = z1[i]; \\
        } \\
    } \\
}
WITH(of_eight, eight, 8)
WITH(of_four, four, 4)

double run(int way, int rounds, double *memory)
{
    double (*z)[2][LANES] = (void *)memory, (*x)[LANES] = (void *)(memory + 64);
    double (*y)[LANES] = (void *)(memory + 128), (*c)[5] = (void *)(memory + 192);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < rounds; i++) {
        (way == 0 ? plain : way == 1 ? of_eight : of_four)((void *)c, z, (void *)x, y);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    return (to.tv_sec - from.tv_sec) + 1e-9 * (to.tv_nsec - from.tv_nsec);
}
"""


def main() -> None:
    memory = np.zeros(256)
    memory = memory[-memory.ctypes.data % 64 // 8 :][:224]
    memory[64:112] = np.random.default_rng(0).standard_normal(SAMPLES * LANES)
    memory[192:212] = np.tile([0.1, 0.0, -0.1, -1.8, 0.9], SECTIONS)
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "lanes.c"), Path(folder, "lanes.so")
        source.write_text(SOURCE)
        flags = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-Wno-psabi"]
        command = ["cc", *flags, "-shared", "-fPIC", str(source), "-o", str(library)]
        subprocess.run(command, check=True)
        run = ctypes.CDLL(str(library)).run
    run.restype = ctypes.c_double
    address = ctypes.c_void_p(memory.ctypes.data)
    fastest = [min(run(way, ROUNDS, address) for _ in range(60)) / ROUNDS for way in range(3)]
    names = ("plain loops", "vectors of eight", "vectors of four, twice")
    for name, seconds in zip(names, fastest, strict=True):
        print(f"{name}: {1e9 * seconds:.0f} ns, {seconds / fastest[2]:.1f}")


if __name__ == "__main__":
    main()
