"""Which channels focus is computed on, by name."""

from __future__ import annotations

from collections.abc import Collection

from phantomd.config import LEAST_ORACLE_CHANNELS
from phantomd.contracts import MONTAGE
from phantomd.signal.montage import site


def picked(
    labels: Collection[str], wanted: Collection[str], bad: Collection[str]
) -> tuple[str, ...]:
    """The labels that focus is computed on: those wanted, else the specification's eight where six
    of them are there, else all; without the bad ones. "Fp1." of a recording is Fp1."""
    sites = {label: site(label) or label for label in labels}

    def named(names: Collection[str]) -> list[str]:
        meant = {site(name) or name for name in names} | set(names)
        return [label for label, at in sites.items() if label in meant or at in meant]

    left_out = set(named(bad))
    chosen = named(wanted) if wanted else named(MONTAGE)
    if not wanted and len(chosen) < LEAST_ORACLE_CHANNELS:
        chosen = list(labels)
    return tuple(label for label in chosen if label not in left_out)
