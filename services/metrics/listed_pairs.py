"""A verification over exactly the pairs of a list that came with a dataset: of LFW, CALFW, RFW…"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from fairloop import names
from fairloop.dataset import SCHEMA
from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest, load
from fairloop.pair_table import ScoredPairs, read_pairs, score_pairs
from fairloop.standalone.scores import PairList
from fairloop.stats import LfwAccuracy, lfw_accuracy
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, read_table
from fairloop.v1 import metrics_pb2

MOST_ACCURATE = "10_fold_accuracy"


@dataclass(frozen=True)
class Listed:
    """The scored pairs of one list as the statistics take them; `manifest` is that of their dataset."""

    pairs: PairList
    name: str
    manifest: Manifest
    accuracy: LfwAccuracy | None
    """By the protocol of LFW, where the thresholds are chosen by folds."""

    def facts(self) -> dict[str, Any]:
        """What a report says of the list."""
        told = {"pairs": self.manifest.name, "pair_list": self.name}
        return told if self.accuracy is None else {**told, "lfw": self.accuracy.to_dict()}


def check_listed(request: metrics_pb2.EvaluateVerificationRequest) -> None:
    """`InvalidInput` for a wrong dataset, or for options that need a list of pairs and have none."""
    if request.pairs:
        names.check("dataset version", request.pairs, "pairs")
    for field in ("pair_list", "cross_validated"):
        if getattr(request, field) and not request.pairs:
            raise InvalidInput(field, "goes with `pairs`, the dataset that the list came with")
    if request.cross_validated and request.HasField("threshold"):
        raise InvalidInput("threshold", "does not go with `cross_validated`, which chooses one for each fold")
    if request.policy == MOST_ACCURATE and not request.cross_validated:
        raise InvalidInput("policy", f"{MOST_ACCURATE!r} goes with `cross_validated`")
    if request.policy == MOST_ACCURATE and request.fmr:
        raise InvalidInput("fmr", f"does not go with the policy {MOST_ACCURATE!r}")


def needed_by_listed(request: metrics_pb2.EvaluateVerificationRequest) -> list[tuple[str, str]]:
    """Resources that must exist."""
    return [(request.pairs, SCHEMA)] if request.pairs else []


def read_listed(
    store: ObjectStore,
    request: metrics_pb2.EvaluateVerificationRequest,
    groups: Sequence[str | None],
    labels: Sequence[str | None],
    label_source: str,
) -> Listed:
    """The list's pairs with their scores, subjects and groups.

    `groups` are those of the subjects of each embedding, `labels` those of its own
    image. Where nobody is named, as in an InsightFace `.bin`, a side is in the group
    of its image, and pairs count as independent. Raises `InvalidInput` when there are
    several lists and none is named, and `NotFound` when there is none.
    """
    manifest = load(store, request.pairs, SCHEMA)
    table = read_pairs(store, manifest, request.pair_list)
    there = sorted(pc.unique(table["list"]).to_pylist())
    if len(there) > 1:
        raise InvalidInput("pair_list", f"{manifest.name} has several; name one of {', '.join(there)}")
    rows = read_table(store, request.embeddings, EMBEDDINGS)[1]
    scored = score_pairs(table, rows)
    named = any(who is not None for side in scored.subjects for who in side)
    group_of = dict(zip(rows["image_id"].to_pylist(), groups if named else labels, strict=True))
    pairs = PairList(
        layout="list of a dataset",
        label_source=label_source,
        scores=scored.score,
        genuine=scored.same,
        groups=([group_of[image] for image in scored.images[0]], [group_of[i] for i in scored.images[1]]),
        subjects=scored.subjects if named else None,
        folds=_folds(scored) if request.cross_validated else None,
    )
    accuracy = lfw_accuracy(scored.decided, scored.same, scored.folds) if request.cross_validated else None
    return Listed(pairs, there[0], manifest, accuracy)


def _folds(scored: ScoredPairs) -> list[str]:
    """The fold of each pair; ten consecutive ones where the list names none (as `lfw_accuracy` cuts them)."""
    if isinstance(scored.folds, int):
        parts = np.array_split(np.arange(len(scored.score)), scored.folds)
        return [str(number + 1) for number, part in enumerate(parts) for _ in part]
    return [str(fold) for fold in scored.folds.tolist()]
