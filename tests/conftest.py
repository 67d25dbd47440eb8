"""What all tests share: where the recordings are."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real recordings; skips where there is none."""
    named = os.environ.get("PHANTOMD_DATA")
    path = Path(named) if named else ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no recordings: set PHANTOMD_DATA ({path} is missing)")
    return path


@pytest.fixture(scope="session", autouse=True)
def _designs_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Filters are designed once in a run, and nothing is left in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHE_DIRECTORY", str(tmp_path_factory.mktemp("designs")))
        yield
