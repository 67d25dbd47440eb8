"""The oracle's failure modes, provoked by real device faults and seen where clients see them."""

import asyncio
import json
import sys
from collections import deque

import numpy as np
import pytest
from focus_reference import compute_focus
from live import EegClient
from running import Events, ask, until_frame, whole
from served import WAIT_S
from system.test_headset import linked

from phantomd.config import load
from phantomd.contracts import MONTAGE, Flag
from phantomd.daemon import Daemon
from phantomd.devices.emulator import CytonEmulator
from phantomd.oracle import baseline as baselines

QUIET = "simulator:?seed=3&blink_per_min=0&emg_per_min=0&pop_per_min=0&line_uv=0"
#: White noise that is no muscle's.
REST_UV = np.random.default_rng(5).normal(0, 8, (2500, 8))
PHANTOMCTL = (sys.executable, "-m", "phantomd.cli.phantomctl")


def emulator(**how) -> CytonEmulator:
    return CytonEmulator(REST_UV, at_end="loop", **how)


async def until(lines: Events, accept, n: int = 600) -> dict:
    """The next line's data that is like this, among so many; ``lines.seen`` has those before."""
    for _ in range(n):
        data = (await lines.line())["data"]
        lines.seen.append(data)
        if accept(data):
            return data
    raise AssertionError(f"not among {n} lines: {lines.seen[-5:]}")


def is_value(data) -> bool:
    return data["cell"] == "value"


def because(reason: str):
    return lambda data: data.get("reason") == reason


async def ports(daemon, *streams: str):
    return [await Events.connect(daemon.ports.streams[name].port) for name in streams]


async def fault(daemon, kind: str, duration_s: float | None = None, **args) -> None:
    await ask(
        daemon.control_path, "device.fault",
        device_id="simulator-0", kind=kind, duration_s=duration_s, args=args,
    )  # fmt: skip


def assert_absent(trit) -> None:
    assert trit["cell"] == "nothing"
    assert not {"trit", "brightness", "role", "skill", "focus"} & trit.keys()


def test_a_loss_is_a_dropout_a_window_of_nothing_no_signal_and_then_it_goes_on(run, daemon_at):
    async def go():
        async with daemon_at(f'devices=["{QUIET}"]') as daemon:
            focus, trit = await ports(daemon, "focus", "trit")
            assert (focus.metadata["rate_hz"], trit.metadata["rate_hz"]) == (10, 1)
            await until(focus, is_value)
            before = await until(trit, is_value)
            assert before["trit"] in (-1, 0, 1) and before["brightness"] in (0.2, 0.5, 1.0)
            await fault(daemon, "gap", 2.5)
            assert_absent(await until(trit, because("no-signal")))
            begun = len(focus.seen)
            await until(focus, because("dropout"))
            await until(focus, because("no-signal"))
            await until(focus, because("dropout"))
            await until(focus, is_value)
            await until(trit, is_value)
            assert not any("focus" in data for data in focus.seen[begun:] if not is_value(data))

    run(go())


@pytest.mark.parametrize("kind", ["blink", "emg"])
def test_a_blink_and_a_clenched_jaw_are_artifacts(run, daemon_at, kind):
    async def go():
        async with daemon_at(f'devices=["{QUIET}"]') as daemon:
            focus, trit = await ports(daemon, "focus", "trit")
            await until(focus, is_value)
            await until(trit, is_value)
            await fault(daemon, kind, *(() if kind == "blink" else (1.2,)), uv=250.0)
            await until(focus, because("artifact"))
            assert_absent(await until(trit, because("artifact"), n=3))
            await until(focus, is_value)
            await until(trit, is_value, n=4)

    run(go())


