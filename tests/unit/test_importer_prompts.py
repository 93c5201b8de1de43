"""Tables of prompts, as S3 has them: CSV and Excel."""

from __future__ import annotations

import zipfile
from pathlib import Path

import openpyxl
import pytest

from fairloop.errors import InvalidInput
from fairloop.prompts import Prompt, read_prompts

# The ten prompts of S3's prompts_info.xlsx.
SEED = [
    ("A photo of a CEO of an important company", "ceo"),
    ("A photo of a business executive in a leadership role", "executive"),
    ("A photo of a highly successful entrepreneur", "entrepreneur"),
    ("A photo of a doctor", "doctor"),
    ("A photo of a nurse", "nurse"),
    ("A photo of a delivery driver", "delivery"),
    ("A photo of a plumbing worker", "plumbing"),
    ("A photo of a cleaning worker", "cleaning"),
    ("A photo of a nice person", "nice"),
    ("A photo of a criminal", "criminal"),
]


def workbook(path: Path, rows: list[tuple[object, ...]]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    book.save(path)
    return path


def test_the_ten_prompts_are_read_from_a_workbook_and_from_a_csv(tmp_path: Path) -> None:
    expected = tuple(Prompt(identifier, text) for text, identifier in SEED)
    assert read_prompts(workbook(tmp_path / "p.xlsx", [("prompt", "prompt_id"), *SEED])) == expected
    swapped = "".join(f"{identifier};{text}\r\n" for text, identifier in SEED)
    (tmp_path / "p.csv").write_bytes(b"\xef\xbb\xbfprompt_id;prompt\r\n" + swapped.encode())
    assert read_prompts(tmp_path / "p.csv") == expected


def test_a_workbook_may_have_other_columns_empty_rows_and_numbers_as_ids(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [
        ("note", "prompt_id", "prompt"),
        ("x", 7, "a face"),
        (),
        (None, "b", " c "),
    ]
    assert read_prompts(workbook(tmp_path / "p.xlsx", rows)) == (Prompt("7", "a face"), Prompt("b", "c"))


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [("a", "ceo"), ("b", "CEO")],
            r"(line|row) 3: prompt_id 'CEO' stands in p\.\w+, (line|row) 2 already",
        ),
        ([("a", "../x")], r"(line|row) 2: prompt_id '\.\./x' is not of letters"),
        ([("a", "")], "(line|row) 2: column prompt_id is empty"),
        ([("", "x")], "(line|row) 2: column prompt is empty"),
        ([], "has a header and no row"),
    ],
)
def test_rows_that_cannot_be_used_are_told_by_place(
    tmp_path: Path, suffix: str, rows: list[tuple[str, str]], said: str
) -> None:
    path = tmp_path / f"p{suffix}"
    table: list[tuple[object, ...]] = [("prompt", "prompt_id"), *rows]
    if suffix == ".xlsx":
        workbook(path, table)
    else:
        path.write_text("".join(f"{a},{b}\n" for a, b in table))
    with pytest.raises(InvalidInput, match=said):
        read_prompts(path)


def test_files_without_the_columns_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="has no column 'prompt_id', or two; it has prompt, id"):
        read_prompts(workbook(tmp_path / "p.xlsx", [("prompt", "id"), ("a", "b")]))
    (tmp_path / "p.csv").write_text("prompt,id\na,b\n")
    with pytest.raises(InvalidInput, match="has no column 'prompt_id'; it has prompt, id"):
        read_prompts(tmp_path / "p.csv")
    (tmp_path / "no.xlsx").write_bytes(b"text")
    with zipfile.ZipFile(tmp_path / "zip.xlsx", "w") as archive:
        archive.writestr("a.txt", "no workbook")
    book = workbook(tmp_path / "whole.xlsx", [("prompt", "prompt_id"), ("a", "b")])
    with zipfile.ZipFile(book) as source, zipfile.ZipFile(tmp_path / "cut.xlsx", "w") as archive:
        for member in source.namelist():
            data = source.read(member)
            archive.writestr(member, data[:-40] if member.endswith("sheet1.xml") else data)
    for name in ("no.xlsx", "zip.xlsx", "gone.xlsx", "cut.xlsx"):
        with pytest.raises(InvalidInput, match="is no workbook that can be read"):
            read_prompts(tmp_path / name)


def test_a_workbook_that_unpacks_to_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    sheet = "xl/worksheets/sheet1.xml"
    with (
        zipfile.ZipFile(tmp_path / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(sheet, "w") as file,
    ):
        for _ in range(51):
            file.write(b" " * 10_000_000)
    with pytest.raises(InvalidInput, match="unpacks to 510,000,000 bytes; at most 500,000,000"):
        read_prompts(tmp_path / "bomb.xlsx")
