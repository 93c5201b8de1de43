"""The metrics service as a process: tables in, reports out, equal to the statistics called directly."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from fairloop import manifest
from fairloop.errors import InvalidInput, NotFound
from fairloop.stats import compare_recognizers, evaluate_verification
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, TableWriter, to_parquet
from fairloop.tables import FaceRow, Guess, annotation_record, annotation_schema, embedding_schema
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.metrics_pb2 import (
    Arm,
    AuditDistributionRequest,
    CompareRecognizersRequest,
    EvaluateVerificationRequest,
    Grouping,
    RenderReportRequest,
)
from tests.support.faces import rendered_dataset
from tests.support.services import Services

TONE = LabelSource(attribute="skin_tone_band", annotator="ita")
GUESSES = [("skin_tone_band", "ita")]
SUBJECTS, IMAGES, DIMENSION = 24, 5, 16


@pytest.fixture
def services(tmp_path: Path, store: ObjectStore, store_environment: dict[str, str]) -> Iterator[Services]:
    made = Services(tmp_path, store_environment)
    try:
        made.start("metrics")
        yield made
    finally:
        made.stop()


class World:
    """A dataset of 24 subjects in the store, half of them dark, one of them undecided; runs of two arms."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.dataset = rendered_dataset(store, "evaluation", SUBJECTS, IMAGES)
        self.image_ids = self.dataset.index["image_id"].to_pylist()
        self.subjects = self.dataset.index["subject_id"].to_pylist()
        self.bands = ["dark" if k % (2 * IMAGES) < IMAGES else "light" for k in range(SUBJECTS * IMAGES)]
        # The last subject's images disagree: 3 of 5 light.
        self.bands[-2:] = ["dark", "dark"]
        self.annotations = self._annotations()

    def _annotations(self) -> str:
        rows = [
            annotation_record(image, FaceRow("ok", guesses={GUESSES[0]: Guess(band)}), GUESSES)
            for image, band in zip(self.image_ids, self.bands, strict=True)
        ]
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

    @property
    def groups(self) -> list[str | None]:
        labels: list[str | None] = [f"skin_tone_band={band}" for band in self.bands]
        return [*labels[:-IMAGES], *([None] * IMAGES)]

    def grouping(self) -> Grouping:
        return Grouping(annotations=self.annotations, sources=[TONE])


def test_rates_are_those_of_the_statistics_and_subjects_that_disagree_are_left_out(
    services: Services, store: ObjectStore
) -> None:
    world = World(store)
    vectors = world.vectors(1, 1.2)
    name = world.embeddings(vectors, "models/a/versions/0123456789abcdef")
    made = services.metrics.evaluate_verification(
        EvaluateVerificationRequest(embeddings=name, grouping=world.grouping(), fmr=0.05, seed=3)
    ).result(60)
    found = json.loads(made.summary_json)
    expected = evaluate_verification(vectors, world.subjects, world.groups, fmr=0.05, seed=3)
    assert found["groups"] == json.loads(expected.to_json())["groups"]
    assert found["subjects_left_out"] == {"disagree": 1}
    assert found["subjects_by_group"] == {"skin_tone_band=dark": 12, "skin_tone_band=light": 11}
    assert found["label_source"] == "skin_tone_band by ita v1"
    stored = manifest.load(store, made.report, "fairloop.report/1")
    rows = pq.read_table(io.BytesIO(manifest.read_part(store, stored.part("/groups.parquet")))).to_pylist()
    assert [row["fnmr"] for row in rows] == [group.fnmr for group in expected.groups]


def test_a_comparison_is_that_of_the_statistics_and_its_page_says_the_verdict(
    services: Services, store: ObjectStore
) -> None:
    world = World(store)
    arms = [[world.vectors(10 * arm + run, noise) for run in range(3)] for arm, noise in ((1, 1.6), (2, 0.6))]
    names = [
        [world.embeddings(v, f"models/m/versions/{arm}{run}23456789abcdef") for run, v in enumerate(runs)]
        for arm, runs in enumerate(arms)
    ]
    request = CompareRecognizersRequest(
        baseline=Arm(name="generated", embeddings=names[0]),
        candidate=Arm(name="balanced", embeddings=names[1]),
        grouping=world.grouping(),
        fmr=0.05,
        seed=3,
        replicates=200,
    )
    made = services.metrics.compare_recognizers(request).result(60)
    expected = compare_recognizers(
        arms[0],
        arms[1],
        world.subjects,
        world.groups,
        fmr=0.05,
        seed=3,
        replicates=200,
        names=("generated", "balanced"),
        failures=np.zeros(len(world.subjects), bool),
    )
    assert made.headline == expected.decision.sentence
    page = services.metrics.render_report(RenderReportRequest(reports=[made.report])).result(60)
    stored = manifest.load(store, page.report, "fairloop.report/1")
    html = manifest.read_part(store, stored.part("/index.html")).decode()
    assert expected.decision.verdict.value in html.lower()


def test_shares_of_an_audit_count_the_labels(services: Services, store: ObjectStore) -> None:
    world = World(store)
    made = services.metrics.audit_distribution(
        AuditDistributionRequest(annotations=world.annotations, sources=[TONE], role="judging")
    ).result(60)
    cells = {cell["cell"]: cell for cell in json.loads(made.summary_json)["cells"]}
    assert {name: cell["count"] for name, cell in cells.items()} == {
        f"skin_tone_band={band}": world.bands.count(band) for band in ("light", "medium", "dark")
    }


def test_wrong_requests_are_refused_with_the_field(services: Services, store: ObjectStore) -> None:
    metrics = services.metrics
    with pytest.raises(NotFound, match="annotations/0123456789abcdef does not exist"):
        metrics.audit_distribution(
            AuditDistributionRequest(
                annotations="annotations/0123456789abcdef", sources=[TONE], role="judging"
            )
        )
    world = World(store)
    with pytest.raises(InvalidInput, match="role: '' is not one of judging, steering"):
        metrics.audit_distribution(AuditDistributionRequest(annotations=world.annotations, sources=[TONE]))
    other = LabelSource(attribute="skin_tone_band", annotator="skin_tone")
    with pytest.raises(InvalidInput, match="has no skin_tone_band by skin_tone"):
        metrics.audit_distribution(
            AuditDistributionRequest(annotations=world.annotations, sources=[other], role="judging")
        ).result(60)
    with pytest.raises(InvalidInput, match="context_json: is not JSON"):
        metrics.render_report(RenderReportRequest(reports=["reports/0123456789abcdef"], context_json="{"))
