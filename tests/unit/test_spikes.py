"""Port 7072 over real sockets, with its thread: what clients and the control socket see."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from served import Host, connect, read_all
from spiking import BIN_NS, dataset, velocity

from phantomd.contracts import Event
from phantomd.core.gauntlet import live_words
from phantomd.core.ring import Ring
from phantomd.errors import (
    FilterEmpty,
    PhantomError,
    SessionError,
    SessionExists,
    TooManySessions,
    UnknownDataset,
    UnknownSession,
)
from phantomd.gauntlet.datasets import LiveSource
from phantomd.gauntlet.session import IDLE_S
from phantomd.net.spikes import SpikesPort

EPOCH = "0" * 32


class Served:
    def __init__(self, host: Host, home: Path) -> None:
        self.host = host
        self.events: list[Event] = []
        self.port = host.call(
            lambda: SpikesPort(
                EPOCH,
                "127.0.0.1",
                0,
                home=home,
                emit=self.events.append,
                max_clients=8,
                max_sessions=4,
            )
        )
        host.start(self.port)

    def ask(self, name: str, *arguments: Any, **how: Any) -> Any:
        return self.host.wait(getattr(self.port.sessions, name)(*arguments, **how))

    def create(self, code: str, **how: Any) -> Any:
        return self.ask("create", code, dataset="small", **how)

    def join(self) -> "Decoder":
        return Decoder(self.port.port)


class Decoder:
    def __init__(self, port: int) -> None:
        self.sock = connect(port)
        self._unpacker = msgpack.Unpacker()

    def message(self) -> dict[str, Any]:
        for found in self._unpacker:
            return found
        while True:
            data = self.sock.recv(65536)
            assert data, "the port closed the connection"
            self._unpacker.feed(data)
            for found in self._unpacker:
                return found

    def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        while True:
            message = self.message()
            if message["type"] == kind and fields.items() <= message.items():
                return message

    def send(self, message: dict[str, Any] | bytes) -> None:
        self.sock.sendall(message if isinstance(message, bytes) else msgpack.packb(message))

    def attach(self, code: str) -> dict[str, Any]:
        self.send({"attach": code})
        while True:
            found = self.until("metadata")
            if found["data"]["session"] == code:
                return found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    dataset().save(tmp_path / "small")
    with Host() as host:
        yield Served(host, tmp_path)


def test_a_connection_without_attach_is_in_the_default_session(served):
    client = served.join()
    metadata = client.message()
    assert metadata["type"] == "metadata"
    assert metadata["stream"] == "spikes"
    assert metadata["rate_hz"] == 40.0
    data = metadata["data"]
    assert (data["session"], data["dataset"], data["unit"]) == ("default", "synthetic", "mm")
    assert data["total_packets"] == data["total_samples"] == 11_746
    assert data["num_channels"] == data["channel_count"] == 142
    assert data["frequency_hz"] == data["sampling_rate_hz"] == 40.0
    assert data["num_trials"] == data["trial_count"] == 100
    assert data["bin_size_ms"] == 25.0
    assert data["duration_seconds"] == pytest.approx(293.65)
    assert client.until("data")["seq"] == 0


def test_an_attached_connection_follows_the_other_session(served):
    served.create("mine")
    served.ask("seek", "mine", packet=7)
    client = served.join()
    assert client.attach("mine")["data"]["selected_packets"] == 40
    first, second = client.until("data"), client.until("data")
    assert [p["data"]["sequence_number"] for p in (first, second)] == [7, 8]
    assert second["t_ns"] - first["t_ns"] == BIN_NS


def test_attaching_to_nothing_is_answered_and_nothing_closes(served):
    client = served.join()
    client.send({"attach": "nobody"})
    error = client.until("error")
    assert (error["code"], error["closing"]) == ("unknown-session", False)
    client.until("data")


def test_the_loop_closes_over_sockets(served):
    client = served.join()
    packet = client.until("data")
    client.send({"vx": 3.0, "vy": -1.0, "seq": packet["seq"]})
    while not (loop := client.until("data")["data"]["loop"]):
        pass
    assert loop[0]["seq"] == packet["seq"]
    assert 0 < loop[0]["loop_ms"] < 10_000
    served.host.until(lambda: "decoder" in [event.fields["what"] for event in served.events])


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"vx": float("nan"), "vy": 0.0}, "bad-answer"),
        ({"vx": "a", "vy": 0.0}, "bad-answer"),
        ({}, "bad-answer"),
        ({"vx": 0.0, "vy": 0.0, "seq": 10**9}, "never-sent"),
    ],
)
def test_invalid_answers_get_an_error_that_does_not_close(served, answer, code):
    client = served.join()
    client.until("data")
    client.send(answer)
    error = client.until("error")
    assert (error["code"], error["closing"]) == (code, False)
    assert error["hint"]
    client.until("data")


def test_a_second_decoder_is_told_that_the_seat_is_taken(served):
    served.create("mine")
    first, second = served.join(), served.join()
    for client in (first, second):
        client.attach("mine")
    seq = first.until("data")["seq"]
    first.send(velocity(seq))
    while not first.until("data")["data"]["loop"]:
        pass
    second.send(velocity(seq))
    assert second.until("error")["code"] == "decoder-taken"


@pytest.mark.parametrize(
    ("junk", "code"),
    [(b"GET / HTTP/1.1\r\n\r\n", "bad-frame"), (b"\x81" + b"\x91" * 30, "too-big")],
)
def test_what_is_no_map_is_told_and_closed(served, junk, code):
    client = served.join()
    client.send(junk)
    error = client.until("error")
    assert (error["code"], error["closing"]) == (code, True)
    assert read_all(client.sock) == b""


def test_pause_and_resume_are_told_to_subscribers(served):
    served.create("mine")
    client = served.join()
    client.attach("mine")
    client.until("data")
    served.ask("pause", "mine")
    client.until("session", state="paused")
    assert served.port.sessions.find("mine").core.state == "paused"
    served.ask("resume", "mine")
    client.until("session", state="running")
    client.until("data")


def test_deleting_ends_the_connections_and_frees_the_code(served):
    served.create("mine")
    client = served.join()
    client.attach("mine")
    served.ask("delete", "mine")
    client.until("session", state="ended")
    assert read_all(client.sock) == b""
    served.create("mine")


def test_a_session_that_does_not_loop_ends(served):
    served.create("mine", loop=False, trial_id=9)
    served.ask("seek", "mine", packet=36)
    client = served.join()
    client.attach("mine")
    numbers = []
    while (message := client.message())["type"] != "session":
        numbers.append(message["data"]["sequence_number"])
    assert numbers == [36, 37]
    assert message["state"] == "ended"


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"code": "taken"}, SessionExists),
        ({"code": "no good"}, SessionError),
        ({"code": "a", "target_id": 77}, FilterEmpty),
        ({"code": "a", "dataset": "nowhere"}, UnknownDataset),
        ({"code": "a", "dataset": "live:brain"}, UnknownDataset),
        ({"code": "a", "dataset": "/etc"}, UnknownDataset),
    ],
)
def test_what_can_not_be_created_is_refused_by_name(served, how, error):
    served.create("taken")
    with pytest.raises(error) as caught:
        served.ask("create", **{"dataset": "small", **how})
    assert isinstance(caught.value, PhantomError)
    assert caught.value.hint
    assert len(served.port.sessions) == 1


def test_there_are_only_so_many_sessions(served):
    for code in "abcd":
        served.create(code)
    with pytest.raises(TooManySessions):
        served.create("e")
    served.ask("delete", "a")
    served.create("e")


def test_a_seek_outside_the_dataset_is_refused(served):
    served.create("mine")
    for where in ({"packet": 40}, {"position_s": 1.0}, {}, {"packet": 1, "position_s": 0.0}):
        with pytest.raises(SessionError):
            served.ask("seek", "mine", **where)
    assert served.ask("seek", "mine", position_s=0.05).core.bin == 2
    with pytest.raises(UnknownSession):
        served.ask("seek", "other", packet=0)


def test_stress_is_switched_and_told(served):
    live = served.create("mine", level="extreme", seed=5)
    assert live.info()["stress"] == {"noise_std": 2.0, "drift_amplitude": 0.8}
    served.ask("stress", "mine", "none", {"dropout": 1.0})
    assert live.info()["stress"] == {"dropout": 1.0}
    client = served.join()
    client.attach("mine")
    assert set(client.until("data")["data"]["spikes"]["spike_counts"]) == {0}
    served.ask("stress", "mine", "none", {})
    while not any(client.until("data")["data"]["spikes"]["spike_counts"]):
        pass


def test_the_same_seed_gives_the_same_packets_to_two_sessions(served):
    spikes = []
    for code in ("one", "two"):
        served.create(code, level="intense", seed=11)
        client = served.join()
        client.attach(code)
        spikes.append([client.until("data")["data"]["spikes"] for _ in range(12)])
    assert spikes[0] == spikes[1]


def test_idle_sessions_are_forgotten_and_used_ones_are_not(served):
    now_s = [0.0]
    served.port.sessions._now_s = lambda: now_s[0]
    for code in ("idle", "used"):
        served.create(code)
    client = served.join()
    client.attach("used")
    client.until("data")
    now_s[0] = IDLE_S + 1
    assert served.ask("sweep") == ["idle"]
    client.until("data")


def test_clients_over_the_limit_are_told(served):
    clients = [served.join() for _ in range(8)]
    for client in clients:
        client.until("data")
    late = served.join()
    assert late.until("error")["code"] == "too-many-clients"
    clients[0].sock.close()
    served.host.until(lambda: len(served.port._sockets) < 8)
    served.join().until("data")


def test_closing_finishes_what_was_begun(served):
    client = served.join()
    client.until("data")
    served.host.wait(served.port.close())
    rest = msgpack.Unpacker()
    rest.feed(read_all(client.sock))
    assert all("type" in message for message in rest)
    assert rest.tell() >= 0


def test_a_live_source_is_played_as_its_bins_come(served):
    ring = Ring(live_words(6), 64)
    served.host.call(served.port.datasets.add_live, "probe", LiveSource("probe", ring, 6))
    served.ask("create", "mine", dataset="live:probe")
    client = served.join()
    metadata = client.attach("mine")
    assert metadata["data"]["total_packets"] is None

    def push(n: int) -> None:
        frame = np.zeros(live_words(6), np.uint64)
        frame[:3] = 70 + n, 1000 + n, 0
        frame[3:].view(np.uint16)[:6] = [n, 0, 1, 2, 3, 300]
        ring.push(frame)

    push(0)
    push(1)
    first = client.until("data")
    assert first["data"]["sequence_number"] == 71  # from the newest on
    assert first["data"]["spikes"]["spike_counts"] == [1, 0, 1, 2, 3, 300]
    assert first["t_ns"] == 1001
    assert first["data"]["kinematics"]["vx"] is None
    push(2)
    assert client.until("data")["data"]["sequence_number"] == 72
    with pytest.raises(SessionError, match="live"):
        served.ask("seek", "mine", packet=0)
