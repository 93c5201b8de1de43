"""RFW, BFW, LFW and lists of pairs: people, groups, pairs with folds, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairloop.errors import InvalidInput
from fairloop.importers import Pair
from tests.support.layouts import layout, pairs, problems, records
from tests.support.trees import plant


def told(found: list[Pair]) -> list[tuple[str, str, bool, int | None]]:
    return [(pair.first, pair.second, pair.same, pair.fold) for pair in found]


def rfw(root: Path) -> Path:
    """m.2 stands under two races, as twelve people of the published set do."""
    plant(
        root,
        "data/African/m.1/m.1_0001.jpg",
        "data/African/m.1/m.1_0002.JPG",
        "data/African/m.2/m.2_0001.jpg",
        "data/Asian/m.2/m.2_0002.jpg",
        "data/Indian/m.3/m.3_0001.jpg",
    )
    african = root / "txts" / "African"
    african.mkdir(parents=True)
    (african / "African_people.txt").write_text("m.1\t2\nm.2\t1\n")
    (african / "African_pairs.txt").write_text("m.1\t1\t2\nm.1\t1\tm.2\t1\n" * 10)
    return root


def test_rfw_gives_race_and_person_and_tells_who_stands_under_two_races(tmp_path: Path) -> None:
    found = records("rfw", rfw(tmp_path))
    assert [(r.subject, dict(r.labels)) for r in found] == [
        ("m.1", {"race_rfw": "african", "race": "black", "race4": "black"}),
        ("m.1", {"race_rfw": "african", "race": "black", "race4": "black"}),
        ("m.2", {"race_rfw": "african", "race": "black", "race4": "black"}),
        # One value of four, and several of seven: which of them is not known.
        ("m.2", {"race_rfw": "asian", "race4": "asian"}),
        ("m.3", {"race_rfw": "indian", "race": "indian", "race4": "indian"}),
    ]
    notes = " ".join(layout("rfw", tmp_path).notes)
    assert "1 people stand under two races and belong to no group: m.2 (African, Asian)" in notes
    assert "no folder of Caucasian" in notes
    assert layout("rfw", tmp_path).terms[0].commercial == "no"


def test_rfw_pairs_have_ten_folds_of_consecutive_pairs(tmp_path: Path) -> None:
    rfw(tmp_path)
    for race in ("Asian", "Indian"):
        (tmp_path / "txts" / race).mkdir()
        (tmp_path / "txts" / race / f"{race}_pairs.txt").write_text("m.9\t1\t2\n")
    said = problems("rfw", tmp_path)
    assert said == [
        "Asian_pairs.txt, line 1: rfw-asian names 'data/Asian/m.9/m.9_0001', which is not there",
        "Indian_pairs.txt, line 1: rfw-indian names 'data/Indian/m.9/m.9_0001', which is not there",
    ]
    found = pairs("rfw", tmp_path)
    one, two, other = (
        "data/African/m.1/m.1_0001.jpg",
        "data/African/m.1/m.1_0002.JPG",
        "data/African/m.2/m.2_0001.jpg",
    )
    assert told(found) == [
        pair for fold in range(1, 11) for pair in ((one, two, True, fold), (one, other, False, fold))
    ]
    assert {pair.list for pair in found} == {"rfw-african"}
    assert (problems("rfw", tmp_path, no_pairs=True), pairs("rfw", tmp_path, no_pairs=True)) == ([], [])


def test_people_of_a_list_without_a_picture_and_lists_that_are_not_there_are_told(tmp_path: Path) -> None:
    rfw(tmp_path)
    (tmp_path / "txts" / "African" / "African_people.txt").write_text("m.1\t2\nm.7\t1\n")
    assert problems("rfw", tmp_path) == ["African_people.txt, line 2: m.7 has no picture"]
    (tmp_path / "txts" / "African" / "African_pairs.txt").unlink()
    assert "no list of pairs of African, Asian, Indian" in layout("rfw", tmp_path).notes
    with pytest.raises(InvalidInput, match="has no data/African"):
        layout("rfw", plant(tmp_path / "none", "a/1.jpg"))


def bfw(root: Path) -> Path:
    return plant(
        root,
        "asian_females/n000009/0010_01.jpg",
        "asian_females/n000009/0043_01.jpg",
        "white_males/n000010/0001_01.jpg",
        "white_females/n003391/0017_02.jpg",
    )


def test_bfw_gives_gender_race_and_person_and_leaves_out_what_its_publisher_reports(tmp_path: Path) -> None:
    found = records("bfw", bfw(tmp_path))
    assert [(r.subject, dict(r.labels)) for r in found] == [
        ("n000009", {"race_bfw": "asian", "race4": "asian", "gender": "female"}),
        ("n000009", {"race_bfw": "asian", "race4": "asian", "gender": "female"}),
        ("n000010", {"race_bfw": "white", "race": "white", "race4": "white", "gender": "male"}),
    ]
    notes = " ".join(layout("bfw", tmp_path).notes)
    assert "white_females/n003391/0017_02.jpg is left out: cartoon face" in notes
    assert len(records("bfw", tmp_path, keep_reported=True)) == 4


def test_bfw_pairs_have_folds_and_contradictions_are_told_by_line(tmp_path: Path) -> None:
    bfw(tmp_path)
    first, second, third = (
        "asian_females/n000009/0010_01.jpg",
        "asian_females/n000009/0043_01.jpg",
        "white_males/n000010/0001_01.jpg",
    )
    rows = [
        f"0,1,{first},{second},1,asian_females,asian_females",
        f"1,2,{first},{third},0,asian_females,white_males",
        f"2,2,{first},{third},1,asian_females,white_males",
        f"3,2,{first},{third},0,black_males,white_males",
        f"4,2,{first},white_females/n003391/0017_02.jpg,0,asian_females,white_females",
        f"5,2,{first},white_males/n000099/0001_01.jpg,0,asian_females,white_males",
        f"6,2,{first},{third},2,asian_females,white_males",
        f"7,2,{first},{third},0,martian_males,white_males",
    ]
    (tmp_path / "bfw.csv").write_text("ID,fold,p1,p2,label,att1,att2\n" + "\n".join(rows) + "\n")
    assert told(pairs("bfw", tmp_path, pairs="bfw.csv")) == [
        (first, second, True, 1),
        (first, third, False, 2),
    ]
    assert problems("bfw", tmp_path, pairs="bfw.csv") == [
        "bfw.csv, line 4: label 1, and the pictures lie in folders that say otherwise",
        "bfw.csv, line 5: column att1: black_males, and the picture lies in asian_females",
        "bfw.csv, line 7: bfw names 'white_males/n000099/0001_01.jpg', which is not there",
        "bfw.csv, line 8: label '2' is neither 1 nor 0, or an image is not named",
        "bfw.csv, line 9: column att1: 'martian' is not one of asian, black, indian, white, A, B, I, W",
    ]
    with pytest.raises(InvalidInput, match="is pickled; save it as CSV"):
        layout("bfw", tmp_path, pairs="bfw-v0.1.5-datatable.pkl")
    with pytest.raises(InvalidInput, match="has no folder of a subgroup"):
        layout("bfw", plant(tmp_path / "none", "a/1.jpg"))


def lfw(root: Path, below: str = "lfw/") -> Path:
    return plant(
        root,
        f"{below}Ann_Lee/Ann_Lee_0001.jpg",
        f"{below}Ann_Lee/Ann_Lee_0002.jpg",
        f"{below}Bob/Bob_0001.JPG",
        f"{below}Cid/Cid_0001.jpg",
    )


def test_lfw_gives_people_and_the_pairs_of_its_views(tmp_path: Path) -> None:
    lfw(tmp_path)
    # View 2: sets of matched pairs, then mismatched ones; view 1 without sets.
    (tmp_path / "pairs.txt").write_bytes(
        b"2\t1\r\nAnn_Lee\t1\t2\r\nAnn_Lee\t1\tBob\t1\r\nAnn_Lee\t2\t1\r\nBob\t1\tCid\t1\r\n"
    )
    (tmp_path / "pairsDevTest.txt").write_text("1\nAnn_Lee\t1\t2\nBob\t1\tCid\t1\n")
    assert [r.subject for r in records("lfw", tmp_path)] == ["Ann_Lee", "Ann_Lee", "Bob", "Cid"]
    one, two = "lfw/Ann_Lee/Ann_Lee_0001.jpg", "lfw/Ann_Lee/Ann_Lee_0002.jpg"
    bob, cid = "lfw/Bob/Bob_0001.JPG", "lfw/Cid/Cid_0001.jpg"
    found = pairs("lfw", tmp_path)
    assert told([pair for pair in found if pair.list == "lfw-pairs"]) == [
        (one, two, True, 1),
        (one, bob, False, 1),
        (two, one, True, 2),
        (bob, cid, False, 2),
    ]
    assert told([pair for pair in found if pair.list == "lfw-pairsdevtest"]) == [
        (one, two, True, None),
        (bob, cid, False, None),
    ]
    assert problems("lfw", tmp_path) == []


def test_lfw_lists_that_do_not_fit_are_told(tmp_path: Path) -> None:
    lfw(tmp_path, "")
    plant(tmp_path, "Bob/Cid_0002.jpg", "loose.jpg", first=20)
    (tmp_path / "pairs.txt").write_text(
        "Ann_Lee\t1\t3\nAnn_Lee\t1\tAnn_Lee\t2\nAnn_Lee 1 2\nAnn_Lee\t1\t1\nAnn_Lee\tx\t2\n"
    )
    assert problems("lfw", tmp_path) == [
        "loose.jpg: is not in the folder of the person whom its name begins with",
        "Bob/Cid_0002.jpg: is not in the folder of the person whom its name begins with",
        "pairs.txt, line 1: lfw-pairs names 'Ann_Lee/Ann_Lee_0003', which is not there",
        "pairs.txt, line 2: calls two pictures of 'Ann_Lee' a pair of two people",
        "pairs.txt, line 4: lfw-pairs compares 'Ann_Lee/Ann_Lee_0001' with itself",
        "pairs.txt, line 5: 'Ann_Lee\\tx\\t2' is neither `person n1 n2` nor `person n1 person n2`",
    ]
    (tmp_path / "pairs.txt").write_text("10\t300\nAnn_Lee\t1\t2\n")
    with pytest.raises(InvalidInput, match="promises 10 × 2 × 300 pairs; 1 lines follow"):
        problems("lfw", tmp_path)
    (tmp_path / "pairs.txt").write_bytes(b"\x80\x04\x95\x00\x00")
    with pytest.raises(InvalidInput, match="is a binary file"):
        problems("lfw", tmp_path)


@pytest.mark.parametrize(("format_", "marks"), [("calfw", ("7", "0")), ("cplfw", ("1", "0"))])
def test_two_lines_make_a_pair_of_calfw_and_cplfw(
    tmp_path: Path, format_: str, marks: tuple[str, str]
) -> None:
    plant(
        tmp_path,
        "aligned images/Ann_Lee_0001.jpg",
        "aligned images/Ann_Lee_0002.jpg",
        "aligned images/Bob_1.jpg",
    )
    same, other = marks  # CALFW marks a pair of one person by its fold
    (tmp_path / f"pairs_{format_.upper()}.txt").write_text(
        f"Ann_Lee_0001.jpg {same}\nAnn_Lee_0002.jpg {same}\nAnn_Lee_0001.jpg {other}\nBob_1.jpg {other}\n"
    )
    found = pairs("pairs", tmp_path, format=format_)
    one, two, bob = (f"aligned images/{name}.jpg" for name in ("Ann_Lee_0001", "Ann_Lee_0002", "Bob_1"))
    assert told(found) == [(one, two, True, None), (one, bob, False, None)]
    assert [r.subject for r in records("pairs", tmp_path, format=format_)] == ["Ann_Lee", "Ann_Lee", "Bob"]
    assert layout("pairs", tmp_path, format=format_).details["published"] == [format_]


def test_marks_that_contradict_names_or_each_other_are_told(tmp_path: Path) -> None:
    plant(tmp_path, "images/Ann_1.jpg", "images/Ann_2.jpg", "images/Bob_1.jpg")
    (tmp_path / "pairs_CPLFW.txt").write_text(
        "Ann_1.jpg 0\nAnn_2.jpg 0\nAnn_1.jpg 1\nBob_1.jpg 0\n"
        "Ann_1.jpg 1\nBob_1.jpg 1\nAnn_1.jpg\nBob_1.jpg 1\n"
    )
    assert problems("pairs", tmp_path, format="cplfw") == [
        "pairs_CPLFW.txt, line 3: has the marks 1 and 0; both sides of a pair agree",
        "pairs_CPLFW.txt, line 7: 'Ann_1.jpg' and the line after it are not `file mark` twice",
        "pairs_CPLFW.txt, line 1: says otherwise than the names of its two images",
        "pairs_CPLFW.txt, line 5: says otherwise than the names of its two images",
    ]
    assert pairs("pairs", tmp_path, format="cplfw") == []
    (tmp_path / "pairs_CPLFW.txt").write_text("Ann_1.jpg 0\n")
    with pytest.raises(InvalidInput, match="has 1 lines; two make a pair"):
        problems("pairs", tmp_path, format="cplfw")


def test_agedb_names_and_plain_lines(tmp_path: Path) -> None:
    plant(tmp_path, "0_MariaCallas_35_f.jpg", "1_MariaCallas_40_f.jpg", "2_AnnB_7_M.jpg")
    (tmp_path / "list.txt").write_text(
        "0_MariaCallas_35_f.jpg\t1_MariaCallas_40_f.jpg\t1\n0_MariaCallas_35_f.jpg\t2_AnnB_7_M.jpg\t0\n"
    )
    found = records("pairs", tmp_path, format="agedb", table="list.txt")
    assert [(r.subject, r.labels["gender"], r.labels["age"]) for r in found] == [
        ("MariaCallas", "female", "30_39"),
        ("MariaCallas", "female", "40_49"),
        ("AnnB", "male", "3_9"),
    ]
    assert [pair.same for pair in pairs("pairs", tmp_path, format="agedb", table="list.txt")] == [True, False]
    (tmp_path / "list.txt").write_text(
        "0_MariaCallas_35_f.jpg, 2_AnnB_7_M.jpg, 0\n../x.jpg,2_AnnB_7_M.jpg,2\n"
    )
    assert [pair.same for pair in pairs("pairs", tmp_path, format="lines", table="list.txt")] == [False]
    assert problems("pairs", tmp_path, format="lines", table="list.txt") == [
        "list.txt, line 2: '../x.jpg,2_AnnB_7_M.jpg,2' is not `first second mark` with the mark 1 or 0"
    ]


def test_cfp_pairs_come_from_its_protocol_with_their_folds(tmp_path: Path) -> None:
    plant(
        tmp_path,
        "Data/Images/001/frontal/01.jpg",
        "Data/Images/001/profile/01.jpg",
        "Data/Images/002/frontal/01.jpg",
    )
    protocol = tmp_path / "Protocol"
    protocol.mkdir()
    (protocol / "Pair_list_F.txt").write_text(
        "1 ../Data/Images/001/frontal/01.jpg\n2 ../Data/Images/002/frontal/01.jpg\n"
    )
    (protocol / "Pair_list_P.txt").write_text("1 ../Data/Images/001/profile/01.jpg\n")
    for name, same, diff in (("FP", "1,1\n", "2,1\n"), ("FF", "1,9\n", "1,2\n")):
        split = protocol / "Split" / name / "03"
        split.mkdir(parents=True)
        (split / "same.txt").write_text(same)
        (split / "diff.txt").write_text(diff)
    parts = ("001/frontal", "001/profile", "002/frontal")
    one, side, two = (f"Data/Images/{part}/01.jpg" for part in parts)
    found = pairs("pairs", tmp_path, format="cfp")
    assert told([pair for pair in found if pair.list == "cfp-fp"]) == [
        (one, side, True, 3),
        (two, side, False, 3),
    ]
    assert told([pair for pair in found if pair.list == "cfp-ff"]) == [(one, two, False, 3)]
    assert problems("pairs", tmp_path, format="cfp") == [
        "FF/03/same.txt, line 1: '1,9' is not two numbers of the lists of images"
    ]
    (protocol / "Split" / "FF" / "03" / "same.txt").write_text("\n1,1\n")
    assert problems("pairs", tmp_path, format="cfp") == [
        "FF/03/same.txt, line 2: cfp-ff compares 'Data/Images/001/frontal/01.jpg' with itself"
    ]
    (protocol / "Split" / "FF" / "03" / "same.txt").write_text("2,1\n")
    assert problems("pairs", tmp_path, format="cfp") == [
        "FF/03/same.txt, line 1: says otherwise than the names of its two images"
    ]
    (protocol / "Split" / "FF" / "03" / "same.txt").unlink()
    (protocol / "Split" / "FF" / "03" / "diff.txt").unlink()
    (protocol / "Split" / "FF" / "03").rmdir()
    found_images = records("pairs", tmp_path, format="cfp")
    assert [(r.subject, r.labels["pose"]) for r in found_images] == [
        ("001", "frontal"),
        ("001", "profile"),
        ("002", "frontal"),
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "lfw"}, "not one of calfw, cplfw, agedb, cfp, lines"),
        ({"format": "lines"}, "name the list of pairs"),
        ({"format": "lines", "table": "no.txt"}, "is not there"),
        ({"format": "cfp"}, "has no folder Data/Images"),
        ({"format": "lines", "table": "t.txt", "published": "lfw2"}, "'lfw2' is not in the catalogue"),
        ({"format": "lines", "table": "t.txt", "images": "no"}, "has no folder 'no'"),
    ],
)
def test_options_that_do_not_fit_say_what_there_is(
    tmp_path: Path, options: dict[str, object], said: str
) -> None:
    plant(tmp_path, "1.jpg")
    (tmp_path / "t.txt").write_text("1.jpg 2.jpg 0\n")
    with pytest.raises(InvalidInput, match=said):
        layout("pairs", tmp_path, **options)