def test_five_seconds_without_a_headset_reset_to_the_baseline_and_alert_once(
    run, daemon_at, tmp_path
):
    path = tmp_path / "tty"

    async def go():
        async with daemon_at(f'devices=["cyton:{path}"]') as daemon:
            focus, trit, events = await ports(daemon, "focus", "trit", "events")
            with emulator() as board, linked(path, board.path):
                await until(focus, is_value)
            await events.until("device", state="lost")
            await until(focus, because("no-signal"))
            told = await events.until("alert", "no data for 5 s", level="alert")
            assert told["baseline"] == {"trit": 0, "brightness": 0.5}
            data = await until(trit, because("timeout"), n=12)
            assert_absent(data)
            assert data["baseline"] == {"trit": 0, "brightness": 0.5}
            await until(focus, because("timeout"))
            with emulator(seed=2) as board, linked(path, board.path):
                await events.until("alert", "data again", level="info")
                await until(focus, is_value)
                await until(trit, is_value)
            lost = next(i for i, one in enumerate(events.seen) if one.get("state") == "lost")
            alerts = [one for one in events.seen[lost:] if one["kind"] == "alert"]
            assert [one["level"] for one in alerts] == ["alert", "info"]

    run(go())


class Mute(CytonEmulator):
    """Its packets vanish while it is ``mute``."""

    mute = False

    def _transmit(self, data: bytes) -> bool:
        return self.mute or super()._transmit(data)


def test_a_board_that_says_nothing_is_no_signal(run, daemon_at):
    async def go():
        with Mute(REST_UV, at_end="loop") as board:
            async with daemon_at(f'devices=["cyton:{board.path}"]') as daemon:
                (focus,) = await ports(daemon, "focus")
                await until(focus, is_value)
                board.mute = True
                await until(focus, because("no-signal"))
                board.mute = False
                await until(focus, is_value)

    run(go())


HIGH = """
from phantomd.oracle.cells import NOTHING, Value

def high(network):
    left = [15]
    def say(window):
        left[0] -= 1
        return Value(1.2) if left[0] >= 0 else NOTHING
    network.add("high", ["eeg"], ["focus"], say)
"""


def test_a_focus_out_of_range_halts_what_hangs_on_it_on_every_port(run, daemon_at, tmp_path):
    (tmp_path / "high.py").write_text(HIGH)

    async def go():
        settings = (f'devices=["{QUIET}"]', f'oracle.propagators=["{tmp_path}/high.py:high"]')
        async with daemon_at(*settings) as daemon:
            focus, trit, events = await ports(daemon, "focus", "trit", "events")
            data = await until(focus, lambda data: data["cell"] == "contradiction")
            assert data["halted"] == ["brightness", "trit"]
            assert 1.2 in (data["focus"], data["contradicts"])
            data = await until(trit, lambda data: data["cell"] == "contradiction")
            assert not {"trit", "brightness", "role"} & data.keys()
            told = await events.until("alert", "focus out of range", level="warning")
            assert "1.2" in told["message"] and "halted: brightness, trit" in told["message"]
            await events.until("alert", "in range again", level="info")
            await until(focus, is_value)
            await until(trit, is_value)
            assert sum("out of range" in one["message"] for one in events.seen) == 1

    run(go())


@pytest.mark.realdata
def test_live_focus_is_the_reference_s_on_the_frames_of_7069(run, daemon_at, data_dir):
    """SciPy's Welch, on what any client has of real EEG."""
    file = data_dir / "eegmmidb" / "S001R01.edf"
    channels = ",".join(f"{name:.<4}".capitalize() for name in MONTAGE)

    async def go():
        settings = (
            f'devices=["replay:{file}?channels={channels}&start_s=3"]',
            "montage.mains_hz=60",
        )
        async with daemon_at(*settings) as daemon:
            eeg = await EegClient.connect(daemon.ports.streams["eeg"].port)
            (focus,) = await ports(daemon, "focus")
            recent: deque = deque(maxlen=128)
            compared = 0
            while compared < 15:
                line = await focus.line()
                while not recent or recent[-1]["t_ns"] < line["t_ns"]:
                    recent.append((await eeg.read(1))[0])
                if not is_value(line["data"]):
                    continue
                assert recent[-1]["t_ns"] == line["t_ns"] and len(recent) == 128
                assert not any(frame["flags"] & Flag.MISSING for frame in recent)
                window = np.array([frame["values"] for frame in recent], np.float64)
                assert abs(line["data"]["focus"] - compute_focus(window.T)) < 1e-9
                compared += 1

    run(go())


def test_daisy_s_rate_is_allowed_and_says_so(run, daemon_at):
    async def go():
        async with daemon_at(f'devices=["{QUIET}&rate_hz=125"]') as daemon:
            (focus,) = await ports(daemon, "focus")
            assert (await until(focus, is_value))["rate"] == "below-spec"

    run(go())


