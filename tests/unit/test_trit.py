"""The oracle proper: thresholds, roles, GF(3)."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phantomd.oracle.cells import Contradiction, Nothing, Value
from phantomd.oracle.network import inject_focus, oracle_network, tell_window
from phantomd.oracle.trit import add, brightness, compose, is_consistent, skill, trit, trit_of

SKILLS = {"validator": ("a", "b"), "coordinator": ("c",), "generator": ()}


@pytest.mark.parametrize(
    ("focus", "expected"),
    [
        (0.0, -1),
        (0.32999, -1),
        (0.33, 0),
        (float(np.float32(0.33)), 0),
        (0.5, 0),
        (0.66, 0),
        (float(np.float32(0.66)), 0),
        (0.66001, 1),
        (1.0, 1),
    ],
)
def test_thresholds_are_exclusive_and_compared_in_float32(focus, expected):
    assert trit_of(focus) == expected


@given(st.floats(0, 1))
def test_every_focus_has_one_trit_always_the_same(focus):
    assert trit(Value(focus)) == trit(Value(focus))
    assert trit_of(focus) in (-1, 0, 1)


@pytest.mark.parametrize("focus", [-0.001, 1.2, float("nan"), float("inf")])
def test_a_focus_out_of_range_contradicts(focus):
    assert trit(Value(focus)) == Contradiction()


def test_nothing_stays_nothing():
    content = trit(Nothing("artifact"))
    assert isinstance(content, Nothing) and content.reason == "artifact"
    assert brightness(content) is content


def test_brightness():
    assert [brightness(Value(t)) for t in (-1, 0, 1)] == [Value(0.2), Value(0.5), Value(1.0)]


def test_the_first_available_skill_of_the_role():
    assert skill(-1, SKILLS) == "a"
    assert skill(-1, SKILLS, {"b"}) == "b"
    assert skill(0, SKILLS, set()) is None
    assert skill(1, SKILLS) is None


def test_trits_are_a_group_under_addition():
    trits = [Value(t) for t in (-1, 0, 1)]
    for a, b, c in itertools.product(trits, repeat=3):
        assert add(a, b) == add(b, a)
        assert add(add(a, b), c) == add(a, add(b, c))
    for a in trits:
        assert add(a, Value(0)) == a
        assert add(a, Value(-a.value)) == Value(0)
    assert add(Value(1), Value(1)) == Value(-1)
    assert add(Value(-1), Value(-1)) == Value(1)


def test_what_is_unknown_stays_so_in_a_sum():
    assert compose([Value(1), Nothing("dropout")]) == Nothing()
    assert compose([Value(1), Nothing(), Contradiction()]) == Contradiction()
    assert is_consistent([Value(1), Nothing(), Value(0)]) is None


@pytest.mark.parametrize(
    ("triad", "consistent"), [((1, 0, -1), True), ((1, 1, 1), True), ((1, 1, 0), False)]
)
def test_a_triad_is_consistent_when_it_sums_to_zero(triad, consistent):
    assert is_consistent([Value(t) for t in triad]) is consistent


def test_the_network_goes_from_window_to_brightness():
    network = oracle_network(lambda window: Value(float(window.mean())))
    network.tell("eeg", Value(np.full((8, 128), 0.9)), 0)
    network.run()
    assert network.cell("trit").content == Value(1)
    assert network.cell("brightness").content == Value(1.0)


def test_an_injected_focus_out_of_range_halts_the_network_until_the_next_epoch():
    network = oracle_network(lambda window: Value(0.5))
    inject_focus(network, Value(1.2), 0)
    assert network.cell("brightness").content == Contradiction()
    assert network.halted == {"trit", "brightness"}
    network.tell("eeg", Value(np.zeros((8, 128))), 1)
    network.run()
    assert network.cell("trit").content == Value(0)
    assert network.halted == set()


def test_a_user_s_propagator_plugs_in():
    network = oracle_network(lambda window: Value(0.9))
    network.add("mood", ["trit", "brightness"], ["mood"], lambda t, b: Value((t, b)))
    for epoch in range(3):
        network.tell("eeg", Value(np.zeros((8, 128))), epoch)
        network.run()
        assert network.cell("mood").content == Value((1, 1.0))
    network.tell("eeg", Nothing("dropout"), 3)
    network.run()
    assert network.cell("mood").content == Nothing()


@pytest.mark.parametrize(("cell", "value"), [("focus", 1.2), ("trit", 5), ("brightness", -0.1)])
def test_a_user_s_propagator_can_not_tell_what_a_cell_can_not_be(cell, value):
    """With no reading to contradict, the range alone does."""
    network = oracle_network(lambda window: Nothing("no-signal"))
    network.add("mine", ["eeg"], [cell], lambda window: Value(value))
    network.tell("eeg", Value(np.zeros((128, 8))), 0)
    network.run()
    assert network.cell(cell).content == Contradiction()


def test_a_user_s_propagator_that_says_otherwise_contradicts_the_metric():
    network = oracle_network(lambda window: Value(0.5))
    network.add("mine", ["eeg"], ["focus"], lambda window: Value(0.9))
    network.tell("eeg", Value(np.zeros((128, 8))), 0)
    network.run()
    assert network.cell("focus").content == Contradiction()
    assert network.halted == {"trit", "brightness"}


def test_after_the_timeout_what_hangs_on_the_trit_is_at_its_baseline():
    network = oracle_network(lambda window: Value(0.9))
    heard = []
    network.add("lamp", ["brightness"], ["lamp"], lambda b: Value(round(100 * b)))
    network.watch("brightness", lambda cell: heard.append(cell.content))
    for epoch in range(2):
        tell_window(network, Value(np.zeros((128, 8))), epoch)
    for epoch in range(2, 5):
        tell_window(network, Nothing("timeout"), epoch)
    assert network.cell("trit").content == Nothing()
    assert network.cell("brightness").content == Value(0.5)
    assert network.cell("lamp").content == Value(50)
    assert heard == [Value(1.0), Value(0.5)]
