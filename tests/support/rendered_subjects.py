"""Faces of generated subjects, and how well embeddings tell them apart."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from fairloop.models import fetch
from services.generator import dcgan, latents

Faces = tuple[NDArray[np.uint8], NDArray[np.int64]]


@functools.cache
def rendered_subjects(seed: int, subjects: int, images: int) -> Faces:
    """Images uint8 (subjects·images, 64, 64, 3) of the published DCGAN, and their subjects."""
    z = np.concatenate([latents.subject_latents(seed, subject, images) for subject in range(subjects)])
    return dcgan.render(dcgan.load(fetch("dcgan-faces")), z), np.repeat(np.arange(subjects), images)


def tmr(embeddings: NDArray[np.float32], subjects: NDArray[np.int64], fmr: float = 0.01) -> float:
    """Share of genuine pairs accepted at the smallest threshold with at most `fmr` false matches."""
    scores = embeddings @ embeddings.T
    one, other = np.triu_indices(len(subjects), 1)
    genuine = subjects[one] == subjects[other]
    pairs = scores[one, other]
    impostors = np.sort(pairs[~genuine])[::-1]
    # A tie with the first impostor that has to be refused is refused too.
    return float(np.mean(pairs[genuine] > impostors[int(fmr * len(impostors))]))