# -- baseline --------------------------------------------------------------------------------------


async def phantomctl(path, *arguments: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *PHANTOMCTL, "--control", str(path), *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(3 * WAIT_S):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def test_a_rest_is_calibrated_by_command_and_a_bad_one_is_refused_with_its_reason(
    run, daemon_at, tmp_path
):
    async def go():
        config = load(
            None,
            (
                f'devices=["{QUIET}&faults=flatline@0..600:channels=Fp1/F3"]',
                "streams.base_port=0",
                f'daemon.state="{tmp_path / "other"}"',
            ),
        )
        bad = Daemon(config, control_path=tmp_path / "bad.sock")
        settings = (f'devices=["{QUIET}"]', 'oracle.method="fisher_rao"')
        async with daemon_at(*settings) as daemon:
            await bad.start()
            try:
                (focus,) = await ports(daemon, "focus")
                (eeg,) = [await EegClient.connect(daemon.ports.streams["eeg"].port)]
                await until_frame(eeg, whole)
                assert any("no baseline" in note for note in daemon.status().degraded)
                asked = ("calibrate", "baseline", "--seconds", "5")
                good_one, bad_one = await asyncio.gather(
                    phantomctl(daemon.control_path, *asked),
                    phantomctl(bad.control_path, *asked, "--json"),
                )
                assert good_one[0] == 0, good_one
                file = tmp_path / "state" / "baseline.npz"
                assert str(file) in good_one[1] and "of 5 s were good" in good_one[1]
                assert file.stat().st_mode & 0o777 == 0o600
                assert baselines.load(file, MONTAGE).seconds >= 3
                assert (await until(focus, is_value))["method"] == "fisher_rao"
                assert daemon.status().degraded == []
                assert bad_one[0] == 1
                error = json.loads(bad_one[1])["error"]
                assert error["code"] == "bad-baseline" and error["hint"]
                assert "of 5 s of rest were good (artifact in" in error["message"]
                assert not (tmp_path / "other" / "baseline.npz").exists()
            finally:
                await bad.stop()

    run(go())


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (tuple("ABCDEFGH"), "8 channels (A B C D E F G H), not of 8 (Fp1"),
        (MONTAGE[:7], "7 channels (Fp1"),
    ],
)
def test_a_baseline_of_another_montage_is_refused_and_status_says_so(
    run, daemon_at, tmp_path, labels, said
):
    file = tmp_path / "state" / "baseline.npz"
    baselines.write(file, baselines.Baseline(np.eye(len(labels)), labels, 30.0, 1))

    async def go():
        async with daemon_at(f'devices=["{QUIET}"]') as daemon:
            status = await ask(daemon.control_path, "status")
            (note,) = [one for one in status["degraded"] if "baseline" in one]
            assert said in note and "phantomctl calibrate baseline" in note
            assert status["detail"]["oracle"]["baseline"] is None

    run(go())


def test_the_example_s_lamp_follows_the_trit(run, daemon_at):
    async def go():
        settings = (f'devices=["{QUIET}"]', 'oracle.propagators=["examples/propagators.py:lamp"]')
        async with daemon_at(*settings) as daemon:
            (trit,) = await ports(daemon, "trit")
            data = await until(trit, is_value)
            kelvin = {-1: 2700, 0: 4000, 1: 6500}[data["trit"]]
            assert data["cells"] == {"kelvin": {"cell": "value", "value": kelvin}}

    run(go())


def test_three_oracles_add_up_in_gf_3(run, daemon_at):
    """The same one thrice: 3t is 0 whatever t, and unknown while t is."""

    async def go():
        async with daemon_at(f'devices=["{QUIET}"]') as daemon:
            port = str(daemon.ports.streams["trit"].port)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "examples/triad.py", port, port, port,
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            said: list[list[str]] = []
            try:
                async with asyncio.timeout(3 * WAIT_S):
                    while not said or said[-1][0] == "?":
                        said.append((await process.stdout.readline()).decode().split())
            finally:
                process.kill()
                await process.wait()
            trit = said[-1][0]
            assert said[-1] == [trit, trit, trit, "=", "0"] and trit in ("-1", "0", "1")
            assert all(words == ["?", "?", "?", "=", "?"] for words in said[:-1])

    run(go())
