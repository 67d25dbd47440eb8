"""Bad channels while they stream: told when they turn bad and when they are good again."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from boards import T0_NS
from windows_bench import Bench

from phantomd.cli.phantomctl import run
from phantomd.cli.status import bad_channels
from phantomd.config import Config, MontageConfig
from phantomd.contracts import Event
from phantomd.devices.base import Address
from phantomd.devices.simulator import open_simulator
from phantomd.records.stages import make_stages

QUIET = "simulator:?seed=4&blink_per_min=0&emg_per_min=0&pop_per_min=0"
S = 10**9


class Watched:
    """A simulator in virtual time, with all stages behind the tick."""

    def __init__(self, config: Config) -> None:
        self.device = open_simulator(Address.parse(QUIET), config.montage.labels)
        self.bench = Bench(config, board=self.device)
        self.events: list[Event] = []
        self.focus: list[tuple[int, dict]] = []
        engine = self.bench.engine
        self.stages = make_stages(
            lambda: engine.slots, lambda: engine.slots[0], config, self.say, self.events.append
        )

    def say(self, stream, t_ns, data, late=False) -> None:
        if stream == "focus":
            self.focus.append((t_ns, dict(data)))

    def run(self, begin_s: float, end_s: float) -> None:
        for ms in range(round(1e3 * begin_s), round(1e3 * end_s), 8):
            now_ns = T0_NS + ms * 1_000_000
            self.bench.engine.step(now_ns)
            for part in self.stages.parts:
                part.on_tick(now_ns)

    @property
    def found(self) -> dict[str, str]:
        found = self.stages.bad.found(self.device.spec.device_id)
        return {bad["label"]: bad["reason"] for bad in found}


@pytest.fixture(scope="module")
def two() -> Watched:
    """F3 flat and P4 railed for the first sixteen seconds, then forty in all."""
    watched = Watched(Config())
    watched.device.fault("flatline", 16.0, {"channel": 2})
    watched.device.fault("saturate", 16.0, {"channel": 7})
    watched.run(0.0, 18.0)
    watched.first = watched.found
    watched.run(18.0, 40.0)
    return watched


def alerts(watched: Watched) -> list[Event]:
    return [event for event in watched.events if event.kind == "alert" and "bad" in event.fields]


def test_a_flat_and_a_railed_channel_are_found_with_their_reasons(two):
    assert two.first == {"F3": "flat", "P4": "railed"}


def test_each_is_told_once_when_it_turns_bad_and_once_when_it_is_good_again(two):
    told = Counter((event.fields["channel"], event.fields["bad"]) for event in alerts(two))
    assert told == {("F3", True): 1, ("F3", False): 1, ("P4", True): 1, ("P4", False): 1}
    assert two.found == {}
    first = next(event for event in alerts(two) if event.fields["channel"] == "F3")
    assert first.level == "warning" and "F3 is bad: flat" in first.message
    assert first.fields["hint"] and first.fields["reason"] == "flat"
    assert 10 * S < first.fields["t_ns"] - T0_NS < 17 * S
    assert alerts(two)[-1].level == "info"


def test_the_oracle_does_without_them_as_long_as_six_are_good(two):
    channels = {data.get("channels") for t_ns, data in two.focus if t_ns - T0_NS > 36 * S}
    assert channels == {8}
    seen = next(event.fields["t_ns"] for event in alerts(two))
    # Six are good, but the railed one clips, and windows that clip have no focus.
    reasons = {data["reason"] for t_ns, data in two.focus if seen < t_ns < T0_NS + 16 * S}
    assert reasons == {"artifact"}


def test_with_fewer_than_six_good_channels_there_is_no_focus():
    watched = Watched(Config())
    for channel in (1, 2, 3):
        watched.device.fault("flatline", 30.0, {"channel": channel})
    watched.run(0.0, 18.0)
    assert set(watched.found) == {"Fp2", "F3", "F4"}
    assert watched.stages.oracle.status()["left_out"] == ["Fp2", "F3", "F4"]
    assert watched.focus[-1][1] == {"cell": "nothing", "reason": "no-signal"}


def test_two_flat_channels_leave_a_focus_of_the_other_six():
    config = Config(montage=MontageConfig(bad=("Fp2", "F3")))
    watched = Watched(config)
    watched.run(0.0, 4.0)
    last = watched.focus[-1][1]
    assert last["cell"] == "value" and last["channels"] == 6


def test_nothing_is_looked_for_where_the_configuration_says_so():
    watched = Watched(Config(montage=MontageConfig(auto_bad=False)))
    watched.device.fault("flatline", 30.0, {"channel": 2})
    watched.run(0.0, 18.0)
    assert watched.found == {} and alerts(watched) == []


def test_status_names_them():
    row = {"detail": {"bad_channels": [{"label": "F3", "reason": "flat", "value": 0.0}]}}
    assert bad_channels(row) == "F3 (flat)"
    assert bad_channels({"detail": {}}) == ""


@pytest.mark.realdata
def test_a_recording_s_railed_channels_are_told_by_its_replay(data_dir, tmp_path):
    """Six of the eight are at a rail, or off (tests/unit/test_bad_channels.py)."""
    path = data_dir / "openbci_gui" / "OpenBCI_2016-02-13_Jordan_focus.txt"
    arguments = [str(path), "--json", "-o", "start_s=104", "--out", str(tmp_path / "out")]
    assert run(["replay", *arguments]) == 0
    lines = (tmp_path / "out" / "events.jsonl").read_text().splitlines()
    said = [json.loads(line)["data"] for line in lines]
    bad = {line["channel"]: line["reason"] for line in said if line.get("bad")}
    assert set(bad) == {"F3", "F4", "C3", "C4", "P3", "P4"}
    assert set(bad.values()) <= {"flat", "railed"}
    focus = (tmp_path / "out" / "focus.jsonl").read_text().splitlines()
    assert json.loads(focus[-1])["data"] == {"cell": "nothing", "reason": "no-signal"}
