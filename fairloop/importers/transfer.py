"""From a layout to a dataset: check everything, then read, look and write, in one order, resumably.

The source is gone through twice. The first time names, labels and files are
checked and nothing is read, so a wrong table is refused before an hour of
copying. The second time the images are read ahead in threads and written in
order. Memory holds a window of images and one shard, whatever the source holds.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from fairloop.dataset import DatasetWriter, Image
from fairloop.erasure.tombstones import Tombstones
from fairloop.errors import PreconditionFailed
from fairloop.importers.ahead import ahead
from fairloop.importers.findings import Findings
from fairloop.importers.journal import Journal
from fairloop.importers.labels import check_record
from fairloop.importers.picture import MEMBER, Picture, look, unwarned
from fairloop.importers.record import Layout, Problem, Record
from fairloop.importers.source import Folder, UnusableFileError
from fairloop.manifest import Part, Terms
from fairloop.seen_images import SeenImages
from fairloop.store import ObjectStore

EVERY = 512
"""Records between two calls of the progress."""

Progress = Callable[[str, int, int | None], None]
"""Called with the stage (`checking`, `copying`), records done, and how many there are, where known."""


@dataclass(frozen=True)
class Choices:
    """What is decided for an import, whatever its kind.

    `namespace` stands before every subject's id. `broken`: `refuse` makes no
    dataset while there is a problem, `skip` leaves out what is broken and counts
    it. `duplicates`: byte-identical images are kept (and numbered), or dropped
    after the first. `shared`: equal bytes under two subjects are a problem
    (`refuse`), or kept. `decode`: every image is decoded, not only its header
    and its end looked at. `member` is the extension of the images inside the
    shards; None takes the first image's. `retain_until` is the last
    day (2027-12-31) on which real images may be kept; `fairloop sweep` erases
    them after it. `terms` are added to those of the kind.
    `parents` are what the images were made from or with: datasets and models of the
    bucket, and `weights/…` and `published/…` of the catalogues. `policy` (empty:
    FAIRLOOP_POLICY, else research) is what the terms of these and of a published set are
    held against, `acknowledge` the reason to import all the same.
    """

    namespace: str
    broken: str = "refuse"
    duplicates: str = "keep"
    shared: str = "refuse"
    decode: bool = False
    member: str | None = None
    retain_until: str = ""
    policy: str = ""
    acknowledge: str = ""
    terms: tuple[Terms, ...] = ()
    parents: tuple[str, ...] = ()


class Trail:
    """A fingerprint of records in order: it changes with any path, label, size or time of a file."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.done = 0

    def add(self, record: Record, stamp: str) -> None:
        # Python's own text of strings and numbers: three times faster than JSON, and only compared here.
        told = (record.path, stamp, record.subject, *sorted(record.labels.items()))
        self._hash.update(repr((told, sorted(record.provenance.items()))).encode("utf-8", "surrogatepass"))
        self.done += 1

    def skip(self) -> None:
        """An item that is a problem already without its bytes."""
        self._hash.update(b"-\n")
        self.done += 1

    @property
    def place(self) -> tuple[int, str]:
        """Items done and their fingerprint."""
        return self.done, self._hash.hexdigest()

    def copy(self) -> Trail:
        made = Trail()
        made._hash, made.done = self._hash.copy(), self.done
        return made


def check(
    folder: Folder,
    layout: Layout,
    findings: Findings,
    places: Mapping[int, str],
    progress: Progress,
    forgotten: Forgotten | None = None,
) -> tuple[Trail, dict[int, Trail]]:
    """Goes through all records without reading an image; problems go to `findings`.

    Returns the whole trail, and copies of it at those of `places` (items done →
    fingerprint, from an earlier try) where the source still says the same.
    """
    trail = Trail()
    same: dict[int, Trail] = {}
    labelled: dict[str, int] = {}
    for item in layout.records():
        try:
            stamp = _checked(folder, item, forgotten)
        except UnusableFileError as error:
            findings.add(Problem(item.place, str(error)))
            trail.skip()
        else:
            assert isinstance(item, Record)  # a problem raises
            trail.add(item, stamp)
            findings.records += 1
            for label in item.labels:
                labelled[label] = labelled.get(label, 0) + 1
        if trail.done in places and trail.place[1] == places[trail.done]:
            same[trail.done] = trail.copy()
        if trail.done % EVERY == 0:
            progress("checking", trail.done, None)
    progress("checking", trail.done, trail.done)
    findings.labels.update(labelled)
    return trail, same


