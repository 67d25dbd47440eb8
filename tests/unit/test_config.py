"""Configuration: what is written, what is refused, and what the refusal says."""

import pytest

from phantomd.config import Config, changes, describe_error, flat, load
from phantomd.errors import ConfigError, UnknownKey, WrongType


@pytest.fixture
def file(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "phantomd.toml"
        path.write_text(text)
        return str(path)

    return write


def test_without_anything_it_is_the_simulator_on_loopback():
    config = load()
    assert config.devices == ("simulator:",)
    assert (config.streams.host, config.streams.base_port) == ("127.0.0.1", 7068)
    assert config.grid.hold_ms == 20.0


def test_settings_stand_over_the_file_and_the_file_over_the_defaults(file):
    path = file("[grid]\nhold_ms = 30\nbridge_ms = 10\n")
    grid = load(path, ["grid.hold_ms=40"]).grid
    assert (grid.hold_ms, grid.bridge_ms, grid.lost_after_ms) == (40.0, 10.0, 100.0)


def test_a_bare_word_is_a_string():
    assert load(None, ["grid.phase=minimum"]).grid.phase == "minimum"


def test_no_device_at_all_is_allowed():
    assert load(None, ["devices=[]"]).devices == ()


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("[grid]\nhold = 20\n", "grid.hold", "'grid.hold_ms'"),
        ("[gird]\nhold_ms = 20\n", "gird", "'grid'"),
        ("device = ['simulator:']\n", "device", "'devices'"),
        ("[streams]\nport = 1\n", "streams.port", "streams.base_port"),
        ("[grid]\nqqq = 1\n", "grid.qqq", "known here: bridge_ms, hold_ms, lost_after_ms, phase"),
    ],
)
def test_an_unknown_key_is_named_with_file_and_neighbour(file, text, key, hint):
    path = file(text)
    with pytest.raises(UnknownKey) as raised:
        load(path)
    assert path in raised.value.message and repr(key) in raised.value.message
    assert hint in raised.value.hint
    assert raised.value.exit_status == 78


@pytest.mark.parametrize(
    ("text", "key", "takes"),
    [
        ("[grid]\nhold_ms = 'x'\n", "grid.hold_ms", "a number, at least 0, at most 10000"),
        ("[grid]\nhold_ms = -1\n", "grid.hold_ms", "a number, at least 0"),
        ("[grid]\nhold_ms = nan\n", "grid.hold_ms", "a number, at least 0"),
        ("[grid]\nphase = 'quadratic'\n", "grid.phase", "'linear' or 'minimum'"),
        ("[streams]\nbase_port = 7068.5\n", "streams.base_port", "a whole number"),
        ("[streams]\nbase_port = true\n", "streams.base_port", "a whole number"),
        ("devices = 'simulator:'\n", "devices", "a list of a string"),
        ("devices = [1]\n", "devices[", "a list of a string"),
        ("grid = 3\n", "grid", "[grid]"),
        ("[montage]\nlabels = []\n", "montage.labels", "a list of a string"),
        ("[realtime]\ntick_priority = 100\n", "realtime.tick_priority", "at most 99"),
    ],
)
def test_a_wrong_type_is_named_with_file_key_and_what_it_takes(file, text, key, takes):
    path = file(text)
    with pytest.raises(WrongType) as raised:
        load(path)
    assert raised.value.message.startswith(f"{path}: {key}")
    assert takes in raised.value.hint
    assert raised.value.exit_status == 78


def test_a_mistake_in_a_setting_is_not_blamed_on_the_file(file):
    path = file("[grid]\nhold_ms = 30\n")
    for setting in ("grid.hold=1", "grid.hold_ms=x", "grid=1", "grid.hold_ms.x=1"):
        with pytest.raises(ConfigError) as raised:
            load(path, [setting])
        assert "--set" in raised.value.message and path not in raised.value.message
        assert raised.value.hint


@pytest.mark.parametrize("setting", ["", "grid.hold_ms", "=1"])
def test_a_setting_without_key_or_value_is_refused_with_an_example(setting):
    with pytest.raises(ConfigError, match="no key=value") as raised:
        load(None, [setting])
    assert "grid.hold_ms=30" in raised.value.hint


@pytest.mark.parametrize("content", [b"devices = [", b"\xff\xfe", None])
def test_a_file_that_can_not_be_used_is_named(tmp_path, content):
    path = tmp_path / "phantomd.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(path) in raised.value.message and raised.value.hint


def test_changes_name_dotted_keys():
    new = load(None, ["grid.hold_ms=30", "montage.labels=['a','b']"])
    assert changes(Config(), new) == ["grid.hold_ms", "montage.labels"]


def test_flat_has_every_key_once():
    keys = list(flat(Config()))
    assert keys[0] == "devices" and "grid.hold_ms" in keys and len(keys) == len(set(keys))


def test_an_error_for_a_terminal_has_its_hint_on_a_line_of_its_own():
    assert describe_error(ConfigError("bad", hint="do this")) == "bad\n  hint: do this"
    assert describe_error(ConfigError("bad")) == "bad"


@pytest.mark.parametrize(
    ("text", "reference", "bad"),
    [
        ("", "none", ()),
        ("reference = 'average'\nbad = ['C3']\n", "average", ("C3",)),
        ("reference = ['P3', 'P4']\nmains_hz = 60\n", ("P3", "P4"), ()),
    ],
)
def test_a_montage_names_reference_and_bad_channels(file, text, reference, bad):
    montage = load(file(f"[montage]\n{text}")).montage
    assert (montage.reference, montage.bad) == (reference, bad)
    assert montage.mains_hz == (60 if "60" in text else 50)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("bad = ['c3']", "montage.bad: no channel is called 'c3'", "did you mean"),
        ("reference = ['Q9']", "montage.reference: no channel is called 'Q9'", "Fp1, Fp2"),
        ("reference = ['C3']\nbad = ['C3']", "C3 is bad, and the reference", "good"),
        ("labels = ['a', 'a']", "'a' twice", "its own label"),
        ("labels = ['a']\nbad = ['a']", "no good channel is left", "at least one"),
        ("reference = 'mean'", "montage.reference", "'none' or 'average' or a list of a string"),
        ("reference = []", "montage.reference", "list"),
        ("mains_hz = 55", "montage.mains_hz", "50 or 60"),
    ],
)
def test_a_montage_that_can_not_be_is_named(file, text, message, hint):
    with pytest.raises(ConfigError) as raised:
        load(file(f"[montage]\n{text}\n"))
    assert message in raised.value.message and hint in raised.value.hint
    assert raised.value.exit_status == 78
