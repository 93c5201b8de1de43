"""What `fairloop protocol` and `fairloop compare-thresholds` do: read, compute, print, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.pair_protocols import SUBGROUPS, race_lists, subgroup_list
from fairloop.standalone.faces import Faces, read_faces
from fairloop.standalone.output import check_folder
from fairloop.standalone.protocols import (
    evaluate_races,
    evaluate_subgroups,
    evaluate_thresholds,
    rejected,
)
from fairloop.standalone.runs import WITHOUT_SUBJECTS, Narrator, default_folder, facts_of, finish, named
from fairloop.standalone.scores import PairList, Source, read_pairs
from fairloop.stats.rfw import FOLDS
from fairloop.store import ObjectStore
from fairloop.tables import content_sha256, input_digest


@dataclass(frozen=True)
class Protocol:
    """In what the run of one protocol differs from that of another."""

    suffix: str
    """Ends the name of the folder."""
    title: str
    evaluate: Callable[..., Any]
    folds: str
    """Column or number of folds, where none is asked for."""
    attributes: tuple[str, ...] | None
    """Labels of a stored dataset that make its groups; None: its lists are the groups."""
    remarks: Callable[[PairList], Sequence[str]] = lambda found: ()
    """What else is printed of a list."""


RFW = Protocol("rfw", "Races of", evaluate_races, str(FOLDS), None, rejected)
BFW = Protocol("bfw", "Subgroups of", evaluate_subgroups, "fold", SUBGROUPS)


def run_protocol(
    protocol: Protocol,
    *,
    store: ObjectStore | None,
    dataset: str | None,
    embeddings: str,
    pairs: Sequence[str],
    groups: Sequence[str],
    folds: str | None,
    score_column: str,
    distance: Any,
    folder: Path | None,
    overwrite: bool,
    name: str = "",
    **options: Any,
) -> None:
    """`fairloop protocol rfw`, `fairloop protocol bfw`: over files, or over a dataset of the store."""
    say, title = Narrator(), protocol.title
    target = check_folder(folder or _place(dataset, pairs, protocol.suffix), overwrite)
    if dataset is None:
        found, facts = _from_files(pairs, groups, folds or protocol.folds, score_column, distance, title, say)
    else:
        assert store is not None
        attributes = tuple(groups) or protocol.attributes
        found, facts = _from_store(store, dataset, embeddings, name, attributes, title, say)
    report, files = named(_words(facts), lambda: protocol.evaluate(found, facts, say.stage, **options))
    finish(report, [*facts["notes"], *protocol.remarks(found)], target, files, say)


def run_thresholds(
    *,
    before: Sequence[Path],
    after: Sequence[Path],
    subjects: Path,
    groups: Sequence[str],
    subject_column: str | None,
    folder: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """`fairloop compare-thresholds`."""
    say = Narrator()
    target = check_folder(folder or default_folder(before[0], "thresholds"), overwrite)
    paths = [*before, *after]
    say(f"reading {', '.join(path.name for path in paths)} and {subjects.name}")
    found = [read_faces(path, subjects, groups, subject_column) for path in paths]
    failures = _paired(paths, found)
    columns = f"column{'s' if len(groups) > 1 else ''} {', '.join(groups)} of {subjects.name}"
    facts = facts_of([*paths, subjects], f"given: {columns}", "Thresholds per group, and retraining")
    names = {"before": "--before", "after": "--after", "subjects": subjects.name, "groups": subjects.name}
    report, files = named(
        names,
        lambda: evaluate_thresholds(
            [one.embeddings for one in found[: len(before)]],
            [one.embeddings for one in found[len(before) :]],
            found[0].subjects,
            found[0].groups,
            failures,
            facts,
            say.stage,
            **options,
        ),
    )
    finish(report, (), target, files, say)


def _paired(paths: Sequence[Path], found: Sequence[Faces]) -> Any:
    """Images that any run could not acquire; InvalidInput when the files are not of the same images."""
    for path, one in zip(paths, found, strict=True):
        if list(one.subjects) != list(found[0].subjects):
            raise InvalidInput(
                path.name,
                f"is not of the same images as {paths[0].name}: subjects differ or their order does",
            )
    return np.logical_or.reduce([one.failures for one in found])


def _from_files(
    pairs: Sequence[str],
    groups: Sequence[str],
    folds: str,
    score_column: str,
    distance: Any,
    title: str,
    say: Narrator,
) -> tuple[PairList, dict[str, Any]]:
    sources = [Source.parse(text) for text in pairs]
    names = ", ".join(source.path.name for source in sources)
    say(f"reading {names}")
    found = read_pairs(sources, groups, score_column=score_column, folds=folds, distance=distance)
    facts = facts_of([source.path for source in sources], f"given: {found.label_source}", f"{title} {names}")
    return found, {**facts, "notes": list(WITHOUT_SUBJECTS) if found.subjects is None else []}


def _from_store(
    store: ObjectStore,
    dataset: str,
    embeddings: str,
    name: str,
    attributes: Sequence[str] | None,
    title: str,
    say: Narrator,
) -> tuple[PairList, dict[str, Any]]:
    """A stored list by given labels of these attributes; without them all lists, by their names."""
    from fairloop.dataset import Dataset
    from fairloop.table_store import EMBEDDINGS, read_table

    say(f"reading {dataset} and {embeddings}")
    opened = Dataset.open(store, dataset)
    manifest, rows = read_table(store, embeddings, EMBEDDINGS)
    found = (
        race_lists(store, opened, rows)
        if attributes is None
        else subgroup_list(store, opened, rows, name=name, attributes=attributes)
    )
    inputs = {
        one.name: content_sha256([[part.key, part.sha256] for part in one.parts])
        for one in (opened.manifest, manifest)
    }
    facts: dict[str, Any] = {
        "title": f"{title} {opened.name.split('/')[1]}",
        "label_source": f"given: {found.label_source}",
        "inputs": inputs,
        "digest": input_digest(inputs),
        "model": manifest.details.get("model", ""),
        "notes": list(WITHOUT_SUBJECTS) if found.subjects is None else [],
    }
    return found, facts


def _words(facts: Mapping[str, Any]) -> dict[str, str]:
    """What arguments of the statistics are called here."""
    read = ", ".join(facts["inputs"])
    return dict.fromkeys(("scores", "genuine", "groups", "races", "subjects", "folds"), read) | {
        "targets": "--fmr"
    }


def _place(dataset: str | None, pairs: Sequence[str], suffix: str) -> Path:
    if dataset is not None:
        return default_folder(Path(dataset.split("/")[1]), suffix)
    return default_folder(Source.parse(pairs[0]).path, suffix)
