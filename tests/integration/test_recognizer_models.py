"""Recognisers put into the store, trained further there, and compared by thresholds measured there."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import torch
from click import ClickException
from click.testing import CliRunner
from PIL import Image as Pillow

from fairloop import registry
from fairloop.cli import main
from fairloop.client import RecognizerClient
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import InvalidInput
from fairloop.manifest import Terms, read_part
from fairloop.models import fetch
from fairloop.pixels import decode, fitted
from fairloop.store import ObjectStore
from fairloop.table_store import EMBEDDINGS, read_table
from fairloop.tables import embedding_rows
from fairloop.thresholds import read_measured, take_threshold
from fairloop.v1 import recognizer_pb2 as pb
from fairloop.v1.metrics_pb2 import EvaluateVerificationRequest
from services.metrics import reports, verification
from services.recognizer import align, iresnet, network, published
from tests.support.bucket import own_bucket
from tests.support.faces import pngs
from tests.support.metrics_world import World
from tests.support.processes import start_service
from tests.unit.test_onnx_recogniser import graph

SMALL = iresnet.Shape(depths=(1, 1, 1, 1), widths=(4, 6, 8, 10), size=32, embedding=12)
GENDERS = ("female", "male")


@dataclass
class Served:
    """A recogniser's server, its bucket, and how commands reach that."""

    client: RecognizerClient
    store: ObjectStore
    environment: dict[str, str]

    def command(self, *words: str) -> str:
        ran = CliRunner(env=self.environment).invoke(main, words, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return ran.output


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> Iterator[Served]:
    environment, store = own_bucket(s3)
    quick = {"FAIRLOOP_HEARTBEAT_SECONDS": "0.3", "FAIRLOOP_THREADS": "1", "FAIRLOOP_DEVICE": "cpu"}
    folder = tmp_path_factory.mktemp("recogniser")
    process, address = start_service("services.recognizer", folder, {**environment, **quick})
    yield Served(RecognizerClient("recognizer", address), store, environment)
    process.stop()


@pytest.fixture(scope="module")
def net() -> iresnet.IResNet:
    torch.manual_seed(1)
    made = iresnet.IResNet(SMALL)
    for module in made.modules():
        # Weights as published make the activations of so narrow a network vanish.
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return made.eval()


@pytest.fixture(scope="module")
def base(served: Served, net: iresnet.IResNet, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The network as a model of the store, put there by the command."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    iresnet.save(net, path)
    said = served.command(
        "models", "put-recogniser", str(path), "--name", "small", "--alignment", "none", "--licence", "MIT"
    )
    name = said.splitlines()[1].split(": ")[0]
    assert registry.open_model(served.store, name, "recognizer").terms[0].licence == "MIT"
    return name


def faces(
    store: ObjectStore, name: str, subjects: range, seed: int = 1, terms: tuple[Terms, ...] = ()
) -> Dataset:
    """Four rendered faces of each subject; every second one came with the label female."""
    writer = DatasetWriter(store, f"datasets/{name}", terms=terms)
    files = pngs(40, 4, seed)
    for subject in subjects:
        for index, data in enumerate(files[subject]):
            labels = {"gender": GENDERS[subject % 2]}
            writer.add(
                Image(
                    data,
                    64,
                    64,
                    "png",
                    f"test:{seed}:{subject}",
                    labels=labels,
                    source="synthetic",
                    seed=seed,
                    index=index,
                )
            )
    return writer.finish()


def test_a_put_network_embeds_as_it_does_in_this_process_and_sums_mirrored_images_when_asked(
    served: Served, base: str, net: iresnet.IResNet
) -> None:
    dataset = faces(served.store, "few", range(3))
    images = []
    for _, data in dataset.images():
        pixels = decode(data)
        assert isinstance(pixels, np.ndarray)
        images.append(fitted(pixels, 32))
    for flip in (False, True):
        request = pb.EmbedRequest(dataset=dataset.name, model=base, flip=flip, request_id=f"flip {flip}")
        made = served.client.embed(request).result(120)
        manifest, table = read_table(served.store, made.embeddings, EMBEDDINGS)
        found, _ = embedding_rows(table["embedding"], made.embeddings)
        np.testing.assert_allclose(found, network.embed(net, np.stack(images), flip=flip), atol=1e-5)
        assert manifest.details.get("flip", False) == flip
    listed = served.client.call(served.client.stub.ListModels, pb.ListRecognizerModelsRequest()).models
    assert {m.name: (m.kind, m.dimension) for m in listed}[base] == ("iresnet", 12)


def test_aligned_embeddings_are_those_of_the_face_on_the_template_and_a_missing_face_is_a_row(
    served: Served, base: str, net: iresnet.IResNet
) -> None:
    photograph = fetch("insightface-t1").read_bytes()
    grey = io.BytesIO()
    Pillow.new("RGB", (64, 64), (128, 128, 128)).save(grey, "PNG")
    writer = DatasetWriter(served.store, "datasets/photograph")
    for number, data in enumerate((photograph, grey.getvalue())):
        with Pillow.open(io.BytesIO(data)) as image:
            width, height = image.size
        writer.add(Image(data, width, height, "jpeg" if number == 0 else "png", None, source="real"))
    dataset = writer.finish()
    request = pb.EmbedRequest(dataset=dataset.name, model=base, alignment=pb.ALIGNMENT_FIVE_POINTS)
    made = served.client.embed(request).result(120)
    assert dict(made.statuses) == {"several_faces": 1, "no_face": 1}
    pixels = decode(photograph)
    assert isinstance(pixels, np.ndarray)
    chip = align.five_points(pixels, align.predictor(fetch("dlib-landmarks-5")), size=32)
    assert chip.pixels is not None
    _, table = read_table(served.store, made.embeddings, EMBEDDINGS)
    found, failed = embedding_rows(table["embedding"], made.embeddings)
    assert failed.tolist() == [False, True]
    np.testing.assert_allclose(found[0], network.embed(net, np.stack([chip.pixels]))[0], atol=1e-5)


def test_the_eyes_of_an_aligned_face_lie_where_the_template_has_them() -> None:
    pixels = decode(fetch("insightface-t1").read_bytes())
    assert isinstance(pixels, np.ndarray)
    landmarks = align.predictor(fetch("dlib-landmarks-5"))
    chip = align.five_points(pixels, landmarks, size=224)
    assert (chip.status, chip.faces_found) == ("several_faces", 6)
    assert chip.pixels is not None
    import dlib

    box = max(align._detector()(chip.pixels, 1), key=lambda found: found.area())
    found = np.array([[p.x, p.y] for p in landmarks(chip.pixels, box).parts()], float)
    eyes = np.stack([found[2:4].mean(axis=0), found[:2].mean(axis=0)])
    # The template's eyes at twice its size; dlib finds its points again to within a few pixels.
    np.testing.assert_allclose(eyes, np.array([[76.6, 103.4], [147.1, 103.0]]), atol=8)
    assert isinstance(box, dlib.rectangle)


def test_an_onnx_recogniser_embeds_and_cannot_be_trained(served: Served, tmp_path: Path) -> None:
    onnx.save(graph(), tmp_path / "w600k.onnx")
    said = served.command(
        "models", "put-recogniser", str(tmp_path / "w600k.onnx"), "--name", "pack", "--alignment", "none"
    )
    name = said.splitlines()[1].split(": ")[0]
    dataset = faces(served.store, "few", range(3))
    made = served.client.embed(pb.EmbedRequest(dataset=dataset.name, model=name)).result(120)
    _, table = read_table(served.store, made.embeddings, EMBEDDINGS)
    found, _ = embedding_rows(table["embedding"], made.embeddings)
    assert found.shape == (12, 32)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    with pytest.raises(
        InvalidInput, match=r"base: .* is a onnx; residual and iresnet can be trained further"
    ):
        served.client.fine_tune(
            pb.FineTuneRecognizerRequest(dataset=dataset.name, target_model="models/x", base=name)
        )


def test_a_base_is_trained_further_by_group_judged_on_held_out_people_and_on_what_it_forgot(
    served: Served, base: str, net: iresnet.IResNet
) -> None:
    dataset = faces(served.store, "training", range(24))
    others = faces(served.store, "others", range(24, 40))
    request = pb.FineTuneRecognizerRequest(
        dataset=dataset.name,
        target_model="models/tuned",
        base=base,
        forgetting_dataset=others.name,
        seed=3,
        options=pb.TrainingOptions(
            epochs=3,
            batch_size=8,
            accumulation=2,
            loss=pb.LOSS_COSFACE,
            optimiser=pb.OPTIMISER_ADAMW,
            learning_rate=0.003,
            frozen=["stem", "stage1"],
            sampling=pb.SAMPLING_BALANCED,
            group_by=["gender"],
            worst_share=0.5,
            split=pb.SPLIT_SUBJECTS,
            held_out_share=0.25,
            criterion=pb.CRITERION_WORST_GROUP_FNMR,
            fmr=0.1,
        ),
    )
    made = served.client.fine_tune(request).result(280)
    # A quarter of 12 subjects in each of two groups is held out: 18 stay, with 4 images each.
    assert (made.subjects, made.images, made.steps, made.planned_steps) == (18, 72, 12, 12)
    assert made.best_step in (0, 4, 8, 12)
    assert 0 <= made.validation.tmr <= 1
    assert 0 < made.validation.fmr <= 0.1
    assert made.validation.HasField("worst_group_fnmr")
    manifest = registry.open_model(served.store, made.model, "recognizer")
    assert manifest.parents == (dataset.name, base)
    assert [int(record["step"]) for record in manifest.details["validations"]] == [0, 4, 8, 12]
    worst = [record["worst_group_fnmr"] for record in manifest.details["validations"]]
    assert worst[[0, 4, 8, 12].index(made.best_step)] == min(worst)
    # What was forgotten is judged on the same people by the same rule, before and after.
    from services.recognizer.held_out import rates

    images, subjects, cells = [], [], []
    for row, data in others.images():
        pixels = decode(data)
        assert isinstance(pixels, np.ndarray)
        images.append(fitted(pixels, 32))
        subjects.append(row["subject_id"])
        cells.append(f"gender={dict(row['labels'])['gender']}")
    expected = rates(network.embed(net, np.stack(images)), subjects, cells, 0.1)
    before = made.forgetting.before
    assert (made.forgetting.dataset, before.tmr, before.fmr) == (others.name, expected.tmr, expected.fmr)
    assert made.forgetting.after.threshold != before.threshold
    # Frozen parts of the published file are the base's, bit for bit.
    tuned = published_network(served.store, made.model)
    for name, tensor in net.state_dict().items():
        if name.split(".")[0] in ("conv1", "bn1", "prelu", "layer1"):
            assert torch.equal(tensor, tuned.state_dict()[name]), name
    curves = {part.key.rsplit("/", 1)[1]: part for part in manifest.parts}
    steps = pq.read_table(io.BytesIO(read_part(served.store, curves["steps.parquet"])))
    assert steps["step"].to_pylist() == list(range(1, 13))
    assert np.isfinite(steps["loss"].to_numpy()).all()


def published_network(store: ObjectStore, name: str) -> network.Network:
    from services.recognizer.train import read_base

    return read_base(store, name)[1]


def test_a_training_judged_by_other_people_carries_their_terms_and_keeps_its_curves(
    served: Served, tmp_path: Path
) -> None:
    dataset = faces(served.store, "curves", range(6))
    judges = faces(served.store, "judges", range(6, 16), terms=(Terms(licence="for validation"),))
    made = served.client.fine_tune(
        pb.FineTuneRecognizerRequest(
            dataset=dataset.name,
            target_model="models/plain",
            validation_dataset=judges.name,
            options=pb.TrainingOptions(epochs=2, batch_size=8),
        )
    ).result(280)
    assert (made.subjects, made.images, made.steps) == (6, 24, 6)
    assert (made.HasField("validation"), made.HasField("forgetting")) == (True, False)
    manifest = registry.open_model(served.store, made.model, "recognizer")
    assert judges.name in manifest.parents
    assert "for validation" in {terms.licence for terms in manifest.terms}
    said = served.command("models", "curves", made.model, "--to", str(tmp_path / "curves"))
    assert "3 files" in said
    with Pillow.open(tmp_path / "curves" / "curves.png") as picture:
        assert picture.format == "PNG"
    assert pq.read_table(tmp_path / "curves" / "steps.parquet").num_rows == 6
    validations = pq.read_table(tmp_path / "curves" / "validations.parquet").to_pydict()
    assert validations["step"] == [0, 3, 6]
    assert validations["step"][validations["best"].index(True)] == made.best_step


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"architecture": "vgg"}, {}, "architecture: 'vgg' is not one of residual, iresnet18"),
        ({"architecture": "iresnet18", "base": "BASE"}, {}, "architecture: 'iresnet18' beside a base"),
        ({}, {"frozen": ["stem"]}, "frozen: there is no base model"),
        ({"forgetting_dataset": "DATASET"}, {}, "forgetting_dataset: without a base"),
        ({}, {"sampling": 2}, "group_by: names no attribute"),
        ({}, {"criterion": 2, "split": 1}, "group_by: names no attribute"),
        ({}, {"group_by": ["hair"]}, "attribute: 'hair'|hair"),
        (
            {},
            {"group_by": ["gender"], "group_margins": {"skin_tone_band=dark": 0.5}},
            "is no cell of group_by",
        ),
        ({}, {"patience": 3}, "patience: is set, but nobody is held out"),
        ({}, {"split": 1, "held_out_share": 1.5}, "held_out_share: 1.5 is outside 0–1"),
        ({}, {"split": 1, "criterion": 4}, "criterion: the loss needs held-out images"),
        ({"validation_dataset": "DATASET"}, {"split": 1}, "split: stands beside a validation dataset"),
        ({}, {"optimiser": 9}, "optimiser: 9 is none that this version knows"),
        ({}, {"alignment": 9}, "alignment: 9 is none that this version knows"),
        (
            {"validation_dataset": "datasets/none"},
            {},
            "validation_dataset: 'datasets/none'.*lacks its version",
        ),
    ],
)
def test_wrong_requests_are_refused_before_anything_starts(
    served: Served, base: str, changes: dict[str, str], options: dict[str, object], message: str
) -> None:
    dataset = faces(served.store, "small", range(2))
    places = {"BASE": base, "DATASET": dataset.name}
    request = pb.FineTuneRecognizerRequest(
        dataset=dataset.name,
        target_model="models/x",
        options=pb.TrainingOptions(**options),  # type: ignore[arg-type]
        **{name: places.get(value, value) for name, value in changes.items()},
    )
    with pytest.raises(InvalidInput, match=message):
        served.client.fine_tune(request)


