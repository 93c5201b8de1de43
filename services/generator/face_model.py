"""A generator as the store names it: a network and what chooses its latents.

The catalogue's DCGAN and an unconditional GAN draw from the standard normal
prior. A latent sampler shifts it. A GAN that was trained with cells takes its
latent with the cell appended (`gan.condition`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairloop import registry
from fairloop.errors import DataLoss, InvalidInput
from fairloop.manifest import Manifest, read_part
from fairloop.scratch import scratch_folder
from fairloop.serving.loaded import Loaded
from fairloop.store import ObjectStore
from services.generator import dcgan, gan, latents, sampler
from services.generator.diffusion.drawing import check_kind
from services.generator.sampler import Sampler, draw_centres

BASE = "dcgan-faces"
DESCRIPTION = "DCGAN trained on rendered faces, 64×64, unconditional"
NETWORKS = ("dcgan", "gan")


@dataclass(frozen=True, eq=False)
class FaceModel:
    """A network that renders latents, with the sampler that chooses them where there is one.

    `shares` has the share of every cell in the training set of a GAN that was
    trained with cells. Equal to itself only, so that it can be a key.
    """

    manifest: Manifest
    net: dcgan.Generator
    sampler: Sampler | None
    shares: Mapping[str, float]

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def cells(self) -> tuple[str, ...]:
        """Cells that it can be asked for; none when it is unconditional."""
        return self.sampler.cells if self.sampler else tuple(self.shares)

    @property
    def image_size(self) -> int:
        """Side of its images in pixels."""
        return self.net.size

    @property
    def latent(self) -> int:
        """Length of what `render` takes: the noise and, where it has own cells, one number for each."""
        return self.net.latent

    def component(self, cell: str, seed: int, subject: int) -> str:
        """The cell whose component a subject is drawn from; empty for the unconditional prior.

        A cell that the model knows is drawn from its own component; any other,
        and the empty one, from what the model publishes as its mixture: a
        sampler's weights, or the shares of the training set.
        """
        if cell in self.cells or not self.cells:
            return cell if self.cells else ""
        if self.sampler is not None:
            return self.sampler.cells[int(draw_centres(self.sampler, seed, [subject])[1][0])]
        bounds = np.cumsum(list(self.shares.values()))
        place = np.searchsorted(bounds, latents.uniform(seed, "component", subject), side="right")
        return self.cells[min(int(place), len(bounds) - 1)]

    def latents(self, cell: str, seed: int, subject: int, images: int, within: float) -> NDArray[np.float32]:
        """Latents of a subject's images, float32 (images, latent); the first is the centre."""
        noise = self.latent - len(self.shares)
        shift: NDArray[np.float32] | None = None
        if self.sampler is not None:
            shift = self.sampler.shifts[self.sampler.cells.index(self.component(cell, seed, subject))]
        drawn = latents.subject_latents(seed, subject, images, within, shift, size=noise)
        if not self.shares:
            return drawn
        place = self.cells.index(self.component(cell, seed, subject))
        return gan.condition(drawn, np.full(images, place), len(self.shares))

    def variations(
        self, latent: NDArray[np.float32], seed: int, images: int, within: float
    ) -> NDArray[np.float32]:
        """Latents about a given one, float32 (images, latent), the first itself; its cell stays.

        InvalidInput on `latent` for another length than the model's, or values that are not finite.
        """
        whole = latents.check_latent(latent, "latent", self.latent)
        noise = self.latent - len(self.shares)
        varied = np.tile(whole, (images, 1))
        varied[:, :noise] = latents.variations(whole[:noise], seed, images, within)
        return varied

    def render(self, drawn: NDArray[np.float32]) -> NDArray[np.uint8]:
        """uint8 (N, image_size, image_size, 3) of float32 (N, latent)."""
        return dcgan.render(self.net, drawn)


def publish_base(store: ObjectStore) -> Manifest:
    """Makes the catalogue's DCGAN a model of the store."""
    return registry.publish_catalogue(
        store, [BASE], service="generator", kind="dcgan", description=DESCRIPTION, image_size=dcgan.IMAGE_SIZE
    )


LOADED: Loaded[tuple[ObjectStore, str], FaceModel] = Loaded(4)


def load_face_model(store: ObjectStore, name: str) -> FaceModel:
    """The model of this name, its file's sha256 checked."""
    return LOADED.get((store, name), lambda: _load(store, name))


def _load(store: ObjectStore, name: str) -> FaceModel:
    manifest = registry.open_model(store, name, "generator")
    check_kind(manifest, False)
    kind = manifest.details["kind"]
    if kind not in (*NETWORKS, "latent_sampler"):
        raise InvalidInput("model", f"{name} is a {kind}; this version loads dcgan, gan and latent_sampler")
    with scratch_folder("model") as folder:
        # The first part is the weights; a GAN's samples and losses lie beside them.
        path = folder / manifest.parts[0].key.rsplit("/", 1)[1]
        path.write_bytes(read_part(store, manifest.parts[0]))
        if kind == "dcgan":
            return FaceModel(manifest, dcgan.load(path), None, {})
        if kind == "gan":
            found = gan.load(path)
            return FaceModel(manifest, found.net, None, found.shares)
        under = str(manifest.details.get("base"))
        if registry.open_model(store, under, "generator", "base").details["kind"] not in NETWORKS:
            # A sampler of a sampler could be its own base, and loading it would never end.
            raise DataLoss(f"{name}: its base {under} is no network", object=name)
        base = load_face_model(store, under)
        steering = sampler.load(path)
        if base.shares or steering.latent != base.latent:
            raise DataLoss(
                f"{name}: a sampler of {steering.latent} numbers does not fit its base {under}", object=name
            )
        return FaceModel(manifest, base.net, steering, {})
