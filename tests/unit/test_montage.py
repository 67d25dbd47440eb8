"""Labels of the 10-10 system: Oostenveld and Praamstra 2001, and how recordings write them."""

import math

import pytest

from phantomd.contracts import MONTAGE
from phantomd.devices.electrodes import Site
from phantomd.signal.montage import behind, frontal, neighbours, place, region, site

_ROWS = {
    "Fp": "1 z 2",
    "AF": "7 3 z 4 8",
    "F": "7 5 3 1 z 2 4 6 8",
    "FC": "5 3 1 z 2 4 6",
    "FT": "7 8",
    "C": "5 3 1 z 2 4 6",
    "T": "7 8 9 10",
    "CP": "5 3 1 z 2 4 6",
    "TP": "7 8",
    "P": "7 5 3 1 z 2 4 6 8",
    "PO": "7 3 z 4 8",
    "O": "1 z 2",
    "I": "z",
}
ALL = [row + column for row, columns in _ROWS.items() for column in columns.split()]


@pytest.mark.parametrize(("written", "name"), [
    ("Fp1", "Fp1"), ("FP1", "Fp1"), ("fcz", "FCz"), ("Fc5.", "FC5"), ("Iz..", "Iz"), ("T3", "T7"),
    ("T6", "P8"), ("EEG Fp2-Ref", "Fp2"), ("EEG O1-A2", "O1"), ("C4 AVG", "C4"), ("Po10", "PO10"),
    ("X1", None), ("Right AUX", None), ("1", None), ("", None), ("ECG", None), ("EMG1", None),
    ("Fp12", None),
])  # fmt: skip
def test_sites_are_read_however_they_are_written(written: str, name: str | None) -> None:
    if name is None:
        assert site(written) is None and region(written) is None and place(written) is None
    else:
        assert site(written) is not None and site(written).upper() == name.upper()


def test_every_usual_site_has_a_place_of_its_own_on_the_sphere() -> None:
    places = [place(label) for label in ALL]
    assert len({tuple(round(c, 6) for c in at) for at in places}) == len(ALL)
    for label, at in zip(ALL, places, strict=True):
        assert math.hypot(*at) == pytest.approx(1.0)
        last = label[-1]
        side = 0 if last == "z" else 1 if int(last) % 2 == 0 else -1
        assert (at[0] > 1e-9) - (at[0] < -1e-9) == side, label


def test_places_are_about_those_of_the_ten_twenty_system() -> None:
    """Against the simulator's table, whose ring lies 18 degrees lower."""
    for label in (*MONTAGE, "F7", "T8", "Pz", "O2", "FC1", "CP5"):
        cosine = sum(a * b for a, b in zip(place(label), Site.of(label).position, strict=True))
        assert cosine >= math.cos(math.radians(25)), label


def test_neighbours_are_the_nearest_sites() -> None:
    near = neighbours(ALL)
    assert {ALL[i] for i in near[ALL.index("Cz")]} == {"C1", "C2", "FCz", "CPz"}
    assert {ALL[i] for i in near[ALL.index("O1")]} <= {"Oz", "PO7", "PO3", "Iz", "POz"}
    assert neighbours(("Cz", "X", "Pz")) == ((2,), (), (0,))
    assert neighbours(("X",)) == ((),)


def test_blinks_are_seen_by_the_foremost_row_there_is() -> None:
    assert [ALL[i] for i in frontal(ALL)] == ["Fp1", "Fpz", "Fp2"]
    assert frontal(("TP9", "AF7", "AF8", "TP10")) == (1, 2)
    assert frontal(("F7", "F3", "Fz", "F8", "Cz")) == (0, 3)
    assert frontal(("Fz", "C3", "Cz")) == frontal(()) == ()
    assert [MONTAGE[i] for i in behind(MONTAGE)] == ["C3", "C4", "P3", "P4"]
    assert behind(("TP9", "AF7", "AF8", "TP10")) == (0, 3)
