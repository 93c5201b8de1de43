"""Datasets of rendered faces for tests, from the catalogue's DCGAN."""

from __future__ import annotations

import functools

from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.models import fetch
from fairloop.store import ObjectStore
from services.generator import dcgan
from services.generator.encode import encode_png
from services.generator.latents import subject_latents


@functools.cache
def pngs(subjects: int, images: int, seed: int) -> list[list[bytes]]:
    """PNG bytes of each subject's images."""
    net = dcgan.load(fetch("dcgan-faces"))
    return [
        encode_png(dcgan.render(net, subject_latents(seed, subject, images))) for subject in range(subjects)
    ]


def rendered_dataset(store: ObjectStore, name: str, subjects: int, images: int, seed: int = 1) -> Dataset:
    """A dataset of `subjects` × `images` faces of 64×64."""
    writer = DatasetWriter(store, f"datasets/{name}")
    for subject, files in enumerate(pngs(subjects, images, seed)):
        for index, data in enumerate(files):
            writer.add(
                Image(
                    data, 64, 64, "png", f"test:{seed}:{subject}", source="synthetic", seed=seed, index=index
                )
            )
    return writer.finish()
