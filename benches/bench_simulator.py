"""What the simulator costs: a minute of virtual time, handed over as the pump would.

python -m pytest benches/bench_simulator.py -o python_files='bench_*.py'
"""

from typing import Any

import pytest

from benches.cases import Case
from phantomd.contracts import MONTAGE
from phantomd.devices.base import Address
from phantomd.devices.simulator import Simulator, open_simulator

MINUTE = Case("simulator", "a minute of virtual time")
MINUTE_NS = 60_000_000_000


@pytest.mark.parametrize(
    "options",
    [
        "channels=8&rate_hz=250&ssvep=12,15",
        "channels=32&rate_hz=1000&ssvep=12,15",
        "channels=8&rate_hz=16000&ssvep=12,15",
    ],
)
def test_a_minute_of_samples(benchmark: Any, options: str) -> None:
    MINUTE.ours(benchmark, f"`{options}`")

    def opened() -> tuple[tuple[Simulator], dict[str, Any]]:
        device = open_simulator(Address.parse(f"simulator:?{options}"), MONTAGE)
        device.driver.advance(0)
        return (device,), {}

    def a_minute(device: Simulator) -> None:
        device.driver.advance(MINUTE_NS)

    benchmark.pedantic(a_minute, setup=opened, rounds=5)


def test_a_minute_at_the_pace_of_the_pump(benchmark: Any) -> None:
    """One advance for each arrival: 15,000 of them."""
    MINUTE.ours(benchmark, "8 channels at 250 Hz, an advance an arrival, 15,000 of them")

    def opened() -> tuple[tuple[Simulator], dict[str, Any]]:
        return (open_simulator(Address.parse("simulator:?ssvep=12,15"), MONTAGE),), {}

    def a_minute(device: Simulator) -> None:
        now_ns = 0
        while now_ns < MINUTE_NS:
            now_ns = device.driver.advance(now_ns)

    benchmark.pedantic(a_minute, setup=opened, rounds=5)
