"""A small Stable Diffusion that knows faces and a bias, made here, and the loop over prompts on it.

Faces of the catalogue's DCGAN are described by the steering annotators and captioned:
half say who is seen (`A photo of a light female nurse`), half only the prompt
(`A photo of a nurse`), given more often to some groups than to others. So the bias
that the audit is to find is known, as it never is of a published model.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from fairloop.dataset import Dataset
from fairloop.errors import FairloopError, NotFound
from fairloop.preparation import derived
from fairloop.prompts import Prompt
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, read_table
from fairloop.tables import guess_column
from fairloop.v1 import common_pb2, generator_pb2
from flows.demo_captions import captions
from flows.loop_round import Round, annotate, generate, source
from flows.prompt_loop import prompt_loop
from flows.prompt_params import PromptLoopParameters, SmallModelParameters
from flows.tasks import connected

GENERATOR = "models/dcgan-faces"


@flow(name="diffusion-demo", log_prints=False, persist_result=False)
def diffusion_demo(parameters: PromptLoopParameters, small: SmallModelParameters) -> str:
    """Makes the small model `base_model`, unless it is there, and does the loop over prompts on it.

    Returns the name of the report.
    """
    p = parameters
    run: Round[PromptLoopParameters] = Round(p, salt=str(time.time_ns()) if p.fresh else "")
    steering = [
        source("gender", p.steering_gender),
        source(p.second_attribute.value, p.steering_second),
    ]
    with connected() as client:
        generator = client.generator.model(GENERATOR)
    faces = draw(run, generator, "faces", small.faces)
    reference = draw(run, generator, "reference", small.reference_faces)
    table = annotate(run, "describe the faces", faces, steering, cropped=True)
    known = captioned(faces, table, steering, p.table, f"{p.name}-captioned", run.seed("captions"))
    base = make_base(known, f"models/{p.name}-untaught", run.seed("base"), small)
    taught = run.do(
        f"teach it faces and words: {small.teach_steps} steps",
        "generator",
        "fine_tune",
        generator_pb2.FineTuneGeneratorRequest(
            model=base,
            dataset=known,
            target_model=p.base_model,
            seed=run.seed("teach"),
            text_to_image=generator_pb2.TextToImage(training=lessons(small, p.second_attribute.value)),
        ),
    ).model
    return str(prompt_loop(p.model_copy(update={"base_model": taught, "reference": reference})))


def draw(run: Round[PromptLoopParameters], generator: str, name: str, faces: int) -> str:
    """A dataset of so many faces of the DCGAN."""
    request = generator_pb2.GenerateRequest(
        model=generator,
        quotas=[generator_pb2.Quota(subjects=faces, images_per_subject=1)],
        seed=run.seed(name),
        dataset=f"datasets/{run.parameters.name}-{name}",
    )
    return str(generate(run, f"{name}: {faces:,} faces of the DCGAN", request).dataset)


def lessons(small: SmallModelParameters, attribute: str) -> generator_pb2.DiffusionTraining:
    """How the UNet is taught: v-prediction and an average of the weights, which few steps gain most from.

    Every value of the attribute comes equally often: the DCGAN's faces are unequal
    themselves, and the bias is to be that of the captions.
    """
    return generator_pb2.DiffusionTraining(
        max_steps=small.teach_steps,
        batch_size=small.teach_batch,
        learning_rate=small.teach_rate,
        schedule=generator_pb2.DIFFUSION_SCHEDULE_COSINE,
        warmup_steps=small.teach_steps // 20,
        flip=True,
        ema=True,
        ema_decay=0.98,
        prediction=generator_pb2.DIFFUSION_PREDICTION_V_PREDICTION,
        balance=[attribute],
        checkpoint_limit=1,
    )


def captioned(
    faces: str,
    annotations: str,
    sources: Sequence[common_pb2.LabelSource],
    prompts: Sequence[Prompt],
    name: str,
    seed: int,
) -> str:
    """The faces that were seen whole, each with its caption; the dataset's name."""
    store = ObjectStore.from_environment()
    columns = {one.attribute: guess_column(one.attribute, one.annotator) for one in sources}
    _, table = read_table(store, annotations, ANNOTATIONS)
    values = {
        row["image_id"]: {attribute: row[column] for attribute, column in columns.items()}
        for row in table.select(["image_id", "face", *columns.values()]).to_pylist()
        if row["face"] == 0 and None not in [row[column] for column in columns.values()]
    }
    source_set = Dataset.open(store, faces)
    order = source_set.index["image_id"].to_pylist()
    chosen = [place for place, image in enumerate(order) if image in values]
    said = captions([values[order[place]] for place in chosen], prompts, seed)
    told = {order[place]: caption for place, caption in zip(chosen, said, strict=True)}

    def change(row: Any) -> dict[str, Any]:
        return {"prompt": told[row["image_id"]], "labels": values[row["image_id"]]}

    pieces = [derived.Piece(source_set, chosen, change=change)]
    done = derived.write(store, f"datasets/{name}", pieces, details={"preparation": {"kind": "captions"}})
    get_run_logger().info("%d of %d faces have a caption", len(chosen), len(order))
    return done.dataset.name


@task(persist_result=False, cache_policy=NO_CACHE, task_run_name="make the base: VAE and words")
def make_base(captioned: str, model: str, seed: int, small: SmallModelParameters) -> str:
    """The model whose UNet knows nothing yet; made in a process of its own, since it needs torch."""
    command = [sys.executable, "-m", "deploy.diffusion_demo.base", captioned, model]
    command += ["--seed", str(seed), "--vae-steps", str(small.vae_steps)]
    command += ["--text-steps", str(small.text_steps)]
    logger = get_run_logger()
    last = ""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            last = line.strip()
            logger.info(line.rstrip())
        child.wait()
        errors.seek(0)
        trouble = errors.read()
    if child.returncode:
        raise FairloopError(f"the base could not be made: {trouble.strip()[-2000:]}")
    if not last.startswith(f"{model}/versions/"):
        raise NotFound(f"making the base ended with {last!r} and not with a model's name")
    return last
