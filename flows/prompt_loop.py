"""One round over prompts: who is seen, who is missing, new prompts for them, fine-tuning, the same again.

The third reference system's path, as one flow. Two roles, never one: the steering
annotators say who is missing and choose what is trained on, the judging ones, which
took no part, give the shares. Both audits draw from the same noise, so that every
image is its own control; nothing else is drawn from it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefect import flow, get_run_logger

from fairloop import prompt_audit, taxonomy
from fairloop.dataset import Dataset
from fairloop.errors import PreconditionFailed
from fairloop.preparation import derived
from fairloop.prompt_audit import Share, Target
from fairloop.store import ObjectStore
from fairloop.v1 import common_pb2, generator_pb2
from flows import artifacts, prompt_report
from flows.loop_round import Round, annotate, generate, source
from flows.prompt_choice import choose
from flows.prompt_labels import Seen, seen
from flows.prompt_obedience import Obedience, obedience
from flows.prompt_params import PromptLoopParameters
from flows.tasks import connected

Sources = list[common_pb2.LabelSource]


@dataclass(frozen=True)
class Audit:
    """The images of all prompts by one model, and what both kinds of annotators saw in them."""

    model: str
    dataset: str
    annotations: str
    steering: Sequence[Seen]
    judging: Sequence[Seen]


@dataclass(frozen=True)
class TrainingSet:
    """What is trained on: a dataset of so many images, and how far its new ones are what was asked for."""

    dataset: str
    images: int
    obedience: Sequence[Obedience]


@flow(name="prompt-loop", log_prints=False, persist_result=False)
def prompt_loop(parameters: PromptLoopParameters) -> str:
    """Audits a diffusion model's prompts, fine-tunes it for who is missing, and says what changed.

    Returns the name of the report.
    """
    run: Round[PromptLoopParameters] = Round(parameters, salt=str(time.time_ns()) if parameters.fresh else "")
    second = parameters.second_attribute.value
    steering = [source("gender", parameters.steering_gender), source(second, parameters.steering_second)]
    judging = [source("gender", parameters.judging_gender), source(second, parameters.judging_second)]
    with connected() as client:
        base = client.generator.model(parameters.base_model)

    began = time.monotonic()
    before = audit(run, "before", base, steering, judging)
    targets = missing(run, before)
    run.stage("audit", began)

    began = time.monotonic()
    curated = new_images(run, before, targets, steering, judging)
    run.stage("new images", began)

    began = time.monotonic()
    tuned = fine_tune(run, base, curated)
    run.stage("fine-tuning", began)

    began = time.monotonic()
    after = audit(run, "after", tuned, steering, judging)
    run.stage("audit again", began)

    report = prompt_report.write(run, before, after, targets, curated.obedience, (steering, judging))
    artifacts.decisions(run.decisions)
    artifacts.report_name(report)
    get_run_logger().info("report: %s", report)
    return report


def audit(
    run: Round[PromptLoopParameters], name: str, model: str, steering: Sources, judging: Sources
) -> Audit:
    """So many images of every prompt, from the noise of every audit, described by all annotators."""
    p = run.parameters
    made = generate(
        run,
        f"{name}: {p.images} images of each of {len(p.prompts)} prompts",
        generator_pb2.GenerateRequest(
            model=model,
            prompts=[
                generator_pb2.PromptItem(prompt_id=prompt.id, prompt=prompt.text, images=p.images)
                for prompt in p.table
            ],
            seed=run.seed("audit"),
            diffusion=generator_pb2.Diffusion(steps=p.steps, guidance=p.guidance),
            dataset=f"datasets/{p.name}-audit-{name}",
        ),
    )
    table = annotate(run, f"{name}: annotate", made.dataset, [*steering, *judging], cropped=p.cropped)
    store = ObjectStore.from_environment()
    return Audit(
        model,
        made.dataset,
        table,
        seen(store, made.dataset, table, steering),
        seen(store, made.dataset, table, judging),
    )


def missing(run: Round[PromptLoopParameters], found: Audit) -> list[Target]:
    """The under-represented groups of every prompt, by the steering labels, and what asks for them."""
    p = run.parameters
    rows = [one.observation for one in found.steering]
    dropped = prompt_audit.dropped_prompts(rows, p.drop)
    for prompt, reason in dropped.items():
        run.decide(f"{prompt} is left out", reason)
    if len(dropped) == len(p.prompts):
        raise PreconditionFailed(
            f"every prompt is left out, since hardly a face was seen in {found.dataset}: the model draws too "
            "few people, or the annotators need larger faces"
        )
    shares = prompt_audit.shares(rows, p.groups)
    flagged = prompt_audit.under_represented(
        shares, p.rule.value, threshold=p.threshold, gap=p.gap, without=dropped
    )
    targets = prompt_audit.targets(flagged, {prompt.id: prompt.text for prompt in p.table})
    if not targets:
        raise PreconditionFailed(
            f"nobody is under-represented by the rule {p.rule.value}, so there is nothing to do; "
            f"the audit is {found.annotations}"
        )
    run.decide(
        f"{len(targets)} of {len(shares)} groups of prompts are asked for by new prompts",
        f"their shares are too small by the rule {p.rule.value}",
        prompts=[target.text for target in targets],
    )
    return targets


def new_images(
    run: Round[PromptLoopParameters],
    before: Audit,
    targets: Sequence[Target],
    steering: Sources,
    judging: Sources,
) -> TrainingSet:
    """The set to train on.

    New images that show the group they were asked for, under the prompt that had
    missed it; and as many of each group that was not missing, from the audit, so
    that the training does not turn the bias round.
    """
    p = run.parameters
    made = generate(
        run,
        f"{p.new_images} images of each of {len(targets)} new prompts",
        generator_pb2.GenerateRequest(
            model=before.model,
            prompts=[
                generator_pb2.PromptItem(
                    prompt_id=prompt.id,
                    prompt=prompt.text,
                    images=p.new_images,
                    cell=taxonomy.format_cell(dict(zip(p.groups, target.share.group, strict=True))),
                )
                for prompt, target in zip(prompt_audit.as_prompts(targets), targets, strict=True)
            ],
            seed=run.seed("new_images"),
            diffusion=generator_pb2.Diffusion(steps=p.steps, guidance=p.guidance),
            dataset=f"datasets/{p.name}-new",
        ),
    )
    table = annotate(run, "new images: annotate", made.dataset, [*steering, *judging], cropped=p.cropped)
    obeyed = how_obedient(run, made.dataset, table, targets, judging)
    found = curate(run, made.dataset, table, before, targets, steering)
    run.decide(
        f"{found['kept']} of {found['made']} new images are trained on, with {found['taken']} of the audit's",
        "the others show another group than they were asked for, or no face",
        **found,
    )
    return TrainingSet(found["dataset"], found["kept"] + found["taken"], obeyed)


def how_obedient(
    run: Round[PromptLoopParameters],
    dataset: str,
    annotations: str,
    targets: Sequence[Target],
    judging: Sources,
) -> list[Obedience]:
    """How often the judges see in new images what their prompt asked for, attribute by attribute."""
    images = seen(ObjectStore.from_environment(), dataset, annotations, judging)
    rows = obedience(images, asked_for(targets))
    for row in rows:
        run.decide(
            f"a prompt that names {row.attribute} is obeyed in {row.right} of {row.images} new images",
            f"{row.expected:.0%} would be if all prompts drew alike (p = {row.p_value:.2g}, by the judging "
            "annotator)",
            **asdict(row),
        )
    return rows


def asked_for(targets: Sequence[Target]) -> dict[str, Share]:
    """The group that each new prompt asks for, by the new prompt's id."""
    prompts = prompt_audit.as_prompts(targets)
    return {prompt.id: target.share for prompt, target in zip(prompts, targets, strict=True)}


