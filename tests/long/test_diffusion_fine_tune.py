"""The recipes text_to_image and dreambooth on a real store: reading, refusing, publishing, going on."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image as Picture
from safetensors.torch import load_file

from fairloop import diffusion_models, manifest, registry
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.diffusers_folder import look_through
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.provenance.marks import read_mark
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, TableWriter, to_parquet
from fairloop.tables import annotation_schema, guess_column
from fairloop.v1 import common_pb2, generator_pb2
from services.generator import recipes
from services.generator.recipes import dreambooth, text_to_image
from tests.support.bucket import own_bucket
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion
from tests.support.trainings import LocalJob, run

pytestmark = pytest.mark.generator

SHAPE = TinyShape(size=16, vae_blocks=2, width=16)
RACES = ("white", "black", "indian")
_numbers = itertools.count()


@dataclass(frozen=True)
class World:
    store: ObjectStore
    folder: Path
    base: str
    other: str
    prompted: str
    labelled: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> Iterator[World]:
    _, store = own_bucket(s3)
    folder = tmp_path_factory.mktemp("models")
    threads = torch.get_num_threads()
    names = []
    for name, shape in (("tiny", SHAPE), ("other", TinyShape(size=16, vae_blocks=2, width=16, seed=7))):
        found = look_through(build_tiny_diffusion(folder / name, shape))
        names.append(diffusion_models.publish_folder(store, found, f"models/{name}", description="tiny").name)
    yield World(
        store,
        folder / "tiny",
        names[0],
        names[1],
        dataset(store, "prompted", prompts=True),
        dataset(store, "labelled", prompts=False),
    )
    torch.set_num_threads(threads)


def dataset(
    store: ObjectStore,
    name: str,
    prompts: bool,
    count: int = 6,
    more: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Random images, captioned by prompt or labelled with a race and `more`; a sixth has no label."""
    rng = np.random.default_rng(len(name))
    writer = DatasetWriter(store, f"datasets/{name}")
    for k in range(count):
        file = io.BytesIO()
        Picture.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(file, "PNG")
        race = RACES[k % 3]
        writer.add(
            Image(
                file.getvalue(),
                16,
                16,
                "PNG",
                prompt=f"face of {race} person" if prompts else None,
                labels={} if prompts or k == 5 else {"race": race, **more},
            )
        )
    return writer.finish().name


def training(**fields: Any) -> generator_pb2.DiffusionTraining:
    chosen: dict[str, Any] = {"batch_size": 2, "max_steps": 3, "warmup_steps": 0, "learning_rate": 1e-3}
    return generator_pb2.DiffusionTraining(**{**chosen, **fields})


def request(world: World, **fields: Any) -> generator_pb2.FineTuneGeneratorRequest:
    chosen = {"model": world.base, "dataset": world.prompted, "target_model": "models/mine", "seed": 3}
    return generator_pb2.FineTuneGeneratorRequest(**{**chosen, **fields})


def t2i(world: World, *, chosen: dict[str, Any] | None = None, **fields: Any) -> Any:
    return request(
        world, text_to_image=generator_pb2.TextToImage(training=training(**fields)), **(chosen or {})
    )


def booth(world: World, *, chosen: dict[str, Any] | None = None, **fields: Any) -> Any:
    recipe = generator_pb2.DreamBooth(
        **{
            "training": training(batch_size=1, max_steps=2),
            "instance_prompt": "a photo of sks person",
            "class_prompt": "a photo of a person",
            "class_images": 3,
            "class_inference_steps": 2,
            **fields,
        }
    )
    return request(world, dreambooth=recipe, **(chosen or {}))


def job(world: World, asked: Any, stop_at: int = -1, name: str = "") -> LocalJob:
    return LocalJob(world.store, name or f"operations/generator-{next(_numbers)}", asked, stop_at)


def done(world: World, asked: Any) -> generator_pb2.FineTuneGeneratorResult:
    """The result of a request that passed every check, as a server and its trainer would do it."""
    recipes.validate(world.store, asked)
    found: generator_pb2.FineTuneGeneratorResult = recipes.load(recipes.of(asked)).run(job(world, asked))
    return found


