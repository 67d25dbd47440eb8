"""The panic latch and its file."""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phantomd.errors import StateUnusable
from phantomd.intents.panic import Latch, PanicLatch

SET = Latch(True, "smoke", 1)
CLEAR = Latch(False, "over", 2)


def test_a_new_state_directory_has_no_panic(tmp_path):
    assert not PanicLatch(tmp_path / "new").is_set


def test_what_was_written_is_read_again(tmp_path):
    PanicLatch(tmp_path).write(SET)
    again = PanicLatch(tmp_path)
    assert again.is_set and again.reason == "smoke"
    again.write(CLEAR)
    assert not PanicLatch(tmp_path).is_set


def test_taking_works_at_once_and_writes_nothing(tmp_path):
    latch = PanicLatch(tmp_path)
    latch.take(SET)
    assert latch.is_set and not list(tmp_path.iterdir())


def test_writing_changes_nothing_in_memory(tmp_path):
    latch = PanicLatch(tmp_path)
    latch.write(SET)
    assert not latch.is_set


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
def test_a_file_that_is_no_latch_is_a_set_latch(tmp_path, content):
    (tmp_path / "panic.json").write_bytes(content)
    latch = PanicLatch(tmp_path)
    assert latch.is_set and "can't be read" in latch.reason


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b'{"set":false}',
        b'{"set":0,"reason":"","unix_ns":1}',
        b'{"set":false,"reason":"x","unix_ns":1',
    ],
)
def test_a_damaged_latch_is_set(tmp_path, content):
    (tmp_path / "panic.json").write_bytes(content)
    assert PanicLatch(tmp_path).is_set


def test_a_latch_behind_something_that_is_no_directory_is_set(tmp_path):
    (tmp_path / "file").write_text("")
    assert PanicLatch(tmp_path / "file").is_set


def test_a_failed_write_keeps_the_old_file_and_names_it(tmp_path, monkeypatch):
    latch = PanicLatch(tmp_path)
    latch.write(SET)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateUnusable, match=r"panic\.json: No space left") as raised:
        latch.write(CLEAR)
    assert "panic stays as it was" in raised.value.hint
    assert json.loads((tmp_path / "panic.json").read_bytes())["set"] is True


def test_the_file_is_replaced_whole(tmp_path):
    latch = PanicLatch(tmp_path)
    latch.write(SET)
    latch.write(CLEAR)
    assert [path.name for path in tmp_path.iterdir()] == ["panic.json"]
