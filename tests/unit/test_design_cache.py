"""Filters designed in an earlier run: the same bits, or none."""

import json
import subprocess

import numpy as np
import pytest

from phantomd.signal import design_cache, filters
from phantomd.signal.filters import Filter, design_aside, sos

WANTED = [Filter("band", 30.0, 45.0, 250.0, 50.0), Filter("subband", 6.0, 88.0, 250.0)]


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    return tmp_path / "phantomd" / "filters.json"


@pytest.fixture
def next_start(monkeypatch):
    """As in a daemon that has just started; ``next_start.processes`` were needed since."""

    class Started:
        processes = 0

        def __call__(self):
            monkeypatch.setattr(filters, "_kept", {})
            self.processes = 0

    started, real = Started(), subprocess.run

    def run(*arguments, **options):
        started.processes += 1
        return real(*arguments, **options)

    monkeypatch.setattr(filters.subprocess, "run", run)
    started()
    return started


def test_the_next_start_needs_no_process_and_has_the_same_bits(file, next_start):
    here = [filters._design(each).tobytes() for each in WANTED]
    design_aside(WANTED)
    assert next_start.processes == 1
    assert file.exists()
    next_start()
    design_aside(WANTED)
    assert next_start.processes == 0
    assert [sos(each).tobytes() for each in WANTED] == here
    more = Filter("band", 8.0, 12.0, 250.0)
    design_aside([*WANTED, more])
    next_start()
    design_aside([*WANTED, more])
    assert next_start.processes == 0


def broken(file):
    file.write_bytes(file.read_bytes()[:-20])


def of_other_code(file):
    content = json.loads(file.read_bytes())
    file.write_text(json.dumps({**content, "made_by": "numpy 0.1"}))


def unstable(file):
    content = json.loads(file.read_bytes())
    for rows in content["sections"].values():
        rows[0][5] = 1.5
    file.write_text(json.dumps(content))


def ragged(file):
    content = json.loads(file.read_bytes())
    for rows in content["sections"].values():
        rows[0].pop()
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("spoil", [broken, of_other_code, unstable, ragged])
def test_what_can_t_be_trusted_is_designed_anew(file, next_start, spoil):
    design_aside(WANTED)
    spoil(file)
    next_start()
    design_aside(WANTED)
    assert next_start.processes == 1
    assert np.isfinite(sos(WANTED[0])).all()
    next_start()
    design_aside(WANTED)
    assert next_start.processes == 0, "and is kept again"


def test_a_cache_that_can_t_be_written_costs_only_time(tmp_path, monkeypatch, next_start):
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    design_aside(WANTED)
    assert [len(sos(each)) for each in WANTED] == [len(filters._design(each)) for each in WANTED]


def test_the_service_has_a_place_of_its_own(monkeypatch):
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/phantomd:/var/cache/other")
    assert str(design_cache.path()) == "/var/cache/phantomd/filters.json"
