"""InsightFace's training sets: `train.rec`, `train.idx` and `property`, in MXNet's RecordIO.

A record is the word 0xced7230a, a word of flag and length, and its data padded
to four bytes; data that hold that word themselves are cut there into several
parts. Data of an image are a header (flag, label, id, id2) and the file. Record
0 says where the identities begin: the images are those before.
"""

from __future__ import annotations

import struct
import weakref
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import PUBLISHED_HELP, details_of, terms_of, told
from fairloop.importers.codes import counted
from fairloop.importers.contents import Contents
from fairloop.importers.pair_lists import text_lines
from fairloop.importers.record import Kind, Layout, Problem, Record
from fairloop.importers.source import LARGEST_IMAGE, Folder, UnusableFileError

MAGIC = 0xCED7230A
_FRAME = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
MOST_LABELS = 64
_WHOLE, _BEGIN, _MIDDLE, _END = range(4)


@dataclass(frozen=True)
class Options:
    """Which file, and of which set it is."""

    file: str = field(default="train.rec", metadata={"help": "The .rec file; its .idx lies beside it."})
    published: str = field(default="", metadata={"help": PUBLISHED_HELP})


class RecordFile:
    """A .rec file read by offset. Safe to read from several threads; the file stays open."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self.name, self.size, self.stamp = contents.name, contents.size, contents.stamp
        opened = ExitStack()
        self._pread = opened.enter_context(contents.reading())
        weakref.finalize(self, opened.close)

    def header(self, offset: int) -> tuple[int, tuple[float, ...]]:
        """(flag, labels) of the record at an offset, without its image."""
        data = self._part(offset, _HEADER.size + 4 * MOST_LABELS)[1]
        return _unpacked(data)[:2]

    def image(self, offset: int) -> bytes:
        """The image of the record at an offset; `UnusableFileError` with what is wrong with the record."""
        self._contents.check()
        flag, data, after = self._part(offset, LARGEST_IMAGE)
        if flag not in (_WHOLE, _BEGIN):
            raise UnusableFileError(f"{self.name} has no beginning of a record at byte {offset:,}")
        parts = [data]
        while flag in (_BEGIN, _MIDDLE):
            flag, data, after = self._part(after, LARGEST_IMAGE)
            if flag not in (_MIDDLE, _END):
                raise UnusableFileError(f"{self.name}: the record at byte {offset:,} has no end")
            parts.append(data)
            if sum(map(len, parts)) > LARGEST_IMAGE:
                raise UnusableFileError(f"has more than {LARGEST_IMAGE:,} bytes")
        return _unpacked(struct.pack("<I", MAGIC).join(parts))[2]

    def _part(self, offset: int, most: int) -> tuple[int, bytes, int]:
        """(flag, at most so many of the data, offset of what follows) of one part."""
        head = self._pread(_FRAME.size, offset)
        if len(head) < _FRAME.size:
            raise UnusableFileError(f"{self.name} ends before byte {offset + _FRAME.size:,}")
        magic, word = _FRAME.unpack(head)
        if magic != MAGIC:
            raise UnusableFileError(f"{self.name} has no record at byte {offset:,}; the .idx is of another")
        length = word & (1 << 29) - 1
        after = offset + _FRAME.size + (length + 3 & ~3)
        if offset + _FRAME.size + length > self.size:
            raise UnusableFileError(f"{self.name}: the record at byte {offset:,} is cut off")
        data = self._pread(min(length, most), offset + _FRAME.size)
        return word >> 29, data, after


def _unpacked(data: bytes) -> tuple[int, tuple[float, ...], bytes]:
    """(flag, labels, what follows) of a record's data."""
    if len(data) < _HEADER.size:
        raise UnusableFileError("has no header")
    flag, label, _, _ = _HEADER.unpack_from(data)
    if flag == 0:
        return flag, (label,), data[_HEADER.size :]
    if flag > MOST_LABELS or len(data) < _HEADER.size + 4 * flag:
        raise UnusableFileError(f"promises {flag} labels and does not have them")
    labels = struct.unpack_from(f"<{flag}f", data, _HEADER.size)
    return flag, labels, data[_HEADER.size + 4 * flag :]


def open_rec(folder: Folder, options: Options) -> Layout:
    """One record per image, its identity as subject; images are read by offset, one at a time."""
    named = PurePosixPath(options.file)
    contents = folder.container(options.file, "file")
    offsets = _offsets(folder.file(str(named.with_suffix(".idx")), "file"))
    held = RecordFile(contents)
    notes, images = [], sorted(offsets)
    if 0 in offsets:
        try:
            flag, labels = held.header(offsets[0])
        except UnusableFileError as error:
            raise InvalidInput(held.name, f"record 0: {error}") from None
        if flag > 0:
            # Records of identities follow the images and hold no picture.
            images = [key for key in images if 0 < key < labels[0]]
    said = _property(folder.find(str(named.with_name("property")), "file"))
    of = told(options.published)
    keys = array("q", images)
    places = array("q", (offsets[key] for key in images))
    if said is not None:
        notes.append(f"property says {said:,} identities")

    def records() -> Iterator[Record | Problem]:
        for key, place in zip(keys, places, strict=True):
            where = f"{held.name}, record {key}"
            try:
                label = held.header(place)[1][0]
            except UnusableFileError as error:
                yield Problem(where, str(error))
                continue
            if not (label >= 0 and label.is_integer()) or (said is not None and label >= said):
                most = f"0–{said - 1}" if said else "a whole number"
                yield Problem(where, f"its identity is {label:g}; it is {most}")
                continue
            yield Record(
                f"{held.name}/{key:08}",
                where,
                subject=str(int(label)),
                provenance={"source": "real"},
                read=partial(held.image, place),
                stamp=f"{held.stamp}:{place}",
            )

    return Layout(records, terms=terms_of(*of), notes=tuple(notes), details=details_of(*of))


def _offsets(path: Path) -> dict[int, int]:
    found = {}
    for number, line in text_lines(path):
        fields = line.split()
        key, offset = (counted(field) for field in fields) if len(fields) == 2 else (None, None)
        if key is None or offset is None:
            raise InvalidInput(f"{path.name}, line {number}", "is not `number offset`")
        if key in found:
            raise InvalidInput(f"{path.name}, line {number}", f"has record {key} again")
        found[key] = offset
    return found


def _property(path: Path | None) -> int | None:
    """How many identities the file `property` says there are (`93431,112,112`); None without it."""
    if path is None:
        return None
    _, line = next(text_lines(path))
    count = counted(line.split(",")[0].strip())
    if not count:
        raise InvalidInput("property", f"{line[:40]!r} is not `identities,height,width`")
    return count


KIND = Kind("insightface-rec", "InsightFace's train.rec with its train.idx", Options, open_rec)
