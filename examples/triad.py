"""Several oracles as one: their trits added in GF(3), a line each second (docs/oracle.md).

    python examples/triad.py 7071 lab-pc:7071 other-pc:7071

A triad is consistent when its sum is 0. While one of them has no trit, neither has the sum.
"""

import sys
from contextlib import ExitStack

from phantomd.client import connect
from phantomd.oracle.cells import Content, Nothing, Value
from phantomd.oracle.trit import compose

UNKNOWN = "?"


def content_of(data: dict) -> Content:
    return Value(data["trit"]) if data["cell"] == "value" else Nothing(data.get("reason", ""))


def main(ports: list[str]) -> None:
    with ExitStack() as stack:
        oracles = []
        for where in ports:
            host, _, port = where.rpartition(":")
            oracles.append(stack.enter_context(connect("trit", host or "127.0.0.1", int(port))))
        for messages in zip(*oracles, strict=False):
            trits = [content_of(message["data"]) for message in messages]
            total = compose(trits)
            shown = [each.value if isinstance(each, Value) else UNKNOWN for each in (*trits, total)]
            print(*shown[:-1], "=", shown[-1], flush=True)


main(sys.argv[1:])
