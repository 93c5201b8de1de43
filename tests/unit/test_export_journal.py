"""The journal of an export: what it says is whole is whole, and everything else begins anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fairloop.exports.journal import FILE, Journal

REQUEST = {"format": "folder", "dataset": "datasets/a"}


def opened(folder: Path, request: dict[str, str] = REQUEST) -> Journal:
    return Journal(folder, request, lambda stage, done, total: None)


def resumed(folder: Path, request: dict[str, str] = REQUEST) -> int:
    """How many images are taken up."""
    with closing(opened(folder, request)) as journal:
        return journal.done


def put(journal: Journal, name: str, data: bytes) -> None:
    journal.put(name, data, hashlib.sha256(data).hexdigest())


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != FILE)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def killed(folder: Path) -> Path:
    """Two images are whole, with their lines of a table; what came after is there by halves."""
    folder.mkdir()
    journal = opened(folder)
    for number in range(3):
        put(journal, f"{number}.png", b"pixels %d" % number)
        journal.grow("table.csv").write(f"{number}.png\n")
        journal.state["renamed"] = number
        if number == 1:
            journal.whole(2)
    journal.grow("late.csv").write("late\n")
    journal.close()
    (folder / "2.png").write_bytes(b"pix")
    (folder / "a").mkdir()
    (folder / "a" / "untold.png").write_bytes(b"pixels 9")
    return folder


def test_an_export_goes_on_from_the_last_note_and_nothing_half_made_stays(tmp_path: Path) -> None:
    folder = killed(tmp_path / "x")
    again = opened(folder)
    assert (again.done, again.state) == (2, {"renamed": 1})
    assert contents(folder) == {
        "0.png": b"pixels 0",
        "1.png": b"pixels 1",
        "table.csv": b"0.png\n1.png\n",
    }
    put(again, "2.png", b"pixels 2")
    again.grow("table.csv").write("2.png\n")
    again.whole(3)
    again.close()
    last = opened(folder)  # killed once more, behind its last image
    assert last.done == 3
    last.end()
    assert contents(folder)["table.csv"] == b"0.png\n1.png\n2.png\n"
    assert contents(folder)["2.png"] == b"pixels 2"
    assert not (folder / FILE).exists()


def other_bytes(folder: Path) -> None:
    (folder / "0.png").write_bytes(b"pixels 9")


def gone(folder: Path) -> None:
    (folder / "1.png").unlink()


def other_beginning(folder: Path) -> None:
    (folder / "table.csv").write_bytes(b"9.png\n1.png\n2.png\n")


def shorter(folder: Path) -> None:
    (folder / "table.csv").write_bytes(b"0.png\n")


def link(folder: Path) -> None:
    (folder / "0.png").rename(folder.parent / "0.png")
    (folder / "0.png").symlink_to(folder.parent / "0.png")


def link_to_a_folder(folder: Path) -> None:
    (folder / "elsewhere").symlink_to(folder.parent)


def no_journal(folder: Path) -> None:
    (folder / FILE).unlink()


def no_json(folder: Path) -> None:
    (folder / FILE).write_bytes(b"x\n" + (folder / FILE).read_bytes())


def outside(folder: Path) -> None:
    head, *rest = (folder / FILE).read_text().splitlines(keepends=True)
    line = json.dumps({"file": "../mine.txt", "sha256": hashlib.sha256(b"mine").hexdigest()})
    (folder / FILE).write_text(f"{head}{line}\n{''.join(rest)}")


@pytest.mark.parametrize(
    "change",
    [other_bytes, gone, other_beginning, shorter, link, link_to_a_folder, no_journal, no_json, outside],
)
def test_where_anything_is_not_what_it_was_all_begins_anew(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = killed(tmp_path / "x")
    (tmp_path / "mine.txt").write_text("mine")
    change(folder)
    assert (resumed(folder), contents(folder)) == (0, {})
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_another_request_begins_anew(tmp_path: Path) -> None:
    folder = killed(tmp_path / "x")
    assert (resumed(folder, {**REQUEST, "dataset": "datasets/b"}), contents(folder)) == (0, {})


def test_a_line_of_the_journal_that_was_cut_off_counts_for_nothing(tmp_path: Path) -> None:
    folder = killed(tmp_path / "x")
    with open(folder / FILE, "ab") as file:
        file.write(b'{"whole": 9, "state": {}')
    again = opened(folder)
    assert again.done == 2
    put(again, "2.png", b"pixels 2")
    again.whole(3)
    again.close()
    assert resumed(folder) == 3


def test_a_file_that_grows_no_more_is_checked_and_one_that_grew_since_is_cut(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()
    journal = opened(folder)
    journal.grow("a.arrow").write(b"one ")
    journal.whole(1)
    journal.grow("a.arrow").write(b"two")
    journal.grown("a.arrow")
    journal.close()
    again = opened(folder)
    assert contents(folder) == {"a.arrow": b"one "}
    again.grow("a.arrow").write(b"two")
    again.grown("a.arrow")
    again.grow("b.arrow").write(b"three")
    again.whole(2)
    again.close()
    assert resumed(folder) == 2
    (folder / "a.arrow").write_bytes(b"one 2wo")
    assert resumed(folder) == 0
