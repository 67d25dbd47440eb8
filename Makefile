# phantomd: make run, make test. `make help` lists the rest.

PYTHON ?= python3
CC ?= cc
VENV := .venv
BIN := $(VENV)/bin
CORE := $(wildcard csrc/*.[ch] phantomd/core/*.pyx phantomd/core/*.pxd)
SOURCES := phantomd benches tests

# `make test` runs these side by side. The system tests mostly wait, on the real clock: what only
# computes stands back for them. Each lane's output comes in one piece; all run, whichever fails.
LANES := py-system py-unit py-sim c-test fuzz-short lint
PATIENT := nice -n 10
JOBS ?= -j2

.PHONY: help run test tools lint c-test fuzz-short py-unit py-sim py-system fuzz faults sim-hour kill-recordings bench bench-tick \
	bench-sessions bench-sessions-day bench-subscribers bench-devices bench-latency soak plots sanitize clean

help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## ?/\t/' | expand -t 20

run: $(VENV)/.run $(VENV)/.built        ## build, and run the daemon with the simulator
	$(BIN)/phantomd $(ARGS)

test: $(VENV)/.test $(VENV)/.built      ## build, and run all tests
	@mkdir -p build && rm -f build/failed
	@$(MAKE) --no-print-directory -k -j3 --output-sync=target JOBS= $(LANES:%=lane-%) \
		|| { echo "make test: failed: $$(tr '\n' ' ' <build/failed)"; exit 1; }
	@echo "make test: all passed"

# -- what has to be there --------------------------------------------------------------------------

tools:
	@command -v $(PYTHON) >/dev/null || { echo "python3 is missing: install the package python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11: name a newer one, make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "venv is missing: install the package python3-venv"; exit 1; }
	@command -v $(CC) >/dev/null || { echo "a C compiler is missing: install the package gcc"; exit 1; }
	@echo '#include <stdio.h>' | $(CC) -E -x c - >/dev/null 2>&1 \
		|| { echo "the C library's headers are missing: install the package libc6-dev"; exit 1; }
	@echo '#include <Python.h>' | $(CC) -E -x c - \
		-I"$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')" >/dev/null 2>&1 \
		|| { echo "Python.h is missing: install the package python3-dev"; exit 1; }

$(VENV)/bin/python: | tools
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q "setuptools>=64" wheel "cython>=3.0.11"

$(VENV)/.run: pyproject.toml setup.py | $(VENV)/bin/python
	$(BIN)/pip install -q --no-build-isolation -e .
	@touch $@ $(VENV)/.built

$(VENV)/.test: pyproject.toml setup.py | $(VENV)/bin/python
	$(BIN)/pip install -q --no-build-isolation -e ".[test]"
	@touch $@ $(VENV)/.run $(VENV)/.built

$(VENV)/.bench: pyproject.toml | $(VENV)/.test
	$(BIN)/pip install -q --no-build-isolation -e ".[test,bench]"
	@touch $@

$(VENV)/.built: $(CORE) setup.py | $(VENV)/bin/python
	$(BIN)/python -W ignore setup.py -q build_ext --inplace
	@touch $@

# -- tests -----------------------------------------------------------------------------------------

lane-%:
	@$(MAKE) --no-print-directory $* || { echo $* >>build/failed; exit 1; }

lint: $(VENV)/.test                     ## ruff and mypy --strict
	@$(PATIENT) $(BIN)/ruff check $(SOURCES) setup.py
	@$(PATIENT) $(BIN)/ruff format --check $(SOURCES) setup.py
	@$(PATIENT) $(BIN)/mypy

c-test: tools                           ## C tests under ASan, UBSan and TSan
	@$(PATIENT) $(MAKE) --no-print-directory -C tests/c $(JOBS) CC=$(CC)

fuzz-short:                             # a hundred thousand inputs a target, always the same
	@$(PATIENT) $(MAKE) --no-print-directory -C tests/fuzz $(JOBS) short

py-unit py-sim: $(VENV)/.test $(VENV)/.built
py-unit:                                # needs no other machine's clock than its own
	@$(PATIENT) $(BIN)/python -m pytest -q tests/unit $(PYTEST_ARGS)

py-sim:
	@$(PATIENT) $(BIN)/python -m pytest -q tests/sim tests/fuzz $(PYTEST_ARGS)

py-system: $(VENV)/.test $(VENV)/.built # real sockets, terminals, processes, on the real clock
	@$(BIN)/python -m pytest -q tests/system $(PYTEST_ARGS)

# -- campaigns: each has a short form in `make test` -----------------------------------------------

SECONDS_EACH ?= 300
fuzz:                                   ## libFuzzer on all that reads outside bytes (needs clang)
	$(MAKE) -C tests/fuzz long SECONDS_EACH=$(SECONDS_EACH)

faults: $(VENV)/.test $(VENV)/.built    ## thousands of fault schedules in virtual time
	$(BIN)/python -m benches.fault_campaign $(ARGS)

sim-hour: $(VENV)/.test $(VENV)/.built  ## an hour of virtual time
	$(BIN)/python -m pytest -q -s tests/sim/test_hour.py

kill-recordings: $(VENV)/.test $(VENV)/.built   ## SIGKILL at random instants; MNE reads what is left
	$(BIN)/python -m benches.kill_recordings $(ARGS)

bench: $(VENV)/.bench $(VENV)/.built    ## kernels beside their peers: docs/benchmarks.md, README
	$(BIN)/python -m benches.table

bench-tick: $(VENV)/.test $(VENV)/.built    ## tick lateness beside cyclictest (rt-tests, stress-ng)
	$(BIN)/python -m benches.tick $(ARGS)

bench-sessions: $(VENV)/.test $(VENV)/.built   ## 1 to 2,000 sessions whose clients answer; --pin, --one, --end 30
	$(BIN)/python -m benches.sessions $(ARGS)

bench-sessions-day: $(VENV)/.test $(VENV)/.built   ## 24 hours of sessions in virtual time: does memory grow?
	$(BIN)/python -m benches.sessions_day $(ARGS)

bench-subscribers: $(VENV)/.test $(VENV)/.built ## 100 subscribers, ten of them not reading
	$(BIN)/python -m benches.subscribers $(ARGS)

bench-devices: $(VENV)/.test $(VENV)/.built ## BrainFlow and liblsl beside our own ways in and out
	$(BIN)/python -m benches.brainflow_cyton $(ARGS)
	$(BIN)/python -m benches.lsl_loopback $(ARGS)

bench-latency: $(VENV)/.test $(VENV)/.built ## from the wire to the ports, beside liblsl's loopback
	$(BIN)/python -m benches.latency $(ARGS)

soak: $(VENV)/.test $(VENV)/.built      ## the live daemon for hours: CPU, memory, lateness
	$(BIN)/python -m benches.soak $(ARGS)

plots: $(VENV)/.test $(VENV)/.built     ## the pictures of docs/
	$(BIN)/python -m benches.clock_accuracy --plot docs/img/clock.png
	$(BIN)/python -m benches.resampler_plot
	$(BIN)/python -m benches.simulator_plot
	$(BIN)/python -m benches.recording --plot docs/img/recording.png
	$(BIN)/python -m benches.sos_plot --plot docs/img/sos.png
	$(BIN)/python -m benches.cca_plot --plot docs/img
	$(BIN)/python -m benches.cost_plot --plot docs/img/costs.png --page docs/costs.md
	$(BIN)/python -m benches.pll_accuracy --plot docs/img/pll.png
	$(BIN)/python -m benches.spectrum_plot --plot docs/img/spectrum.png
	$(BIN)/python -m benches.connectivity_plot --plot docs/img/connectivity.png
	$(BIN)/python -m benches.sessions --pin --plot docs/img/sessions.png
	$(BIN)/python -m benches.artifact_eval --plot docs/img/artifacts.png
	$(BIN)/python -m benches.spike_plot --plot docs/img/spikes.png
	$(BIN)/python -m benches.oracle_eyes --plot docs/img/oracle.png

# Left out: what measures memory or signals, which the sanitizer changes.
sanitize: tools                         ## the whole Python suite over a core built with ASan and UBSan
	$(MAKE) -f Makefile $(VENV)/.test
	rm -rf build/sanitize && mkdir -p build/sanitize
	git ls-files -z | xargs -0 cp --parents -t build/sanitize
	cd build/sanitize && PHANTOMD_SANITIZE=address,undefined PHANTOMD_DEBUG=1 \
		$(CURDIR)/$(BIN)/python -W ignore setup.py -q build_ext --inplace
	cd build/sanitize && ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0 \
		UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
		PHANTOMD_DATA=$${PHANTOMD_DATA:-$(abspath ../shared/data)} \
		$(CURDIR)/$(BIN)/python -m pytest -q -s -p no:cacheprovider tests/unit tests/sim -k 'not million and not memory_is_flat and not an_interrupt_ends'

clean:                                  ## all that was built; not the virtual environment
	rm -rf build dist *.egg-info phantomd/core/*.so
	rm -f $(VENV)/.built
