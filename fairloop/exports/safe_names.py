"""Names of files that any system takes, made from names that came from anywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairloop.exports.format import extension
from fairloop.exports.journal import Journal
from fairloop.importers.source import SUFFIXES

LONGEST = 120
"""Characters of a name between two slashes. Four bytes each at most, and file systems take 255."""
DEEPEST = 12
UNKNOWN = "_unknown"
"""Folder of images without a subject, or without the label that folders are named after."""
_NOT_ALLOWED = re.compile(r'[<>:"|?*\\/\x00-\x1f\x7f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?|terms\.md|card\.md", re.IGNORECASE)
"""Names that are devices on Windows, and those of what lies beside the images."""


def safe_name(text: str) -> str:
    """One name of a file or folder: no separators, nothing hidden, at most 120 characters; `_` of nothing."""
    plain = "".join(c if c.isprintable() else "_" for c in _NOT_ALLOWED.sub("_", text)).strip(" ")
    while len(plain.encode()) > 2 * LONGEST or len(plain) > LONGEST:
        # Cut before the extension.
        stem, dot, suffix = plain.rpartition(".")
        plain = f"{stem[:-1]}.{suffix}" if dot and stem and len(suffix) <= 8 else plain[:-1]
    plain = plain.rstrip(". ")
    if plain.startswith(".") or _RESERVED.fullmatch(plain):
        plain = f"_{plain.lstrip('.')}"
    return plain or "_"


def safe_path(row: Mapping[str, Any]) -> str:
    """Where an image of the index goes: its path in its source made safe, `{image_id}.png` without one.

    The extension is kept when it is an image's, and added otherwise.
    """
    own = f"{row['image_id']}.{extension(row['format'])}"
    told = dict(row["labels"] or ()).get("file", "")
    parts = [part for part in re.split(r"[\\/]", told) if part not in ("", ".", "..")]
    if not parts:
        return own
    if len(parts) > DEEPEST:
        parts = [*parts[: DEEPEST - 1], "_".join(parts[DEEPEST - 1 :])]
    if not parts[-1].lower().endswith(SUFFIXES):
        parts[-1] += f".{extension(row['format'])}"
    return "/".join(safe_name(part) for part in parts)


class NewFiles:
    """Makes files below a folder under names that are not taken: `a.jpg`, `a-2.jpg`, `a-3.jpg`…"""

    def __init__(self, root: Path, journal: Journal) -> None:
        self._root, self._journal = root, journal
        self._numbers: dict[str, int] = {}

    def write(self, path: str, data: bytes, sha256: str) -> str:
        """Writes the bytes under this path or the next free one; which it was."""
        path = self._placed(path)
        name = path
        while self.taken(name):
            number = self._numbers.get(path, 1) + 1
            self._numbers[path] = number
            stem, dot, suffix = path.rpartition(".")
            name = f"{stem}-{number}{dot}{suffix}"
        self._journal.put(name, data, sha256)
        return name

    def taken(self, name: str) -> bool:
        """Whether there is one called so, also where a system takes two names for one (`A.jpg`, `a.jpg`)."""
        return os.path.lexists(self._root / name)

    def _placed(self, path: str) -> str:
        """The path, its folder made; without folders where one of them is the name of a file."""
        try:
            (self._root / path).parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            return path.replace("/", "_")
        return path


class SubjectFolders:
    """A folder's name for each subject; two subjects never share one.

    The namespace is left out where all subjects have the same.
    """

    def __init__(self, subjects: list[str]) -> None:
        namespaces = {subject.partition(":")[0] for subject in subjects}
        self._named: dict[str, str] = {}
        taken = {UNKNOWN}
        for subject in sorted(subjects):
            namespace, _, own = subject.partition(":")
            wanted = safe_name(own if len(namespaces) == 1 else f"{namespace}-{own}")
            name, number = wanted, 1
            while name.casefold() in taken:
                number += 1
                name = f"{wanted}-{number}"
            taken.add(name.casefold())
            self._named[subject] = name

    def __getitem__(self, subject: str) -> str:
        return self._named[subject]