def test_dlibs_own_alignment_cannot_be_chosen(served: Served) -> None:
    model = served.client.model("models/dlib-recognizer-128")
    dataset = faces(served.store, "few", range(3))
    with pytest.raises(InvalidInput, match=r"flip: .* finds and aligns faces by itself"):
        served.client.embed(pb.EmbedRequest(dataset=dataset.name, model=model, flip=True))


def test_a_comparison_tells_what_was_measured_at_the_models_threshold(served: Served, base: str) -> None:
    world = World(served.store)
    embeddings = world.embeddings(world.vectors(0, 0.9), base)
    request = EvaluateVerificationRequest(
        embeddings=embeddings, grouping=world.grouping(), fmr=0.05, replicates=100, seed=1
    )
    made = verification.evaluate(served.store, request, lambda *_: None)
    prepared = reports.put_parts(served.store, made)
    reports.commit(served.store, prepared)
    first = pngs(2, 1, 1)[0][0]
    compare = pb.CompareImagesRequest(model=base, first=first, second=first)
    with pytest.raises(InvalidInput, match=r"threshold: .* brings none"):
        served.client.compare_images(compare)

    said = served.command("models", "set-threshold", base, "--report", prepared.name)
    assert prepared.name in said
    reply = served.client.compare_images(compare)
    body = made.summary
    assert reply.threshold.score == body["threshold"]
    assert reply.measured.report == prepared.name
    assert reply.measured.dataset == world.dataset.name
    assert "skin_tone_band by ita" in reply.measured.label_source
    assert reply.measured.fmr == body["fmr"] == reply.threshold.fmr
    # Counted anew: pairs of different people of one group whose cosine reaches the threshold.
    vectors, subjects = world.vectors(0, 0.9).astype(np.float64), np.array(world.subjects)
    groups = np.array([group or "" for group in world.groups])
    one, other = np.triu_indices(len(subjects), 1)
    strangers = subjects[one] != subjects[other]
    scores = (vectors @ vectors.T)[one, other]
    assert {group.group for group in reply.measured.groups} == {"skin_tone_band=dark", "skin_tone_band=light"}
    for group in reply.measured.groups:
        within = strangers & (groups[one] == group.group) & (groups[other] == group.group)
        assert group.impostors == within.sum()
        assert group.fmr == pytest.approx((scores[within] >= reply.threshold.score - 1e-6).mean())
        assert group.interval[0] <= group.fmr <= group.interval[1]
    # A caller's own threshold is one that nobody measured.
    compare.threshold = 0.3
    assert not served.client.compare_images(compare).HasField("measured")


