"""RFW (Wang et al. 2019): `data/<race>/<person>/<person>_0001.jpg`, `txts/<race>/` with people and pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import details_of, terms_of
from fairloop.importers.codes import with_canonical
from fairloop.importers.pair_lists import Listed, Resolved, lfw_pairs, text_lines
from fairloop.importers.record import Kind, Label, Layout, Pair, Problem, Record
from fairloop.importers.source import Folder

FOLDS = 10
"""6,000 pairs of a race are ten consecutive sets, 300 of one person and 300 of two in each."""
SHOWN = 12


@dataclass(frozen=True)
class Options:
    """Whether the lists of pairs are kept."""

    no_pairs: bool = field(default=False, metadata={"help": "Leave the lists of pairs out."})


def open_rfw(folder: Folder, options: Options) -> Layout:
    """One record per image; a person who stands under two races is one subject, and told in the notes."""
    data = "test/data" if folder.at("test/data").is_dir() else "data"
    texts = data.removesuffix("data") + "txts"
    races = taxonomy.vocabulary("rfw", "race_rfw")
    present = [race for race in races.labels if folder.at(f"{data}/{race}").is_dir()]
    if not present:
        raise InvalidInput("PATH", f"{folder} has no {data}/African, Asian, Caucasian or Indian")
    paths = {race: sorted(folder.files(under=f"{data}/{race}")) for race in present}
    if not any(paths.values()):
        raise InvalidInput("PATH", f"{folder}/{data} has no image")

    def listed(race: str) -> Listed:
        return lfw_pairs(
            folder.at(f"{texts}/{race}/{race}_pairs.txt"),
            f"rfw-{race.lower()}",
            lambda who, n: f"{data}/{race}/{who}/{who}_{n:04}",
            folds=FOLDS,
        )

    there = [race for race in present if folder.at(f"{texts}/{race}/{race}_pairs.txt").is_file()]
    kept = [] if options.no_pairs else there
    lists = {race: Resolved(lambda race=race: listed(race), paths[race]) for race in kept}  # type: ignore[misc]

    def records() -> Iterator[Record | Problem]:
        for race in present:
            labels = with_canonical("race_rfw", races.by_label(race))
            for path in paths[race]:
                parts = path.removeprefix(f"{data}/{race}/").split("/")
                if len(parts) != 2:
                    yield Problem(path, "does not lie in a folder of one person, directly below the race")
                    continue
                yield Record(path, subject=parts[0], labels=labels, provenance={"source": "real"})
            yield from _missing_people(folder, f"{texts}/{race}/{race}_people.txt", paths[race])
            if race in lists:
                yield from lists[race].problems()

    def pairs() -> Iterator[Pair]:
        return chain.from_iterable(resolved.pairs() for resolved in lists.values())

    return Layout(
        records,
        labels=dict.fromkeys(("race", "race4"), Label("perceived", "RFW")),
        terms=terms_of("rfw"),
        notes=(*_notes(paths, present), *_unlisted(present, there)),
        details=details_of("rfw"),
        pairs=pairs if lists else None,
    )


def _unlisted(present: list[str], there: list[str]) -> Iterator[str]:
    missing = [race for race in present if race not in there]
    if missing:
        yield f"no list of pairs of {', '.join(missing)}"


def _missing_people(folder: Folder, people: str, paths: list[str]) -> Iterator[Problem]:
    """People of a list without a picture."""
    path = folder.at(people)
    if not path.is_file():
        return
    there = {one.split("/")[-2] for one in paths}
    for number, line in text_lines(path):
        who = line.split()[0]
        if who not in there:
            yield Problem(f"{path.name}, line {number}", f"{who} has no picture")


def _notes(paths: dict[str, list[str]], present: list[str]) -> tuple[str, ...]:
    notes = [
        "race is given for African, Caucasian and Indian; Asian would be several there, and is one in race4"
    ]
    absent = [race for race in taxonomy.vocabulary("rfw", "race_rfw").labels if race not in present]
    if absent:
        notes.append(f"no folder of {', '.join(absent)}")
    races: dict[str, list[str]] = {}
    for race, found in paths.items():
        for who in {path.split("/")[-2] for path in found}:
            races.setdefault(who, []).append(race)
    twice = sorted(who for who, several in races.items() if len(several) > 1)
    if twice:
        named = ", ".join(f"{who} ({', '.join(races[who])})" for who in twice[:SHOWN])
        more = f" and {len(twice) - SHOWN} more" if len(twice) > SHOWN else ""
        notes.append(f"{len(twice)} people stand under two races and belong to no group: {named}{more}")
    return tuple(notes)


KIND = Kind("rfw", "RFW: folders of races and people, and its lists of pairs", Options, open_rfw)
