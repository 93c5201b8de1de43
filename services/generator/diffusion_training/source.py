"""What a request of a diffusion model trains on, found in the store before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from fairloop import diffusion_models, registry
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest
from fairloop.store import ObjectStore
from fairloop.v1 import generator_pb2
from services.generator.diffusion_training import captions


@dataclass(frozen=True)
class Source:
    """The recipe, the base, the dataset and the images that were chosen of it."""

    recipe: str
    training: generator_pb2.DiffusionTraining
    base: Manifest
    dataset: Dataset
    chosen: captions.Chosen
    vae: Manifest | None = None
    lora: Manifest | None = None

    def parents(self) -> list[Manifest]:
        """Everything that a model trained on it comes from."""
        return [m for m in (self.dataset.manifest, self.base, self.vae, self.lora) if m is not None]


def find(
    store: ObjectStore, request: generator_pb2.FineTuneGeneratorRequest, said: str = "", vae: str = ""
) -> Source:
    """What the request names, looked through without loading a weight.

    `said` is one caption for all images, `vae` a model whose VAE replaces the
    base's. Raises `InvalidInput` for a model of another kind and a LoRA of
    another base, `PreconditionFailed` for a dataset without captions.
    """
    recipe = str(request.WhichOneof("recipe"))
    training: generator_pb2.DiffusionTraining = getattr(request, recipe).training
    base = whole(store, request.model, "model")
    other = whole(store, vae, f"{recipe}.vae") if vae else None
    lora = _lora(store, training.lora, base.name, f"{recipe}.training.lora") if training.lora else None
    dataset = Dataset.open(store, request.dataset)
    chosen = captions.choose(store, dataset, training, request.seed, said)
    return Source(recipe, training, base, dataset, chosen, other, lora)


def whole(store: ObjectStore, name: str, field: str) -> Manifest:
    """A whole diffusion model; `InvalidInput` on the field for another kind."""
    found = registry.open_model(store, name, "generator", field)
    if found.details["kind"] != diffusion_models.KIND:
        raise InvalidInput(field, f"{name} is a {found.details['kind']}; a model of kind diffusion is needed")
    return found


def _lora(store: ObjectStore, name: str, base: str, field: str) -> Manifest:
    found = registry.open_model(store, name, "generator", field)
    if found.details["kind"] != diffusion_models.LORA_KIND:
        raise InvalidInput(
            field, f"{name} is a {found.details['kind']}; a model of kind diffusion_lora is needed"
        )
    if found.details["base"] != base:
        raise InvalidInput(field, f"{name} is a LoRA of {found.details['base']}, not of {base}")
    return found