def curate(
    run: Round[PromptLoopParameters],
    made: str,
    annotations: str,
    before: Audit,
    targets: Sequence[Target],
    steering: Sources,
) -> dict[str, Any]:
    """Writes the set to train on; its name and what it holds."""
    p, store = run.parameters, ObjectStore.from_environment()
    texts = {prompt.id: prompt.text for prompt in p.table}
    asked = asked_for(targets)
    new = seen(store, made, annotations, steering)
    chosen = choose(new, asked, before.steering)
    pieces = [
        piece(store, dataset, rows, under, texts)
        for dataset, rows, under in (
            (made, new, chosen.new),
            (before.dataset, before.steering, chosen.audited),
        )
        if under
    ]
    told = {"kind": "prompt_loop", "made": len(new), "kept": len(chosen.new), "taken": len(chosen.audited)}
    done = derived.write(store, f"datasets/{p.name}-training", pieces, details={"preparation": told})
    return {
        **told,
        "dataset": done.dataset.name,
        "per_group": {f"{prompt}: {', '.join(group)}": n for (prompt, group), n in chosen.per_group.items()},
    }


def piece(
    store: ObjectStore, dataset: str, rows: Sequence[Seen], under: Mapping[int, str], texts: Mapping[str, str]
) -> derived.Piece:
    """Chosen images of a dataset, each under the text of its prompt and with what was seen in it."""
    chosen = {rows[place].image_id: (prompt, rows[place].values) for place, prompt in under.items()}

    def change(row: Any) -> dict[str, Any]:
        prompt, values = chosen[row["image_id"]]
        return {"prompt": texts[prompt], "labels": {"prompt_id": prompt, **values}}

    return derived.Piece(Dataset.open(store, dataset), sorted(under), change=change)


def fine_tune(run: Round[PromptLoopParameters], base: str, curated: TrainingSet) -> str:
    """DreamBooth on the new images, every group of every prompt equally often; the model's name."""
    p = run.parameters
    recipe = generator_pb2.DreamBooth(
        training=generator_pb2.DiffusionTraining(
            max_steps=p.tune_steps,
            batch_size=p.tune_batch,
            learning_rate=p.tune_rate,
            schedule=generator_pb2.DIFFUSION_SCHEDULE_COSINE,
            warmup_steps=p.tune_steps // 20,
            lora_rank=p.lora_rank,
            lora_alpha=p.lora_rank,
            flip=True,
            mixed_precision=generator_pb2.MIXED_PRECISION_FP16
            if p.half
            else generator_pb2.MIXED_PRECISION_NO,
            gradient_checkpointing=p.half,
            balance=sorted(p.groups),
            checkpoint_limit=2,
        ),
        prior_weight=1.0 if p.class_images else 0.0,
    )
    if p.class_images:
        recipe.class_prompt = p.class_prompt
        recipe.class_images = p.class_images
        recipe.class_inference_steps = p.steps
        recipe.class_guidance = p.guidance
    request = generator_pb2.FineTuneGeneratorRequest(
        model=base,
        dataset=curated.dataset,
        target_model=f"models/{p.name}-tuned",
        seed=run.seed("fine_tune"),
        dreambooth=recipe,
    )
    tuned = run.do(f"fine-tune on {curated.images} images", "generator", "fine_tune", request)
    return str(tuned.model)
