"""Builds the Cython extensions over csrc/.

Environment switches (all off by default):
  PHANTOMD_SANITIZE=address,undefined   compile and link with these sanitizers
  PHANTOMD_COVERAGE=1                   gcov counters, Cython line tracing
  PHANTOMD_DEBUG=1                      -O0 -g, bounds checks in Cython, assertions kept
  PHANTOMD_EXT=ring,clock               build only these extensions
"""

import copy
import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Which C files stand behind which extension. Each extension carries its own
# copy: they have no state of their own, so nothing is shared but memory layout.
SOS = ["sos", "sos_run"]
CCA = ["cca", "cca_init", "cca_sums", "cca_solve"]
ARTIFACT = ["artifact", "artifact_read", "artifact_sums"]
PLL = ["pll", "pll_init", "pll_tables", "pll_run"]
ANALYSIS = ["time", "ring", "noise", "analysis", *SOS, *CCA, *ARTIFACT, *PLL]
SPECTRUM = ["time", "noise", "fft", "fft_run", "spectrum", "spectrum_run"]
CONNECTIVITY = ["connectivity", "connectivity_run", "synchrony", "synchrony_run"]
INTAKE = ["time", "ring", "spsc", "journal", "intake", "pump"]
PORT = ["peer", "post"]
CLOCK = ["clock", "clock_line", "clock_ramp"]
SPIKE = ["time", "sos", "spike", "spike_noise", "spike_median", "spike_run"]
SOURCES = {
    "ring": ["ring"],
    "hist": ["hist"],
    "gauntlet": [
        *("time", "hist", "ring", "spsc", "noise", "stress", "answer", "packet", "session"),
        *("session_line", "session_loop", *PORT, "port", "port_serve", "port_receive", "slab"),
    ],
    "clock": ["time", *CLOCK],
    "resample": ["resample"],
    "sos": ["time", *SOS],
    "spike": SPIKE,
    "spd": ["spd", "spd_eigen", "spd_covariance"],
    "broadband": ["ring", "broadband", *SPIKE],
    "intake": INTAKE,
    "cyton": [*INTAKE, "cyton"],
    "sim": [*INTAKE, "sim", "sim_signal", "noise"],
    "shared": [*INTAKE, "shared"],
    "play": [*INTAKE, "play"],
    "remote": [*INTAKE, "remote"],
    "journal": ["time", "ring", "spsc", "journal", "intake"],
    "cca": ["noise", *CCA],
    "artifact": ["noise", *ARTIFACT],
    "pll": ["noise", *PLL],
    "analysis": ANALYSIS,
    "engine": [
        *(*ANALYSIS, "hist", "spsc", "journal", *CLOCK, "resample"),
        *("grid", "source", "engine"),
    ],
    "frames": ["time", "hist", "ring", "spsc", *PORT, "grid", "frames"],
    "spectrum": SPECTRUM,
    "connectivity": [*SPECTRUM, *CONNECTIVITY],
}


def flag(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def compile_args() -> tuple[list[str], list[str]]:
    # -ffp-contract=off: bit-identical results on every instruction set.
    compile_flags = [
        "-std=gnu11",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-fvisibility=hidden",
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
        "-Wno-unused-function",
        "-Wno-missing-field-initializers",
        "-Wno-cast-function-type",
    ]
    link_flags = ["-lm", "-pthread"]
    if flag("PHANTOMD_DEBUG"):
        compile_flags += ["-O0", "-g3", "-UNDEBUG"]
    else:
        compile_flags += ["-O3", "-g1", "-ftree-vectorize"]
    if sanitizers := os.environ.get("PHANTOMD_SANITIZE", ""):
        compile_flags += [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-DPD_SANITIZED"]
        link_flags += [f"-fsanitize={sanitizers}"]
    if flag("PHANTOMD_COVERAGE"):
        compile_flags += ["--coverage"]
        link_flags += ["--coverage"]
    return compile_flags, link_flags


def extensions() -> list[Extension]:
    compile_flags, link_flags = compile_args()
    only = [name for name in os.environ.get("PHANTOMD_EXT", "").split(",") if name]
    headers = [str(path) for path in sorted(Path("csrc").glob("*.h"))]
    macros: list[tuple[str, str | None]] = []
    if flag("PHANTOMD_COVERAGE"):
        macros.append(("CYTHON_TRACE_NOGIL", "1"))
    return [
        Extension(
            f"phantomd.core.{name}",
            [f"phantomd/core/{name}.pyx", *(f"csrc/pd_{part}.c" for part in parts)],
            include_dirs=["csrc"],
            define_macros=macros,
            extra_compile_args=compile_flags,
            extra_link_args=link_flags,
            depends=headers,
        )
        for name, parts in SOURCES.items()
        if (not only or name in only) and Path(f"phantomd/core/{name}.pyx").exists()
    ]


class BuildExt(build_ext):
    """Extensions are built side by side, and share C files: each has objects of its own, or one
    would be linked with what another is just writing. What Cython makes computes nothing and is
    most of the text: it is compiled quickly."""

    def build_extension(self, ext: Extension) -> None:
        own = copy.copy(self)
        own.build_temp = str(Path(self.build_temp, ext.name.rpartition(".")[2]))
        own.compiler = copy.copy(self.compiler)
        compile_one = own.compiler._compile

        def compile_glue_quickly(obj, src, ext, cc_args, extra_postargs, pp_opts):
            more = ["-O1", "-g0"] if "cython" in Path(src).parts else []
            compile_one(obj, src, ext, cc_args, [*extra_postargs, *more], pp_opts)

        own.compiler._compile = compile_glue_quickly
        super(BuildExt, own).build_extension(ext)


debug = flag("PHANTOMD_DEBUG")
setup(
    cmdclass={"build_ext": BuildExt},
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    ext_modules=cythonize(
        extensions(),
        nthreads=os.cpu_count() or 1,
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "boundscheck": debug,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": debug,
            "embedsignature": False,
            "linetrace": flag("PHANTOMD_COVERAGE"),
            "freethreading_compatible": False,
        },
    ),
)
