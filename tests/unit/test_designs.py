"""Designs of the filter bank: their gains by scipy.signal.sosfreqz, and what is refused."""

import math
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import butter, sosfreqz

from phantomd.errors import ConfigError
from phantomd.signal.designs import BANDS_HZ, Sos, band_pass, bank, notch, series


def gain_db(sos: Sos, frequency_hz: npt.ArrayLike, rate_hz: float) -> npt.NDArray[np.float64]:
    _, response = sosfreqz(sos, np.atleast_1d(frequency_hz), fs=rate_hz)
    return np.asarray(20 * np.log10(np.abs(response) + 1e-300))


@pytest.mark.parametrize("rate", [128.0, 250.0, 1000.0])
@pytest.mark.parametrize("name", BANDS_HZ)
def test_a_band_is_3_db_down_at_its_edges(name: str, rate: float) -> None:
    low, high = BANDS_HZ[name]
    sos = band_pass((low, high), rate)
    assert sos.shape == (4, 6)
    assert gain_db(sos, [low, high], rate) == pytest.approx([-3.01, -3.01], abs=0.01)
    assert gain_db(sos, math.sqrt(low * high), rate)[0] == pytest.approx(0, abs=0.05)
    assert gain_db(sos, [1e-6, rate / 2 - 1e-6], rate).max() < -200


def test_a_band_is_what_butter_gives() -> None:
    expected = butter(4, (8.0, 13.0), "bandpass", fs=250.0, output="sos")
    assert np.array_equal(band_pass((8.0, 13.0), 250.0), expected)


@pytest.mark.parametrize("mains", [50.0, 60.0])
@pytest.mark.parametrize("rate", [128.0, 250.0, 1000.0])
def test_the_mains_and_each_harmonic_are_gone(mains: float, rate: float) -> None:
    sos = notch(mains, rate)
    harmonics = mains * np.arange(1, len(sos) + 1)
    assert harmonics[-1] + 1 < rate / 2 <= harmonics[-1] + mains + 1
    assert gain_db(sos, harmonics, rate).max() < -200
    assert gain_db(sos, [0.0, mains / 2], rate) == pytest.approx([0, 0], abs=0.02)
    edges = np.r_[harmonics - 1, harmonics + 1]
    assert gain_db(sos, edges, rate) == pytest.approx(-3.0, abs=0.65)  # lopsided near half the rate


def test_a_bank_is_its_bands_behind_the_notch() -> None:
    designs = bank(250.0, mains_hz=50.0)
    assert list(designs) == list(BANDS_HZ)
    expected = series(notch(50.0, 250.0), band_pass(BANDS_HZ["beta"], 250.0))
    assert np.array_equal(designs["beta"], expected)
    assert len(bank(250.0)["beta"]) == 4


def test_a_fast_device_has_the_harmonics_that_reach_its_bands() -> None:
    assert len(notch(50.0, 30e3)) == 299
    assert len(notch(50.0, 30e3, highest_hz=160.0)) == 3
    assert len(bank(30e3, mains_hz=50.0)["delta"]) == 3 + 4


@pytest.mark.parametrize(
    "edges", [(0.0, 4.0), (4.0, 4.0), (8.0, 4.0), (30.0, 64.0), (math.nan, 4.0), (4.0, math.nan)]
)
def test_a_band_that_does_not_fit_is_refused(edges: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        band_pass(edges, 128.0)


def test_an_order_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="order 0"):
        band_pass((8.0, 13.0), 250.0, 0)


def test_a_notch_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        notch(50.0, 102.0)
    with pytest.raises(ConfigError, match="wide"):
        notch(50.0, 250.0, 0.0)


def test_scipy_waits_for_the_first_design() -> None:
    program = (
        "import sys; import phantomd.signal.designs; "
        "sys.exit(any(name.startswith('scipy') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
