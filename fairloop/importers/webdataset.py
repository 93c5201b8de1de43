"""WebDataset: plain tar files whose members belong together by the name before the first dot.

An image and beside it, under the same key, `.json` (facts), `.cls` (a class) or
`.txt` (a caption). Fairloop's own shards are among them. Nothing is unpacked:
members are read where they lie in the tar.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import PUBLISHED_HELP, details_of, terms_of, told
from fairloop.importers.record import HOW, Kind, Label, Layout, Problem, Record
from fairloop.importers.source import LARGEST_IMAGE, SUFFIXES, Folder, UnusableFileError
from fairloop.importers.table import Meaning, meaning_of
from fairloop.importers.tar_members import Member, TarFile
from fairloop.selection import own_subject
from fairloop.standalone.table import shown

LARGEST_BESIDE = 1 << 20
"""Bytes of a sidecar."""
_BESIDE = (".json", ".cls", ".txt")
_OWN = frozenset({"subject_id", "labels"})


@dataclass(frozen=True)
class Options:
    """What the facts beside an image mean."""

    subject: str = field(default="", metadata={"help": "Key of the JSON that names the person."})
    label: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "ATTRIBUTE=KEY of the JSON, ATTRIBUTE=KEY:SOURCE or ATTRIBUTE=KEY:m=male/f=female, as in "
            "the kind `table`; the key `cls` is the class. Fairloop's own shards need none."
        },
    )
    synthetic: bool = field(default=False, metadata={"help": "The images were generated."})
    how: str = field(default="unknown", metadata={"help": f"How the labels came to be: {', '.join(HOW)}."})
    published: str = field(default="", metadata={"help": PUBLISHED_HELP})


def open_webdataset(folder: Folder, options: Options) -> Layout:
    """One record per sample with an image, tar by tar in order of their names."""
    if options.how not in HOW:
        raise InvalidInput("how", f"{options.how!r} is not one of {', '.join(HOW)}")
    labels = [meaning_of(text) for text in options.label]
    tars = {path: TarFile(folder.contents(path)) for path in folder.files((".tar",))}
    if not tars:
        packed = next(folder.files((".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")), None)
        hint = f"; unpack {packed}, compressed ones are not read" if packed else ""
        raise InvalidInput("PATH", f"{folder} has no .tar file{hint}")
    source = {"source": "synthetic" if options.synthetic else "real"}

    def records() -> Iterator[Record | Problem]:
        for path, tar in tars.items():
            for sample in _samples(path, tar):
                if isinstance(sample, Problem):
                    yield sample
                    continue
                where = f"{path}, {sample.image.name}"
                try:
                    subject, found = _facts(tar, sample, options.subject, labels)
                except UnusableFileError as error:
                    yield Problem(where, str(error))
                    continue
                yield Record(
                    f"{path}/{sample.image.name}",
                    where,
                    subject,
                    found,
                    source,
                    read=partial(tar.read, sample.image, LARGEST_IMAGE),
                    stamp=f"{tar.stamp}:{sample.image.offset}",
                )

    given = Label(options.how, "WebDataset sidecars")
    of = told(options.published)
    return Layout(
        records,
        labels={"age" if name == "age_years" else name: given for name, _, _ in labels},
        terms=terms_of(*of),
        details=details_of(*of),
    )


@dataclass(frozen=True)
class _Sample:
    key: str
    image: Member
    beside: Mapping[str, Member]


def _samples(path: str, tar: TarFile) -> Iterator[_Sample | Problem]:
    """Groups of neighbouring members with one key. Groups without an image are left out."""
    key, images, beside = "", list[Member](), dict[str, Member]()

    def whole() -> Iterator[_Sample | Problem]:
        if len(images) > 1:
            yield Problem(f"{path}, {key}", f"has {len(images)} images under one key")
        elif images:
            yield _Sample(key, images[0], dict(beside))

    for member in tar.members():
        if isinstance(member, Problem):
            yield Problem(f"{path}, {member.where}", member.reason)
            continue
        head, slash, base = member.name.rpartition("/")
        name, _, extension = base.partition(".")
        if not name:
            continue  # hidden, such as what macOS writes beside a file
        if head + slash + name != key:
            yield from whole()
            key, images, beside = head + slash + name, [], {}
        suffix = os.path.splitext(f".{extension}")[1].lower() or f".{extension}".lower()
        if suffix in SUFFIXES:
            images.append(member)
        elif suffix in _BESIDE:
            beside[suffix] = member
    yield from whole()


def _facts(
    tar: TarFile, sample: _Sample, subject_key: str, labels: list[tuple[str, str, Meaning]]
) -> tuple[str | None, dict[str, str]]:
    """(subject, labels) of a sample."""
    facts = _json(tar, sample.beside[".json"]) if ".json" in sample.beside else {}
    if ".cls" in sample.beside:
        facts = {**facts, "cls": _text(tar, sample.beside[".cls"]).strip()}
    found: dict[str, str] = {}
    subject: str | None = None
    if facts.keys() >= _OWN and not labels and not subject_key:
        subject, found = _own(facts)
    for name, key, meaning in labels:
        text = _plain(facts.get(key), key)
        if text is not None:
            try:
                found |= meaning(text)
            except UnusableFileError as error:
                raise UnusableFileError(f"{name}, key {key}: {error}") from None
    if subject_key:
        subject = _plain(facts.get(subject_key), subject_key)
    if ".txt" in sample.beside:
        found.setdefault("text", _text(tar, sample.beside[".txt"]).strip())
    return subject, found


def _own(facts: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """What Fairloop writes beside an image: a subject, and labels as JSON in a text."""
    labels = facts["labels"]
    if isinstance(labels, str):
        try:
            labels = json.loads(labels)
        except ValueError:
            labels = None
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise UnusableFileError("its labels are no JSON object of texts")
    # `file` is written anew; a namespace is given anew, too.
    kept = {str(name): value for name, value in labels.items() if name != "file"}
    subject = _plain(facts["subject_id"], "subject_id")
    return own_subject(subject), kept


def _plain(value: Any, key: str) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    raise UnusableFileError(f"key {shown(key)} holds a {type(value).__name__}, no text or number")


def _json(tar: TarFile, member: Member) -> dict[str, Any]:
    try:
        found = json.loads(_text(tar, member))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnusableFileError(f"{member.name} is no JSON object")
    return found


def _text(tar: TarFile, member: Member) -> str:
    try:
        return tar.read(member, LARGEST_BESIDE).decode("utf-8")
    except UnicodeDecodeError:
        raise UnusableFileError(f"{member.name} is not UTF-8") from None


KIND = Kind("webdataset", "WebDataset tars: images and facts beside them", Options, open_webdataset)
