"""What a published layout is to the importer: plain data, and one function that yields records.

A kind (one file of this package) turns what lies in a folder into a `Layout`.
It reads label files and names; it never reads, decodes or writes an image.
`fairloop.importers.transfer` does that, the same way for every kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fairloop.importers.source import Folder
from fairloop.manifest import Terms

HOW = ("perceived", "self_declared", "measured", "unknown")
"""How a label came to be: an impression, the person's own word, a document or instrument, not told."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image that a source names, not read yet.

    `path` is relative to the source, with `/` between folders. `where` says which
    line or row of which file told it (`labels.csv, line 12`); empty where the
    path itself did. `read` gives the bytes of an image inside a container, and
    `stamp` is what changes when those bytes do; both are left out for a file.
    `labels` hold canonical values (`fairloop.taxonomy`) under their attribute,
    ages in years under `age_years`, and whatever else came with the data under
    names of lower snake case. `provenance` holds further fields of
    `fairloop.dataset.Image` (`source`, `prompt`, `model`…).
    """

    path: str
    where: str = ""
    subject: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    read: Callable[[], bytes] | None = None
    stamp: str = ""

    @property
    def place(self) -> str:
        """The record as an error names it: `labels.csv, line 12 (a/1.jpg)`."""
        return f"{self.where} ({self.path})" if self.where else self.path


@dataclass(frozen=True, slots=True)
class Problem:
    """A row, file or member that cannot be imported, and why."""

    where: str
    reason: str

    @property
    def place(self) -> str:
        return self.where

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class Label:
    """What the values of one attribute are: `how` is one of `HOW`, `source` names who gave them."""

    how: str
    source: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images of a source, by the paths of their records, and whether they show one person.

    `fold` is the part of a cross-validation, as its publisher numbers it; None
    where no fold is named. `where` says which line told it.
    """

    list: str
    first: str
    second: str
    same: bool
    fold: int | None = None
    where: str = ""


@dataclass(frozen=True)
class Layout:
    """A source as one kind understands it.

    `records` may be called more than once and yields the same in the same
    order; memory does not grow with the images. `labels` tells how each
    attribute is known. `notes` are facts about the whole that a person should
    see (`412 rows name no file on disk`). `details` go into the manifest.
    `pairs` are the published lists of pairs, kept with the dataset; a pair whose
    image is no record is left out there, so a kind reports it among its records.
    """

    records: Callable[[], Iterator[Record | Problem]]
    labels: Mapping[str, Label] = field(default_factory=dict)
    terms: tuple[Terms, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    pairs: Callable[[], Iterator[Pair]] | None = None


@dataclass(frozen=True)
class Kind:
    """A layout by name: what it is, its options (a frozen dataclass) and what opens it.

    Each field of `options` has a default; its `metadata["help"]` is the help
    of the command's option of the same name.
    """

    name: str
    description: str
    options: type[Any]
    open: Callable[[Folder, Any], Layout]
