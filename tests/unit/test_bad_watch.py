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
        self.windows: list[dict] = []
        engine = self.bench.engine
        self.stages = make_stages(
            lambda: engine.slots,
            lambda: engine.slots[0],
            config,
            self.say,
            self.events.append,
            leave_out=self.leave_out,
        )

    def leave_out(self, device_id, labels) -> None:
        assert device_id == self.device.spec.device_id
        renewal = self.bench.engine.renew(self.bench.slot, self.bench.config, labels)
        assert self.bench.engine.adopt([renewal])

    def say(self, stream, t_ns, data, late=False) -> None:
        if stream == "focus":
            self.focus.append((t_ns, dict(data)))
        if stream == "features":
            self.windows.append(dict(data))

    def between(self, begin_s: float, end_s: float) -> list[dict]:
        return [
            data
            for data in self.windows
            if begin_s * S < data["window"]["end_ns"] - T0_NS <= end_s * S
        ]

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
    seen = max(event.fields["t_ns"] for event in alerts(two) if event.fields["bad"])
    between = [data for t_ns, data in two.focus if seen + S < t_ns < T0_NS + 16 * S]
    assert {data.get("channels") for data in between} == {6}


def test_a_railed_channel_rejects_no_window_once_it_is_found(two):
    seen = max(event.fields["t_ns"] for event in alerts(two) if event.fields["bad"]) - T0_NS
    assert {data["reject"] for data in two.between(3.0, seen / S)} == {True}
    after = two.between(seen / S, 16.0)
    assert len(after) >= 4 and not any(data["reject"] for data in after)
    assert "alpha_uv2.P4" not in after[-1]["features"]
    assert two.windows[-1]["features"]["alpha_uv2.P4"] is not None, "it is good again"


def test_no_window_is_left_out_or_told_twice_when_channels_go_and_come_back(two):
    indices = [data["window"]["index"] for data in two.windows]
    assert indices == list(range(indices[0], indices[0] + len(indices)))


def test_what_is_found_is_left_out_as_what_is_configured():
    """Also of the average reference, and of the bands' means."""
    by_name = Watched(Config(montage=MontageConfig(bad=("F3", "P4"), reference="average")))
    found = Watched(Config(montage=MontageConfig(reference="average")))
    for watched in (by_name, found):
        watched.device.fault("flatline", 40.0, {"channel": 2})
        watched.device.fault("saturate", 40.0, {"channel": 7})
        watched.run(0.0, 20.0)
    assert set(found.found) == {"F3", "P4"}
    one, other = by_name.between(17.0, 20.0), found.between(17.0, 20.0)
    assert len(one) == len(other) >= 11
    for mine, theirs in zip(one, other, strict=True):
        assert mine["artifacts"] == theirs["artifacts"] and mine["reject"] == theirs["reject"]
        assert mine["features"].keys() == theirs["features"].keys()
        for name, value in mine["features"].items():
            if name != "focus_session" and value is not None:
                assert theirs["features"][name] == pytest.approx(value, rel=1e-6, abs=1e-9), name


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
