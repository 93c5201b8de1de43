"""What the checks share: the device, how large everything is, the servers, and what was made so far."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploy.gpu_check import geometry, networks
from deploy.gpu_check.device import Device, Meter
from deploy.gpu_check.servers import Servers
from fairloop import diffusion_models, models
from fairloop.dataset import DatasetWriter, Image
from fairloop.diffusers_folder import look_through
from fairloop.store import ObjectStore

OPERATION_SECONDS = 600.0
"""No single operation of the check takes longer on a GPU that it is meant for."""

PUBLISHED = ("dcgan-faces", "dlib-landmarks-5", "dlib-recognizer-128", "age-onnx", "gender-onnx")
"""What the services load of weights that come in packages."""

LEAST_USED = 100_000_000
"""Bytes; a process that only opens a GPU takes more."""

PROMPT = "a photo of the face of one person"
PICTURES = 8


class Wrong(Exception):
    """A check ended, and what it saw is not what is promised."""


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    diffusion: geometry.Geometry
    recogniser: networks.Recogniser
    clip: Mapping[str, Any] | None
    """Of open_clip; None: OpenAI's ViT-B/32."""
    images: int
    """Drawn to measure the speed."""
    steps: int
    """Denoising steps of each."""
    room: int
    """Bytes that are left when memory is made scarce: enough for one image, not for a batch."""
    scarce_side: int
    """Side of the images that are drawn then, in pixels."""
    subjects: int
    """Of rendered faces, for the annotators and recognisers; 4 images each."""


# For 64 images a layer of the largest level of the UNet has 1.3 GB in float16, and what follows it as much.
SD1 = Scale(geometry.SD1, networks.IRESNET50, None, 8, 20, 2 * 2**30, 512, 64)
# 64 images have 201 MB as float32, and are there three times when they become pictures.
TINY = Scale(geometry.TINY, networks.TINY_IRESNET, networks.TINY_CLIP, 8, 4, 400 * 2**20, 512, 12)


@dataclass
class World:
    """Made once. `made` has the names of the resources that earlier checks left for later ones."""

    device: Device
    scale: Scale
    folder: Path
    servers: Servers
    idle: int
    """Bytes of the GPU that others use, ourselves included."""
    made: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> ObjectStore:
        return self.servers.store

    def need(self, name: str) -> str:
        """What an earlier check made; `Wrong` when that one failed."""
        if name not in self.made:
            raise Wrong(f"it needs the {name}, and what makes it failed")
        return self.made[name]

    def start_generator(self, dtype: str = "") -> None:
        """Has the generator run, in this data type or in the first that the device has."""
        self.servers.start("generator", device=self.device.kind, dtype=dtype or self.device.dtypes[0])

    def meter(self, service: str) -> Meter:
        """Measures the memory of a service: of the whole GPU, or of its process and children."""
        return Meter(lambda: self.device.used(self.servers.pid(service)) - self.idle)

    def check_used(self, peak: int) -> None:
        """`Wrong` when a service's peak shows that nothing was computed on the GPU."""
        if self.device.kind == "cuda" and peak < LEAST_USED:
            raise Wrong(f"{peak / 1e6:.0f} MB of the GPU were in use at most: nothing was computed there")


def weights(folder: Path, clip: Mapping[str, Any] | None) -> dict[str, str]:
    """FairFace and CLIP with random weights, beside the published ones that come in packages.

    In a cache of their own, so that no other server takes them for the real
    ones. Returns the settings that lead there; sets FAIRLOOP_CACHE here, too.
    """
    published = {name: models.fetch(name) for name in PUBLISHED}
    network = networks.fairface(folder / models.entry("fairface-7").file, 6)
    networks.clip(folder / "clip", 4, clip)
    os.environ["FAIRLOOP_CACHE"] = str(folder / "cache")
    for name, path in {**published, "fairface-7": network}.items():
        models.put(name, path)
    return {
        "FAIRLOOP_CACHE": os.environ["FAIRLOOP_CACHE"],
        "FAIRLOOP_CLIP": f"local-dir:{folder / 'clip'}",
        "HF_HUB_OFFLINE": "1",
    }


def prepare(world: World) -> dict[str, Any]:
    """Puts a Stable Diffusion with random weights and a captioned dataset into the store."""
    shape = world.scale.diffusion
    folder = geometry.build(world.folder / "diffusion", shape)
    found = look_through(folder)
    base = diffusion_models.publish_folder(
        world.store, found, "models/random-diffusion", description="random weights, for a check of the device"
    )
    world.made["diffusion model"] = base.name
    writer = DatasetWriter(world.store, "datasets/noise")
    for data in noise(shape.size):
        writer.add(Image(data, shape.size, shape.size, "png", prompt=PROMPT))
    world.made["captioned images"] = writer.finish().name
    return {"bytes": sum(part.size for part in base.parts), "image_size": shape.size}


def noise(size: int) -> list[bytes]:
    """Smooth coloured noise as PNG files, the same for the same size."""
    from PIL import Image as Picture

    from services.generator.encode import encode_png

    rng = np.random.default_rng(0)
    pictures = [
        np.asarray(Picture.fromarray(small).resize((size, size), Picture.Resampling.BICUBIC))
        for small in rng.integers(0, 256, (PICTURES, 8, 8, 3), np.uint8)
    ]
    return list(encode_png(np.stack(pictures)))
