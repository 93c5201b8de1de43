"""Pair lists of the published layouts are recognised by what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.standalone.rates import read_rates
from fairloop.standalone.scores import PairList, Source, read_pairs

BFW = """fold,p1,p2,label,id1,id2,att1,att2,a1,a2,g1,g2,e1,e2,score
1,x/1.jpg,x/2.jpg,1,0,0,asian_females,asian_females,AF,AF,F,F,A,A,0.9
2,x/1.jpg,y/1.jpg,0,0,1,asian_females,white_males,AF,WM,F,M,A,W,0.25
"""
RFW = "m.01\t1\t2\t0.75\nm.01\t1\tm.02\t3\t-0.5\n"


def read(folder: Path, content: str, *groups: str, name: str = "p.csv", **options: object) -> PairList:
    (folder / name).write_text(content)
    return read_pairs([Source(folder / name)], groups, **options)  # type: ignore[arg-type]


def test_bfw_is_recognised_with_both_sides_ids_and_folds_on_demand(tmp_path: Path) -> None:
    found = read(tmp_path, BFW)
    assert found.layout == "BFW"
    assert found.scores.tolist() == [0.9, 0.25]
    assert found.genuine.tolist() == [True, False]
    assert found.groups == (["asian_females"] * 2, ["asian_females", "white_males"])
    assert found.subjects == (["0", "0"], ["0", "1"])
    assert found.folds is None
    assert found.label_source == "columns att1, att2 of p.csv"
    assert read(tmp_path, BFW, folds="fold").folds == ["1", "2"]


def test_several_attributes_of_bfw_make_intersections(tmp_path: Path) -> None:
    assert read(tmp_path, BFW, "e", "g").groups == (["e=A,g=F", "e=A,g=F"], ["e=A,g=F", "e=W,g=M"])


def test_rfw_lists_are_read_by_race_and_one_person_keeps_its_name(tmp_path: Path) -> None:
    for race in ("African", "Asian"):
        (tmp_path / f"{race}.txt").write_text("10\t300\n" + RFW)
    sources = [Source.parse(f"{race}={tmp_path / race}.txt") for race in ("African", "Asian")]
    found = read_pairs(sources, folds="2")
    assert found.layout == "RFW"
    assert found.scores.tolist() == [0.75, -0.5] * 2
    assert found.genuine.tolist() == [True, False] * 2
    assert found.groups[0] == found.groups[1] == ["African", "African", "Asian", "Asian"]
    assert found.subjects == (["m.01"] * 4, ["m.01", "m.02"] * 2)
    assert found.folds == ["01", "02"] * 2


def test_a_table_with_a_race_column_does_without_lists(tmp_path: Path) -> None:
    text = "name1;n1;name2;n2;race;score\na;1;a;2;Asian;0.5\na;1;b;1;Indian;0.25\n"
    found = read(tmp_path, text)
    assert found.genuine.tolist() == [True, False]
    assert found.groups[0] == ["Asian", "Indian"]


def test_the_plain_table_needs_no_ids_and_may_lack_scores(tmp_path: Path) -> None:
    found = read(tmp_path, "score,genuine,group\n0.5,1,a\n,0,a\n0.25,no,\n")
    assert found.layout == "pairs"
    assert found.subjects is None
    assert found.failures.tolist() == [False, True, False]
    assert found.groups[0] == ["a", "a", None]


def test_distances_become_similarities(tmp_path: Path) -> None:
    text = "score,genuine,group\n0.6,1,a\n2,0,a\n"
    np.testing.assert_allclose(read(tmp_path, text, distance="euclidean").scores, [1 - 0.18, -1])
    np.testing.assert_allclose(read(tmp_path, text, distance="cosine").scores, [0.4, -1])
    with pytest.raises(InvalidInput, match=r"--distance: p\.csv: row 1 is 2\.5; a euclidean distance is 0–2"):
        read(tmp_path, "score,genuine,group\n0.6,1,a\n2.5,0,a\n", distance="euclidean")


@pytest.mark.parametrize(
    ("content", "groups", "says"),
    [
        ("score,group\n1,a\n", (), r"p\.csv: does not say which pairs are genuine"),
        ("genuine,group\n1,a\n", (), r"--score: p\.csv has no column 'score'; it has genuine, group"),
        ("score,genuine\n1,1\n", (), r"--group: p\.csv has no column group or race or ethnicity"),
        (BFW, ("age",), r"--group: p\.csv has neither a column 'age' nor age1 and age2"),
        ("score,genuine,group\nx,1,a\n", (), r"p\.csv, line 2, column score: 'x' is no finite number"),
        ("score,genuine,group\n1e308,1,a\n", (), r"p\.csv, line 2, column score: 1e308 is outside"),
        (
            "score,genuine,group,subject1,subject2\n1,1,a,u,v\n",
            (),
            r"p\.csv, line 2, column genuine: says genuine, but its subjects are 'u' and 'v'",
        ),
        (
            "score,genuine,group,subject1,subject2\n1,0,a,u,u\n",
            (),
            r"p\.csv, line 2, column genuine: says an impostor pair, but its subjects are 'u' and 'u'",
        ),
        (
            "score,group,name1,name2\n1,a,u,\n",
            (),
            r"p\.csv, line 2, column name2: is empty, and nothing else",
        ),
        (RFW, (), r"--pairs: p\.csv is a list without a header; say whose it is"),
    ],
)
def test_tables_that_do_not_fit_are_told(
    tmp_path: Path, content: str, groups: tuple[str, ...], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        read(tmp_path, content, *groups)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("m.1 1 2", "is neither 'name n1 n2 score' nor"),
        ("m.1 1 m.2 3", "is neither 'name n1 n2 score' nor"),
        ("m.1 1 2 high", "score: 'high' is no finite number"),
        ("m.1 1 2 nan", "score: 'nan' is no finite number"),
        ("m.1 1 2 -1e308", "score: -1e308 is outside"),
        ("m.1 1 m.1 2 0.5", "names 'm.1' twice"),
    ],
)
def test_lines_of_a_list_that_do_not_fit_are_told(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "a.txt").write_text(f"{RFW}{line}\n")
    with pytest.raises(InvalidInput, match=rf"a\.txt, line 3.*{says}"):
        read_pairs([Source(tmp_path / "a.txt", "African")])


def test_several_files_need_a_race_each_and_once(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(RFW)
    with pytest.raises(InvalidInput, match="--pairs: names a file twice"):
        read_pairs([Source(path, "a"), Source(path, "b")])
    with pytest.raises(InvalidInput, match=r"--group: does not go with a=a\.txt"):
        read_pairs([Source(path, "a")], ["race"])
    with pytest.raises(InvalidInput, match="--pairs: several files need a race each"):
        read_pairs([Source(path, "a"), Source(tmp_path / "b.txt")])
    for folds in ("3", "²", "9" * 5000):
        with pytest.raises(InvalidInput, match=rf"--folds: '{folds}'; a\.txt has 2 pairs"):
            read_pairs([Source(path, "a")], folds=folds)


def test_a_file_with_an_equals_sign_in_its_name_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "a=b.csv"
    path.write_text(BFW)
    assert Source.parse(str(path)) == Source(path)
    with pytest.raises(InvalidInput, match="is neither a file nor RACE=file"):
        Source.parse("=x")
    with pytest.raises(InvalidInput, match=r"the race 'a\\x1b' holds a control character"):
        Source.parse("a\x1b=x.txt")
    assert Source.parse(f"a={'x' * 300}") == Source(Path("x" * 300), "a")


def test_rates_are_read_with_what_the_table_has(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text("group,fnmr,impostor,fmr\na,0.1,100,0.01\nb,,200,0.02\n")
    found = read_rates(path)
    assert found.groups == ["a", "b"]
    np.testing.assert_array_equal(found.fnmr, [0.1, np.nan])
    assert found.impostor == [100, 200]
    assert found.genuine is None
    assert found.accuracy is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("group,fmr\na,0.1\n", r"rates\.csv: has 1 group; 2–200 are compared"),
        (
            "group,fmr\n" + "".join(f"g{k},0.1\n" for k in range(201)),
            r"rates\.csv: has 201 groups; 2–200 are compared",
        ),
        ("group,fmr,fnmr\na,,0.1\nb,,0.2\n", r"rates\.csv, column fmr: is empty in every row"),
        ("fmr\n0.1\n", r"^rates\.csv: has no column 'group'; it has fmr"),
        ("group,fmr\na,0.1\na,0.2\n", r"rates\.csv, line 3, column group: 'a' is there already"),
        ("group,fmr\na,0.1\nb,5\n", r"rates\.csv, line 3, column fmr: 5 is outside 0–1"),
        (
            "group,far\na,0.1\nb,0.2\n",
            r"rates\.csv: has no column fmr or fnmr or accuracy; it has group, far",
        ),
        ("group,fmr,impostor\na,0.1,7.5\nb,0.2,8\n", r"line 2, column impostor: 7\.5 is no whole number"),
    ],
)
def test_rates_that_do_not_fit_are_told(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=says):
        read_rates(path)
