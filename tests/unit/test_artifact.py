"""Artifact scores against NumPy's FFT and plain loops over the window, as pd_artifact.h defines
them, and against artifacts of known size."""

import math

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phantomd.contracts import MONTAGE
from phantomd.core.artifact import BEHIND, FRONTAL, IGNORED, KINDS, ArtifactDetector
from phantomd.errors import ConfigError
from phantomd.signal import artifacts
from phantomd.signal.artifacts import Config, config, judge

Array = npt.NDArray[np.float64]

RATE = 250.0
RAIL = 187_500.0
LABELS = (*MONTAGE, "T7", "Oz", "AF3")  # more than one group of lanes


def pink(n: int, channels: int, rms_uv: float = 15.0, seed: int = 0, rate: float = RATE) -> Array:
    """1/f noise from 0.5 Hz on, of its own on each channel."""
    if n < 64:
        return pink(64, channels, rms_uv, seed, rate)[:n]
    rng = np.random.default_rng(seed)
    hz = np.fft.rfftfreq(n, 1 / rate)
    size = 1 / np.maximum(hz, 0.5) ** 0.5
    size[0] = 0
    shape = (len(hz), channels)
    spectrum = size[:, None] * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    x = np.fft.irfft(spectrum, n, axis=0)
    return np.asarray(x / x.std(axis=0) * rms_uv)


def detector(labels: tuple[str, ...] = LABELS, rate: float = RATE, **options: object):
    options.setdefault("range_uv", (-RAIL, RAIL))
    return ArtifactDetector(config(labels, rate, **options))  # type: ignore[arg-type]


def score(kind: str, x: Array, **options: object) -> float:
    d = detector(**options)
    d.push(x)
    return d.read()["score"][KINDS.index(kind)]


# -- the reference ---------------------------------------------------------------------------------


def band(hz: Array, edges: tuple[float, float], width: float, lines: tuple[float, float]):
    used = (hz >= edges[0] - 1e-9) & (hz <= edges[1] + 1e-9)
    for mains in lines:
        for order in (1, 2):
            used &= abs(hz - order * mains) > 2.01 * width
    return used


def reference(c: Config, window: Array) -> dict[str, Array]:
    """Values of each channel, blink: of frontal ones; "window": the window's blink."""
    n, blocks, box = len(window), c.n_blocks, c.box
    curve = dict(zip(KINDS, c.curves, strict=True))
    x = window - window[0]
    at = np.arange(n)
    hann, sine = 0.5 - 0.5 * np.cos(2 * np.pi * at / n), np.sin(2 * np.pi * at / n)
    hz, width = np.fft.rfftfreq(n, 1 / c.rate_hz), c.rate_hz / n
    centred = x - x.mean(axis=0)

    def periodogram(*tapers: Array) -> Array:
        power = sum(abs(np.fft.rfft(centred * t[:, None], axis=0)) ** 2 for t in tapers)
        return np.asarray(2 * power / (c.rate_hz * sum((t**2).sum() for t in tapers)))

    def over(kind: str, value: Array, size: Array) -> Array:
        return value / np.hypot(curve[kind].floor, curve[kind].weight * size)

    density = periodogram(hann)
    eeg = density[band(hz, c.eeg_hz, width, c.line_hz)]
    eeg_rms = np.sqrt(eeg.sum(axis=0) * width)
    line = [density[abs(hz - f) <= 1.01 * width].sum(axis=0) for f in c.line_hz]
    emg = periodogram(hann, sine)[band(hz, c.emg_hz, width, c.line_hz)].mean(axis=0)
    means = x.reshape(blocks, c.hop, -1).mean(axis=1)
    trend = np.polyfit(np.arange(blocks), means, 1)[0] * blocks
    boxes = np.array([means[i : i + box].mean(axis=0) for i in range(blocks - box + 1)])
    t = boxes[box:-box] - (boxes[: -2 * box] + boxes[2 * box :]) / 2
    front = [i for i, role in enumerate(c.roles) if role & FRONTAL]
    behind = [i for i, role in enumerate(c.roles) if role & BEHIND]
    back = t[:, behind].mean(axis=1)
    size = np.sqrt((t[:, behind] ** 2).mean())
    blink = np.full(x.shape[1], np.nan)
    blink[front] = over("blink", abs(t[:, front] - back[:, None]).max(axis=0), size)
    steps = abs(x[c.lag :] - x[: -c.lag])
    block = (np.arange(len(steps)) + c.lag) // c.hop
    largest = np.array([steps[:, i].max() for i in range(x.shape[1])])
    rest = np.array([np.sqrt((s[abs(block - block[s.argmax()]) > 1] ** 2).mean()) for s in steps.T])
    return {
        "line": over("line", np.sqrt(np.max(line, axis=0) * width), eeg_rms),
        "blink": blink,
        "emg": over("emg", emg, eeg.mean(axis=0)),
        "pop": over("pop", largest, rest),
        "drift": over("drift", abs(trend), eeg_rms),
        "window": over("blink", abs(t[:, front].mean(axis=1) - back).max(keepdims=True), size),
    }