@dataclass(frozen=True)
class Forgotten:
    """What was erased and is not imported again; subjects are known under a namespace."""

    namespace: str
    tombstones: Tombstones

    def subject(self, subject: str | None) -> str | None:
        """The erasure that took this subject of the source."""
        return self.tombstones.of_subject(f"{self.namespace}:{subject}") if subject else None


@dataclass(frozen=True, slots=True)
class _Fetched:
    data: bytes
    sha256: bytes
    stamp: str
    picture: Picture


class Transfer:
    """The second pass. `images` and problems are counted in `findings`."""

    def __init__(
        self,
        store: ObjectStore,
        name: str,
        folder: Folder,
        layout: Layout,
        choices: Choices,
        forgotten: Forgotten,
    ) -> None:
        self._forgotten = forgotten
        self._store, self._name, self._folder = store, name, folder
        self._layout, self._choices = layout, choices
        self.subjects = SeenImages()
        """sha256 of every image → its first subject."""
        self.models: dict[str, None] = {}
        """Models that the images say they were made by, in order."""
        self._trail = Trail()
        self._known_problems = 0
        self.ids: dict[str, str] | None = {} if layout.pairs else None
        """Path → image id of what was written, where a list of pairs names images by their paths."""

    def run(
        self,
        journal: Journal,
        whole: Trail,
        same: Mapping[int, Trail],
        findings: Findings,
        progress: Progress,
    ) -> DatasetWriter:
        """Copies what is not in the journal yet; the writer, ready to finish.

        Raises `PreconditionFailed` when the source is no longer what was
        checked, or holds no image at all.
        """
        self._journal, self._findings = journal, findings
        self._known_problems = len(findings.problems)
        self._writer = self._adopt(same)
        rest = itertools.islice(self._layout.records(), self._trail.done, None)
        with unwarned():
            for item, fetched in ahead(rest, self._fetch, _weight, self._folder.threads):
                self._take(item, fetched)
                if self._trail.done % EVERY == 0:
                    progress("copying", self._trail.done, whole.done)
        progress("copying", self._trail.done, whole.done)
        if self._trail.place != whole.place:
            raise PreconditionFailed(
                f"{self._folder} changed while it was imported, so nothing was; start again",
                source=str(self._folder),
            )
        if self._writer is None:
            if findings.problems:
                findings.refuse("there is no other image")
            raise PreconditionFailed(f"{self._folder} holds no image that can be imported")
        return self._writer

    def _fetch(self, item: Record | Problem) -> _Fetched | UnusableFileError | None:
        """An image and its header, or what is wrong with it; None for what was a problem when checked."""
        if isinstance(item, Problem):
            return None
        try:
            _check_said(item, self._forgotten)
        except UnusableFileError:
            return None
        try:
            if item.read is None:
                data, found = self._folder.read(item.path)
                stamp = str(found)
            else:
                data, stamp = item.read(), item.stamp
            # Hashed here, in a thread: hashing lets go of the interpreter lock.
            sha256 = hashlib.sha256(data).digest()
            return _Fetched(data, sha256, stamp, look(data, decode=self._choices.decode))
        except UnusableFileError as error:
            return error if self._found(item) else None

    def _found(self, record: Record) -> bool:
        """Whether there is a file to read; where there is none, that was a problem when it was checked."""
        try:
            _checked(self._folder, record, self._forgotten)
        except UnusableFileError:
            return False
        return True

    def _take(self, item: Record | Problem, fetched: _Fetched | UnusableFileError | None) -> None:
        if fetched is None or isinstance(item, Problem):
            self._trail.skip()
            return
        # A shard that `_put` closes holds the images before this one: the trail goes on after it.
        reason = str(fetched) if isinstance(fetched, UnusableFileError) else self._put(item, fetched)
        if reason:
            self._findings.add(Problem(item.place, reason))
        if isinstance(fetched, UnusableFileError):
            try:
                self._trail.add(item, _checked(self._folder, item, self._forgotten))
            except UnusableFileError:
                self._trail.skip()
        else:
            self._trail.add(item, fetched.stamp)

    def _put(self, record: Record, got: _Fetched) -> str:
        """Writes one image; why it was not, if so."""
        digest = got.sha256
        mark = got.picture.mark
        known = self._forgotten.tombstones
        erasure = known.of_image(digest) or known.of_subject(mark.subject if mark else None)
        if erasure:
            return f"was erased ({erasure}) and is not imported again"
        subject = None if record.subject is None else f"{self._choices.namespace}:{record.subject}"
        if digest in self.subjects:
            first = self.subjects[digest]
            if first != subject and self._choices.shared == "refuse":
                return (
                    f"has the same bytes as an image of {_who(first)}, and is of {_who(subject)} here; "
                    "tell who it is, or allow shared images"
                )
            if self._choices.duplicates == "drop":
                self._findings.dropped += 1
                return ""
        self.subjects.add(digest, subject)
        if self._writer is None:
            self._writer = self._open(self._choices.member or MEMBER[got.picture.format])
        image = Image(
            got.data,
            got.picture.width,
            got.picture.height,
            got.picture.format,
            subject_id=subject,
            labels={"file": record.path, **record.labels},
            **dict(record.provenance),
        )
        if mark is not None:
            # What a file says of itself wins over what a table says of it.
            image = replace(
                image,
                source="synthetic",
                model=mark.model or image.model,
                subject_id=mark.subject or image.subject_id,
                seed=image.seed if mark.seed is None else mark.seed,
                index=image.index if mark.index is None else mark.index,
            )
        if image.model:
            self.models.setdefault(image.model)
        key = self._writer.add(image, sha256=digest)
        if self.ids is not None:
            self.ids[record.path] = key
        self._findings.images += 1
        return ""

    def _open(self, member: str) -> DatasetWriter:
        # What nobody stated is on record as not stated.
        terms = tuple(dict.fromkeys((*self._layout.terms, *self._choices.terms))) or (Terms(),)
        return DatasetWriter(
            self._store, self._name, image_member=member, terms=terms, on_shard=self._shard_closed
        )

    def _shard_closed(self) -> Callable[[Part, pa.Table], None]:
        assert self._writer is not None
        problems = tuple(self._findings.problems[self._known_problems :])
        self._known_problems = len(self._findings.problems)
        return functools.partial(
            self._journal.add, self._writer.image_member, self._trail.place, self._findings.dropped, problems
        )

    def _adopt(self, same: Mapping[int, Trail]) -> DatasetWriter | None:
        writer: DatasetWriter | None = None
        count = 0
        for entry in self._journal.entries():
            rows = self._journal.rows(entry) if entry.done in same else None
            if rows is None:
                break
            writer = writer or self._open(entry.member)
            writer.adopt(entry.part, rows)
            if self.ids is not None:
                paths = (dict(labels)["file"] for labels in rows["labels"].to_pylist())
                self.ids |= dict(zip(paths, rows["image_id"].to_pylist(), strict=True))
            digests, subjects = rows["sha256"].to_pylist(), rows["subject_id"].to_pylist()
            for digest, subject in zip(digests, subjects, strict=True):
                self.subjects.add(bytes.fromhex(digest), subject)
            self.models |= dict.fromkeys(filter(None, pc.unique(rows["model"]).to_pylist()))
            self._trail = same[entry.done].copy()
            self._findings.images += rows.num_rows
            self._findings.resumed += rows.num_rows
            self._findings.dropped = entry.dropped
            for problem in entry.problems:
                self._findings.add(problem)
            count += 1
        self._journal.keep(count)
        self._known_problems = len(self._findings.problems)
        return writer


def _checked(folder: Folder, item: Record | Problem, forgotten: Forgotten | None) -> str:
    """The stamp of a record that can be read; `UnusableFileError` with the reason why not."""
    if isinstance(item, Problem):
        raise UnusableFileError(item.reason)
    _check_said(item, forgotten)
    return item.stamp if item.read is not None else str(folder.stamp(item.path))


def _check_said(record: Record, forgotten: Forgotten | None) -> None:
    check_record(record)
    erasure = forgotten.subject(record.subject) if forgotten else None
    if erasure:
        raise UnusableFileError(f"is of a subject who was erased ({erasure}) and is not imported again")


def _weight(fetched: _Fetched | UnusableFileError | None) -> int:
    return len(fetched.data) if isinstance(fetched, _Fetched) else 0


def _who(subject: str | None) -> str:
    return f"subject {subject}" if subject else "an unknown subject"
