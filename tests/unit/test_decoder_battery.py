"""What every registered decoder of spikes must do. No line here knows any of them."""

import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from phantomd.decoders.base import Teaching, VelocityDecoder, r2
from phantomd.decoders.registry import DECODERS, load, make
from phantomd.errors import DecoderError, NotFitted, WrongUnits

N_UNITS = 16
BIN_S = 0.05
TRAIN = 800

every = pytest.mark.parametrize("name", DECODERS)


@cache
def made() -> tuple[np.ndarray, np.ndarray]:
    """Counts and kinematics: smooth random movement, cosine-tuned Poisson units."""
    rng = np.random.default_rng(3)
    n = TRAIN + 300
    v = np.zeros((n, 2))
    for i in range(1, n):
        v[i] = 0.9 * v[i - 1] + rng.standard_normal(2)
    x = np.cumsum(v * BIN_S, axis=0)
    angle = rng.uniform(0, 2 * np.pi, N_UNITS)
    drive = v @ np.stack([np.cos(angle), np.sin(angle)])
    counts = rng.poisson(np.clip(3 + drive, 0.1, None))
    return counts, np.column_stack([x, v])


def fitted_anew(name: str) -> VelocityDecoder:
    counts, kinematics = made()
    return make(name).fit(counts[:TRAIN], kinematics[:TRAIN], BIN_S)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Fitted once, and read for each test: what one learns is not there in the next."""
    folder = tmp_path_factory.mktemp("models")

    @cache
    def path(name):
        fitted_anew(name).save(folder / f"{name}.npz")
        return folder / f"{name}.npz"

    return lambda name: load(path(name))


def unseen() -> np.ndarray:
    return made()[0][TRAIN:].astype(float)


def teaching(row: np.ndarray) -> Teaching:
    return Teaching(*row, target_x=5.0, target_y=-5.0, cursor_x=0.0, cursor_y=1.0)


@every
def test_it_decodes_movement_that_it_has_not_seen(models, name):
    decoded = models(name).decode_all(unseen())
    assert r2(decoded, made()[1][TRAIN:, 2:]) > 0.5


@every
def test_the_same_fit_gives_the_same_bits(models, name):
    again = fitted_anew(name).decode_all(unseen())
    np.testing.assert_array_equal(again, models(name).decode_all(unseen()))


@every
def test_a_reset_forgets_the_bins_before(models, name):
    decoder = models(name)
    first = decoder.decode_all(unseen())
    decoder.decode_all(unseen()[::-1])
    np.testing.assert_array_equal(decoder.decode_all(unseen()), first)


@every
def test_the_future_changes_nothing(models, name):
    counts = unseen()
    decoder = models(name)
    whole = decoder.decode_all(counts)
    other = counts.copy()
    other[100:] = 9
    np.testing.assert_array_equal(decoder.decode_all(other)[:100], whole[:100])
    assert (decoder.decode_all(other)[100:] != whole[100:]).any()


@every
def test_counts_are_not_changed_and_may_be_of_any_type(models, name):
    counts = unseen()
    decoder = models(name)
    wanted = decoder.decode_all(counts)
    for one in (counts.astype(np.uint16), counts.astype(np.int64), counts.tolist()):
        np.testing.assert_array_equal(decoder.decode_all(one), wanted)
    np.testing.assert_array_equal(counts, unseen())


@every
def test_a_saved_one_gives_the_same_bits_and_goes_on_learning_alike(models, name, tmp_path):
    decoder = models(name)
    for counts, row in zip(unseen(), made()[1][TRAIN:], strict=True):
        decoder.decode(counts)
        decoder.learn(teaching(row))
    decoder.save(tmp_path / "model.npz")
    loaded = load(tmp_path / "model.npz")
    assert type(loaded) is type(decoder)
    assert loaded.settings == decoder.settings
    outputs = []
    for one in (decoder, loaded):
        one.reset()
        said = []
        for counts, row in zip(unseen(), made()[1][TRAIN:], strict=True):
            said.append(one.decode(counts))
            one.learn(teaching(row))
        outputs.append(said)
    assert outputs[0] == outputs[1]


@every
def test_no_spikes_give_a_finite_velocity(models, name):
    decoded = models(name).decode_all(np.zeros((200, N_UNITS)))
    assert np.isfinite(decoded).all()


@every
def test_missing_units_are_no_evidence(models, name):
    """A unit that is missing is not a unit that is silent, and what remains still decodes."""
    gone = unseen()
    gone[:, ::4] = np.nan
    silent = unseen()
    silent[:, ::4] = 0
    decoder = models(name)
    decoded = decoder.decode_all(gone)
    assert np.isfinite(decoded).all()
    true = made()[1][TRAIN:, 2:]
    assert r2(decoded, true) > max(0.4, r2(decoder.decode_all(silent), true))


@every
def test_none_and_infinity_are_missing(models, name):
    decoder = models(name)
    gone = unseen()[:20]
    gone[:, 2] = np.nan
    wanted = decoder.decode_all(gone)
    rows = [[None if np.isnan(c) else c for c in row] for row in gone]
    decoder.reset()
    assert [tuple(decoder.decode(row)) for row in rows] == [tuple(v) for v in wanted]
    np.testing.assert_array_equal(
        decoder.decode_all(np.where(np.isnan(gone), np.inf, gone)), wanted
    )


@every
def test_a_bin_without_any_unit_is_survived(models, name):
    counts = unseen()
    counts[50:60] = np.nan
    decoded = models(name).decode_all(counts)
    assert np.isfinite(decoded).all()
    assert r2(decoded[100:], made()[1][TRAIN + 100 :, 2:]) > 0.5


@every
def test_absurd_counts_leave_no_trace_after_a_while(models, name):
    counts = unseen()
    counts[20] = 1e300
    decoded = models(name).decode_all(counts)
    assert np.isfinite(decoded).all()
    assert r2(decoded[200:], made()[1][TRAIN + 200 :, 2:]) > 0.4


@every
def test_teaching_that_says_nothing_teaches_nothing(models, name):
    decoder = models(name)
    wanted = decoder.decode_all(unseen())
    decoder.reset()
    nothing = Teaching(*[float("nan")] * 8)
    said = []
    for counts in unseen():
        said.append(decoder.decode(counts))
        decoder.learn(nothing)
    np.testing.assert_array_equal(np.array(said), wanted)


@every
def test_teaching_moves_only_who_learns(models, name):
    decoder = models(name)
    before = decoder.decode_all(unseen())
    decoder.reset()
    for counts, row in zip(unseen(), made()[1][TRAIN:], strict=True):
        decoder.decode(counts)
        decoder.learn(teaching(row))
    changed = (decoder.decode_all(unseen()) != before).any()
    assert changed == decoder.learns


@every
def test_units_that_never_fire_and_unknown_kinematics_are_no_obstacle(name):
    counts, kinematics = (part[:400].copy() for part in made())
    counts[:, 3] = 0
    kinematics[100:140] = np.nan
    kinematics = kinematics.astype(np.float32)
    decoded = make(name).fit(counts, kinematics, BIN_S).decode_all(counts)
    assert np.isfinite(decoded).all()
    assert r2(decoded[200:], kinematics[200:400, 2:].astype(float)) > 0.4


@every
def test_asked_before_it_is_fitted_it_says_so(name, tmp_path):
    decoder = make(name)
    for call in (lambda: decoder.decode([1.0]), decoder.reset):
        with pytest.raises(NotFitted):
            call()
    with pytest.raises(NotFitted):
        decoder.save(tmp_path / "model.npz")
    assert not (tmp_path / "model.npz").exists()


@every
def test_another_number_of_units_is_named(models, name):
    with pytest.raises(WrongUnits, match="3 counts for a decoder of 16 units"):
        models(name).decode([1.0, 2.0, 3.0])


@every
def test_nothing_to_learn_from_is_an_error(name):
    counts, kinematics = made()
    with pytest.raises(DecoderError):
        make(name).fit(counts[:100], np.full((100, 4), np.nan), BIN_S)
    with pytest.raises(DecoderError):
        make(name).fit(counts[:100], kinematics[:99], BIN_S)


def test_an_unknown_decoder_names_those_that_there_are():
    with pytest.raises(DecoderError, match="no decoder 'oracle'") as error:
        make("oracle")
    assert all(name in error.value.hint for name in DECODERS)


@pytest.mark.parametrize("junk", [b"", b"PK\x03\x04", b"hello", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_model_is_an_error(tmp_path, junk):
    path = tmp_path / "model.npz"
    path.write_bytes(junk)
    with pytest.raises(DecoderError):
        load(path)


def test_a_model_of_a_damaged_array_is_an_error(models, tmp_path):
    decoder = models("ridge-1")
    decoder.weights = decoder.weights.copy()
    decoder.weights[0] = np.nan
    decoder.save(tmp_path / "model.npz")
    with pytest.raises(DecoderError, match="weights"):
        load(tmp_path / "model.npz")


def test_a_model_runs_no_code_when_it_is_read(tmp_path):
    path = tmp_path / "model.npz"
    np.savez(path, about=np.array([print], dtype=object))
    with pytest.raises(DecoderError):
        load(path)


def test_another_process_decodes_the_same_bits(models, tmp_path):
    decoder = models("kalman")
    decoder.save(tmp_path / "model.npz")
    np.save(tmp_path / "counts.npy", unseen())
    program = (
        "import sys, numpy, pathlib; from phantomd.decoders.registry import load;"
        "d = load(pathlib.Path(sys.argv[1])); out = d.decode_all(numpy.load(sys.argv[2]));"
        "sys.stdout.write(out.tobytes().hex())"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "model.npz", tmp_path / "counts.npy"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert said == decoder.decode_all(unseen()).tobytes().hex()
