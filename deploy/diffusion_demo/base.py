"""The demo's base model: a Stable Diffusion 1.x made narrow, whose VAE and text encoder know its faces.

    python -m deploy.diffusion_demo.base DATASET MODEL

Reads the captioned faces of DATASET from the store, teaches the VAE and the text
encoder on them, as those of a published model are taught before its UNet is, and
publishes the folder as a version of MODEL. The UNet knows nothing yet: `FineTune`
teaches it. A base that was made from the same arguments is found again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from deploy.diffusion_demo.first_stage import teach_vae
from deploy.diffusion_demo.pictures import captioned
from deploy.diffusion_demo.words import teach_text
from deploy.gpu_check.geometry import Geometry, Transformer, build
from fairloop import diffusion_models
from fairloop.dataset import Dataset
from fairloop.diffusers_folder import look_through
from fairloop.manifest import inherited_terms
from fairloop.names import check
from fairloop.registry import list_models
from fairloop.store import ObjectStore

SHAPE = Geometry(
    size=32,
    unet=(32, 64),
    vae=(16, 32, 32),
    blocks=1,
    heads=4,
    groups=8,
    text=Transformer(64, 2, 4),
    vision=Transformer(16, 1, 2),
    vision_size=32,
    patch=16,
    projection=8,
    merges=2_000,
)
"""Latents of 8 × 8, of which two cores train a dozen steps of 32 images a second."""


def make(store: ObjectStore, dataset: str, model: str, seed: int, steps: tuple[int, int]) -> str:
    """The name of the base; made, or found where one was made from the same.

    `steps` are those of the VAE and of the text encoder.
    """
    facts = {"made_by": "deploy.diffusion_demo.base", "seed": seed, "steps": list(steps), "faces": dataset}
    for one in list_models(store, "generator", lambda manifest: manifest).models:
        if one.name.startswith(f"{model}/versions/") and one.details.get("demo_base") == facts:
            return one.name
    source = Dataset.open(store, dataset)
    pixels, captions = captioned(source, SHAPE.size)
    with tempfile.TemporaryDirectory() as scratch:
        folder = build(Path(scratch), SHAPE, seed)
        error = teach_vae(folder / "vae", pixels, seed, steps[0])
        teach_text(folder, pixels, captions, seed, steps[1])
        made = diffusion_models.publish_folder(
            store,
            look_through(folder),
            model,
            description="A Stable Diffusion 1.x made narrow; its VAE and text encoder have seen faces, its "
            "UNet nothing.",
            parents=[source.name],
            terms=inherited_terms([source.manifest]),
            details={"demo_base": facts, "vae_error": error},
            libraries=("diffusers", "torch", "transformers"),
        )
    return made.name


def main() -> None:
    """Makes the base in the store that FAIRLOOP_S3_* name; its name is the last line."""
    import torch

    parser = argparse.ArgumentParser(description="Makes the base model of the diffusion demo.")
    parser.add_argument("dataset", help="faces with captions: datasets/…/versions/…")
    parser.add_argument("model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vae-steps", type=int, default=700)
    parser.add_argument("--text-steps", type=int, default=300)
    arguments = parser.parse_args()
    check("dataset version", arguments.dataset, "DATASET")
    check("model", arguments.model, "MODEL")
    # Networks so small gain little from more, and lose much where other work wants the cores.
    torch.set_num_threads(int(os.environ.get("FAIRLOOP_THREADS", "1")))
    store = ObjectStore.from_environment()
    steps = arguments.vae_steps, arguments.text_steps
    print(make(store, arguments.dataset, arguments.model, arguments.seed, steps))


if __name__ == "__main__":
    main()
