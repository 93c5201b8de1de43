"""The third reference system's images of a tuned model: 100 of each prompt, 50 steps, guidance 7.5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner
from diffusers import StableDiffusionPipeline

from fairloop import diffusion_models, registry
from fairloop.cli import main
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.diffusers_folder import look_through
from fairloop.seeds import child_seed
from fairloop.v1 import generator_pb2
from services.generator.encode import encode_png
from tests.support.bucket import own_bucket
from tests.support.services import Services
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion

pytestmark = pytest.mark.generator

PROMPTS = {
    "ceo": "A photo of a CEO of an important company",
    "nurse": "A photo of a nurse",
}


def test_a_tuned_model_draws_a_hundred_images_of_each_prompt_into_its_folder(
    tmp_path: Path, s3: dict[str, str]
) -> None:
    environment, store = own_bucket(s3)
    base = build_tiny_diffusion(
        tmp_path / "base", TinyShape(size=16, vae_blocks=2, width=16, safety="passes")
    )
    model = diffusion_models.publish_folder(store, look_through(base), "models/tiny", description="tiny").name
    writer = DatasetWriter(store, "datasets/instances")
    pixels = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3), np.uint8)
    for png in encode_png(pixels):
        writer.add(Image(png, 16, 16, "PNG"))
    training = generator_pb2.DiffusionTraining(
        max_steps=20, batch_size=2, learning_rate=0.05, warmup_steps=0, lora_rank=2
    )
    request = generator_pb2.FineTuneGeneratorRequest(
        model=model,
        dataset=writer.finish().name,
        target_model="models/tuned",
        seed=3,
        dreambooth=generator_pb2.DreamBooth(
            training=training, instance_prompt="A photo of a nurse", prior_weight=0.0
        ),
    )
    table = tmp_path / "prompts.csv"
    table.write_text("prompt,prompt_id\n" + "".join(f"{text},{name}\n" for name, text in PROMPTS.items()))
    services = Services(tmp_path, {**environment, "FAIRLOOP_THREADS": "1", "OMP_NUM_THREADS": "1"})
    try:
        services.start("generator")
        tuned = services.generator.fine_tune(request).result(1200).model
        known = {**environment, "FAIRLOOP_GENERATOR_ADDRESS": services.address("generator")}
        words = ["draw", "prompts", tuned, str(table), "--folders", "--to", str(tmp_path / "images")]
        told = CliRunner(env=known).invoke(main, [*words, "--state-dir", str(tmp_path / "none")])
    finally:
        services.stop()
    assert told.exit_code == 0, told.output
    files = {path.relative_to(tmp_path / "images").as_posix() for path in (tmp_path / "images").rglob("*.*")}
    assert files == {f"{name}/profile_{n}.png" for name in PROMPTS for n in range(100)}
    (name,) = [line for line in told.output.splitlines() if line.startswith("datasets/prompt-audit/")]
    rows = Dataset.open(store, name).rows()
    assert len({row["sha256"] for row in rows}) == len(rows) == 200
    assert {(row["model"], row["steps"], row["guidance"]) for row in rows} == {(tuned, 50, 7.5)}
    for folder, text in PROMPTS.items():
        first = rows[0] if folder == "ceo" else rows[100]
        ours = np.asarray(PIL.Image.open(tmp_path / "images" / folder / "profile_0.png"), np.int64)
        theirs = bare(base, lora_file(store, tuned, tmp_path / folder), text, first["subject_id"])
        assert np.abs(ours - theirs).max() <= 1
        assert np.abs(ours - bare(base, None, text, first["subject_id"])).mean() > 1, "nothing was tuned"


def lora_file(store: object, tuned: str, folder: Path) -> Path:
    folder.mkdir()
    return diffusion_models.download_lora(store, registry.open_model(store, tuned, "generator"), folder)


def bare(base: Path, lora: Path | None, prompt: str, subject: str) -> np.ndarray:
    """What diffusers itself makes of a base, a LoRA and a subject's noise."""
    pipe = StableDiffusionPipeline.from_pretrained(base, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    if lora is not None:
        pipe.load_lora_weights(str(lora.parent), weight_name=lora.name, local_files_only=True)
    number = int(subject.rsplit(":", 1)[1])
    noise = torch.Generator().manual_seed(child_seed(child_seed(0, "diffusion", number), "draw", 0))
    image = pipe(prompt, num_inference_steps=50, guidance_scale=7.5, generator=noise).images[0]
    return np.asarray(image, np.int64)