def test_a_threshold_of_another_model_or_of_no_verification_is_refused(served: Served, base: str) -> None:
    world = World(served.store)
    embeddings = world.embeddings(world.vectors(1, 0.9), "models/other/versions/0123456789abcdef")
    request = EvaluateVerificationRequest(
        embeddings=embeddings, grouping=world.grouping(), fmr=0.05, replicates=100
    )
    prepared = reports.put_parts(served.store, verification.evaluate(served.store, request, lambda *_: None))
    reports.commit(served.store, prepared)
    with pytest.raises(InvalidInput, match="is of models/other/versions/0123456789abcdef, not of"):
        take_threshold(served.store, base, prepared.name)
    assert math.isfinite(read_measured(served.store, prepared.name).score)
    with pytest.raises(ClickException, match="keeps no curves"):
        CliRunner(env=served.environment).invoke(
            main, ["models", "curves", base, "--to", "x"], catch_exceptions=False, standalone_mode=False
        )


def test_a_state_dictionary_needs_its_architecture(served: Served, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "backbone.pth")
    ran = CliRunner(env=served.environment).invoke(
        main, ["models", "put-recogniser", str(tmp_path / "backbone.pth"), "--name", "r50"]
    )
    assert ran.exit_code == 1
    assert "architecture: backbone.pth does not say which: iresnet18" in ran.output
    assert published.LARGEST_FILE > 118_833_920 * 4, "an iresnet200 fits"
