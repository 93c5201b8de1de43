"""Users' tables: every dialect is read, and what cannot be read is told by file, line and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairloop.errors import InvalidInput
from fairloop.standalone import table
from fairloop.standalone.table import Table, read_header, read_table


def written(folder: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, *columns: str) -> Table:
    header = read_header(path)
    return read_table(header, columns or header.names)


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x y\n,z\n",
        "\ufeffa,b\r\n1,x y\r\n,z\r\n",
        'a;b\n1;"x y"\n;z\n',
        "a\tb\n1\tx y\n\tz\n",
        '"a","b"\n"1","x y"\n\n"", z\n\n',
        " a , b\n 1 , x y \n ,z",
    ],
    ids=["commas", "BOM and CRLF", "semicolons", "tabs", "quotes and blank lines", "spaces"],
)
def test_the_dialects_of_csv_hold_the_same(tmp_path: Path, content: str) -> None:
    found = read(written(tmp_path, content))
    assert {name: list(found.labels(name)) for name in "ab"} == {"a": ["1", None], "b": ["x y", "z"]}


def test_quoted_fields_may_hold_delimiters_quotes_and_line_ends(tmp_path: Path) -> None:
    found = read(written(tmp_path, 'a,b\n"1,2","say ""x""\nand y"\n3,4\n'))
    assert list(found.labels("a")) == ["1,2", "3"]
    assert list(found.columns["b"]) == ['say "x"\nand y', "4"]
    assert list(found.lines) == [3, 4]


def test_parquet_holds_the_same_as_csv(tmp_path: Path) -> None:
    columns = {
        "text": ["x", None, ""],
        "number": [1.5, None, float("nan")],
        "whole": [1, 2, None],
        "flag": [True, False, None],
        "coded": pa.array(["u", "v", "u"]).dictionary_encode(),
    }
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path)
    found = read(path)
    assert list(found.labels("text")) == ["x", None, None]
    np.testing.assert_array_equal(found.numbers("number", empty=True), [1.5, np.nan, np.nan])
    assert list(found.labels("whole")) == ["1", "2", None]
    assert found.booleans("flag", empty=False).tolist() == [True, False, False]
    assert list(found.labels("coded")) == ["u", "v", "u"]


def test_parquet_with_a_column_whose_name_is_no_text_is_refused_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"subject": ["x"]}), path, store_schema=False)
    assert list(read(path).labels("subject")) == ["x"]
    path.write_bytes(path.read_bytes().replace(b"subject", b"sub\xffect"))
    with pytest.raises(InvalidInput, match=r"t\.parquet: is no Parquet file that can be read"):
        read_header(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "t.csv: is empty"),
        (" \n\n", "t.csv: is empty"),
        ("a,b\n", "t.csv: has a header and no row"),
        ("a,b,a\n1,2,3\n", "t.csv: has two columns 'a'"),
        ("a,b\n1,2\n3\n", "t.csv, line 3: has 1 fields; the header names 2 columns"),
        ("a,b\n1,2,3\n", "t.csv, line 2: has 3 fields; the header names 2 columns"),
        ('a,b\n1,"2\n', "t.csv, line 2: is no CSV"),
        (b"a,b\n1,\xff\xfe\n", "t.csv, near line .: is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), r"t.csv: is a binary file \(or UTF-16\)"),
        (b"PK\x03\x04rest", "t.csv: is a binary file"),
        (b"PAR1 and then nothing", "t.csv: is no Parquet file that can be read"),
        ("a," * 1_001 + "b\n", "t.csv: has 1,002 columns; at most 1,000"),
        ("a" * 1_000_001, "t.csv: has a line of more than 1,000,000 characters"),
        ("a,\x1b[2J\n1,2\n", r"t.csv: has a column whose name '\\x1b\[2J' holds a control character"),
    ],
)
def test_a_file_that_is_no_table_is_named_with_the_place(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        read(written(tmp_path, content))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.csv: does not exist"):
        read_header(tmp_path / "absent.csv")
    with pytest.raises(InvalidInput, match="is a folder"):
        read_header(tmp_path)
    with pytest.raises(InvalidInput, match="is a pipe or a device"):
        read_header(Path("/dev/null"))


def test_limits_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "a\n" + "1\n" * 10)
    monkeypatch.setattr(table, "MOST_ROWS", 5)
    with pytest.raises(InvalidInput, match=r"t\.csv: has more than 5 rows"):
        read(path)
    monkeypatch.setattr(table, "MOST_BYTES", 10)
    with pytest.raises(InvalidInput, match=r"t\.csv: 22 bytes; at most 10"):
        read(path)


def test_an_unknown_column_lists_those_that_there_are(tmp_path: Path) -> None:
    header = read_header(written(tmp_path, "a,b,c\n1,2,3\n"))
    with pytest.raises(InvalidInput, match=r"--group: t\.csv has no column 'race'; it has a, b, c$"):
        header.check("race", "--group")


def test_a_label_that_would_move_the_cursor_or_fill_the_page_is_refused(tmp_path: Path) -> None:
    for label, says in (
        ("\x1b[31mx", "holds a control character"),
        ("x\u202ey", "holds a control character"),
        ("x" * 301, "has 301 characters"),
    ):
        found = read(written(tmp_path, f"g\na\n{label}\n"))
        with pytest.raises(InvalidInput, match=rf"t\.csv, line 3, column g: .*{says}"):
            found.labels("g")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty; a number is needed"),
        ("nan", "'nan' is no finite number"),
        ("-inf", "'-inf' is no finite number"),
        ("1_000", "'1_000' is no finite number"),
        ("high", "'high' is no finite number"),
        ('"0,5"', "'0,5' is no finite number; write decimals with a point"),
        ("2", "2 is outside 0–1"),
    ],
)
def test_what_is_no_number_is_told_by_line_and_column(tmp_path: Path, text: str, says: str) -> None:
    found = read(written(tmp_path, f"name,score\nx,0.5\n\ny,{text}\n"), "score")
    with pytest.raises(InvalidInput, match=rf"t\.csv, line 4, column score: {says}"):
        found.numbers("score", low=0, high=1)


def test_flags_are_read_in_the_usual_words_and_nothing_else(tmp_path: Path) -> None:
    words = ["1", "True", "yes", "1.0", "0", "FALSE", "no", "f"]
    found = read(written(tmp_path, "g\n" + "\n".join(words) + "\n"))
    assert found.booleans("g").tolist() == [True] * 4 + [False] * 4
    odd = read(written(tmp_path, "g\n1\nmaybe\n"))
    with pytest.raises(InvalidInput, match=r"t\.csv, line 3, column g: 'maybe' is neither 1 nor 0"):
        odd.booleans("g")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = written(tmp_path_factory.getbasetemp(), content, "fuzz.csv")
    refused = ""
    try:
        assert len(read(path)) >= 1
    except InvalidInput as error:
        refused = str(error)
    assert not refused or "fuzz.csv" in refused