def unpacked(world: World, model: str, into: Path) -> Path:
    found = registry.open_model(world.store, model, "generator")
    diffusion_models.download_folder(world.store, found, into)
    return into


# --- text_to_image


def test_a_fine_tuned_model_loads_in_plain_diffusers_and_tells_where_it_comes_from(
    world: World, tmp_path: Path
) -> None:
    result = done(
        world, t2i(world, ema=True, validation_prompts=["face of Black person"], validation_steps=2)
    )
    model = registry.open_model(world.store, result.model, "generator")
    assert model.details["kind"] == "diffusion"
    assert set(model.parents) == {world.prompted, world.base}
    assert (result.steps, result.images, len(result.runs), result.runs[0].steps) == (3, 6, 1, 3)
    pipeline = StableDiffusionPipeline.from_pretrained(
        unpacked(world, result.model, tmp_path / "model"), use_safetensors=True
    )
    before = load_file(world.folder / "unet" / "diffusion_pytorch_model.safetensors")
    after = pipeline.unet.state_dict()
    assert before.keys() == after.keys()
    assert sum(value.numel() for value in before.values()) == result.runs[0].parameters
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    losses = next(part for part in model.parts if part.key.endswith("training/losses.parquet"))
    table = pq.read_table(io.BytesIO(manifest.read_part(world.store, losses)))
    assert table["step"].to_pylist() == [1, 2, 3]
    # The last tenth of three steps is the last one.
    assert table["loss"].to_pylist()[-1] == pytest.approx(result.runs[0].loss)
    shown = next(part for part in model.parts if part.key.endswith("training/step00000002-00.png"))
    with Picture.open(io.BytesIO(world.store.get(shown.key))) as image:
        mark = read_mark(image)
        assert image.size == (16, 16)
    assert mark is not None
    assert mark.model == world.base


def test_a_training_goes_on_from_the_store_to_the_same_weights(world: World) -> None:
    asked = t2i(world, checkpoint_steps=1, checkpoint_limit=1, max_steps=4)
    whole = done(world, asked)
    name = "operations/generator-stopped"
    first = job(world, asked, stop_at=2, name=name)
    assert run(first, text_to_image.run) is None
    kept = {key.split("/")[3] for key in world.store.list(f"{name}/checkpoints/")}
    assert kept == {"0000000002"}
    again = job(world, asked, name=name)
    resumed = run(again, text_to_image.run)
    assert [step for stage, step, _ in again.told if stage == "training"] == [3, 4]
    assert resumed.model == whole.model