@pytest.mark.parametrize("rate", [128.0, 160.0, 250.0, 500.0, 1000.0])
def test_values_are_those_of_numpy(rate: float) -> None:
    d = detector(rate=rate)
    c = config(LABELS, rate, range_uv=(-RAIL, RAIL))
    x = pink(round(3.7 * rate), len(LABELS), rate=rate) + 62e3
    x += 20 * np.sin(2 * np.pi * 50.1 * np.arange(len(x)) / rate)[:, None]
    x[-round(0.4 * rate) :, 3] += 400
    for end in (d.window, d.window + d.hop, 2 * d.window + 3 * d.hop, len(x)):
        d.push(x[d.count : end])
        report, values = d.read(), d.values()
        assert report["end"] == end // d.hop * d.hop
        expected = reference(c, x[report["end"] - d.window : report["end"]])
        for kind in ("line", "blink", "emg", "pop", "drift"):
            row = values[KINDS.index(kind)]
            assert np.allclose(row, expected[kind], rtol=1e-9, atol=1e-9, equal_nan=True), kind
        assert report["value"][KINDS.index("blink")] == pytest.approx(expected["window"][0])


@given(st.lists(st.integers(1, 400), min_size=1, max_size=30))
@settings(deadline=None, max_examples=30)
def test_no_cut_of_the_samples_changes_a_bit(cuts: list[int]) -> None:
    whole, cut = detector(), detector()
    x = pink(sum(cuts), len(LABELS))
    at = 0
    for n in cuts:
        cut.push(x[at : at + n])
        cut.read()
        at += n
    whole.push(x)
    assert cut.values().tobytes() == whole.values().tobytes()
    assert str(cut.read()) == str(whole.read())


