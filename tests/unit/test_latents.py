"""Seeds and the latent noise drawn from them."""

from __future__ import annotations

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.seeds import SEED_LIMIT, child_seed
from services.generator.latents import (
    LATENT_SIZE,
    check_latent,
    subject_centre,
    subject_centres,
    subject_latents,
    uniform,
    variations,
)


@pytest.mark.parametrize(
    ("seed", "purpose", "index", "digest"),
    [
        # printf 7/subject/3 | sha256sum, and so on
        (7, "subject", 3, "8d48707e72b42032"),
        (0, "image", 0, "de2a6914a37d3d16"),
        (SEED_LIMIT - 1, "subject_images", 12, "d8312453c5c36d84"),
    ],
)
def test_child_seed_is_the_first_eight_bytes_of_the_sha256_without_the_top_bit(
    seed: int, purpose: str, index: int, digest: str
) -> None:
    assert child_seed(seed, purpose, index) == int(digest, 16) & (2**63 - 1)


@pytest.mark.parametrize(
    ("seed", "purpose", "index", "field"),
    [
        (-1, "image", 0, "seed"),
        (SEED_LIMIT, "image", 0, "seed"),
        (True, "image", 0, "seed"),
        (1.0, "image", 0, "seed"),
        (0, "image", -1, "index"),
        (0, "image", SEED_LIMIT, "index"),
        (0, "", 0, "purpose"),
        (0, "a/b", 0, "purpose"),
        (0, "Image", 0, "purpose"),
    ],
)
def test_child_seed_refuses_what_is_no_seed_index_or_purpose(
    seed: int, purpose: str, index: int, field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        child_seed(seed, purpose, index)
    assert caught.value.violations[0].field == field


def test_a_subject_does_not_depend_on_which_others_are_drawn() -> None:
    together = subject_centres(7, [5, 2, 900, 2])
    assert np.array_equal(together[2], subject_centre(7, 900))
    assert np.array_equal(together[1], together[3])
    assert not np.array_equal(together[0], subject_centre(8, 5))
    assert subject_centres(7, []).shape == (0, LATENT_SIZE)


def test_image_0_is_the_centre_and_more_images_change_none_before() -> None:
    few, many = subject_latents(7, 3, 2), subject_latents(7, 3, 9)
    assert np.array_equal(few[0], subject_centre(7, 3))
    assert np.array_equal(few, many[:2])
    assert few.dtype == np.float32


def test_images_keep_variance_1_and_correlate_as_within_says() -> None:
    # z_k = √(1 − w²)·c + w·ε_k: var 1, corr(z_k, c) = √(1 − w²), corr(z_j, z_k) = 1 − w².
    within = 0.35
    images = np.stack([subject_latents(1, subject, 3, within) for subject in range(1500)]).astype(np.float64)
    covariance = np.einsum("sid,sjd->ij", images, images) / (1500 * LATENT_SIZE)
    near, far = (1 - within**2) ** 0.5, 1 - within**2
    expected = [[1, near, near], [near, 1, far], [near, far, 1]]
    np.testing.assert_allclose(covariance, expected, atol=0.02)  # 5 standard errors: 5·√(2/150,000)


def test_within_0_repeats_the_centre_and_1_forgets_it() -> None:
    assert np.array_equal(subject_latents(1, 1, 3, 0.0), np.tile(subject_centre(1, 1), (3, 1)))
    strangers = np.concatenate([subject_latents(1, s, 2, 1.0)[1] for s in range(100)])
    centres = np.concatenate([subject_centre(1, s) for s in range(100)])
    assert abs(np.corrcoef(strangers, centres)[0, 1]) < 0.05


def test_a_shift_moves_every_image_by_as_much() -> None:
    shift = np.linspace(-1, 1, LATENT_SIZE, dtype=np.float32)
    moved = subject_latents(7, 3, 4, shift=shift)
    np.testing.assert_allclose(moved - subject_latents(7, 3, 4), np.tile(shift, (4, 1)), atol=1e-6)


def test_uniform_points_fill_the_unit_interval_evenly() -> None:
    points = np.array([uniform(1, "component", index) for index in range(2000)])
    assert points.min() >= 0
    assert points.max() < 1
    # Kolmogorov–Smirnov distance of 2,000 points: 1.95/√n at the level .001
    assert np.abs(np.sort(points) - (np.arange(2000) + 0.5) / 2000).max() < 1.95 / 2000**0.5


def test_wrong_arguments_are_named() -> None:
    for arguments, field in (
        ((1, 1, 0), "images"),
        ((1, 1, 2, 1.5), "within"),
        ((1, 1, 2, float("nan")), "within"),
        ((-1, 1, 2), "seed"),
        ((1, 1, 2, 0.3, np.zeros(99, np.float32)), "shift"),
        ((1, 1, 2, 0.3, np.full(LATENT_SIZE, np.nan, np.float32)), "shift"),
    ):
        with pytest.raises(InvalidInput) as caught:
            subject_latents(*arguments)
        assert caught.value.violations[0].field == field
    assert check_latent(np.zeros(LATENT_SIZE), "latent").dtype == np.float32


def test_variations_lie_about_a_latent_as_images_lie_about_their_subject() -> None:
    latent = np.linspace(-2, 2, 100).astype(np.float32)
    found = variations(latent, 5, 4000, 0.6)
    np.testing.assert_array_equal(found[0], latent)
    np.testing.assert_array_equal(found[:7], variations(latent, 5, 7, 0.6))
    assert not np.array_equal(found[1], variations(latent, 6, 2, 0.6)[1])
    # √(1 − 0.6²) = 0.8 of the latent, and noise of 0.6; 4 standard errors of 400,000 numbers and 5 of 4,000.
    own = found[1:] - np.float32(0.8) * latent
    assert own.std() == pytest.approx(0.6, abs=4 * 0.6 / np.sqrt(2 * 399_900))
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=5 * 0.6 / np.sqrt(3_999))
    np.testing.assert_array_equal(variations(latent, 5, 3, 0.0), np.tile(latent, (3, 1)))
    assert variations(latent[:16], 5, 3).shape == (3, 16)
    with pytest.raises(InvalidInput, match="latent: shape"):
        variations(latent[None], 5, 1)
