"""What all tests share: where the recordings are, and that each run does the same."""

import os
from collections.abc import Iterator
from pathlib import Path

#: Before NumPy is loaded: threads that spin for one another take the processor from other lanes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# The same examples in each run; a campaign (HYPOTHESIS_PROFILE=campaign) draws others.
settings.register_profile("same", derandomize=True, database=None, deadline=None)
settings.register_profile("campaign", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


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
