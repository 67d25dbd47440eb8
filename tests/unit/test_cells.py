"""The lattice and its network."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phantomd.oracle.cells import (
    NOTHING,
    Content,
    Contradiction,
    Network,
    Nothing,
    Value,
    merge,
)

contents = st.one_of(
    st.just(NOTHING),
    st.builds(Nothing, st.sampled_from(["artifact", "dropout"])),
    st.builds(Value, st.integers(0, 2)),
    st.builds(Value, st.sampled_from([0.5, float("nan")])),
    st.builds(Contradiction, st.integers(0, 2), st.integers(0, 2)),
)


def at_most(a: Content, b: Content) -> bool:
    """The lattice's order."""
    return merge(a, b) == b


@given(contents)
def test_merging_is_idempotent(a):
    assert merge(a, a) == a


@given(contents, contents)
def test_merging_commutes(a, b):
    assert merge(a, b) == merge(b, a)


@given(contents, contents, contents)
def test_merging_associates(a, b, c):
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@given(contents, contents, contents)
def test_merging_is_monotone(a, b, c):
    assert at_most(a, merge(a, b))
    if at_most(a, b):
        assert at_most(merge(a, c), merge(b, c))


@given(contents)
def test_nothing_is_the_identity_and_a_contradiction_absorbs(a):
    assert merge(NOTHING, a) == a
    assert merge(Contradiction(), a) == Contradiction()


def test_different_values_contradict_and_say_which():
    both = merge(Value(1), Value(2))
    assert isinstance(both, Contradiction)
    assert (both.a, both.b) == (1, 2)


def test_arrays_are_values_like_others():
    assert merge(Value(np.ones(3)), Value(np.ones(3))) == Value(np.ones(3))
    assert isinstance(merge(Value(np.ones(3)), Value(np.zeros(3))), Contradiction)


def doubling() -> tuple[Network, list[object]]:
    network, heard = Network(), []
    network.add("double", ["x"], ["y"], lambda x: Value(2 * x))
    network.watch("y", lambda cell: heard.append(cell.content))
    return network, heard


def test_neighbours_hear_changes_only():
    network, heard = doubling()
    for epoch, x in enumerate([3, 3, 4]):
        network.tell("x", Value(x), epoch)
        network.run()
    assert heard == [Value(6), Value(8)]
    assert network.cell("y").epoch == 2


def test_within_an_epoch_information_is_merged_and_across_epochs_overwritten():
    network, _ = doubling()
    network.tell("x", Value(1), 1)
    network.tell("x", Value(2), 1)
    network.run()
    assert network.cell("y").content == Contradiction()
    assert network.halted == {"double"}
    network.tell("x", Value(2), 2)
    network.run()
    assert network.cell("y").content == Value(4)
    assert network.halted == set()


def test_what_is_older_is_no_news():
    network, heard = doubling()
    network.tell("x", Value(1), 5)
    network.run()
    assert network.tell("x", Value(9), 4) is False
    network.run()
    assert heard == [Value(2)]


def test_absence_travels_with_its_reason():
    network, _ = doubling()
    network.tell("x", Nothing("artifact"), 0)
    network.run()
    content = network.cell("y").content
    assert isinstance(content, Nothing) and content.reason == "artifact"


def test_a_contradiction_halts_what_hangs_on_it_and_nothing_else():
    network, _ = doubling()
    network.add("next", ["y"], ["z"], lambda y: Value(y + 1))
    network.add("other", ["w"], ["v"], lambda w: Value(-w))
    network.tell("x", Contradiction(0, "undefined"), 0)
    network.tell("w", Value(1), 0)
    network.run()
    assert network.halted == {"double", "next"}
    assert network.cell("z").content == Contradiction()
    assert network.cell("v").content == Value(-1)


def test_a_propagator_with_two_inputs_and_two_outputs():
    network = Network()
    network.add(
        "both", ["a", "b"], ["sum", "difference"],
        lambda a, b: {"sum": Value(a + b), "difference": Value(a - b)},
    )  # fmt: skip
    network.tell("a", Value(5), 0)
    network.run()
    assert network.cell("sum").content == NOTHING
    network.tell("b", Value(3), 0)
    network.run()
    network.tell("a", Value(6), 1)
    network.run()
    assert network.cell("sum").content == Value(8), "b is not known in this epoch yet"
    network.tell("a", Value(5), 2)
    network.tell("b", Value(3), 2)
    network.run()
    assert network.cell("sum").content == Value(8)
    assert network.cell("difference").content == Value(2)


@pytest.mark.parametrize("seed", range(20))
def test_the_order_of_telling_does_not_matter(seed):
    def build(order: random.Random) -> list[Content]:
        network = Network()
        links = [("p", ["a", "b"], ["c"]), ("q", ["c"], ["d"]), ("r", ["b", "d"], ["e"])]
        order.shuffle(links)
        for name, inputs, outputs in links:
            network.add(name, inputs, outputs, lambda *values: Value(sum(values)))
        told = [("a", Value(1)), ("b", Value(2)), ("b", Value(2)), ("a", NOTHING)]
        order.shuffle(told)
        for name, content in told:
            network.tell(name, content, 0)
            if order.random() < 0.5:
                network.run()
        network.run()
        return [network.cell(name).content for name in "abcde"]

    assert build(random.Random(seed)) == [Value(n) for n in (1, 2, 3, 3, 5)]


def test_a_function_that_raises_knows_nothing_and_stops_nobody_else():
    network = Network()
    network.add("bad", ["x"], ["y"], lambda x: Value(1 / x))
    network.add("good", ["x"], ["z"], lambda x: Value(x))
    network.tell("x", Value(0), 0)
    network.run()
    assert network.cell("y").content == NOTHING
    assert network.cell("z").content == Value(0)
    assert network.failed == {"bad": "ZeroDivisionError: division by zero"}
    network.tell("x", Value(2), 1)
    network.run()
    assert network.cell("y").content == Value(0.5)
    assert network.failed == {}


@pytest.mark.parametrize("given", [1.0, None, "text"])
def test_a_function_gives_a_content_or_has_failed(given):
    network = Network()
    network.add("bare", ["x"], ["y"], lambda x: given)
    network.tell("x", Value(0), 0)
    network.run()
    assert network.cell("y").content == NOTHING
    assert "no content" in network.failed["bare"]


def test_a_watcher_that_raises_stops_nobody():
    network, heard = doubling()

    def broken(cell):
        raise RuntimeError("mine")

    network.watch("x", broken)
    network.tell("x", Value(1), 0)
    network.run()
    assert heard == [Value(2)]
    assert network.failed == {"watch x": "RuntimeError: mine"}


def test_what_a_cell_can_not_be_contradicts_whoever_tells_it():
    network, heard = doubling()
    network.constrain("x", lambda x: Value(x) if x > 0 else Contradiction(x, "not positive"))
    network.tell("x", Value(-1), 0)
    network.run()
    assert heard == [Contradiction()] and network.halted == {"double"}
