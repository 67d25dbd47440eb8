"""The port on a virtual clock: subscribers, decoders and what they do to each other."""

import contextlib
from collections.abc import Iterator

import msgpack
import pytest
from spiking import BIN_NS, Client, dataset, session, velocity

from phantomd.core.gauntlet import LEFT, NEVER, REFUSALS, WHAT, Port, Session, Stress, parse_answer
from phantomd.gauntlet.stress import StressConfig


class World:
    """A port with sessions 0 and 1, and time that passes when it is told to."""

    def __init__(self) -> None:
        self.port = Port(4, 16)
        self.now_ns = 0
        self.cores: list[Session] = []
        self.clients: list[Client] = []
        self.events: list[tuple] = []
        data = dataset()
        for number in range(2):
            self.cores.append(session(data, phase_ns=(number + 1) * 5_000_000))
            self.port.order("add", session=number, pointer=self.cores[number])
        self.step()

    def step(self, to_ns: int | None = None) -> None:
        self.now_ns = self.now_ns if to_ns is None else to_ns
        self.port.step(self.now_ns)
        self.events += self.port.take_events()

    def pass_bins(self, n: int) -> None:
        """In steps of a millisecond."""
        for _ in range(n * 25):
            self.step(self.now_ns + 1_000_000)

    def join(self, session_number: int = 0, **how: int) -> Client:
        client = Client(self.port, len(self.clients), session_number, **how)
        self.clients.append(client)
        self.step()
        return client

    def told(self, what: str) -> list[tuple]:
        return [event for event in self.events if event[0] == what]

    def said(self) -> list[str]:
        return [WHAT[event[3]] for event in self.told("session")]

    def refused(self) -> list[str]:
        return [REFUSALS[event[3]] for event in self.told("refused")]

    def left(self) -> list[tuple[int, str]]:
        return [(event[1], LEFT[event[3]]) for event in self.told("left")]


@pytest.fixture
def world() -> Iterator[World]:
    one = World()
    yield one
    for client in one.clients:
        client.close()


def seqs(messages: list[dict]) -> list[int]:
    return [m["seq"] for m in messages if m["type"] == "data"]


def test_the_greeting_is_first_and_packets_follow(world):
    client = world.join()
    world.pass_bins(3)
    messages = client.take()
    assert messages[0] == {"type": "metadata"}
    assert seqs(messages) == [0, 1, 2]


def test_all_subscribers_see_the_same_packets(world):
    first, second = world.join(), world.join()
    world.pass_bins(4)
    one, other = first.take(), second.take()
    assert one == other
    assert len(one) == 5


def test_who_comes_later_sees_what_comes_from_then_on(world):
    world.join()
    world.pass_bins(3)
    late = world.join()
    world.pass_bins(2)
    assert seqs(late.take()) == [3, 4]


def test_sessions_are_isolated(world):
    one, other = world.join(0), world.join(1)
    world.pass_bins(2)
    world.port.order("pause", session=0)
    world.pass_bins(3)
    assert seqs(one.take()) == [0, 1]
    assert seqs(other.take()) == [0, 1, 2, 3, 4]


def test_every_change_of_state_is_told(world):
    client = world.join()
    world.pass_bins(1)
    for what in ("pause", "pause", "resume"):
        world.port.order(what, session=0)
        world.step()
    world.pass_bins(1)
    kinds = [m.get("state", m["type"]) for m in client.take()]
    assert kinds == ["metadata", "data", "paused", "running", "data"]


def test_an_answer_closes_the_loop_for_everybody(world):
    decoder, watcher = world.join(), world.join()
    world.pass_bins(1)
    decoder.send(velocity(0, 2.0, 4.0))
    world.step()
    world.pass_bins(1)
    assert decoder.take()[-1]["data"]["loop"][0]["seq"] == 0
    assert watcher.take()[-1]["data"]["loop"][0]["vy"] == 4.0


