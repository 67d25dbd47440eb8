"""Cells and propagators of your own in the oracle's network (docs/oracle.md).

    phantomd --set 'oracle.propagators=["examples/propagators.py:lamp"]'
    phantomctl tap trit --json | jq .data.cells

A function hears of its inputs when they change, and not while one of them is nothing or
contradicts: then its outputs are so, too.
"""

from phantomd.oracle.cells import Network, Value


def lamp(network: Network) -> None:
    """A lamp in the room: warm while the trit is -1, cold while it is +1."""
    kelvin = {-1: 2700, 0: 4000, 1: 6500}
    network.add("kelvin", ["trit"], ["kelvin"], lambda trit: Value(kelvin[trit]))
