"""The face-api network: its two files are read strictly, its input is made as the library makes it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import exp, prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairloop import models
from fairloop.errors import InvalidInput
from services.annotator.face import Face
from services.annotator.face_api import FaceApiGender, crop, gender_guesses, network_input
from services.annotator.face_api_network import read_weights, tensor_shapes

SCALE, MINIMUM = 0.5, -3.0
AGE_BIAS = 31.5
MALE_BIAS, FEMALE_BIAS = 1.0, 2.5
DEPTHWISE = "middle_flow/main_block_1/separable_conv2/depthwise_filter"


def entry(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """A manifest entry as published: everything but the biases is quantised."""
    made: dict[str, Any] = {"name": name, "shape": list(shape), "dtype": "float32"}
    if not name.endswith("bias"):
        made["quantization"] = {"dtype": "uint8", "scale": SCALE, "min": MINIMUM}
    return made


class Published:
    """The two files of a network whose filters are all zero, so that its answers are its last biases."""

    def __init__(self, folder: Path) -> None:
        self.manifest, self.arrays = folder / "manifest.json", folder / "arrays.bin"
        self.entries = [entry(name, shape) for name, shape in tensor_shapes().items()]
        biases = {"fc/age/bias": [AGE_BIAS], "fc/gender/bias": [MALE_BIAS, FEMALE_BIAS]}
        zero = round(-MINIMUM / SCALE)
        self.data = b"".join(
            bytes([zero]) * prod(shape)
            if not name.endswith("bias")
            else np.array(biases.get(name, [0] * prod(shape)), "<f4").tobytes()
            for name, shape in tensor_shapes().items()
        )
        self.write()

    def write(self, document: Any = None) -> None:
        self.manifest.write_text(json.dumps(document or [{"weights": self.entries, "paths": ["arrays.bin"]}]))
        self.arrays.write_bytes(self.data)

    def find(self, name: str) -> dict[str, Any]:
        return next(entry for entry in self.entries if entry["name"] == name)


@pytest.fixture
def published(tmp_path: Path) -> Published:
    return Published(tmp_path)


def face(pixels: np.ndarray[Any, Any], box: tuple[float, float, float, float]) -> Face:
    return Face(pixels, box, np.zeros((5, 2), np.float32))


def test_the_tensors_take_as_many_bytes_as_the_published_file_has() -> None:
    size = sum(prod(shape) * (4 if name.endswith("bias") else 1) for name, shape in tensor_shapes().items())
    assert size == models.entry("face-api-age-gender.bin").size


def test_quantised_bytes_become_value_times_scale_plus_minimum(published: Published) -> None:
    published.data = bytes(range(256)) + published.data[256:]
    published.write()
    weights = read_weights(published.manifest, published.arrays)
    first = weights["entry_flow/conv_in/filters"]
    assert first.shape == (3, 3, 3, 32)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first.ravel()[:256], np.arange(256) * 0.5 - 3)
    np.testing.assert_array_equal(weights["fc/gender/bias"], [MALE_BIAS, FEMALE_BIAS])


def test_tensors_are_found_by_the_order_of_the_manifest(published: Published) -> None:
    bias = published.entries.pop()
    published.entries.insert(0, bias)
    published.data = published.data[-8:] + published.data[:-8]
    published.write()
    weights = read_weights(published.manifest, published.arrays)
    np.testing.assert_array_equal(weights["fc/gender/bias"], [MALE_BIAS, FEMALE_BIAS])
    np.testing.assert_array_equal(weights["fc/age/bias"], [AGE_BIAS])


def remove(published: Published) -> None:
    published.entries.remove(published.find(DEPTHWISE))


def rename(published: Published) -> None:
    published.find(DEPTHWISE)["name"] = "exit_flow/extra"


def repeat(published: Published) -> None:
    published.entries.append(published.find("fc/age/bias"))
    published.data += bytes(4)


def reshape(published: Published) -> None:
    published.find(DEPTHWISE)["shape"] = [3, 3, 1, 128]


def retype(published: Published) -> None:
    published.find(DEPTHWISE)["dtype"] = "int32"


def quantise_otherwise(published: Published) -> None:
    published.find(DEPTHWISE)["quantization"]["dtype"] = "uint16"


def scale_by_zero(published: Published) -> None:
    published.find(DEPTHWISE)["quantization"]["scale"] = 0


def add_a_field(published: Published) -> None:
    published.find(DEPTHWISE)["url"] = "elsewhere"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (remove, f"tensor {DEPTHWISE} is missing"),
        (rename, "tensor exit_flow/extra is unknown"),
        (repeat, "tensor fc/age/bias stands twice"),
        (reshape, f"tensor {DEPTHWISE} has shape (3, 3, 1, 128); it is (3, 3, 128, 1)"),
        (retype, f"tensor {DEPTHWISE}: .*dtype.*'float32'"),
        (quantise_otherwise, f"tensor {DEPTHWISE}: .*quantization.dtype.*'uint8'"),
        (scale_by_zero, f"tensor {DEPTHWISE}: .*scale.*greater than 0"),
        (add_a_field, f"tensor {DEPTHWISE}: .*url.*not permitted"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_name_of_the_tensor(
    published: Published, damage: Callable[[Published], None], named: str
) -> None:
    damage(published)
    published.write()
    pattern = named if ".*" in named else re.escape(named)
    with pytest.raises(InvalidInput, match=rf"^manifest\.json: {pattern}"):
        read_weights(published.manifest, published.arrays)


def test_a_file_that_is_no_manifest_is_refused(published: Published) -> None:
    published.manifest.write_text("[{")
    with pytest.raises(InvalidInput, match=r"manifest\.json: is not JSON"):
        read_weights(published.manifest, published.arrays)
    published.write({"weights": []})
    with pytest.raises(InvalidInput, match=r"manifest\.json: the document: .*array"):
        read_weights(published.manifest, published.arrays)
    group = {"weights": published.entries, "paths": ["arrays.bin"]}
    published.write([group, group])
    with pytest.raises(InvalidInput, match="2 weight groups; there is one"):
        read_weights(published.manifest, published.arrays)


@pytest.mark.parametrize("change", [-1, 1])
def test_arrays_that_are_too_short_or_too_long_are_refused(published: Published, change: int) -> None:
    size = len(published.data)
    published.data = (published.data + b"\0")[: size + change]
    published.write()
    with pytest.raises(InvalidInput, match=rf"arrays\.bin: has {size + change} bytes; .*describes {size}$"):
        read_weights(published.manifest, published.arrays)


def test_values_that_are_not_finite_are_refused(published: Published) -> None:
    published.data = published.data[:-4] + np.array([np.nan], "<f4").tobytes()
    published.write()
    with pytest.raises(InvalidInput, match=r"arrays\.bin: tensor fc/gender/bias"):
        read_weights(published.manifest, published.arrays)


def test_without_filters_the_answers_are_the_biases_of_the_heads(published: Published) -> None:
    annotator = FaceApiGender(published.manifest, published.arrays)
    years, genders = annotator.predict(np.full((3, 112, 112, 3), 200, np.float32))
    female = 1 / (1 + exp(MALE_BIAS - FEMALE_BIAS))
    np.testing.assert_allclose(years, [AGE_BIAS] * 3)
    np.testing.assert_allclose(genders, [[1 - female, female]] * 3, rtol=1e-6)
    (guesses,) = annotator.annotate([face(np.zeros((9, 9, 3), np.uint8), (2, 2, 7, 8))])
    assert guesses.keys() == {"gender"}
    assert guesses["gender"].label == "female"
    assert guesses["gender"].probabilities == pytest.approx((female, 1 - female))
    assert annotator.annotate([]) == []


def test_the_version_follows_the_bytes_of_both_files(published: Published) -> None:
    versions = [FaceApiGender(published.manifest, published.arrays).version]
    published.data = published.data[:-4] + np.array([9], "<f4").tobytes()
    published.write()
    versions.append(FaceApiGender(published.manifest, published.arrays).version)
    published.manifest.write_text(published.manifest.read_text() + "\n")
    versions.append(FaceApiGender(published.manifest, published.arrays).version)
    assert len(set(versions)) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", version) for version in versions)


def test_the_larger_probability_decides_and_female_on_a_tie() -> None:
    men_first = np.array([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]], np.float32)
    guesses = gender_guesses(men_first)
    assert [guess.label for guess in guesses] == ["male", "female", "female"]
    assert [guess.probabilities for guess in guesses] == [(0.25, 0.75), (0.75, 0.25), (0.5, 0.5)]
    assert not any(guess.uncertain for guess in guesses)


def test_the_box_is_cut_at_the_borders_and_rounded_down() -> None:
    rows, columns = np.mgrid[0:20, 0:30].astype(np.uint8)
    pixels = np.stack([rows, columns, rows], axis=2)
    # left 3.7 → 3, width 10.8 → 10; top 2.2 → 2, height 5.9 → 5
    cut = crop(face(pixels, (3.7, 2.2, 14.5, 8.1)))
    assert cut.shape == (5, 10, 3)
    assert cut[0, 0].tolist() == [2, 3, 2]
    beyond = crop(face(pixels, (-4.5, -3, 12.5, 100)))
    assert beyond.shape == (20, 12, 3)
    assert beyond[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("box", [(30, 0, 40, 10), (-9, 0, 0, 10), (5, 5, 5.5, 9), (5, -8, 9, -1)])
def test_a_box_without_a_pixel_is_refused_and_named(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(InvalidInput, match=r"^faces\[3\]\.box: .*30 × 20"):
        crop(face(np.zeros((20, 30, 3), np.uint8), box), "faces[3]")


def test_an_input_of_the_right_size_is_not_changed() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (112, 112, 3), np.uint8)
    made = network_input(pixels)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, pixels)


def test_the_shorter_side_gets_black_bars_and_the_odd_pixel_goes_to_the_far_end() -> None:
    tall = network_input(np.full((112, 107, 3), 255, np.uint8))
    assert np.flatnonzero(tall[50, :, 0]).tolist() == list(range(2, 109))
    wide = network_input(np.full((111, 112, 3), 255, np.uint8))
    assert np.flatnonzero(wide[:, 50, 0]).tolist() == list(range(111))


@pytest.mark.parametrize("size", [56, 80, 200])
def test_resizing_samples_a_ramp_from_the_first_pixel_on(size: int) -> None:
    ramp = np.arange(size, dtype=np.uint8)
    pixels = np.broadcast_to(ramp[:, None, None], (size, size, 3))
    expected = np.minimum(np.arange(112) * size / 112, size - 1)
    for made in (network_input(pixels)[:, 7, 1], network_input(pixels.transpose(1, 0, 2))[7, :, 1]):
        np.testing.assert_allclose(made, expected, atol=1e-4)
