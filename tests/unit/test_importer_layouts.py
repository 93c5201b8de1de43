"""Plain layouts: folders, a folder per person, tables; and sources that cannot be trusted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fairloop import importers
from fairloop.errors import Exhausted, InvalidInput
from fairloop.importers import Folder, Layout, Problem, Record, UnusableFileError
from fairloop.importers.listing import Listing
from fairloop.importers.picture import look
from fairloop.source_bucket import Found
from tests.support.trees import image_bytes, plant


def layout(kind: str, root: Path, **options: object) -> Layout:
    found = importers.kind(kind)
    return found.open(Folder.open(root), found.options(**options))


def records(kind: str, root: Path, **options: object) -> list[Record]:
    found = list(layout(kind, root, **options).records())
    assert not [item for item in found if isinstance(item, Problem)]
    return [item for item in found if isinstance(item, Record)]


def problems(kind: str, root: Path, **options: object) -> list[str]:
    """What a survey of the source complains about."""
    return [str(problem) for problem in importers.survey(kind, root, options)[1].problems]


def test_files_are_found_in_order_whatever_their_case_and_without_links_or_hidden_ones(
    tmp_path: Path,
) -> None:
    plant(tmp_path, "b/2.PNG", "a b/1.jpg", "a b/c/3.webp", ".hidden/4.jpg", "0.BMP", ".5.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    os.symlink(tmp_path / "0.BMP", tmp_path / "link.bmp")
    os.symlink(tmp_path / "b", tmp_path / "loop")
    # As S1's walk: sorted, recursive, five suffixes.
    assert list(Folder.open(tmp_path).files()) == ["0.BMP", "a b/1.jpg", "a b/c/3.webp", "b/2.PNG"]


@pytest.mark.parametrize("path", ["../x.jpg", "/etc/x.jpg", "a/../../x.jpg", "c:/x.jpg", "a\\..\\x.jpg", ""])
def test_a_path_that_leads_out_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UnusableFileError):
        Folder.open(tmp_path).path(path)


def test_a_folder_on_the_way_that_is_a_link_outside_is_refused(tmp_path: Path) -> None:
    outside = plant(tmp_path / "outside", "1.jpg")
    inside = plant(tmp_path / "inside", "2.jpg")
    os.symlink(outside, inside / "people")
    with pytest.raises(UnusableFileError, match="leads out of the folder"):
        Folder.open(inside).read("people/1.jpg")


def test_a_list_of_a_bucket_that_finds_no_room_says_so(tmp_path: Path) -> None:
    listing = Listing(tmp_path)
    listing._database.execute("pragma max_page_count = 4")
    rows = ((f"{number:06}.jpg", Found(f"a/{number:06}.jpg", 1, 1, "x")) for number in range(1_000))
    with pytest.raises(Exhausted, match=r"no room for the list of a bucket in .*TMPDIR"):
        listing.fill(rows)
    listing.close()


def test_a_pipe_a_link_and_a_missing_file_say_what_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    os.symlink("/dev/zero", tmp_path / "zero.jpg")
    folder = Folder.open(tmp_path)
    with pytest.raises(UnusableFileError, match="no regular file"):
        folder.read("pipe.jpg")
    with pytest.raises(UnusableFileError, match="link"):
        folder.stamp("zero.jpg")
    with pytest.raises(UnusableFileError, match="cannot be read"):
        folder.read("zero.jpg")
    with pytest.raises(UnusableFileError, match="does not exist"):
        folder.read("gone.jpg")


def test_a_folder_tells_subjects_and_a_label_when_it_is_told_what_its_folders_mean(tmp_path: Path) -> None:
    plant(tmp_path, "female/ann/1.jpg", "female/ann/2.jpg", "male/bob/1.jpg")
    found = records("folder", tmp_path, subjects="folder", folders="gender", how="self_declared")
    assert [(r.subject, r.labels) for r in found] == [
        ("female/ann", {"gender": "female"}),
        ("female/ann", {"gender": "female"}),
        ("male/bob", {"gender": "male"}),
    ]
    plant(tmp_path, "other/1.jpg", first=9)
    assert problems("folder", tmp_path, folders="gender") == [
        "other/1.jpg: gender 'other' is not one of female, male"
    ]


def test_identity_folders_give_subject_and_age(tmp_path: Path) -> None:
    # The names of S2: CUSP and EG3D-Age write identity_age, the FG-NET organiser NNN_aa[x].
    plant(tmp_path, "seed0001/seed0001_27.png", "001/001_43a.jpg", "001/001_02.JPG")
    found = {r.path: (r.subject, dict(r.labels)) for r in records("identity-folders", tmp_path)}
    assert found == {
        "001/001_02.JPG": ("001", {"age_years": "2", "age": "0_2"}),
        "001/001_43a.jpg": ("001", {"age_years": "43", "age": "40_49"}),
        "seed0001/seed0001_27.png": ("seed0001", {"age_years": "27", "age": "20_29"}),
    }


def test_identity_folders_say_what_does_not_fit(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", "a/a_300.jpg", "a/portrait.jpg", "a/b/a_3.jpg")
    assert problems("identity-folders", tmp_path) == [
        "1.jpg: does not lie in a folder of one person, directly below the root",
        "a/a_300.jpg: age '300' is not in years, 0–120",
        "a/portrait.jpg: its name has no age after the last underscore (identity_age.png)",
        "a/b/a_3.jpg: does not lie in a folder of one person, directly below the root",
    ]


def test_a_table_maps_columns_codes_and_words(tmp_path: Path) -> None:
    plant(tmp_path, "a b.jpg", "c.jpg", "d.jpg")
    # BOM, semicolons, Windows line ends, an empty cell.
    (tmp_path / "t.csv").write_bytes(
        "\ufefffile;who;sex;code;years;note\r\n"
        "a b.jpg;ann;f;0;7;x\r\nc.jpg;bob;m;1;;y\r\nd.jpg;;m;1;71;\r\n".encode()
    )
    found = records(
        "table",
        tmp_path,
        table="t.csv",
        subject="who",
        label=("gender=sex:f=female/m=male", "age_years=years", "note=note"),
    )
    assert [(r.path, r.where, r.subject, dict(r.labels)) for r in found] == [
        (
            "a b.jpg",
            "t.csv, line 2",
            "ann",
            {"gender": "female", "age_years": "7", "age": "3_9", "note": "x"},
        ),
        ("c.jpg", "t.csv, line 3", "bob", {"gender": "male", "note": "y"}),
        ("d.jpg", "t.csv, line 4", None, {"gender": "male", "age_years": "71", "age": "70_plus"}),
    ]
    # AI-Face: 0 is female. The other way round (CLIP's index) is another vocabulary.
    by_code = records("table", tmp_path, table="t.csv", label=("gender=code:ai_face",))
    assert [r.labels["gender"] for r in by_code] == ["female", "male", "male"]


def test_a_table_reports_by_line(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg")
    (tmp_path / "t.csv").write_text("file,g,a\n1.jpg,x,3\n../2.jpg,f,3\n3.jpg,f,3\n1.jpg,f,300\n,f,3\n")
    assert problems("table", tmp_path, table="t.csv", label=("gender=g:f=female", "age_years=a")) == [
        "t.csv, line 2: column g: 'x' is not one of f",
        "t.csv, line 3 (../2.jpg): '../2.jpg' leads out of the folder; paths are relative to it",
        "t.csv, line 4 (3.jpg): does not exist",
        "t.csv, line 5: column a: age '300' is not in years, 0–120",
        "t.csv, line 6: column file is empty; it names the image",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"table": "t.csv", "image": "path"}, "no column 'path'; it has file, g"),
        ({"table": "t.csv", "label": ("gender=g:nobody",)}, "nobody:gender has no vocabulary"),
        ({"table": "t.csv", "label": ("gender=g:f=woman",)}, "gender has female, male"),
        ({"table": "t.csv", "label": ("gender=g", "gender=g")}, "gender stands twice"),
        ({"table": "t.csv", "synthetic": "g"}, "is not COLUMN=VALUE"),
        ({"table": ""}, "is missing"),
        ({"table": "no.csv"}, "is not there"),
        ({"table": "t.csv", "how": "guessed"}, "not one of perceived"),
    ],
)
def test_options_that_do_not_fit_the_table_say_what_there_is(
    tmp_path: Path, options: dict[str, object], said: str
) -> None:
    plant(tmp_path, "1.jpg")
    (tmp_path / "t.csv").write_text("file,g\n1.jpg,f\n")
    with pytest.raises(InvalidInput, match=said):
        layout("table", tmp_path, **options)


def test_an_unknown_kind_or_option_lists_what_there_is(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg")
    with pytest.raises(InvalidInput, match="there are folder, "):
        importers.kind("zip")
    with pytest.raises(InvalidInput, match="it has subjects, folders, how"):
        importers.survey("folder", tmp_path, {"depth": 2})


def test_text_named_png_a_cut_file_and_an_empty_one_are_no_images() -> None:
    whole = image_bytes(1, ".jpg", 64)
    assert (look(whole).width, look(whole).height, look(whole).format) == (65, 64, "jpeg")
    for data, said in [
        (b"hello" * 100, "is no JPEG, PNG"),
        (whole[: len(whole) // 2], "is cut off"),
        (image_bytes(1, ".png", 64)[:-20], "is cut off"),
        (b"", "is empty"),
    ]:
        with pytest.raises(UnusableFileError, match=said):
            look(data)


def test_words_of_a_source_in_a_canonical_column_are_told_how_to_be_translated(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg")
    (tmp_path / "t.csv").write_text("file,sex,skin\n1.jpg,Woman,x\n")
    assert problems("table", tmp_path, table="t.csv", label=("gender=sex",)) == [
        "t.csv, line 2: column sex: 'Woman' is not one of female, male; gender=sex:SOURCE with deepface or "
        "gender=sex:WORD=VALUE/… translates words and codes"
    ]
    assert problems("table", tmp_path, table="t.csv", label=("skin_tone=skin",)) == [
        "t.csv, line 2: column skin: 'x' is not one of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10; skin_tone=skin:SOURCE "
        "or skin_tone=skin:WORD=VALUE/… translates words and codes"
    ]


def test_a_label_of_an_annotator_has_a_dotted_name(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg")
    (tmp_path / "t.csv").write_text("file,guess\n1.jpg,asian\n")
    (record,) = records("table", tmp_path, table="t.csv", label=("perceived_race.deepface=guess",))
    assert dict(record.labels) == {"perceived_race.deepface": "asian"}
    for wrong in ("a.b.c=guess", ".a=guess", "a.=guess", "A=guess"):
        with pytest.raises(InvalidInput, match="is no name of"):
            layout("table", tmp_path, table="t.csv", label=(wrong,))
