"""AI-Face (Lin et al. 2025): a CSV of codes, release 1 or 2, beside folders of real and generated faces.

Release 2 has gender, age, skin tone (Monk 1–10) and their intersection, release
1 gender, age and race. Columns are spelled in several ways. What the codes mean
is told apart by evidence where there is some: genders against the
intersection, the two published maps of ages by the codes that only one has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.importers.ai_face_columns import Columns, age_map, columns_of
from fairloop.importers.catalogued import details_of, terms_of
from fairloop.importers.codes import meant, whole, with_canonical, words_of
from fairloop.importers.record import Kind, Label, Layout, Problem, Record
from fairloop.importers.source import Folder, UnusableFileError
from fairloop.importers.table import place
from fairloop.standalone.table import Table, read_header, read_table

FOLDERS: Mapping[str, str] = {
    "AttGAN": "AttGAN",
    "MMD_GAN": "MMD_GAN_CelebA",
    "MSG_STYLE_GAN": "MSG_STYLE_GAN",
    "STARGAN": "STARGAN",
    "STGAN": "STGAN_CelebA",
    "STYLEGAN2": "StyleGAN2_FFHQ",
    "StyleGAN2": "StyleGAN2_FFHQ",
    "stylegan3": "stylegan3",
    "STYLEGAN": "STYLEGAN",
    "VQGAN": "taming_transformer-VQGAN",
    "taming_transformer": "taming_transformer-VQGAN",
}
"""Keyword of a path → folder on disk, as S1 trims the annotations to its training set."""
_TARGETS = {"0": "real", "1": "fake", "real": "real", "fake": "fake"}
_SOURCES = {"real": {"source": "real"}, "fake": {"source": "synthetic"}}
MOST_KNOWN = 10_000
"""Combinations of codes whose labels are remembered; a sound table has at most some hundreds."""
_V1_RACES = ("asian", "white", "black", "others")


@dataclass(frozen=True)
class Options:
    """Which table, which meanings, which rows."""

    table: str = field(default="", metadata={"help": "The CSV, in PATH or anywhere."})
    ages: str = field(
        default="",
        metadata={
            "help": "Meaning of the ages of release 2, of which two are published: `code` (0 child, 1 young, "
            "2 adult, 3 middle, 4 senior) or `readme` (0, 1, 3, 4, 5). Without it the codes decide, and "
            "`code` where they do not."
        },
    )
    genders: str = field(
        default="",
        metadata={
            "help": "`ai_face` (1 is male) or `inverted` (0 is male); asked for when all intersections "
            "contradict the column."
        },
    )
    trim: bool = field(
        default=False,
        metadata={
            "help": "Keep the rows whose image is on disk: the longest keyword in a path names its folder."
        },
    )
    folder: tuple[str, ...] = field(
        default=(), metadata={"help": "KEYWORD=FOLDER for --trim, besides those of the published GAN sets."}
    )
    prefix: str = field(
        default="", metadata={"help": "What the paths of the table begin with and PATH already is."}
    )


def open_ai_face(folder: Folder, options: Options) -> Layout:
    """One record per row, real and generated ones told by the column of targets."""
    if not options.table:
        raise InvalidInput("table", "is missing; name the CSV")
    header = read_header(folder.file(options.table, "table"))
    columns = columns_of(header)
    table = read_table(header, columns.used)
    folders = _folders(options)
    genders, notes = _genders(table, columns, options.genders)
    ages, more = age_map(table, columns, options.ages)
    notes += more
    if columns.unknown:
        notes.append(f"{header.path.name}: columns that are not read: {', '.join(columns.unknown)}")
    trimmed: Counter[str] = Counter()
    if options.trim:
        notes += _trim_notes(folder, table, columns, folders, options.prefix, trimmed)

    def records() -> Iterator[Record | Problem]:
        meanings = ("gender", "age", "tone", "race", "intersection", "target")
        named = {meaning: getattr(columns, meaning) for meaning in meanings}
        nothing: Sequence[str | None] = (None,) * len(table)
        coded = [table.columns[name] if name else nothing for name in named.values()]
        known: dict[tuple[str | None, ...], Known] = {}
        for row, (told, *codes) in enumerate(zip(table.columns[columns.path], *coded, strict=True)):
            where = place(table, row)
            if told is None:
                yield Problem(where, f"column {columns.path} is empty; it names the image")
                continue
            path = _path(told, options.prefix)
            if options.trim:
                found = on_disk(folder, path, folders)
                if found is None:
                    continue
                path = found
            labels = known.get(key := tuple(codes))
            if labels is None:
                plain = {
                    name: None if code is None else whole(code) for name, code in zip(named, key, strict=True)
                }
                labels = _labels(plain, columns, genders, ages)
                if len(known) < MOST_KNOWN:
                    known[key] = labels
            if isinstance(labels, str):
                yield Problem(where, labels)
                continue
            if columns.kept:
                labels = {**labels, **_kept(table, row, columns)}
            yield Record(path, where, None, labels, _SOURCES[labels["target"]])

    perceived = Label("perceived", "AI-Face annotators")
    attributes = (
        ("gender", "skin_tone", "skin_tone_band") if columns.release == 2 else ("gender", "race", "race4")
    )
    return Layout(
        records,
        labels=dict.fromkeys(attributes, perceived),
        terms=terms_of("ai-face"),
        notes=tuple(notes),
        details=details_of("ai-face", release=columns.release, **dict(trimmed)),
    )


def _kept(table: Table, row: int, columns: Columns) -> dict[str, str]:
    texts = {name: table.columns[column][row] for name, column in columns.kept.items()}
    return {name: whole(text) for name, text in texts.items() if text is not None}


def on_disk(folder: Folder, path: str, folders: Mapping[str, str]) -> str | None:
    """Where an annotated image lies: in the folder of the longest keyword in its path, if it is there."""
    keyword = max((word for word in folders if word in path), key=len, default=None)
    if keyword is None:
        return None
    found = f"{folders[keyword]}/{path.rpartition('/')[2]}"
    try:
        return found if folder.has(found) else None
    except UnusableFileError:
        return None


def _folders(options: Options) -> dict[str, str]:
    folders = dict(FOLDERS)
    if options.folder and not options.trim:
        raise InvalidInput("folder", "goes with --trim")
    for text in options.folder:
        keyword, _, name = text.partition("=")
        if not keyword or not name:
            raise InvalidInput("folder", f"{text!r} is not KEYWORD=FOLDER")
        folders[keyword] = name
    return folders


def _trim_notes(
    folder: Folder,
    table: Table,
    columns: Columns,
    folders: Mapping[str, str],
    prefix: str,
    trimmed: Counter[str],
) -> list[str]:
    for told in table.columns[columns.path]:
        kept = told is not None and on_disk(folder, _path(told, prefix), folders) is not None
        trimmed["rows_kept" if kept or told is None else "rows_dropped"] += 1
    if not trimmed["rows_kept"]:
        raise InvalidInput("trim", f"none of the {len(table):,} rows names an image below {folder}")
    return [f"{trimmed['rows_dropped']:,} of {len(table):,} rows name no image on disk and were left out"]


def _path(told: str, prefix: str) -> str:
    path = told.replace("\\", "/").removeprefix("./")
    return path.removeprefix(prefix.rstrip("/") + "/") if prefix else path


def _genders(table: Table, columns: Columns, given: str) -> tuple[Mapping[str, str], list[str]]:
    """Code → gender. The intersection says which way round the column is; contradiction is asked about."""
    if given not in ("", "ai_face", "inverted"):
        raise InvalidInput("genders", f"{given!r} is not one of ai_face, inverted")
    words = words_of("ai_face", "gender")
    inverted = {**words, "0": words["1"], "1": words["0"]}
    if given:
        return (inverted if given == "inverted" else words), []
    if columns.gender is None:
        return words, []
    if columns.intersection is None:
        return words, [
            f"column {columns.gender}: taken as AI-Face's, 1 is male; no intersections to check it against"
        ]
    agree = contradict = 0
    sides = zip(table.columns[columns.gender], table.columns[columns.intersection], strict=True)
    for (code, intersection), count in Counter(sides).items():
        if code is None or intersection is None or whole(code) not in ("0", "1"):
            continue
        told = _intersection(columns.release, whole(intersection))
        if told is not None:
            same = words[whole(code)] == told[0]
            agree, contradict = agree + count * same, contradict + count * (not same)
    if contradict and not agree:
        raise InvalidInput(
            "genders",
            f"all {contradict:,} codes of {columns.gender} contradict {columns.intersection}: one of the two "
            "columns is inverted. Give --genders inverted if it is the first (0 is male)",
        )
    return words, []


def _intersection(release: int, code: str) -> tuple[str, str] | None:
    """(gender, band or race) of an intersection; None for a code that the release does not have."""
    if code not in tuple("01234567"[: 6 if release == 2 else 8]):
        return None
    if release == 2:
        return taxonomy.intersection_of(int(code))
    return ("male" if int(code) < 4 else "female"), _V1_RACES[int(code) % 4]


Known = Mapping[str, str] | str
"""The labels of a row, or what is wrong with them."""


def _labels(
    codes: Mapping[str, str | None], columns: Columns, genders: Mapping[str, str], ages: Mapping[str, str]
) -> Known:
    """The labels of a row, by the meaning of its columns. There are few combinations of codes."""
    labels: dict[str, str] = {}
    gender, age, tone, race = (codes[name] for name in ("gender", "age", "tone", "race"))
    try:
        if gender is not None:
            labels["gender"] = meant(genders, gender, str(columns.gender))
        if age is not None:
            labels["age_ai_face"] = meant(ages, age, str(columns.age))
        if tone is not None:
            labels["skin_tone"] = meant(words_of("ai_face", "skin_tone"), tone, str(columns.tone))
            labels["skin_tone_band"] = taxonomy.tone_band(int(labels["skin_tone"]))
        if race is not None:
            value = meant(words_of("ai_face_v1", "race_ai_face"), race, str(columns.race))
            labels |= with_canonical("race_ai_face", value)
        _check_intersection(labels, codes["intersection"], columns)
        target = codes["target"]
        if target is None:
            return f"column {columns.target} is empty; it tells real from generated"
        labels["target"] = meant(_TARGETS, target.lower(), columns.target)
    except UnusableFileError as error:
        return str(error)
    return labels


def _check_intersection(labels: dict[str, str], code: str | None, columns: Columns) -> None:
    if code is None:
        return
    told = _intersection(columns.release, code)
    if told is None:
        raise UnusableFileError(
            f"column {columns.intersection}: {code!r} is outside 0–{5 if columns.release == 2 else 7}"
        )
    other = "skin_tone_band" if columns.release == 2 else "race_ai_face"
    for attribute, value in zip(("gender", other), told, strict=True):
        if attribute in labels and labels[attribute] != value:
            raise UnusableFileError(
                f"column {columns.intersection}: {code} is {' and '.join(told)}; "
                f"the row's own {attribute} is {labels[attribute]}"
            )
    labels["intersection_ai_face"] = "_".join(told)


KIND = Kind("ai-face", "AI-Face, releases 1 and 2, by its CSV", Options, open_ai_face)
