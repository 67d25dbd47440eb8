"""Cells and propagators of your own in the oracle's network (docs/oracle.md).

    phantomd --set 'oracle.propagators=["examples/propagators.py:lamp"]'
    phantomctl tap trit --json | jq .data.cells

A function hears of its inputs when they change, and not while one of them is nothing or
contradicts: then its outputs are so, too.
"""

from phantomd.oracle.cells import Network, Value
from phantomd.oracle.trit import compose


def lamp(network: Network) -> None:
    """A lamp in the room: warm while the trit is -1, cold while it is +1."""
    kelvin = {-1: 2700, 0: 4000, 1: 6500}
    network.add("kelvin", ["trit"], ["kelvin"], lambda trit: Value(kelvin[trit]))


def triad(network: Network) -> None:
    """Three oracles as one: this one's trit with two that others tell of the cells ``left`` and
    ``right`` in the same epoch. Unknown as long as one of them is."""
    network.add(
        "triad",
        ["trit", "left", "right"],
        ["triad"],
        lambda *trits: compose(Value(trit) for trit in trits),
    )
