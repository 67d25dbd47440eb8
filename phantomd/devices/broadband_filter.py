"""The band-pass of a broadband array, by SciPy.

``scipy.signal`` takes seconds of a busy interpreter, and 77 MB: a daemon has it done in a process
of its own, whoever plays an array by himself in his own.
"""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import numpy.typing as npt

from phantomd.devices.spawner import environment, python
from phantomd.errors import BadAddress, DeviceError

ASIDE_S = 60.0
Sos = npt.NDArray[np.float64]


class BandPass(msgspec.Struct, frozen=True):
    """Butterworth's."""

    order: int
    low_hz: float
    high_hz: float
    rate_hz: float

    def sos(self) -> Sos:
        """Raises BadAddress for edges that no filter can have."""
        from scipy.signal import butter

        try:
            edges = (self.low_hz, self.high_hz)
            return np.asarray(butter(self.order, edges, "bandpass", fs=self.rate_hz, output="sos"))
        except ValueError as error:
            raise BadAddress(
                f"no band-pass of {self.low_hz:g} to {self.high_hz:g} Hz at {self.rate_hz:g}: "
                f"{error}",
                hint="0 < low_hz < high_hz < rate_hz / 2, and an order of 1 or more",
            ) from error

    def sos_aside(self) -> Sos:
        """The same numbers. Raises DeviceError, also for edges that no filter can have."""
        command = python("phantomd.devices.broadband_filter", msgspec.json.encode(self).decode())
        try:
            done = subprocess.run(
                command, capture_output=True, env=environment(), timeout=ASIDE_S, check=True
            )
            return np.array(msgspec.json.decode(done.stdout, type=list[list[float]]))
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise BadAddress(said, hint="0 < low_hz < high_hz < rate_hz / 2") from error
        except (OSError, subprocess.SubprocessError, msgspec.MsgspecError) as error:
            raise DeviceError(
                f"the band-pass could not be designed: {error}",
                hint="the system refuses processes or memory, or is too busy: try again",
            ) from error


def main(arguments: list[str]) -> None:
    """JSON in, JSON out: the numbers as they are, bit for bit."""
    wanted = msgspec.json.decode(arguments[0], type=BandPass)
    sys.stdout.buffer.write(msgspec.json.encode(wanted.sos().tolist()))


if __name__ == "__main__":
    main(sys.argv[1:])
