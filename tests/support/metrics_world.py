"""A small evaluation set in a store: given labels, annotations, embeddings of several runs, predictions."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, PREDICTIONS, TableWriter, to_parquet
from fairloop.tables import (
    FaceRow,
    Guess,
    annotation_record,
    annotation_schema,
    embedding_schema,
    prediction_schema,
)
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.metrics_pb2 import Grouping

TONE = LabelSource(attribute="skin_tone_band", annotator="ita")
GENDER = LabelSource(attribute="gender", annotator="ita")
GUESSES = [("skin_tone_band", "ita"), ("gender", "ita")]
SUBJECTS, IMAGES, DIMENSION = 24, 5, 16


def png(k: int) -> bytes:
    """An image of one colour: nobody looks at it here."""
    sink = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (k, 100, 200)).save(sink, "PNG")
    return sink.getvalue()


class World:
    """24 subjects with 5 images each, half of them dark, the last of them undecided.

    The images came with a gender; the annotator gets it wrong on every seventh
    image and sees no face on every thirtieth.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        count = SUBJECTS * IMAGES
        self.bands = ["dark" if k % (2 * IMAGES) < IMAGES else "light" for k in range(count)]
        # The last subject's images disagree: 3 of 5 light.
        self.bands[-2:] = ["dark", "dark"]
        self.genders = ["female" if k // IMAGES % 3 else "male" for k in range(count)]
        self.dataset = self._dataset()
        self.image_ids: list[str] = self.dataset.index["image_id"].to_pylist()
        self.subjects: list[str] = self.dataset.index["subject_id"].to_pylist()
        self.seen = [k % 30 != 29 for k in range(count)]
        other = {"female": "male", "male": "female"}
        self.guessed = [other[g] if k % 7 == 6 else g for k, g in enumerate(self.genders)]
        self.annotations = self._annotations()

    def _dataset(self) -> Dataset:
        writer = DatasetWriter(self.store, "datasets/evaluation")
        for k in range(SUBJECTS * IMAGES):
            writer.add(
                Image(
                    png(k),
                    8,
                    8,
                    "png",
                    f"test:1:{k // IMAGES:03d}",
                    labels={"gender": self.genders[k]},
                    source="synthetic",
                    seed=k // IMAGES,
                    index=k % IMAGES,
                )
            )
        return writer.finish()

    def _annotations(self) -> str:
        rows = []
        for image, band, gender, seen in zip(
            self.image_ids, self.bands, self.guessed, self.seen, strict=True
        ):
            guesses = {GUESSES[0]: Guess(band), GUESSES[1]: Guess(gender)} if seen else {}
            rows.append(
                annotation_record(image, FaceRow("ok" if seen else "no_face", guesses=guesses), GUESSES)
            )
        table = TableWriter(self.store, ANNOTATIONS, annotation_schema(GUESSES), [self.dataset.name])
        table.add(to_parquet(rows, annotation_schema(GUESSES)))
        details = {"annotators": {"ita": "v1"}, "guesses": [list(guess) for guess in GUESSES]}
        return table.finish({}, details=details).name

    def vectors(self, seed: int, noise_of_light: float) -> NDArray[np.float32]:
        """Embeddings in which light subjects' images scatter by `noise_of_light` and dark ones' by 0.6."""
        rng = np.random.default_rng(seed)
        centres = np.repeat(rng.normal(size=(SUBJECTS, DIMENSION)), IMAGES, axis=0)
        noise = np.where(np.asarray(self.bands) == "light", noise_of_light, 0.6)[:, None]
        found = (centres + noise * rng.normal(size=centres.shape)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def embeddings(self, vectors: NDArray[np.float32], model: str) -> str:
        """The vectors as an embedding table."""
        rows = [
            {
                "image_id": image,
                "face": 0,
                "subject_id": subject,
                "status": "ok",
                "embedding": vector.tolist(),
            }
            for image, subject, vector in zip(self.image_ids, self.subjects, vectors, strict=True)
        ]
        schema = embedding_schema(DIMENSION)
        table = TableWriter(self.store, EMBEDDINGS, schema, [self.dataset.name, model])
        table.add(to_parquet(rows, schema))
        return table.finish({}, details={"model": model}).name

    def crowd(self, subjects: int, images: int, dimension: int) -> tuple[str, str]:
        """Embeddings and annotations of many images, a third of the subjects in each band; no pixels."""
        rng = np.random.default_rng(0)
        who = np.repeat(np.arange(subjects), images)
        vectors = rng.normal(size=(subjects, dimension))[who] + rng.normal(size=(who.size, dimension))
        ids = [f"{k:064x}" for k in range(who.size)]
        faces = [
            FaceRow("ok", guesses={guess: Guess(label) for guess, label in zip(GUESSES, found, strict=True)})
            for found in (("dark", "male"), ("medium", "female"), ("light", "male"))
        ]
        labels = TableWriter(self.store, ANNOTATIONS, annotation_schema(GUESSES), [self.dataset.name])
        rows = [annotation_record(i, faces[s % 3], GUESSES) for i, s in zip(ids, who, strict=True)]
        labels.add(to_parquet(rows, annotation_schema(GUESSES)))
        details = {"annotators": {"ita": "v1"}, "guesses": [list(guess) for guess in GUESSES]}
        model = "models/crowd/versions/0123456789abcdef"
        schema = embedding_schema(dimension)
        table = TableWriter(self.store, EMBEDDINGS, schema, [self.dataset.name, model])
        columns = {
            "image_id": ids,
            "face": [0] * who.size,
            "subject_id": [f"crowd:1:{s:06d}" for s in who],
            "status": ["ok"] * who.size,
            "embedding": list(vectors.astype(np.float32)),
        }
        table.add(
            to_parquet(
                [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], schema
            )
        )
        return table.finish({}, details={"model": model}).name, labels.finish({}, details=details).name

    def predictions(self, truth: list[str], predicted: list[str | None], scores: list[float]) -> str:
        """Truth, prediction and score of every image as a prediction table."""
        rows = [
            {"image_id": image, "subject_id": subject, "truth": t, "predicted": p, "score": s}
            for image, subject, t, p, s in zip(
                self.image_ids, self.subjects, truth, predicted, scores, strict=True
            )
        ]
        table = TableWriter(self.store, PREDICTIONS, prediction_schema(), [self.dataset.name])
        table.add(to_parquet(rows, prediction_schema()))
        return table.finish({}).name

    @property
    def groups(self) -> list[str | None]:
        """The group of each image's subject: the undecided one has none."""
        labels: list[str | None] = [f"skin_tone_band={band}" for band in self.bands]
        return [*labels[:-IMAGES], *([None] * IMAGES)]

    @property
    def cells(self) -> list[str]:
        """The label of each image."""
        cells = zip(self.bands, self.seen, strict=True)
        return [f"skin_tone_band={band}" if seen else "no_face" for band, seen in cells]

    def grouping(self) -> Grouping:
        return Grouping(annotations=self.annotations, sources=[TONE])

    def write_files(self, folder: Path, vectors: NDArray[np.float32]) -> tuple[Path, Path]:
        """The same as files of a user: embeddings and a table of subjects."""
        np.save(folder / "e.npy", vectors)
        with (folder / "s.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["subject", "group"])
            rows.writerows(zip(self.subjects, [group or "" for group in self.groups], strict=True))
        return folder / "e.npy", folder / "s.csv"
