"""Propagators of a user's own: loaded by name, heard on the ports, contained when they fail."""

import numpy as np
import pytest
from oracle_bench import Oracle

from phantomd.config import load
from phantomd.errors import ConfigError
from phantomd.oracle.cells import Contradiction, Network, Nothing, Value
from phantomd.oracle.propagators import load_propagators, own_cells

MINE = """
from phantomd.oracle.cells import Value

def mine(network):
    network.add("calm", ["focus"], ["calm"], lambda focus: Value(1.0 - focus))

def high(network):
    network.add("high", ["eeg"], ["focus"], lambda window: Value(1.2))

def broken(network):
    network.add("broken", ["trit"], ["x"], lambda trit: 1 / 0)

def raising(network):
    raise RuntimeError("not today")

number = 5
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_its_cells_stand_in_every_line(tmp_path, file):
    oracle = Oracle(tmp_path, propagators=(f"{file}:mine",))
    oracle.run(0.0, 3.2)
    for stream in ("focus", "trit"):
        values = [data for _, data in oracle.lines[stream] if data["cell"] == "value"]
        assert values
        for data in values:
            assert data["cells"] == {"calm": {"cell": "value", "value": 1.0 - data["focus"]}}
    first = oracle.lines["focus"][0][1]
    assert first["cells"]["calm"] == {"cell": "nothing", "reason": first["reason"]}


def test_without_any_there_is_no_such_key(tmp_path):
    oracle = Oracle(tmp_path)
    oracle.run(0.0, 1.2)
    assert not any("cells" in data for _, data in oracle.lines["focus"])


def test_a_focus_that_it_tells_out_of_range_halts_what_hangs_on_it_and_is_told_once(tmp_path, file):
    oracle = Oracle(tmp_path, propagators=(f"{file}:high",))
    oracle.run(0.0, 3.2)
    hit = [data for _, data in oracle.lines["focus"] if data["cell"] == "contradiction"]
    assert len(hit) > 10 and hit[-1]["halted"] == ["brightness", "trit"]
    trit = oracle.lines["trit"][-1][1]
    assert trit["cell"] == "contradiction" and "trit" not in trit
    assert [event.level for event in oracle.events] == ["warning"]
    assert "focus out of range" in oracle.events[0].message


def test_one_that_fails_is_told_once_and_the_trit_goes_on(tmp_path, file):
    oracle = Oracle(tmp_path, propagators=(f"{file}:broken",))
    oracle.run(0.0, 4.2)
    assert oracle.reasons("trit")[-1] == "value"
    assert oracle.lines["trit"][-1][1]["cells"] == {"x": {"cell": "nothing", "reason": "failed"}}
    assert [event.message for event in oracle.events] == [
        "neurofeedback oracle: broken fails: ZeroDivisionError: division by zero"
    ]
    assert any("broken fails" in note for note in oracle.stage.degraded())


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("{file}", "names no function"),
        ("mine", "names no function"),
        ("{file}:other", "has no attribute 'other'"),
        ("{file}:number", "is no function"),
        ("/nowhere/x.py:f", "No such file"),
        ("no_such_module_of_mine:f", "No module named"),
    ],
)
def test_what_can_not_be_loaded_is_named(file, where, said):
    named = where.replace("{file}", str(file))
    with pytest.raises(ConfigError) as raised:
        load_propagators([named])
    assert said in raised.value.message and named in raised.value.message
    assert "FILE.py:FUNCTION" in raised.value.hint
    assert raised.value.exit_status == 78


def test_a_function_that_can_not_build_on_the_network_is_named(tmp_path, file):
    with pytest.raises(ConfigError, match="not today"):
        Oracle(tmp_path, propagators=(f"{file}:raising",))


def test_values_of_any_kind_can_be_published():
    network = Network()
    for name, content in {
        "number": Value(np.float32(0.5)),
        "row": Value(np.arange(2)),
        "thing": Value(Network),
        "none": Nothing("artifact"),
        "both": Contradiction(1, 2),
    }.items():
        network.tell(name, content, 0)
    assert own_cells(network) == {
        "number": {"cell": "value", "value": 0.5},
        "row": {"cell": "value", "value": [0, 1]},
        "thing": {"cell": "value", "value": repr(Network)},
        "none": {"cell": "nothing", "reason": "artifact"},
        "both": {"cell": "contradiction", "a": 1, "b": 2},
    }


def test_fewer_than_six_channels_are_no_configuration():
    with pytest.raises(ConfigError, match="names 5 channels"):
        load(None, ['oracle.channels=["Fp1","Fp2","F3","F4","C3"]'])
