"""What annotators saw in the images of prompts, as the rows that an audit of prompts takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairloop.dataset import Dataset
from fairloop.errors import PreconditionFailed
from fairloop.prompt_audit import FAILED
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import guess_column
from fairloop.v1 import common_pb2


@dataclass(frozen=True)
class Seen:
    """One image: its id, the prompt that it was drawn from, the group asked for, and what was seen."""

    image_id: str
    prompt: str
    values: Mapping[str, str]
    """A value per attribute; `--` where no face was found, or its label is uncertain."""

    @property
    def observation(self) -> dict[str, str]:
        """The row of an audit."""
        return {"prompt": self.prompt, **self.values}


def seen(
    store: ObjectStore, dataset: str, annotations: str, sources: Sequence[common_pb2.LabelSource]
) -> list[Seen]:
    """What these sources saw in every image, in the dataset's order.

    Raises `PreconditionFailed` when an image was drawn from no prompt with an id.
    """
    columns = {source.attribute: guess_column(source.attribute, source.annotator) for source in sources}
    _, table = read_table(store, annotations, ANNOTATIONS)
    first = {
        row["image_id"]: row
        for row in table.select(["image_id", "face", *columns.values()]).to_pylist()
        if row["face"] == 0
    }
    rows: list[dict[str, Any]] = Dataset.open(store, dataset).index.select(["image_id", "labels"]).to_pylist()
    found = []
    for row in rows:
        prompt = dict(row["labels"] or ()).get("prompt_id")
        if prompt is None:
            raise PreconditionFailed(f"{dataset}/images/{row['image_id']} was drawn from no prompt")
        guesses = first[row["image_id"]]
        found.append(
            Seen(
                row["image_id"],
                prompt,
                {attribute: guesses[column] or FAILED for attribute, column in columns.items()},
            )
        )
    return found


def described(store: ObjectStore, annotations: str, sources: Sequence[common_pb2.LabelSource]) -> str:
    """Who labelled, with versions: `gender by face_api 0123…, skin_tone_band by ita 4567…`."""
    manifest, _ = read_table(store, annotations, ANNOTATIONS)
    versions = manifest.details["annotators"]
    return ", ".join(f"{s.attribute} by {s.annotator} {versions[s.annotator]}" for s in sources)
