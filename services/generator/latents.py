"""Latent noise of subjects and of their images.

Every vector is drawn by a generator of its own (numpy PCG64) from a child seed
(`fairloop.seeds`), so any subset can be drawn in any order and gives the same
values. numpy keeps PCG64's bits for good but may change how it makes normal
numbers of them (NEP 19): equal latents are promised for equal numpy versions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.seeds import child_seed

LATENT_SIZE = 100
"""Of the catalogue's DCGAN; a model that was trained here says its own."""
LARGEST_LATENT = 1_024
SUBJECT_RANGE = 10**9
"""Numbers of subjects that each quota of a request has for itself."""
WITHIN_SUBJECT = 0.35
"""Share of an image's standard deviation that is its own and not its subject's.

At 0.35 two images of a subject are one person to dlib's recogniser: design §6
measured a distance of 0.37 where strangers have 0.68 and its threshold is 0.6.
"""


def subject_id(model: str, seed: int, subject: int) -> str:
    """A generated subject's name: `{model version}:{seed}:{subject}`."""
    return f"{model.rsplit('/', 1)[1]}:{seed}:{subject}"


def subject_centre(seed: int, subject: int, size: int = LATENT_SIZE) -> NDArray[np.float32]:
    """The latent a subject is drawn around: float32 (size,), standard normal.

    `seed` and `subject` are 0 … 2⁶³−1; InvalidInput otherwise.
    """
    return _normal(child_seed(seed, "subject", subject), size)


def subject_centres(seed: int, subjects: Sequence[int], size: int = LATENT_SIZE) -> NDArray[np.float32]:
    """`subject_centre` of each subject: float32 (S, size)."""
    rows = [subject_centre(seed, subject, size) for subject in subjects]
    return np.stack(rows) if rows else np.empty((0, size), np.float32)


def subject_latents(
    seed: int,
    subject: int,
    images: int,
    within: float = WITHIN_SUBJECT,
    shift: NDArray[np.float32] | None = None,
    size: int = LATENT_SIZE,
) -> NDArray[np.float32]:
    """Latents of one subject's images: float32 (images, size).

    z_k = shift + √(1 − within²)·c + within·ε_k, where c is the subject's centre:
    each image alone is as standard normal about `shift` as the centre is, so
    subjects with many images leave the shares of attributes as they were. Image
    0 is the centre itself, and image k is the same however many are asked for.

    `shift`, float (size,), is the mean that a steered sampler draws about; None
    is 0. `within` is 0 … 1. InvalidInput names the field that is outside.
    """
    if images < 1:
        raise InvalidInput("images", f"{images} is too few; a subject has at least one image")
    if not 0 <= within <= 1:
        raise InvalidInput("within", f"{within} is outside 0–1")
    latents = _around(
        subject_centre(seed, subject, size), child_seed(seed, "subject_images", subject), images, within
    )
    if shift is not None:
        latents += check_latent(shift, "shift", size)
    return latents


def variations(
    latent: NDArray[np.float32], seed: int, images: int, within: float = WITHIN_SUBJECT
) -> NDArray[np.float32]:
    """Latents about a given one, as a subject's lie about its centre: float32 (images, size).

    The first is `latent` itself, float32 (size,); image k is the same however
    many are asked for. `within` is 0 … 1.
    """
    checked = check_latent(latent, "latent", len(latent))
    return _around(checked, child_seed(seed, "variations", 0), images, within)


def _around(centre: NDArray[np.float32], own: int, images: int, within: float) -> NDArray[np.float32]:
    latents = np.empty((images, len(centre)), np.float32)
    latents[0] = centre
    for image in range(1, images):
        latents[image] = np.float32(np.sqrt(1 - within**2)) * centre
        latents[image] += np.float32(within) * _normal(child_seed(own, "image", image), len(centre))
    return latents


def uniform(seed: int, purpose: str, index: int) -> float:
    """One number in [0, 1): the child seed itself, scaled to 53 bits."""
    return (child_seed(seed, purpose, index) >> 10) / 2**53


def check_latent(latent: NDArray[np.float32], field: str, size: int = LATENT_SIZE) -> NDArray[np.float32]:
    """The vector as float32 (size,), or InvalidInput on `field` for another shape or values not finite."""
    vector = np.asarray(latent, np.float32)
    if vector.shape != (size,):
        raise InvalidInput(field, f"shape {vector.shape} is not ({size},)")
    if not np.isfinite(vector).all():
        raise InvalidInput(field, "holds values that are not finite")
    return vector


def _normal(seed: int, size: int) -> NDArray[np.float32]:
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(size, np.float32)