def test_the_decoder_gives_its_seat_up_when_it_leaves(world):
    first, second = world.join(), world.join()
    world.pass_bins(1)
    first.send(velocity(0))
    world.step()
    second.send(velocity(0))
    world.step()
    assert world.refused() == ["decoder-taken"]
    first.sock.close()
    world.step()
    world.pass_bins(1)
    second.send(velocity(1))
    world.step()
    assert world.cores[0].decoder == 1
    assert world.said() == ["decoder", "decoder-left", "decoder"]


def test_a_half_closed_client_goes_on_reading_and_is_no_decoder_any_more(world):
    client = world.join()
    world.pass_bins(1)
    client.send(velocity(0))
    world.step()
    client.sock.shutdown(1)
    world.step()
    assert world.cores[0].decoder is None
    world.pass_bins(2)
    assert seqs(client.take()) == [0, 1, 2]
    assert world.told("half")


def test_a_session_rests_when_its_last_subscriber_leaves(world):
    client = world.join()
    world.pass_bins(2)
    client.sock.close()
    world.pass_bins(3)
    position = world.cores[0].bin
    assert world.left() == [(0, "gone")]
    assert world.port.step(world.now_ns + BIN_NS) == NEVER
    world.join()
    world.pass_bins(1)
    assert world.cores[0].bin == position + 1


def test_an_attach_is_the_event_loops_and_a_move_greets_first(world):
    client = world.join(0)
    world.pass_bins(2)
    client.send(msgpack.packb({"attach": "other"}))
    world.step()
    (event,) = world.told("attach")
    assert event[8] == b"other"
    world.port.order(
        "move", connection=0, session=1, message=msgpack.packb({"type": "metadata", "s": 1})
    )
    world.pass_bins(2)
    kinds = [m["type"] for m in client.take()]
    assert kinds == ["metadata", "data", "data", "metadata", "data", "data"]
    assert world.cores[0].subscribers == 0


def test_a_subscriber_that_does_not_read_loses_its_own_oldest_and_is_told(world):
    deaf, reader = world.join(sndbuf=2048), world.join()
    read: list[dict] = []
    for _ in range(200):
        world.pass_bins(1)
        read += reader.take()
    assert seqs(read) == list(range(200))
    kept: list[dict] = []
    for _ in range(200):
        kept += deaf.take()
        world.step()
    (gap,) = [m for m in kept if m["type"] == "gap"]
    before = seqs(kept[: kept.index(gap)])
    after = seqs(kept[kept.index(gap) + 1 :])
    assert before == list(range(len(before)))
    assert gap == {
        "type": "gap",
        "stream": "spikes",
        "first_seq": len(before),
        "count": after[0] - len(before),
        "reason": "slow-client",
    }
    assert after == list(range(120, 200))  # two seconds
    assert world.port.dropped == gap["count"] == world.cores[0].counts()["dropped"]


def test_deleting_a_session_ends_its_connections_and_nobody_elses(world):
    one, other = world.join(0), world.join(1)
    world.pass_bins(1)
    world.port.order("remove", session=0)
    world.port.order("ticket", value=77)
    world.step()
    assert one.take()[-1] == {"type": "session", "state": "ended"}
    assert world.left() == [(0, "ended")]
    assert [event[7] for event in world.told("done")] == [77]
    world.pass_bins(1)
    assert seqs(other.take()) == [0, 1]


def test_stress_can_cut_all_connections(world):
    plan = Stress(StressConfig(disconnects_per_min=600.0), 5)
    world.port.order("stress", session=0, pointer=plan)
    world.join()
    world.join()
    world.pass_bins(40)
    assert world.left() == [(1, "ended"), (0, "ended")]
    assert "cut" in world.said()


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "junk", [b"GET / HTTP/1.1\r\n\r\n", b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa1a\xc1", b"\x00"]
)
def test_what_is_no_map_ends_the_connection_and_no_other(world, junk):
    bad, good = world.join(), world.join()
    bad.send(junk)
    world.pass_bins(2)
    assert world.left() == [(0, "bad-frame")]
    assert seqs(good.take()) == [0, 1]


