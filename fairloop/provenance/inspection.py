"""Whether what lies in the store is what its manifests say: every hash, size, count, name and reference.

`inspect` yields one finding for each thing that is not so, naming the object.
Parts are streamed through a temporary file, one at a time, so memory does not
grow with their size; of a dataset's index the columns that are compared are
held, about 200 bytes an image.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairloop import names
from fairloop.errors import DataLoss, FairloopError, NotFound, PreconditionFailed
from fairloop.manifest import Manifest, Part, Terms
from fairloop.provenance import inspected_tables, lineage
from fairloop.provenance.lineage import read_manifest
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore
from fairloop.tables import content_id, content_sha256, input_digest

__all__ = ["Finding", "Progress", "Tell", "inspect", "inspect_one"]

CHUNK = 1 << 20


@dataclass(frozen=True)
class Finding:
    """One thing that is not as its manifest says: which object, and what is wrong with it."""

    object: str
    problem: str

    def __str__(self) -> str:
        return f"{self.object}: {self.problem}"


@dataclass(frozen=True)
class Progress:
    """How far an inspection is: resources and bytes, and seconds since its start."""

    resources: int
    all_resources: int
    bytes: int
    all_bytes: int
    seconds: float

    def __str__(self) -> str:
        rate = self.bytes / self.seconds if self.seconds else 0.0
        text = (
            f"{self.resources}/{self.all_resources} resources, "
            f"{self.bytes / 1e6:.0f}/{self.all_bytes / 1e6:.0f} MB"
        )
        if rate:
            left = max(self.all_bytes - self.bytes, 0) / rate
            text += f", {rate / 1e6:.0f} MB/s, about {left:.0f} s left"
        return text


Tell = Callable[[Progress], None]


def _silent(_: Progress) -> None:
    return


def inspect(store: ObjectStore, wanted: Sequence[str], tell: Tell = _silent) -> Iterator[Finding]:
    """Everything that is wrong with these resources; with all in the bucket where none is named.

    A resource that does not exist is a finding, too. A store that does not
    answer raises `Unavailable`.
    """
    began = time.monotonic()
    manifests: list[Manifest] = []
    for name in wanted or sorted(lineage.stored_names(store)):
        try:
            manifests.append(read_manifest(store, name))
        except (NotFound, DataLoss, PreconditionFailed) as error:
            yield Finding(f"{name}/manifest.json", str(error))
    total = sum(part.size for found in manifests for part in found.parts)
    done = number = 0

    def read(count: int) -> None:
        nonlocal done
        done += count
        tell(Progress(number, len(manifests), done, total, time.monotonic() - began))

    for place, found in enumerate(manifests):
        number = place
        yield from inspect_one(store, found, read)
    number = len(manifests)
    read(0)


def inspect_one(
    store: ObjectStore, found: Manifest, read: Callable[[int], None] = lambda count: None
) -> Iterator[Finding]:
    """Everything that is wrong with one resource. `read` is told of bytes as they were looked at."""
    kind = names.kind_of(found.name)
    if kind is None:
        yield Finding(f"{found.name}/manifest.json", "names itself as no resource can be named")
        return
    yield from _parents(store, found)
    yield from _terms(store, found)
    if kind == "model version":
        yield from _model_name(found)
    with scratch_folder("verify") as folder:
        path = folder / "part"
        looker = inspected_tables.looker(store, kind, found)
        for part in found.parts:
            problem = _fetch(store, part, path)
            read(part.size)
            if problem:
                yield Finding(part.key, problem)
            if path.exists() and not problem:
                try:
                    yield from (Finding(*one) for one in looker.part(part, path))
                except (ValueError, KeyError, TypeError, OSError) as error:
                    # pyarrow, tarfile and json raise these for what they cannot read.
                    text = str(error).splitlines()[0] if str(error) else ""
                    yield Finding(part.key, f"cannot be read ({type(error).__name__}: {text})")
            path.unlink(missing_ok=True)
        yield from (Finding(*one) for one in looker.end())
    if kind == "report":
        yield from _report_name(store, found)


def _fetch(store: ObjectStore, part: Part, path: Path) -> str:
    """Puts a part into a file; what is wrong with its bytes."""
    try:
        store.get_file(part.key, path)
    except NotFound:
        return "is missing"
    size = path.stat().st_size
    if size != part.size:
        return f"has {size} bytes; its manifest says {part.size}"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != part.sha256:
        return f"has sha256 {digest.hexdigest()[:16]}…; its manifest says {part.sha256[:16]}…"
    return ""


def _parents(store: ObjectStore, found: Manifest) -> Iterator[Finding]:
    for parent in dict.fromkeys(found.parents):
        if names.kind_of(parent) is None:
            yield Finding(found.name, f"its parent {parent!r} is not the name of a stored resource")
        elif store.size(f"{parent}/manifest.json") is None:
            yield Finding(found.name, f"its parent {parent} is missing")


def _terms(store: ObjectStore, found: Manifest) -> Iterator[Finding]:
    graph = lineage.ancestry(store, [found.name])
    node = graph.nodes[found.name]
    if not found.terms and not node.parents:
        yield Finding(found.name, "no terms are recorded")
    for parent in node.parents:
        if names.kind_of(parent) is None:
            continue  # catalogues are read anew whenever terms are asked for
        lacking = [terms for terms in graph.nodes[parent].terms if terms not in found.terms]
        if lacking:
            licences = ", ".join(dict.fromkeys(_short(terms) for terms in lacking))
            yield Finding(found.name, f"lacks terms of {parent}: {licences}")


def _short(terms: Terms) -> str:
    return terms.licence if terms.licence != "unknown" or not terms.purpose else f"purpose {terms.purpose!r}"


def _model_name(found: Manifest) -> Iterator[Finding]:
    """A model's version follows from its weights, which are the first of its parts (`registry.publish`).

    What tells of its training comes behind them and is not part of the version. That of a LoRA follows from
    its base as well.
    """
    named = found.name.rpartition("/")[2]
    first = found.parts[0].sha256[:16] if found.parts else ""
    possible = [first]
    listed = hashlib.sha256()
    for part in found.parts:
        listed.update(part.sha256.encode())
        salted = listed.copy()
        salted.update(str(found.details.get("base", "")).encode())
        possible += [listed.hexdigest()[:16], salted.hexdigest()[:16]]
    if named not in possible:
        whole = first if len(found.parts) == 1 else listed.hexdigest()[:16]
        yield Finding(found.name, f"its files make it version {whole}")


def _report_name(store: ObjectStore, found: Manifest) -> Iterator[Finding]:
    """A report's id follows from its body, its files' names and what it was made from."""
    inputs: dict[str, str] = {}
    for parent in found.parents:
        try:
            made_from = read_manifest(store, parent)
        except FairloopError:
            return  # said already; without it the name cannot be computed
        if made_from.details.get("erasures"):
            return  # the parent's bytes have changed since, rightly
        inputs[parent] = content_sha256([[part.key, part.sha256] for part in made_from.parts])
    try:
        body = json.loads(store.get(found.part("/report.json").key))
    except (DataLoss, NotFound, ValueError) as error:
        yield Finding(f"{found.name}/report.json", f"cannot be read ({error})")
        return
    if found.details.get("digest") != input_digest(inputs):
        yield Finding(found.name, "its digest is not that of what it was made from")
    files = sorted(part.key.removeprefix(f"{found.name}/") for part in found.parts)
    expected = content_id([found.details.get("kind"), files, body], sorted(inputs.items()))
    if found.name != f"reports/{expected}":
        yield Finding(found.name, f"its contents make it reports/{expected}")
