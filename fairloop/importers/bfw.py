"""BFW (Robinson et al. 2020): `asian_females/n000009/0010_01.jpg`, and a table of pairs (p1, p2, label)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.importers.catalogued import details_of, terms_of
from fairloop.importers.codes import counted, meant, whole, with_canonical, words_of
from fairloop.importers.pair_lists import Listed, Resolved
from fairloop.importers.record import Kind, Label, Layout, Pair, Problem, Record
from fairloop.importers.source import Folder, UnusableFileError
from fairloop.importers.table import place
from fairloop.standalone.table import Header, read_header, read_table, shown

REPORTED = {
    "asian_females/n002509/0139_03.jpg": "incorrect identity",
    "white_females/n003391/0017_02.jpg": "cartoon face",
    "asian_males/n006741/0275_02.jpg": "cartoon face",
}
"""What the publisher's page lists as wrong pictures."""
_SAME = {"1": True, "0": False}


@dataclass(frozen=True)
class Options:
    """The table of pairs."""

    pairs: str = field(
        default="",
        metadata={"help": "The table of pairs, CSV or Parquet (the published .pkl is pickled and not read)."},
    )
    keep_reported: bool = field(
        default=False, metadata={"help": "Keep the three pictures that the publisher reports as wrong."}
    )


def open_bfw(folder: Folder, options: Options) -> Layout:
    """One record per image; gender and race from the subgroup's folder, the subject from the next one."""
    groups = _groups(folder)
    paths = [path for group in groups for path in folder.files(under=group)]
    if not paths:
        raise InvalidInput("PATH", f"{folder} has no image (asian_females/n000009/0010_01.jpg)")
    wrong = {} if options.keep_reported else dict(REPORTED)
    kept = [path for path in paths if path not in wrong]
    resolved = _resolved(folder, options.pairs, kept, wrong) if options.pairs else None

    def records() -> Iterator[Record | Problem]:
        for path in kept:
            parts = path.split("/")
            if len(parts) != 3:
                yield Problem(path, "does not lie in a folder of one person, directly below the subgroup")
                continue
            yield Record(path, subject=parts[1], labels=groups[parts[0]], provenance={"source": "real"})
        if resolved is not None:
            yield from resolved.problems()

    notes = ["race is given for Black, Indian and White; Asian would be several there, and is one in race4"]
    notes += [
        f"{path} is left out: {why}, says its publisher" for path, why in wrong.items() if path in paths
    ]
    return Layout(
        records,
        labels=dict.fromkeys(("gender", "race", "race4"), Label("perceived", "BFW")),
        terms=terms_of("bfw"),
        notes=tuple(notes),
        details=details_of("bfw"),
        pairs=resolved.pairs if resolved else None,
    )


def _groups(folder: Folder) -> dict[str, dict[str, str]]:
    """Folder of a subgroup → its labels."""
    races, genders = taxonomy.vocabulary("bfw", "race_bfw"), taxonomy.vocabulary("bfw", "gender")
    groups = {
        f"{race}_{gender}": {
            **with_canonical("race_bfw", races.by_label(race)),
            "gender": genders.by_label(gender),
        }
        for race in races.labels
        for gender in genders.labels
    }
    there = {name: labels for name, labels in groups.items() if folder.at(name).is_dir()}
    if not there:
        raise InvalidInput("PATH", f"{folder} has no folder of a subgroup ({', '.join(groups)})")
    return there


def _resolved(folder: Folder, name: str, paths: list[str], wrong: dict[str, str]) -> Resolved:
    if name.lower().endswith((".pkl", ".pickle")):
        raise InvalidInput("pairs", f"{name} is pickled; save it as CSV or Parquet where you trust it")
    header = read_header(folder.file(name, "pairs"))
    for column in ("p1", "p2", "label"):
        header.check(column, "pairs")
    return Resolved(lambda: _listed(header, wrong), paths)


def _listed(header: Header, wrong: dict[str, str]) -> Listed:
    more = [column for column in ("fold", "att1", "att2") if column in header.names]
    table = read_table(header, ["p1", "p2", "label", *more])
    columns = table.columns
    for row in range(len(table)):
        where = place(table, row)
        first, second, label = columns["p1"][row], columns["p2"][row], columns["label"][row]
        if first is None or second is None or label is None or whole(label) not in _SAME:
            yield Problem(where, f"label {shown(label)} is neither 1 nor 0, or an image is not named")
            continue
        if first in wrong or second in wrong:
            continue
        try:
            for path, column in ((first, "att1"), (second, "att2")):
                if column in columns:
                    _check_group(path, str(columns[column][row]), column)
        except UnusableFileError as error:
            yield Problem(where, str(error))
            continue
        same = _SAME[whole(label)]
        if same != (first.rpartition("/")[0] == second.rpartition("/")[0]):
            yield Problem(where, f"label {label}, and the pictures lie in folders that say otherwise")
            continue
        fold = whole(columns["fold"][row] or "") if "fold" in columns else ""
        yield Pair("bfw", first, second, same, counted(fold), where)


def _check_group(path: str, told: str, column: str) -> None:
    race, _, gender = told.partition("_")
    meant(words_of("bfw", "race_bfw"), race, column)
    meant(words_of("bfw", "gender"), gender, column)
    if path.partition("/")[0] != told:
        raise UnusableFileError(f"column {column}: {told}, and the picture lies in {path.partition('/')[0]}")


KIND = Kind("bfw", "BFW: folders of subgroups and people, and its table of pairs", Options, open_bfw)
