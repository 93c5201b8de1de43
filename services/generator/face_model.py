"""A generator as the store names it: a network and, where it was steered, its sampler."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fairloop import registry
from fairloop.errors import DataLoss, InvalidInput
from fairloop.manifest import Manifest, download
from fairloop.store import ObjectStore
from services.generator import dcgan, sampler
from services.generator.latents import subject_latents
from services.generator.sampler import Sampler, draw_centres

BASE = "dcgan-faces"
DESCRIPTION = "DCGAN trained on rendered faces, 64×64, unconditional"


@dataclass(frozen=True, eq=False)
class FaceModel:
    """A network that renders latents, with the sampler that chooses them where there is one.

    Equal to itself only, so that it can be a key.
    """

    manifest: Manifest
    net: nn.Module
    sampler: Sampler | None

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells that it can be asked for; none when it is unconditional."""
        return self.sampler.cells if self.sampler else ()

    def component(self, cell: str, seed: int, subject: int) -> str:
        """The cell whose component a subject is drawn from; empty for the unconditional prior.

        A cell that the model knows is drawn from its own component; any other,
        and the empty one, from what the model publishes as its mixture.
        """
        if self.sampler is None or cell in self.sampler.cells:
            return cell if self.sampler else ""
        return self.sampler.cells[int(draw_centres(self.sampler, seed, [subject])[1][0])]

    def latents(self, cell: str, seed: int, subject: int, images: int, within: float) -> NDArray[np.float32]:
        """Latents of a subject's images, float32 (images, 100); the first is the centre."""
        shift: NDArray[np.float32] | None = None
        if self.sampler is not None:
            shift = self.sampler.shifts[self.sampler.cells.index(self.component(cell, seed, subject))]
        return subject_latents(seed, subject, images, within, shift)

    def render(self, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        """uint8 (N, 64, 64, 3) of float32 (N, 100)."""
        return dcgan.render(self.net, latents)


def publish_base(store: ObjectStore) -> Manifest:
    """Makes the catalogue's DCGAN a model of the store."""
    return registry.publish_catalogue(
        store, [BASE], service="generator", kind="dcgan", description=DESCRIPTION, image_size=dcgan.IMAGE_SIZE
    )


@functools.lru_cache(maxsize=4)
def load_face_model(store: ObjectStore, name: str) -> FaceModel:
    """The model of this name, its files' sha256 checked."""
    manifest = registry.open_model(store, name, "generator")
    with tempfile.TemporaryDirectory(prefix="fairloop-model-") as folder:
        path = download(store, manifest, Path(folder))[0]
        if manifest.details["kind"] == "dcgan":
            return FaceModel(manifest, dcgan.load(path), None)
        if manifest.details["kind"] == "latent_sampler":
            under = str(manifest.details.get("base"))
            if registry.open_model(store, under, "generator", "base").details["kind"] != "dcgan":
                # A sampler of a sampler could be its own base, and loading it would never end.
                raise DataLoss(f"{name}: its base {under} is no dcgan", object=name)
            base = load_face_model(store, under)
            return FaceModel(manifest, base.net, sampler.load(path))
    raise InvalidInput(
        "model", f"{name} is a {manifest.details['kind']}; this version loads dcgan and latent_sampler"
    )