def test_half_a_map_waits_and_the_rest_makes_it_whole(world):
    client = world.join()
    world.pass_bins(1)
    message = velocity(0, 1.5, -2.5)
    for i in range(len(message)):
        assert world.cores[0].counts()["answered"] == 0
        client.send(message[i : i + 1])
        world.step()
    assert world.cores[0].counts()["answered"] == 1


def test_a_map_that_does_not_end_is_too_big(world):
    client = world.join()
    client.send(b"\xdf\x00\x00\x08\x00" + b"\xa1a\x01" * 1500)
    world.step()
    assert world.left() == [(0, "too-big")]


def test_refusals_are_told_with_measure(world):
    client = world.join()
    world.pass_bins(1)
    client.send(velocity(10**6) * 300)
    world.step()
    assert 20 <= len(world.refused()) <= 22
    assert world.cores[0].counts()["invalid"] == 300
    world.pass_bins(8)
    client.send(velocity(10**6))
    world.step()
    assert world.told("refused")[-1][5] >= 280  # the ones in between were counted


def test_a_flood_is_read_slowly_and_nobody_else_notices(world):
    flood, other = world.join(), world.join()
    world.pass_bins(1)
    sent = 0
    message = velocity(0) * 500
    for _ in range(100):
        with contextlib.suppress(BlockingIOError):
            sent += flood.sock.send(message)
        world.pass_bins(1)
    # 400 at once, then 400 a second, and what one read holds.
    assert world.cores[0].counts()["invalid"] < 400 + 400 * 2.5 + 1200
    assert sent < 100 * len(message)
    assert seqs(other.take()) == list(range(101))


def test_attaches_are_limited(world):
    client = world.join()
    client.send(msgpack.packb({"attach": "x"}) * 100)
    world.step()
    assert 15 <= len(world.told("attach")) <= 21
    assert "rate-limited" in world.refused()


def test_a_dead_peer_is_let_go(world):
    client = world.join()
    world.pass_bins(1)
    client.close()
    world.port.order("reply", connection=0, message=b"\x80")
    world.step()
    assert world.left() == [(0, "gone")]
    assert world.port.n_connections == 0


# -- the parser ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"vx": 1, "vy": -2.5, "seq": 3}, "velocity"),
        ({"vx": 1, "vy": 2, "other": {"deep": [[1, {"x": b"abc"}], None]}}, "velocity"),
        ({"attach": "swift-neural-42"}, "attach"),
        ({"attach": ""}, "wrong-type"),
        ({"attach": "a" * 65}, "wrong-type"),
        ({"attach": "a", "vx": 1, "vy": 1}, "two-meanings"),
        ({"vx": 1}, "no-velocity"),
        ({1: 2}, "no-velocity"),
        ({"vx": [1], "vy": 1}, "wrong-type"),
    ],
)
def test_the_parser_takes_whole_messages(message, kind):
    data = msgpack.packb(message)
    assert parse_answer(data + b"\x01")[:2] == (kind, len(data))
    for cut in range(len(data)):
        assert parse_answer(data[:cut])[0] == "more"


def test_the_parser_knows_every_number():
    for number in (0, 127, 128, 65535, 1 << 31, (1 << 53) - 1):
        assert parse_answer(velocity(number, number % 10**9, -number % 10**9))[2]["seq"] == number
    for value in (-1, -32, -33, -129, -32769, -(10**9), 0.5, -1e-300):
        assert parse_answer(velocity(0, value))[2]["vx"] == value


def test_a_key_twice_is_refused():
    assert parse_answer(b"\x83\xa2vx\x01\xa2vy\x01\xa2vx\x02")[0] == "two-meanings"


def test_depth_is_bounded():
    deep = b"\x83\xa2vx\x01\xa2vy\x01\xa1a" + b"\x91" * 20 + b"\x01"
    assert parse_answer(deep)[0] == "too-big"
