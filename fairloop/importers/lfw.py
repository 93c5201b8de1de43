"""LFW (Huang et al. 2007): `Person_Name/Person_Name_0001.jpg`, and the lists of pairs of its two views."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import details_of, terms_of
from fairloop.importers.pair_lists import Resolved, lfw_pairs
from fairloop.importers.record import Kind, Layout, Pair, Problem, Record
from fairloop.importers.source import Folder

LISTS = ("pairs.txt", "pairsDevTrain.txt", "pairsDevTest.txt")


@dataclass(frozen=True)
class Options:
    """Which lists of pairs are kept."""

    pairs: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "A list of pairs, in PATH or anywhere; pairs.txt, pairsDevTrain.txt and pairsDevTest.txt "
            "of PATH if not given."
        },
    )
    no_pairs: bool = field(default=False, metadata={"help": "Leave the lists of pairs out."})


def open_lfw(folder: Folder, options: Options) -> Layout:
    """One record per image, whose folder is the person; PATH may hold the folder of all people or be it."""
    paths = list(folder.files())
    if not paths:
        raise InvalidInput("PATH", f"{folder} has no image (Person_Name/Person_Name_0001.jpg)")
    if options.pairs and options.no_pairs:
        raise InvalidInput("pairs", "are named and left out; give one of --pairs and --no-pairs")
    found = [folder.file(name, "pairs") for name in options.pairs]
    if not found and not options.no_pairs:
        found = [path for name in LISTS if (path := folder.at(name)).is_file()]
    # Lists name people, not where their folders lie.
    people = {"/".join(path.split("/")[-2:]): path for path in paths}
    lists = [_resolved(path, people) for path in found]

    def records() -> Iterator[Record | Problem]:
        for path in paths:
            parts = path.split("/")
            if len(parts) < 2 or not parts[-1].startswith(f"{parts[-2]}_"):
                yield Problem(path, "is not in the folder of the person whom its name begins with")
                continue
            yield Record(path, subject=parts[-2], provenance={"source": "real"})
        for resolved in lists:
            yield from resolved.problems()

    def pairs() -> Iterator[Pair]:
        return chain.from_iterable(resolved.pairs() for resolved in lists)

    return Layout(
        records,
        terms=terms_of("lfw"),
        notes=() if lists or options.no_pairs else (f"no list of pairs ({', '.join(LISTS)})",),
        details=details_of("lfw"),
        pairs=pairs if lists else None,
    )


def _resolved(path: Path, people: dict[str, str]) -> Resolved:
    return Resolved(
        lambda: lfw_pairs(path, f"lfw-{path.stem.lower()}", lambda who, n: f"{who}/{who}_{n:04}"),
        people,
        people,
    )


KIND = Kind("lfw", "LFW: a folder per person, and its lists of pairs", Options, open_lfw)
