"""FG-NET, ITWCC and UTKFace: what names say, and a flat set organised into a folder per person."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairloop.cli import main
from fairloop.errors import InvalidInput
from fairloop.importers import UnusableFileError
from fairloop.importers.fgnet import FgnetName, fgnet_name
from fairloop.importers.itwcc import ItwccName, itwcc_name
from fairloop.importers.utkface import utkface_labels
from fairloop.organiser import organise
from tests.support.layouts import layout, problems, records
from tests.support.trees import plant

DIES = """
import os, signal, sys
from fairloop.organiser import organise
os.link = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
organise("fgnet", sys.argv[1], sys.argv[2])
"""
"""Killed where a file is written and has not its name yet."""
FGNET = ("001A02.JPG", "001A43a.JPG", "001A43b.JPG", "002A08.jpg", "082A69.JPG", "010A00.jpeg")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("001A02.JPG", FgnetName("001", 2, "")),
        ("001A43a.JPG", FgnetName("001", 43, "a")),
        ("082a69B.jpg", FgnetName("082", 69, "b")),
    ],
)
def test_a_name_of_fgnet_says_person_age_and_letter(name: str, expected: FgnetName) -> None:
    assert fgnet_name(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CS0001_000f16_0.1364.jpg", ItwccName("CS0001", "000", "female", 16, "0.1364")),
        ("CS1492_003m12_-0.5.JPG", ItwccName("CS1492", "003", "male", 12, "-0.5")),
    ],
)
def test_a_name_of_itwcc_says_person_sex_and_age_of_girls_and_boys(name: str, expected: ItwccName) -> None:
    assert itwcc_name(name) == expected


@pytest.mark.parametrize("name", ["1A02.JPG", "001A2.JPG", "001B02.JPG", "001A02ab.JPG", "001A02.gif"])
def test_another_name_is_not_of_fgnet(name: str) -> None:
    with pytest.raises(UnusableFileError, match="is no name of FG-NET"):
        fgnet_name(name)


@pytest.mark.parametrize("name", ["CS0001_000x16_0.1.jpg", "000f16_0.1.jpg", "CS0001_000f16.jpg"])
def test_another_name_is_not_of_itwcc(name: str) -> None:
    with pytest.raises(UnusableFileError, match="is no name of ITWCC"):
        itwcc_name(name)


def test_fgnet_and_itwcc_are_imported_with_subjects_and_ages(tmp_path: Path) -> None:
    plant(tmp_path / "fg", *FGNET)
    assert [
        (r.subject, r.labels["age_years"], r.labels["age"]) for r in records("fgnet", tmp_path / "fg")
    ] == [
        ("001", "2", "0_2"),
        ("001", "43", "40_49"),
        ("001", "43", "40_49"),
        ("002", "8", "3_9"),
        ("010", "0", "0_2"),
        ("082", "69", "60_69"),
    ]
    plant(tmp_path / "it", "CS0001_000f16_0.1364.jpg", "CS0001_001f16_0.2.jpg", "CS0002_000m300_0.1.jpg")
    assert problems("itwcc", tmp_path / "it") == ["CS0002_000m300_0.1.jpg: age '300' is not in years, 0–120"]
    (tmp_path / "it" / "CS0002_000m300_0.1.jpg").unlink()
    assert [(r.subject, dict(r.labels)) for r in records("itwcc", tmp_path / "it")] == [
        ("CS0001", {"gender": "female", "score": "0.1364", "age_years": "16", "age": "10_19"}),
        ("CS0001", {"gender": "female", "score": "0.2", "age_years": "16", "age": "10_19"}),
    ]


def test_utkface_names_give_age_gender_and_race_where_it_has_one(tmp_path: Path) -> None:
    plant(
        tmp_path,
        "part1/26_1_2_20170116184024662.jpg.chip.jpg",
        "100_0_0_20170112213500903.jpg.chip.jpg",
        "1_0_3_20161219140623097.JPG",
        "40_1_4_20170104212835567.jpg.chip.jpg",
    )
    found = {r.path.rpartition("/")[2].split("_2")[0]: dict(r.labels) for r in records("utkface", tmp_path)}
    white = {"age_years": "100", "age": "70_plus", "gender": "male", "race_utkface": "white", "race": "white"}
    white["race4"] = "white"
    assert found["100_0_0"] == white
    assert found["1_0_3"]["race"] == "indian"
    # Asian would be East or Southeast, others anything: no canonical race.
    asian = {"age_years": "26", "age": "20_29", "gender": "female", "race_utkface": "asian"}
    asian["race4"] = "asian"
    assert utkface_labels("26_1_2_20170116184024662.jpg.chip.jpg") == asian
    assert found["40_1_4"] == {
        "age_years": "40",
        "age": "40_49",
        "gender": "female",
        "race_utkface": "others",
    }


def test_published_names_of_utkface_that_lack_a_part_are_told(tmp_path: Path) -> None:
    # These two are in the published set.
    plant(tmp_path, "39_1_20170116174525125.jpg.chip.jpg", "61_3_20170109150557335.jpg.chip.jpg")
    plant(tmp_path, "26_2_1_20170116184024662.jpg.chip.jpg", "300_1_1_20170116184024662.jpg", first=5)
    assert problems("utkface", tmp_path) == [
        "26_2_1_20170116184024662.jpg.chip.jpg: '26_2_1_20170116184024662.jpg.chip.jpg': "
        "gender 2 is outside 0–1",
        "300_1_1_20170116184024662.jpg: age '300' is not in years, 0–120",
        "39_1_20170116174525125.jpg.chip.jpg: '39_1_20170116174525125.jpg.chip.jpg' is no name of UTKFace "
        "(age_gender_race_date.jpg.chip.jpg)",
        "61_3_20170109150557335.jpg.chip.jpg: '61_3_20170109150557335.jpg.chip.jpg' is no name of UTKFace "
        "(age_gender_race_date.jpg.chip.jpg)",
    ]


def tree(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


def test_fgnet_is_organised_into_a_folder_per_person_by_copies(tmp_path: Path) -> None:
    source = plant(tmp_path / "fg", *FGNET)
    before = tree(source)
    done = organise("fgnet", source, tmp_path / "to")
    assert (done.copied, done.present) == (6, 0)
    made = tree(tmp_path / "to")
    assert {name: made[name] for name in made} == {
        "001/001_02.jpg": before["001A02.JPG"],
        "001/001_43a.jpg": before["001A43a.JPG"],
        "001/001_43b.jpg": before["001A43b.JPG"],
        "002/002_08.jpg": before["002A08.jpg"],
        "010/010_00.jpg": before["010A00.jpeg"],
        "082/082_69.jpg": before["082A69.JPG"],
    }
    assert tree(source) == before
    stamps = [path.stat().st_mtime_ns for path in sorted((tmp_path / "to").rglob("*.jpg"))]
    assert (organise("fgnet", source, tmp_path / "to").copied, tree(tmp_path / "to")) == (0, made)
    assert stamps == [path.stat().st_mtime_ns for path in sorted((tmp_path / "to").rglob("*.jpg"))]
    # What comes out is what the kind `identity-folders` reads.
    assert {r.subject for r in records("identity-folders", tmp_path / "to")} == {"001", "002", "010", "082"}


def test_an_interrupted_organisation_is_finished_by_the_next(tmp_path: Path) -> None:
    source = plant(tmp_path / "fg", *FGNET)
    organise("fgnet", source, tmp_path / "to")
    whole = tree(tmp_path / "to")
    (tmp_path / "to" / "001" / "001_02.jpg").unlink()
    done = organise("fgnet", source, tmp_path / "to")
    assert (done.copied, done.present, tree(tmp_path / "to")) == (1, 5, whole)


def test_what_a_killed_organisation_left_of_a_file_is_gone_after_the_next(tmp_path: Path) -> None:
    source = plant(tmp_path / "fg", *FGNET)
    organise("fgnet", source, tmp_path / "whole")
    child = subprocess.run([sys.executable, "-c", DIES, str(source), str(tmp_path / "to")], timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert list(tree(tmp_path / "to")) == ["001/.001_02.jpg.part"]
    organise("fgnet", source, tmp_path / "to")
    assert tree(tmp_path / "to") == tree(tmp_path / "whole")


def test_nothing_is_written_over_and_nothing_copied_when_something_stands_in_the_way(tmp_path: Path) -> None:
    source = plant(tmp_path / "fg", *FGNET)
    (tmp_path / "to" / "001").mkdir(parents=True)
    (tmp_path / "to" / "001" / "001_43a.jpg").write_bytes(b"mine")
    with pytest.raises(InvalidInput, match=r"001_43a\.jpg: stands in the way of 001A43a\.JPG with other"):
        organise("fgnet", source, tmp_path / "to")
    assert tree(tmp_path / "to") == {"001/001_43a.jpg": b"mine"}
    (tmp_path / "to" / "001" / "001_43a.jpg").unlink()
    os.symlink(source / "001A43a.JPG", tmp_path / "to" / "001" / "001_43a.jpg")
    with pytest.raises(InvalidInput, match="stands in the way"):
        organise("fgnet", source, tmp_path / "to")


def test_itwcc_girls_and_boys_are_organised_and_pictures_of_one_age_get_a_letter(tmp_path: Path) -> None:
    names = (
        "CS0001_000f16_0.1.jpg",
        "CS0001_001f16_0.2.jpg",
        "CS0001_002f17_0.3.JPG",
        "CS1492_000m12_0.4.jpg",
    )
    source = plant(tmp_path / "it", *names)
    done = organise("itwcc", source, tmp_path / "to")
    before, made = tree(source), tree(tmp_path / "to")
    assert made == {
        "CS0001/CS0001_16.jpg": before[names[0]],
        "CS0001/CS0001_16a.jpg": before[names[1]],
        "CS0001/CS0001_17.jpg": before[names[2]],
        "CS1492/CS1492_12.jpg": before[names[3]],
    }
    assert done.lettered == ("CS0001/CS0001_16a",)
    assert organise("itwcc", source, tmp_path / "to").present == 4


def test_names_of_another_layout_stop_an_organisation_before_it_begins(tmp_path: Path) -> None:
    source = plant(tmp_path / "fg", "001A02.JPG", "portrait.jpg")
    with pytest.raises(InvalidInput, match=r"portrait\.jpg: 'portrait\.jpg' is no name of FG-NET"):
        organise("fgnet", source, tmp_path / "to")
    (source / "portrait.jpg").rename(source / "001A02.jpg")
    with pytest.raises(InvalidInput, match="is taken by another picture of that person and age"):
        organise("fgnet", source, tmp_path / "to")
    assert not (tmp_path / "to").exists()
    with pytest.raises(InvalidInput, match="lies in the source"):
        organise("fgnet", source, source / "to")
    with pytest.raises(InvalidInput, match="not one of fgnet, itwcc"):
        organise("lfw", source, tmp_path / "to")


def test_the_command_says_what_it_copied_and_what_comes_next(tmp_path: Path) -> None:
    source = plant(tmp_path / "fg", *FGNET)
    ran = CliRunner().invoke(main, ["organise", "fgnet", str(source), str(tmp_path / "to")])
    assert ran.exit_code == 0, ran.output
    assert f"{tmp_path / 'to'}: 6 copied, 0 there already" in ran.stdout
    assert "next: fairloop import identity-folders" in ran.stdout
    layout("identity-folders", tmp_path / "to")