@pytest.mark.parametrize("value", [200_000.0, math.nan, math.inf, 1e300])
def test_what_has_left_the_window_has_left_no_bit(value: float) -> None:
    clean, struck = detector(), detector()
    x = pink(1000, len(LABELS)) + 30e3
    y = x.copy()
    y[300, 5] = value
    gone = (300 // clean.hop + 1) * clean.hop + clean.window  # the first end without it
    for at in range(0, 1000, clean.hop):
        clean.push(x[at : at + clean.hop])
        struck.push(y[at : at + clean.hop])
        same = clean.values().tobytes() == struck.values().tobytes()
        assert same == (clean.count <= 300 or clean.count >= gone), clean.count


def test_a_saved_state_goes_on_with_the_same_bits() -> None:
    first, second = detector(), detector()
    x = pink(900, len(LABELS))
    first.push(x[:533])
    second.restore(first.save())
    first.push(x[533:])
    second.push(x[533:])
    assert first.values().tobytes() == second.values().tobytes()
    with pytest.raises(ValueError, match="configuration"):
        detector(lines_hz=(50.0, 0.0)).restore(first.save())
    with pytest.raises(ValueError, match="configuration"):
        detector(bad=("F3",)).restore(first.save())


# -- what each score is of -------------------------------------------------------------------------


def blinking(uv: float, at: int = 500) -> Array:
    x = pink(1000, len(LABELS))
    wave = uv * np.hanning(85)
    for label, share in (("Fp1", 1.0), ("Fp2", 1.0), ("AF3", 0.8), ("F3", 0.35), ("F4", 0.35)):
        x[at : at + 85, LABELS.index(label)] += share * wave
    return x[: at + 150]


def bursting(uv: float, at: int = 560) -> Array:
    rng = np.random.default_rng(4)
    x = pink(700, len(LABELS))
    hz = np.fft.rfftfreq(100, 1 / RATE)
    noise = np.fft.rfft(rng.standard_normal(100))
    noise[(hz < 20) | (hz > 120)] = 0
    burst = np.fft.irfft(noise, 100)
    x[at : at + 100, LABELS.index("T7")] += uv * burst / burst.std()
    return x


def stepping(uv: float) -> Array:
    x = pink(700, len(LABELS))
    after = np.arange(100) / RATE
    x[600:, 4] += uv * np.exp(-after / 0.5)
    return x


def humming(uv: float, hz: float = 60.0) -> Array:
    wave = uv * np.sin(2 * np.pi * hz * np.arange(700) / RATE)
    return pink(700, len(LABELS)) + wave[:, None]


def wandering(uv: float) -> Array:
    return pink(700, len(LABELS)) + (uv * np.arange(700) / RATE)[:, None]


def railed(n: float) -> Array:
    x = pink(700, len(LABELS))
    x[600 : 600 + int(n), 2] = RAIL
    return x


def still(n: float) -> Array:
    x = pink(700, len(LABELS))
    x[500 : 500 + int(n), 2] = 1234.5
    return x


MADE = [
    ("blink", blinking, (20, 60, 150, 300)),
    ("emg", bursting, (3, 15, 40, 100)),
    ("pop", stepping, (50, 150, 600, 2000)),
    ("line", humming, (5, 20, 100, 1000)),
    ("drift", wandering, (30, 150, 500, 3000)),
    ("clipping", railed, (0, 1, 10, 90)),
    ("dropout", still, (0, 60, 120, 200)),
]


@pytest.mark.parametrize(("kind", "make", "sizes"), MADE, ids=[m[0] for m in MADE])
def test_a_score_grows_with_the_artifact_and_crosses_one_half(kind, make, sizes) -> None:
    found = [score(kind, make(size)) for size in sizes]
    assert found == sorted(found) and found[0] < 0.25 and found[-1] > 0.8
    others = [score(other, make(sizes[0])) for other, *_ in MADE]
    assert max(others) < 0.5


def test_a_score_is_one_half_at_the_threshold() -> None:
    d, x = detector(), humming(80.0)
    d.push(x)
    value = d.read()["value"][KINDS.index("line")]
    c = config(LABELS, RATE)
    at = msgspec.structs.replace(c.curves[KINDS.index("line")], threshold=value)
    curves = tuple(at if kind == "line" else c.curves[i] for i, kind in enumerate(KINDS))
    d = ArtifactDetector(msgspec.structs.replace(c, curves=curves))
    d.push(x)
    assert d.read()["score"][KINDS.index("line")] == pytest.approx(0.5)


@pytest.mark.parametrize("hz", [8.0, 9.3, 10.0, 11.7])
@pytest.mark.parametrize("rate", [128.0, 160.0, 250.0])
def test_strong_alpha_is_no_artifact(rate: float, hz: float) -> None:
    """100 µV peak behind, 30 in front, over a usual background."""
    n = round(3 * rate)
    x = pink(n, len(MONTAGE), 10.0, rate=rate)
    share = np.array([0.3 if label[0] == "F" else 1.0 for label in MONTAGE])
    x += 100 * np.sin(2 * np.pi * hz * np.arange(n) / rate)[:, None] * share
    d = detector(MONTAGE, rate)
    for at in range(0, n, d.hop):
        d.push(x[at : at + d.hop])
        if d.count >= d.window:
            verdict = judge(d.read(), MONTAGE)
            assert not verdict.reject, verdict


def test_a_blink_counts_either_way_round() -> None:
    up, down = blinking(200.0), -blinking(200.0)
    assert score("blink", up) == score("blink", down) > 0.5


def test_what_all_channels_have_is_no_blink() -> None:
    x = pink(1000, len(LABELS))
    x[600:685] += (200 * np.hanning(85))[:, None]
    assert score("blink", x[:750]) < 0.2


# -- absence ---------------------------------------------------------------------------------------


def test_nothing_is_defined_before_the_window_is_full() -> None:
    d = detector()
    d.push(pink(249, len(LABELS)))
    report = d.read()
    assert report["samples"] == 0 and report["defined"] == ()
    assert np.isnan(report["score"]).all() and np.isnan(d.scores()).all()
    assert judge(report, LABELS).reasons == ("warming-up",)
    d.push(pink(1, len(LABELS)))
    assert d.read()["samples"] == 250 and set(d.read()["defined"]) == set(KINDS)
    d.reset()
    assert d.read()["samples"] == 0


def test_a_channel_that_lacks_a_value_has_clipping_and_dropout_alone() -> None:
    d, x = detector(), pink(500, len(LABELS))
    x[400:420, 9] = np.nan
    d.push(x)
    report, scores = d.read(), d.scores()
    told = ~np.isnan(scores[:, 9])
    assert [kind for kind, t in zip(KINDS, told, strict=True) if t] == ["clipping", "dropout"]
    assert report["value"][KINDS.index("dropout")] == 20 / 250
    assert report["undefined"] == (0, 0, 1, 0, 1, 1, 1)  # it is no frontal channel
    assert set(report["defined"]) == set(KINDS)
    assert judge(report, LABELS).reasons == ("missing",)


def test_bridged_samples_are_values_and_count_as_lost() -> None:
    d, x = detector(), pink(500, len(LABELS))
    lost = np.zeros(500, bool)
    lost[300:350] = True
    d.push(x, lost)
    report = d.read()
    assert report["value"][KINDS.index("dropout")] == 0.2
    assert judge(report, LABELS).reasons == ("dropout",)
    assert report["undefined"] == (0,) * 7


def test_all_missing_is_a_dropout_and_nothing_else() -> None:
    d = detector()
    d.push(np.full((500, len(LABELS)), np.nan))
    report = d.read()
    assert report["defined"] == ("dropout",)
    assert report["value"][KINDS.index("dropout")] == 1.0
    assert report["channel"][KINDS.index("emg")] is None


def test_what_a_montage_or_a_rate_can_not_tell_is_undefined() -> None:
    d = detector(("Fz", "C3", "Cz", "Oz"), 100.0, range_uv=None)
    d.push(pink(300, 4, rate=100.0))
    report = d.read()
    assert set(report["available"]) == {"dropout", "pop", "drift"}  # nor 50 Hz at 100 Hz
    assert report["defined"] == report["available"]
    assert np.isnan(report["score"][KINDS.index("blink")])
    assert not judge(report, ("Fz", "C3", "Cz", "Oz")).reject


def test_constant_channels_are_flat_and_have_no_other_artifact() -> None:
    d = detector()
    d.push(np.full((500, len(LABELS)), 62e3))
    report = d.read()
    assert report["value"][KINDS.index("dropout")] == 1.0
    assert report["defined"] == KINDS
    assert max(s for s, k in zip(report["score"], KINDS, strict=True) if k != "dropout") < 1e-9


def test_one_channel_and_the_largest_values_do_no_harm() -> None:
    d = detector(("Cz",))
    x = pink(500, 1)
    x[400] = 1e30
    d.push(x)
    assert all(0 <= s <= 1 or math.isnan(s) for s in d.read()["score"])
    assert d.read()["score"][KINDS.index("clipping")] == pytest.approx(
        (1 / 250) ** 2 / ((1 / 250) ** 2 + 0.01**2)
    )


def test_ignored_channels_have_scores_and_no_part_in_the_windows() -> None:
    x = stepping(2000.0)
    x[:, 0] = RAIL
    d = detector(bad=(LABELS[4], "Fp1"))
    d.push(x)
    report = d.read()
    assert not judge(report, LABELS).reject
    assert d.scores()[KINDS.index("pop"), 4] > 0.5
    assert d.scores()[KINDS.index("clipping"), 0] == pytest.approx(1.0, abs=1e-3)


# -- the rule --------------------------------------------------------------------------------------


def test_reasons_come_worst_first_and_only_of_the_kinds_asked() -> None:
    x = humming(400.0)
    x[600:, 4] += 3000.0
    d = detector()
    d.push(x)
    verdict = judge(d.read(), LABELS)
    assert set(verdict.reasons) >= {"line"} and verdict.reject
    scores = [verdict.scores[kind] for kind in verdict.reasons]
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    d = detector()
    d.push(humming(400.0))
    assert not judge(d.read(), LABELS, kinds=("blink", "pop")).reject


def test_what_few_of_many_channels_have_is_no_bad_window() -> None:
    labels = tuple(f"E{i}" for i in range(64))
    x = pink(500, 64)
    x[:, :3] += (300 * np.sin(2 * np.pi * 50 * np.arange(500) / RATE))[:, None]
    assert score("line", x, labels=labels) < 0.5
    x[:, 3] = x[:, 0]
    assert score("line", x, labels=labels) > 0.5


@pytest.mark.parametrize("rate", [64.0, 100.0, 125.0, 128.0, 160.0, 200.0, 250.0, 256.0, 300.0,
                                  500.0, 512.0, 1000.0, 2048.0, 16000.0])  # fmt: skip
def test_windows_are_a_second_at_every_rate(rate: float) -> None:
    hop, n = artifacts.blocks(rate)
    assert n % 2 == 0 and abs(hop * n / rate - 1) <= 0.02 and 0.012 <= hop / rate <= 0.05
    assert detector(rate=rate).window == hop * n


@pytest.mark.parametrize("change", [
    {"n_blocks": 51}, {"n_blocks": 6}, {"n_blocks": 300}, {"hop": 0}, {"box": 0}, {"box": 17},
    {"flat": 0}, {"lag": 0}, {"lag": 6}, {"flat_uv": math.nan}, {"rate_hz": 0.0},
    {"rate_hz": math.inf}, {"eeg_hz": (4.0, 125.0)}, {"emg_hz": (70.0, 130.0)},
    {"line_hz": (-50.0, 0.0)}, {"range_uv": (5.0, -5.0)}, {"range_uv": (math.nan, 5.0)},
    {"roles": ()}, {"curves": ()},
])  # fmt: skip
def test_what_can_not_be_is_refused(change: dict[str, object]) -> None:
    c = config(LABELS, RATE)
    assert c.n_blocks == 50 and c.hop == 5
    with pytest.raises(ValueError, match=r"artifact|channels|curves"):
        ArtifactDetector(msgspec.structs.replace(c, **change))


def test_bad_options_say_what_would_do() -> None:
    for rate, window_s in ((50.0, 1.0), (250.0, 30.0), (250.0, 0.05), (math.nan, 1.0)):
        with pytest.raises(ConfigError) as raised:
            config(LABELS, rate, window_s=window_s)
        assert raised.value.hint


def test_samples_of_another_shape_are_refused() -> None:
    d = detector()
    with pytest.raises(ValueError, match="channels"):
        d.push(np.zeros((5, 3)))
    with pytest.raises(ValueError, match="flags"):
        d.push(np.zeros((5, len(LABELS))), np.zeros(4, bool))
    with pytest.raises(ValueError, match="samples"):
        d.bind(np.zeros((5, 3)))
    assert d.count == 0


def test_roles_are_bits() -> None:
    c = config(("Fp1", "Cz", "X"), RATE, bad=("Cz",))
    assert c.roles == (FRONTAL, BEHIND | IGNORED, 0)
