"""The quirks that published sets and their copies have, for every layout with a list or a table beside it.

Another editor saved the list: a byte order mark, Windows line ends, semicolons, empty lines, no last line
end. Pictures are missing, are named twice, or have upper-case extensions and spaces. (Byte-identical ones
are the same for every kind: `tests/integration/test_importing.py`.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.layouts import layout, pairs, problems
from tests.support.trees import plant


@dataclass(frozen=True)
class Published:
    """A set as it is published: pictures, list files beside them, and what its kind must be told."""

    kind: str
    images: tuple[str, ...]
    files: Mapping[str, str]
    options: Mapping[str, object] = field(default_factory=dict)
    names_images: bool = True
    """Whether the first list names each picture, and a row can therefore lack its file."""

    def write(self, root: Path, saved: Callable[[str, str], str] = lambda name, text: text) -> Path:
        plant(root, *self.images)
        for name, text in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(saved(name, text).encode())
        return root


AI_FACE_1 = (
    "Image Path,Uncertainty Score Gender,Uncertainty Score Age,Uncertainty Score Race,Ground Truth Gender,"
    "Ground Truth Age,Ground Truth Race,Intersection,Target\n"
)
LFW_NAMES = ("Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0002.JPG", "Bob/Bob_0001.jpg")
SETS = {
    "fairface": Published(
        "fairface",
        ("train/1.jpg", "train/a b.JPG", "val/1.jpg"),
        {
            "fairface_label_train.csv": "file,age,gender,race,service_test\n"
            "train/1.jpg,more than 70,Male,White,True\ntrain/a b.JPG,70+,Female,East Asian,False\n",
            "fairface_label_val.csv": "file,age,gender,race,service_test\nval/1.jpg,0-2,Male,Indian,True\n",
        },
    ),
    "ai-face 2": Published(
        "ai-face",
        ("GANs/a b.PNG", "Real/FFHQ/b.png"),
        {
            "t.csv": "Image Path,Gender,Age,Skin Tone,Intersection,Target\n"
            "GANs/a b.PNG,1,2,1,3,1\nReal/FFHQ/b.png,0,0,10,2,0\n"
        },
        {"table": "t.csv"},
    ),
    "ai-face 1": Published(
        "ai-face",
        ("a b.PNG", "b.png"),
        {"t.csv": AI_FACE_1 + "a b.PNG,0.1,0.2,0.3,1,0,1,1,1\nb.png,0.1,0.2,0.3,0,3,0,4,0\n"},
        {"table": "t.csv"},
    ),
    "table": Published(
        "table",
        ("a b.JPG", "c.jpg"),
        {"t.csv": "file,who,sex\na b.JPG,ann,f\nc.jpg,bob,m\n"},
        {"table": "t.csv", "subject": "who", "label": ("gender=sex:f=female/m=male",)},
    ),
    "bfw": Published(
        "bfw",
        (
            "asian_females/n000009/0010_01.JPG",
            "asian_females/n000009/0043_01.jpg",
            "white_males/n000010/0001_01.jpg",
        ),
        {
            "bfw.csv": "ID,fold,p1,p2,label,att1,att2\n"
            "0,1,asian_females/n000009/0010_01.JPG,asian_females/n000009/0043_01.jpg,1,asian_females,"
            "asian_females\n"
            "1,2,asian_females/n000009/0010_01.JPG,white_males/n000010/0001_01.jpg,0,asian_females,"
            "white_males\n"
        },
        {"pairs": "bfw.csv"},
        names_images=False,
    ),
    "rfw": Published(
        "rfw",
        (
            "data/African/m.1/m.1_0001.jpg",
            "data/African/m.1/m.1_0002.JPG",
            "data/African/m.2/m.2_0001.jpg",
        ),
        {
            "txts/African/African_people.txt": "m.1\t2\nm.2\t1\n",
            "txts/African/African_pairs.txt": "m.1\t1\t2\nm.1\t1\tm.2\t1\n" * 10,
        },
        names_images=False,
    ),
    "lfw": Published(
        "lfw",
        LFW_NAMES,
        {
            "pairs.txt": "1\t1\nAnn_Lee\t1\t2\nAnn_Lee\t1\tBob\t1\n",
            "pairsDevTest.txt": "1\nAnn_Lee\t1\t2\nAnn_Lee\t2\tBob\t1\n",
        },
        names_images=False,
    ),
    "calfw": Published(
        "pairs",
        tuple(f"aligned images/{name}" for name in ("Ann_0001.jpg", "Ann_0002.jpg", "Bob_0001.jpg")),
        {"pairs_CALFW.txt": "Ann_0001.jpg 7\nAnn_0002.jpg 7\nAnn_0001.jpg 0\nBob_0001.jpg 0\n"},
        {"format": "calfw"},
        names_images=False,
    ),
    "cplfw": Published(
        "pairs",
        ("images/Ann_1.jpg", "images/Ann_2.jpg", "images/Bob_1.jpg"),
        {"pairs_CPLFW.txt": "Ann_1.jpg 1\nAnn_2.jpg 1\nAnn_1.jpg 0\nBob_1.jpg 0\n"},
        {"format": "cplfw"},
        names_images=False,
    ),
    "agedb": Published(
        "pairs",
        ("0_MariaCallas_35_f.jpg", "1_MariaCallas_40_f.JPG", "2_AnnB_7_M.jpg"),
        {
            "list.txt": "0_MariaCallas_35_f.jpg\t1_MariaCallas_40_f.JPG\t1\n"
            "0_MariaCallas_35_f.jpg\t2_AnnB_7_M.jpg\t0\n"
        },
        {"format": "agedb", "table": "list.txt"},
        names_images=False,
    ),
    "cfp": Published(
        "pairs",
        (
            "Data/Images/001/frontal/01.jpg",
            "Data/Images/001/frontal/02.jpg",
            "Data/Images/002/frontal/01.jpg",
        ),
        {
            "Protocol/Pair_list_F.txt": "1 ../Data/Images/001/frontal/01.jpg\n"
            "2 ../Data/Images/001/frontal/02.jpg\n3 ../Data/Images/002/frontal/01.jpg\n",
            "Protocol/Split/FF/01/same.txt": "1,2\n",
            "Protocol/Split/FF/01/diff.txt": "1,3\n",
        },
        {"format": "cfp"},
        names_images=False,
    ),
}
TABLES = [name for name, found in SETS.items() if any(file.endswith(".csv") for file in found.files)]
NAMING = [name for name, found in SETS.items() if found.names_images]


def windows(name: str, text: str) -> str:
    """As a Windows editor saves it."""
    return "\ufeff" + text.replace("\n", "\r\n")


def unfinished(name: str, text: str) -> str:
    """Without a line end after the last line."""
    return text.removesuffix("\n")


def spaced(name: str, text: str) -> str:
    """With empty lines at the end."""
    return text + "\n\n"


def european(name: str, text: str) -> str:
    """As a spreadsheet saves it where the comma is the decimal mark."""
    return windows(name, text.replace(",", ";")) if name.endswith(".csv") else text


def told(kind: str, root: Path, options: Mapping[str, object]) -> tuple[list[Any], list[Any]]:
    """Everything that comes of a set but the lines where it stood."""
    records = [
        (item.path, item.subject, dict(item.labels), dict(item.provenance))  # type: ignore[union-attr]
        for item in layout(kind, root, **options).records()
    ]
    kept = [(p.first, p.second, p.same, p.list, p.fold) for p in pairs(kind, root, **options)]
    return records, kept


@pytest.mark.parametrize("saved", [windows, unfinished, spaced], ids=lambda saved: saved.__name__)
@pytest.mark.parametrize("name", SETS)
def test_a_list_that_another_editor_saved_says_the_same(
    tmp_path: Path, name: str, saved: Callable[[str, str], str]
) -> None:
    there = SETS[name]
    plain = there.write(tmp_path / "plain")
    other = there.write(tmp_path / "other", saved)
    expected = told(there.kind, plain, there.options)
    assert len(expected[0]) == len(there.images)
    assert bool(expected[1]) == (not there.names_images)
    assert told(there.kind, other, there.options) == expected
    assert problems(there.kind, other, **there.options) == []


@pytest.mark.parametrize("name", TABLES)
def test_a_table_with_semicolons_says_the_same(tmp_path: Path, name: str) -> None:
    there = SETS[name]
    plain = there.write(tmp_path / "plain")
    other = there.write(tmp_path / "other", european)
    assert told(there.kind, other, there.options) == told(there.kind, plain, there.options)


@pytest.mark.parametrize("name", NAMING)
def test_a_picture_that_a_table_names_and_nobody_has_is_told_by_its_line(tmp_path: Path, name: str) -> None:
    there = SETS[name]
    root = there.write(tmp_path)
    (root / there.images[1]).unlink()
    table = next(iter(there.files))
    assert problems(there.kind, root, **there.options) == [
        f"{table}, line 3 ({there.images[1]}): does not exist"
    ]


@pytest.mark.parametrize("name", NAMING)
def test_a_picture_that_a_table_names_twice_is_two_records(tmp_path: Path, name: str) -> None:
    there = SETS[name]
    table, text = next(iter(there.files.items()))
    root = there.write(tmp_path)
    (root / table).write_text(text + text.splitlines()[1] + "\n")
    found = [item.path for item in layout(there.kind, root, **there.options).records()]  # type: ignore[union-attr]
    assert found.count(there.images[0]) == 2
