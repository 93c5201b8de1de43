"""What the commands do: read, compute, print, write. Progress goes to standard error."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from fairloop.errors import InvalidInput
from fairloop.standalone.evaluation import (
    VerificationOptions,
    evaluate_faces,
    evaluate_scores,
    summarise,
)
from fairloop.standalone.faces import FAILED_COLUMN, read_faces
from fairloop.standalone.output import check_folder, write_folder
from fairloop.standalone.rates import COUNTS, GROUP, RATES, read_rates
from fairloop.standalone.scores import Source, read_pairs, similarity
from fairloop.stats.pairs import WITHOUT_IDS
from fairloop.tables import input_digest

T = TypeVar("T")

EVERY = 5.0
"""Seconds between two lines about one stage."""

LAYOUTS = {"BFW": "BFW's table", "RFW": "RFW's lists", "pairs": "score, genuine, group"}

WITHOUT_SUBJECTS = (
    WITHOUT_IDS[0].upper() + WITHOUT_IDS[1:] + ".",
    "No subject ids: how many people are behind a group is unknown; nothing says that they are too few.",
)


def evaluate_embedding_files(
    *,
    embeddings: Path,
    subjects: Path,
    groups: Sequence[str],
    subject_column: str | None,
    folder: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """`fairloop evaluate --embeddings … --subjects …`."""
    target = check_folder(folder or default_folder(embeddings, "evaluation"), overwrite)
    say = Narrator()
    say(f"reading {embeddings.name} and {subjects.name}")
    faces = read_faces(embeddings, subjects, groups, subject_column)
    images = len(faces.embeddings)
    say(f"{images:,} images, up to {images * (images - 1) // 2:,} pairs")
    source = f"given: column{'s' if len(groups) > 1 else ''} {', '.join(groups)} of {subjects.name}"
    facts = facts_of([embeddings, subjects], source, f"Verification of {embeddings.name}")
    names = {"embeddings": embeddings.name, "subjects": subjects.name, "groups": subjects.name}
    report, files = named(
        names,
        lambda: evaluate_faces(
            faces.embeddings, faces.subjects, faces.groups, faces.failures, _chosen(options), facts, say.stage
        ),
        {"in `failures`": f"in a column `{FAILED_COLUMN}` of {subjects.name}"},
    )
    finish(report, (), target, files, say)


def evaluate_pair_files(
    *,
    pairs: Sequence[str],
    groups: Sequence[str],
    score_column: str,
    distance: Any,
    folds: str | None,
    folder: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """`fairloop evaluate --pairs …`."""
    sources = [Source.parse(text) for text in pairs]
    target = check_folder(folder or default_folder(sources[0].path, "evaluation"), overwrite)
    say = Narrator()
    say(f"reading {', '.join(source.path.name for source in sources)}")
    found = read_pairs(sources, groups, score_column=score_column, folds=folds, distance=distance)
    people = "with subject ids" if found.subjects else "without subject ids"
    say(f"{len(found.scores):,} pairs {people}, read as {LAYOUTS[found.layout]}")
    if distance is not None and options["threshold"] is not None:
        options["threshold"] = float(similarity(np.array([options["threshold"]]), distance, "--threshold")[0])
    names = ", ".join(source.path.name for source in sources)
    facts = facts_of(
        [source.path for source in sources], f"given: {found.label_source}", f"Verification of {names}"
    )
    facts["notes"] = list(WITHOUT_SUBJECTS) if found.subjects is None else []
    if distance is not None:
        facts["notes"].append(
            f"Scores are similarities computed from {distance.replace('_', ' ')} distances."
        )
    report, files = named(
        dict.fromkeys(("scores", "genuine", "groups", "subjects"), names),
        lambda: evaluate_scores(found, _chosen(options), facts, say.stage),
    )
    finish(report, facts["notes"], target, files, say)


def summarise_file(*, file: Path, folder: Path | None, overwrite: bool, **sampling: Any) -> None:
    """`fairloop stats summary …`."""
    target = check_folder(folder or default_folder(file, "summary"), overwrite)
    rates = read_rates(file)
    facts = facts_of([file], f"given: column {GROUP} of {file.name}", f"Summaries of {file.name}")
    names = {field: f"{file.name}, column {field}" for field in (*RATES, *COUNTS)}
    report, files = named(names, lambda: summarise(rates, facts, **sampling))
    finish(report, (), target, files, Narrator())


class Narrator:
    """Says on standard error what begins, and how long all has taken."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._stage_began = self._said = self._started

    def __call__(self, text: str) -> None:
        click.echo(f"[{time.monotonic() - self._started:6.1f} s] {text}", err=True)

    def stage(self, stage: str, done: int, total: int, unit: str = "stages") -> None:
        """Says that a stage begins, number `done` + 1 of `total`; on long ones how far it is."""
        now = time.monotonic()
        if unit == "stages":
            self._stage_began = self._said = now
            self(f"{done + 1}/{total} {stage}")
        elif now - self._said >= EVERY and 0 < done < total:
            self._said = now
            rate = done / (now - self._stage_began)
            left = (total - done) / rate
            self(
                f"    {done / total:4.0%} of {total:,} {unit}, {rate / 1e6:.0f} million/s, {left:.0f} s left"
            )


def _chosen(options: Mapping[str, Any]) -> VerificationOptions:
    return VerificationOptions(
        fmr=options["fmr"],
        threshold=options["threshold"],
        policy="eer" if options["eer"] else "10_fold_accuracy" if options.get("best_accuracy") else None,
        alpha=options["alpha"],
        impostors=options["impostors"],
        replicates=options["replicates"],
        threshold_in_replicates=options["threshold_in_replicates"],
        seed=options["seed"],
    )


def named(names: Mapping[str, str], work: Callable[[], T], words: Mapping[str, str] | None = None) -> T:
    """The work's result; an error about an argument then names the file or option it came from.

    `words` says what an argument that the error advises is called here.
    """
    try:
        return work()
    except InvalidInput as error:
        first, *rest = error.violations
        field = names.get(first.field, f"--{first.field.replace('_', '-')}")
        description = first.description
        for argument, ours in (words or {}).items():
            description = description.replace(argument, ours)
        raise InvalidInput(field, description, *rest) from error


def facts_of(paths: Sequence[Path], label_source: str, title: str) -> dict[str, Any]:
    """Where the numbers come from, for the report: the files by name and sha256."""
    inputs: dict[str, str] = {}
    for path in paths:
        with path.open("rb") as file:
            name = path.name if path.name not in inputs else str(path)
            inputs[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return {"title": title, "label_source": label_source, "inputs": inputs, "digest": input_digest(inputs)}


def default_folder(path: Path, suffix: str) -> Path:
    """Where a report goes that nobody named a folder for."""
    return Path(f"{path.stem or 'report'}-{suffix}")


def finish(
    report: object,
    notes: Sequence[str],
    target: Path,
    files: Mapping[str, bytes],
    say: Narrator,
) -> None:
    """Prints a report with what its text does not say already, and writes its folder."""
    text = str(report)
    click.echo("\n".join([text, *(note for note in notes if note[1:-1] not in text)]))
    write_folder(target, files)
    say(f"{len(files)} files written; open {target / 'index.html'}")
