"""The lists of a dataset as published protocols take them: scored, with a group on each side, in folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairloop.calibrations import given_labels
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput
from fairloop.pair_table import ScoredPairs, read_pairs, score_pairs
from fairloop.standalone.scores import PairList
from fairloop.stats.roster import intersection
from fairloop.store import ObjectStore

RFW_LISTS = "rfw-"
"""What the importer's lists of RFW begin with; the race follows."""
SUBGROUPS = ("gender", "race4")
"""Labels that make BFW's eight subgroups."""


def race_lists(store: ObjectStore, dataset: Dataset, embeddings: pa.Table) -> PairList:
    """Every list of a dataset with its name as the group of its pairs: RFW's four, race by race.

    `embeddings` is a table of the same dataset. Folds are the publisher's, or ten
    consecutive ones of each list. Raises `NotFound` without a list, `InvalidInput` for a
    single one.
    """
    table = read_pairs(store, dataset.manifest)
    names = list(dict.fromkeys(table["list"].to_pylist()))
    if len(names) < 2:
        raise InvalidInput("dataset", f"{dataset.name} has one list, {names[0]}; RFW has one for each race")
    parts = [(name, score_pairs(table.filter(pc.equal(table["list"], name)), embeddings)) for name in names]
    races = [name.removeprefix(RFW_LISTS) for name, scored in parts for _ in range(len(scored.score))]
    return PairList(
        layout="lists of a dataset",
        label_source=f"lists of {dataset.name}",
        scores=np.concatenate([scored.score for _, scored in parts]),
        genuine=np.concatenate([scored.same for _, scored in parts]),
        groups=(list(races), list(races)),
        subjects=_subjects([scored for _, scored in parts]),
        folds=[fold for _, scored in parts for fold in _folds(scored)],
    )


def subgroup_list(
    store: ObjectStore,
    dataset: Dataset,
    embeddings: pa.Table,
    *,
    name: str = "",
    attributes: Sequence[str] = SUBGROUPS,
) -> PairList:
    """One list of a dataset; the group of a side is the cell of its image's given labels.

    Raises `NotFound` without that list, `InvalidInput` when there are several and
    none is named or it names no folds, `PreconditionFailed` when no image has a label of
    an attribute.
    """
    table = read_pairs(store, dataset.manifest, name)
    names = sorted(set(table["list"].to_pylist()))
    if len(names) > 1:
        raise InvalidInput("pair_list", f"{dataset.name} has several; name one of {', '.join(names)}")
    scored = score_pairs(table, embeddings)
    if isinstance(scored.folds, int):
        raise InvalidInput(
            "pair_list", f"{names[0]} names no folds; thresholds are chosen on the other folds"
        )
    cells = intersection({attribute: given_labels(dataset, attribute) for attribute in attributes})
    group = dict(zip(dataset.index["image_id"].to_pylist(), cells, strict=True))
    first, second = scored.images
    return PairList(
        layout="list of a dataset",
        label_source=f"{' and '.join(attributes)} given with {dataset.name}",
        scores=scored.score,
        genuine=scored.same,
        groups=([group[image] for image in first], [group[image] for image in second]),
        subjects=_subjects([scored]),
        folds=_folds(scored),
    )


def _subjects(parts: Sequence[ScoredPairs]) -> tuple[list[str | None], list[str | None]] | None:
    """Who is on each side; None where nobody is named on any pair."""
    sides = (
        [who for scored in parts for who in scored.subjects[0]],
        [who for scored in parts for who in scored.subjects[1]],
    )
    return sides if any(who is not None for side in sides for who in side) else None


def _folds(scored: ScoredPairs) -> list[str]:
    if isinstance(scored.folds, int):
        blocks = np.array_split(np.arange(len(scored.score)), scored.folds)
        return [str(number + 1) for number, block in enumerate(blocks) for _ in block]
    return [str(fold) for fold in scored.folds.tolist()]