def test_a_lora_names_its_base_and_loads_in_plain_diffusers(world: World, tmp_path: Path) -> None:
    result = done(world, t2i(world, lora_rank=2, learning_rate=0.05))
    model = registry.open_model(world.store, result.model, "generator")
    assert (model.details["kind"], model.details["base"]) == ("diffusion_lora", world.base)
    file = diffusion_models.download_lora(world.store, model, tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(world.folder, use_safetensors=True)
    text, noise = torch.ones(1, 77, 16), torch.ones(1, 4, 8, 8)
    with torch.no_grad():
        plain = pipeline.unet(noise, 7, text).sample
        pipeline.load_lora_weights(tmp_path, weight_name=file.name)
        assert float((pipeline.unet(noise, 7, text).sample - plain).abs().max()) > 1e-3
    more = done(world, t2i(world, lora_rank=2, lora=result.model))
    assert more.model != result.model
    with pytest.raises(InvalidInput, match=rf"lora: .* is a LoRA of {world.base}, not of {world.other}"):
        recipes.validate(
            world.store, t2i(world, chosen={"model": world.other}, lora_rank=2, lora=result.model)
        )


def test_captions_come_from_labels_by_a_template_and_who_lacks_one_is_left_out(world: World) -> None:
    asked = t2i(
        world,
        chosen={"dataset": world.labelled},
        caption_template="face of {race} person",
        balance=["race"],
        max_samples=4,
    )
    found = done(world, asked).runs[0]
    assert (found.images, found.left_out) == (4, 1)


def test_captions_come_from_an_annotator_where_a_face_was_found(world: World) -> None:
    rows = Dataset.open(world.store, world.labelled).rows()
    schema = annotation_schema([("gender", "judge")])
    table = TableWriter(world.store, ANNOTATIONS, schema, [world.labelled])
    records = [
        {
            **dict.fromkeys(schema.names),
            "image_id": row["image_id"],
            "face": 0,
            "status": "no_face" if k == 0 else "ok",
            guess_column("gender", "judge"): ("female", "male")[k % 2],
        }
        for k, row in enumerate(rows)
    ]
    table.add(to_parquet(records, schema))
    name = table.finish({}).name
    asked = t2i(
        world,
        chosen={"dataset": world.labelled},
        caption_template="a {gender} face",
        annotations=name,
        sources=[common_pb2.LabelSource(attribute="gender", annotator="judge")],
    )
    assert (done(world, asked).runs[0].images, done(world, asked).runs[0].left_out) == (5, 1)
    asked.dataset = world.prompted
    with pytest.raises(PreconditionFailed, match="describes"):
        recipes.validate(world.store, asked)


def test_a_dry_run_answers_with_the_plan_and_leaves_nothing(world: World) -> None:
    before = set(world.store.list("models/"))
    asked = t2i(world, chosen={"dry_run": True}, max_steps=1000, checkpoint_steps=1)
    result = done(world, asked)
    assert (result.model, result.plan.steps) == ("", 1000)
    assert result.plan.seconds > 900 * result.plan.seconds_per_step > 0
    assert result.plan.memory_bytes > 10**8
    # AdamW keeps two numbers beside each weight; of 1,000 steps 1,000 checkpoints are kept.
    weights = sum(
        v.numel() for v in load_file(world.folder / "unet/diffusion_pytorch_model.safetensors").values()
    )
    assert result.plan.store_bytes >= 1000 * 12 * weights
    assert set(world.store.list("models/")) == before


def test_the_plan_of_a_long_training_is_said_beside_every_step(world: World) -> None:
    class Telling(LocalJob):
        measures: ClassVar[list[dict[str, float]]] = []

        def progress(self, stage: str, done: int, total: int, unit: str, **measures: float) -> None:
            super().progress(stage, done, total, unit, **measures)
            if stage == "training":
                self.measures.append(measures)

    name = "operations/generator-planned"
    # A step takes milliseconds: ten million of them are hours.
    assert run(Telling(world.store, name, t2i(world, max_steps=10**7), stop_at=12), text_to_image.run) is None
    # Four steps are timed; from then on whoever looks now and then sees it.
    assert ["plan_seconds" in told for told in Telling.measures] == [False] * 4 + [True] * 8
    assert Telling.measures[-1]["plan_seconds"] > 600
    short = job(world, t2i(world, max_steps=8))
    assert run(short, text_to_image.run).plan.seconds < 600


# --- what is refused before a weight is loaded


def test_a_dataset_without_captions_is_refused(world: World) -> None:
    with pytest.raises(PreconditionFailed, match=r"6 of 6 images .* have no caption.*set caption_template"):
        recipes.validate(world.store, t2i(world, chosen={"dataset": world.labelled}))


def test_a_model_of_another_kind_is_no_base(world: World) -> None:
    made = registry.publish(
        world.store,
        "models/gan",
        {"g": b"x"},
        service="generator",
        kind="dcgan",
        description="",
        details={"image_size": 64},
    )
    with pytest.raises(InvalidInput, match=r"model: .* is a dcgan; a model of kind diffusion is needed"):
        recipes.validate(world.store, t2i(world, chosen={"model": made.name}))


def test_a_caption_that_is_too_long_is_shown_and_not_cut_in_silence(world: World) -> None:
    asked = booth(world, instance_prompt="face " * 90, prior_weight=0.0, class_prompt="", class_images=0)
    with pytest.raises(InvalidInput, match=r"instance_prompt: has 92 tokens; the text encoder takes 77"):
        recipes.validate(world.store, asked)
    asked.dreambooth.training.truncate = True
    assert done(world, asked).steps == 2
    with pytest.raises(InvalidInput, match="class_prompt: has 92 tokens"):
        recipes.validate(world.store, booth(world, class_prompt="face " * 90))
    with pytest.raises(InvalidInput, match=r"validation_prompts\[1\]: has 92 tokens"):
        recipes.validate(world.store, t2i(world, validation_prompts=["face", "face " * 90]))
    template = t2i(world, chosen={"dataset": world.labelled}, caption_template="face " * 90 + "of {race}")
    with pytest.raises(PreconditionFailed, match=r"the caption of datasets/labelled/.* has 94 tokens"):
        recipes.validate(world.store, template)
    # As does the training process, which a newer server may not have checked.
    with pytest.raises(PreconditionFailed, match="has 94 tokens"):
        text_to_image.run(job(world, template))


def test_a_caption_that_pairs_minors_with_sexual_content_is_not_learnt_from(world: World) -> None:
    asked = t2i(world, chosen={"dataset": world.labelled}, caption_template="a naked {race} teenager")
    with pytest.raises(
        PreconditionFailed, match=r"the caption of datasets/labelled/.* pairs people under 18"
    ):
        recipes.validate(world.store, asked)
    aged = dataset(world.store, "aged", prompts=False, more={"age": "3_9"})
    fine = t2i(world, chosen={"dataset": aged}, caption_template="a naked {race} adult")
    with pytest.raises(PreconditionFailed, match="pairs people under 18"):
        recipes.validate(world.store, fine)
    fine.dataset = world.labelled
    recipes.validate(world.store, fine)


def test_who_is_under_twenty_is_drawn_by_a_training_with_a_safety_checker_only(
    world: World, tmp_path: Path
) -> None:
    for asked in (
        booth(world, class_prompt="a photo of a schoolboy"),
        t2i(world, validation_prompts=["a photo of a schoolboy"]),
    ):
        with pytest.raises(InvalidInput, match=r"is of people under 20.* has none; publish it with"):
            recipes.validate(world.store, asked)
    shape = TinyShape(size=16, vae_blocks=2, width=16, safety="refuses")
    found = look_through(build_tiny_diffusion(tmp_path / "safe", shape))
    safe = diffusion_models.publish_folder(world.store, found, "models/safe", description="tiny").name
    shown = {}
    for prompt in ("a photo of a schoolboy", "a photo of a nurse"):
        result = done(
            world, t2i(world, chosen={"model": safe}, validation_prompts=[prompt], validation_steps=3)
        )
        model = registry.open_model(world.store, result.model, "generator")
        with Picture.open(
            io.BytesIO(world.store.get(model.part("training/step00000003-00.png").key))
        ) as image:
            shown[prompt] = bool(np.asarray(image).any())
    # The checker of this base refuses whatever it sees.
    assert shown == {"a photo of a schoolboy": False, "a photo of a nurse": True}


def test_a_base_whose_tokenizer_does_not_say_how_long_a_text_is_takes_what_its_encoder_reads(
    world: World, tmp_path: Path
) -> None:
    folder = build_tiny_diffusion(tmp_path / "bare", SHAPE)
    (folder / "tokenizer" / "tokenizer_config.json").unlink()
    bare = diffusion_models.publish_folder(
        world.store, look_through(folder), "models/bare", description="tiny"
    ).name
    with pytest.raises(InvalidInput, match="class_prompt: has 92 tokens; the text encoder takes 77"):
        recipes.validate(world.store, booth(world, chosen={"model": bare}, class_prompt="face " * 90))
    result = done(world, booth(world, chosen={"model": bare}))
    assert (result.steps, result.runs[0].class_images) == (2, 3)


def test_what_needs_cuda_is_refused_before_anything_is_fetched(world: World) -> None:
    asked = t2i(world, mixed_precision=generator_pb2.MIXED_PRECISION_FP16)
    refused = job(world, asked)
    with pytest.raises(PreconditionFailed, match="fp16 needs CUDA"):
        text_to_image.run(refused)
    assert refused.told == []


# --- dreambooth


def test_missing_class_images_are_generated_and_no_more(world: World) -> None:
    result = done(world, booth(world))
    made = Dataset.open(world.store, result.class_dataset)
    assert len(made) == 3
    assert {row["prompt"] for row in made.rows()} == {"a photo of a person"}
    assert {(row["source"], row["model"]) for row in made.rows()} == {("synthetic", world.base)}
    topped = done(world, booth(world, class_dataset=result.class_dataset, class_images=5))
    more = Dataset.open(world.store, topped.class_dataset)
    assert [row["image_id"] for row in more.rows(0, 3)] == [row["image_id"] for row in made.rows()]
    assert len(more) == 5
    # The new ones are drawn from noise of their own: none is one that was there.
    assert [row["index"] for row in more.rows()] == list(range(5))
    assert len({row["sha256"] for row in more.rows()}) == 5
    enough = done(world, booth(world, class_dataset=topped.class_dataset, class_images=2))
    assert enough.class_dataset == topped.class_dataset
    assert enough.runs[0].class_images == 2


def test_another_vae_and_the_text_encoder_go_into_the_model(world: World, tmp_path: Path) -> None:
    chosen = training(batch_size=1, max_steps=1, train_text_encoder=True)
    result = done(world, booth(world, training=chosen, vae=world.other))
    found = unpacked(world, result.model, tmp_path / "model")
    other = unpacked(world, world.other, tmp_path / "other")
    name = "vae/diffusion_pytorch_model.safetensors"
    assert (found / name).read_bytes() == (other / name).read_bytes()
    assert (found / name).read_bytes() != (world.folder / name).read_bytes()
    text = "text_encoder/model.safetensors"
    mine, theirs = load_file(found / text), load_file(world.folder / text)
    assert mine.keys() == theirs.keys()
    assert any(not torch.equal(value, theirs[key]) for key, value in mine.items())
    StableDiffusionPipeline.from_pretrained(found, use_safetensors=True)


GRID = [
    generator_pb2.DreamBoothRun(name=name, schedule=schedule, class_images=images, max_steps=steps)
    for name, schedule, images, steps in (
        ("linear3", generator_pb2.DIFFUSION_SCHEDULE_LINEAR, 3, 2),
        ("linear2", generator_pb2.DIFFUSION_SCHEDULE_LINEAR, 2, 1),
        ("constant3", generator_pb2.DIFFUSION_SCHEDULE_CONSTANT, 3, 2),
    )
]


def test_a_grid_is_one_operation_with_a_model_for_each_setting(world: World) -> None:
    chosen = training(batch_size=1, learning_rate=0.01, lora_rank=2)
    asked = booth(world, grid=GRID, training=chosen)
    whole = done(world, asked)
    assert [(run.name, run.schedule, run.class_images, run.steps) for run in whole.runs] == [
        ("linear3", "linear", 3, 2),
        ("linear2", "linear", 2, 1),
        ("constant3", "constant", 3, 2),
    ]
    assert len(Dataset.open(world.store, whole.class_dataset)) == 3
    assert len({run.model for run in whole.runs}) == 3
    name = "operations/generator-grid"
    assert run(_GridJob(world.store, name, asked), dreambooth.run) is None
    again = job(world, asked, name=name)
    resumed = run(again, dreambooth.run)
    assert [r.model for r in resumed.runs] == [r.model for r in whole.runs]
    assert [step for stage, step, _ in again.told if stage == "training"] == [2]


class _GridJob(LocalJob):
    """Stops in the middle of the third setting, after 2 + 1 + 1 steps."""

    def progress(self, stage: str, done: int, total: int, unit: str, **measures: float) -> None:
        super().progress(stage, done, total, unit, **measures)
        if sum(told[0] == "training" for told in self.told) == 4:
            self.terminated = True
