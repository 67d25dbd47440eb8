"""Bad channels of made-up heads, and of recordings: pickings of Bigdely-Shamlo et al. 2015."""

import numpy as np
import pytest

from benches import artifact_data as data
from phantomd.errors import ConfigError
from phantomd.formats.openbci import read_openbci
from phantomd.signal import montage
from phantomd.signal.bad_channels import BadChannel, BadChannels

LABELS = ("Fp1", "Fp2", "F3", "F4", "Fz", "C3", "C4", "Cz", "P3", "P4", "Pz", "O1", "O2", "Oz")
RATE = 250.0


def head(seconds: float = 11.0, seed: int = 0):
    """Sources all over the head, each seen by the electrodes near it."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE)
    hz = np.fft.rfftfreq(n, 1 / RATE)
    shape = (len(hz), 40)
    spectrum = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    sources = np.fft.irfft(spectrum / np.maximum(hz, 0.5)[:, None] ** 0.5, n, axis=0)
    at = rng.standard_normal((40, 3))
    at[:, 2] = abs(at[:, 2])
    at /= np.linalg.norm(at, axis=1, keepdims=True)
    places = np.array([montage.place(label) for label in LABELS])
    x = sources @ np.exp(6 * (at @ places.T - 1))
    return 15 * x / x.std(axis=0) + rng.standard_normal((n, len(LABELS))) + 20e3


def found(x, **options: object) -> dict[str, str]:
    judge = BadChannels(LABELS, RATE, **options)  # type: ignore[arg-type]
    judge.push(x)
    bad = judge.find()
    assert bad is not None
    return {channel.label: channel.reason for channel in bad}


def test_a_good_head_has_none() -> None:
    assert [found(head(seed=seed)) for seed in range(10)] == [{}] * 10


@pytest.mark.parametrize("reason", ["missing", "railed", "flat", "noisy", "weak", "apart"])
def test_each_kind_is_named_with_its_reason(reason: str) -> None:
    x = head()
    rng = np.random.default_rng(9)
    if reason == "missing":
        x[rng.random(len(x)) < 0.3, 6] = np.nan
    elif reason == "railed":
        x[rng.random(len(x)) < 0.1, 6] = 187_500.0
    elif reason == "flat":
        x[:, 6] = 123.0
    elif reason == "noisy":
        x[:, 6] += 100 * rng.standard_normal(len(x))
    elif reason == "weak":
        x[:, 6] = 0.5 * rng.standard_normal(len(x))
    else:
        x[:, 6] = np.roll(x[:, 6], 1000)
    assert found(x, range_uv=(-187_500.0, 187_500.0)) == {"C4": reason}


def test_a_rail_is_found_without_knowing_the_range() -> None:
    x = head()
    x[:, 3] = np.minimum(x[:, 3], np.quantile(x[:, 3], 0.8))
    assert found(x) == {"F4": "railed"}


def test_a_blink_and_a_burst_make_no_channel_bad() -> None:
    x = head()
    for at in (300, 900, 1500, 2100):
        x[at : at + 85, :2] += (300 * np.hanning(85))[:, None]
    x[1000:1400, 11] += 80 * np.random.default_rng(3).standard_normal(400)
    assert found(x) == {}


def test_the_newest_ten_seconds_count_however_they_come() -> None:
    x = np.concatenate((head(), head(seed=1)))
    x[: len(x) // 2, 2] = 5.0
    whole, parts = BadChannels(LABELS, RATE), BadChannels(LABELS, RATE)
    assert whole.find() is None
    parts.push(x[:2600])
    (bad,) = parts.find() or ()
    assert bad == BadChannel("F3", "flat", 0.0, 0.5)
    for at in range(2600, len(x), 37):
        parts.push(x[at : at + 37])
    whole.push(x)
    assert parts.find() == whole.find() == ()


def test_unknown_labels_and_few_channels_are_judged_by_themselves() -> None:
    judge = BadChannels(("1", "2"), RATE)
    x = head()[:, :2]
    x[:, 1] = 0.0
    judge.push(x)
    assert judge.find() == (BadChannel("2", "flat", 0.0, 0.5),)


def test_bad_options_and_shapes_are_refused() -> None:
    with pytest.raises(ConfigError, match="bad channels"):
        BadChannels(LABELS, 20.0)
    with pytest.raises(ConfigError, match="bad channels"):
        BadChannels(LABELS, RATE, window_s=2.0)
    with pytest.raises(ValueError, match="samples"):
        BadChannels(LABELS, RATE).push(np.zeros((4, 3)))


# -- recordings ------------------------------------------------------------------------------------


def every_five_seconds(labels, rate: float, uv) -> list[tuple[BadChannel, ...]]:
    judge = BadChannels(labels, rate)
    step = round(5 * rate)
    told = []
    for at in range(0, len(uv) - step + 1, step):
        judge.push(uv[at : at + step])
        bad = judge.find()
        if bad is not None:
            told.append(bad)
    return told


@pytest.mark.realdata
def test_railed_channels_of_a_recording_are_found(data_dir, monkeypatch) -> None:
    """Six of eight channels are at a rail, or at 0, which the board sends for one that is off."""
    path = data_dir / "openbci_gui" / "OpenBCI_2016-02-13_Jordan_focus.txt"
    recording = read_openbci(path)
    labels = tuple("12345678")
    told = every_five_seconds(labels, recording.rate_hz, recording.uv[: 110 * 250])
    for bad in told[3:]:
        assert {channel.label for channel in bad} == set("345678")
        assert {channel.reason for channel in bad} <= {"flat", "railed"}


@pytest.mark.realdata
def test_clean_recordings_have_next_to_none(data_dir, monkeypatch) -> None:
    monkeypatch.setenv("PHANTOMD_DATA", str(data_dir))
    recordings = [data.eegmmidb("R01"), data.eegmmidb("R02"), data.p300(), data.openbci_v6()]
    for recording in recordings:
        told = every_five_seconds(recording.labels, recording.rate_hz, recording.uv)
        false = sum(len(bad) for bad in told) / (len(told) * len(recording.labels))
        assert told and false <= 0.05, recording.name
