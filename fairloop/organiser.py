"""Copies of FG-NET and ITWCC in the layout of identity folders: `001/001_43a.jpg`, `CS1492/CS1492_12.jpg`.

Files are copied, never moved and never written over. A second run does nothing;
an interrupted one is finished by the next.
"""

from __future__ import annotations

import hashlib
import os
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairloop.errors import InvalidInput, Violation
from fairloop.importers import Folder, UnusableFileError
from fairloop.importers.fgnet import fgnet_name
from fairloop.importers.itwcc import itwcc_name

SHOWN = 6
_SUFFIXES = {".jpeg": ".jpg"}


@dataclass(frozen=True)
class Organised:
    """How many files were copied, how many stood there already, and which were given a letter."""

    copied: int
    present: int
    lettered: tuple[str, ...]


def plan(kind: str, folder: Folder) -> dict[str, str]:
    """Path in the source → path in the target, of every image, in order.

    Pictures of one person at one age are told apart by a letter, as FG-NET does:
    ITWCC's second one becomes `CS1492_12a.jpg`. Raises `InvalidInput` for names of
    another layout, more than 27 pictures of one age, and two FG-NET files of one name.
    """
    if kind not in _NAMERS:
        raise InvalidInput("KIND", f"{kind!r} is not one of {', '.join(_NAMERS)}")
    made: dict[str, str] = {}
    taken: set[str] = set()
    wrong: list[Violation] = []
    for path in folder.files():
        base = path.rpartition("/")[2]
        try:
            stem = _NAMERS[kind](base)
        except UnusableFileError as error:
            wrong.append(Violation(path, str(error)))
            continue
        suffix = os.path.splitext(base)[1].lower()
        suffix = _SUFFIXES.get(suffix, suffix)
        choices = (
            [stem] if kind == "fgnet" else [stem, *(f"{stem}{letter}" for letter in string.ascii_lowercase)]
        )
        name = next((choice for choice in choices if choice not in taken), None)
        if name is None:
            wrong.append(
                Violation(path, f"{stem}{suffix} is taken by another picture of that person and age")
            )
            continue
        taken.add(name)
        made[path] = f"{name}{suffix}"
    if wrong:
        more = len(wrong) - SHOWN
        rest = [Violation("and", f"{more} more")] if more > 0 else []
        raise InvalidInput(wrong[0].field, wrong[0].description, *wrong[1:SHOWN], *rest)
    if not made:
        raise InvalidInput("SOURCE", f"{folder.root} has no image")
    return made


def organise(
    kind: str,
    source: Path | str,
    target: Path | str,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Organised:
    """Copies the images of `source` (`fgnet` or `itwcc`) into `target`.

    Raises `InvalidInput` before the first copy when a name does not fit, or a file
    with other contents stands where one would go; nothing is written over.
    """
    folder = Folder.open(source, "SOURCE")
    root = Path(target)
    if root.resolve().is_relative_to(folder.root):
        raise InvalidInput("TARGET", f"{root} lies in the source; a second run would find the copies there")
    made = plan(kind, folder)
    present = _present(folder, root, made)
    for done, (path, name) in enumerate(made.items(), 1):
        if path not in present:
            _copy(folder, path, root / name)
        tell(done, len(made))
    # FG-NET's own letters are in its names already.
    stems = (name.rpartition(".")[0] for name in made.values())
    lettered = tuple(stem for stem in stems if kind == "itwcc" and stem[-1].isalpha())
    return Organised(len(made) - len(present), len(present), lettered)


def _present(folder: Folder, root: Path, made: Mapping[str, str]) -> set[str]:
    """Sources whose copies stand there; `InvalidInput` naming files that stand in the way."""
    present, wrong = set(), []
    for path, name in made.items():
        there = root / name
        if not os.path.lexists(there):
            continue
        if there.is_symlink() or not there.is_file() or _digest(there) != _digest(folder.path(path)):
            wrong.append(Violation(str(there), f"stands in the way of {path} with other contents"))
        else:
            present.add(path)
    if wrong:
        raise InvalidInput(wrong[0].field, wrong[0].description, *wrong[1:SHOWN])
    return present


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(folder: Folder, path: str, to: Path) -> None:
    try:
        data, _ = folder.read(path)
    except UnusableFileError as error:
        raise InvalidInput(path, str(error)) from error
    to.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all; a link under a name that exists fails, where a rename would write over it.
    # The name follows from the target's, so that the next run removes what a killed one left.
    part = to.with_name(f".{to.name}.part")
    try:
        part.unlink(missing_ok=True)
        with part.open("xb") as file:
            file.write(data)
        part.chmod(0o644)
        os.link(part, to)
    except (FileExistsError, FileNotFoundError):
        raise InvalidInput(
            str(to), "was written by somebody else meanwhile; nothing was written over"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _fgnet_stem(name: str) -> str:
    found = fgnet_name(name)
    return f"{found.subject}/{found.subject}_{found.age:02}{found.letter}"


def _itwcc_stem(name: str) -> str:
    found = itwcc_name(name)
    return f"{found.subject}/{found.subject}_{found.age}"


_NAMERS: dict[str, Callable[[str], str]] = {"fgnet": _fgnet_stem, "itwcc": _itwcc_stem}
KINDS = tuple(_NAMERS)
