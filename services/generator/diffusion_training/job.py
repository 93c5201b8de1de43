"""A training process at work on a request of a diffusion model: fetch, train, publish.

The files of a training (base, images, checkpoint) lie in one temporary folder.
The leading process fills it and tells the others where it is.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop import diffusion_models, prompt_safety, selection
from fairloop.dataset import Dataset
from fairloop.diffusers_folder import look_through
from fairloop.manifest import inherited_terms
from fairloop.scratch import scratch_folder
from fairloop.serving.settings import read_settings
from fairloop.serving.training import Stopped, TrainingJob
from fairloop.v1 import generator_pb2
from services.generator.diffusion_training import checkpoint, class_images, fit, modules, samples, texts
from services.generator.diffusion_training.options import Run
from services.generator.diffusion_training.pictures import Picture, Pictures
from services.generator.diffusion_training.processes import Group
from services.generator.diffusion_training.settings import Settings
from services.generator.diffusion_training.source import Source
from services.generator.recipes.plan import Estimate, announce, peak_memory

CHECKPOINT_STEPS = 500
SAMPLE_STEPS = 500
TIMED_STEPS = 3
"""After one that warms up."""
SAMPLE_INFERENCE_STEPS, SAMPLE_GUIDANCE = 25, 7.5


class Trainer:
    """Does the runs of a request, one after another, wherever an earlier attempt stopped."""

    def __init__(self, job: TrainingJob, source: Source, folder: Path, group: Group) -> None:
        self.job, self.source, self.folder, self.group = job, source, folder, group
        self.request: generator_pb2.FineTuneGeneratorRequest = job.request
        self.training = source.training
        self.class_dataset: Dataset | None = None
        self.estimate: Estimate | None = None
        self._started = time.monotonic()
        self._drawing = 0.0
        self.amid = False

    def fetch(self, wanted: class_images.Wanted | None = None, existing: str = "") -> None:
        """Puts everything that the runs read into the folder."""
        store = self.job.store
        texts.check(store, self.source, self.request)
        self.job.progress("fetching", 0, 1, "models")
        diffusion_models.download_folder(store, self.source.base, self.folder / "base")
        if self.source.vae is not None:
            diffusion_models.download_folder(store, self.source.vae, self.folder / "other")
        if self.source.lora is not None:
            (self.folder / "lora").mkdir()
            diffusion_models.download_lora(store, self.source.lora, self.folder / "lora")
        Pictures.write(self.folder / "images", self._images())
        if wanted is None:
            return
        if self.request.dry_run:
            self._time_class_images(wanted, existing)
        else:
            name = self.request.target_model.replace("models/", "datasets/", 1) + "-class-images"
            self.class_dataset = class_images.top_up(
                store,
                name,
                existing,
                wanted,
                self.source.base,
                self._class_pipeline,
                self._class_progress(wanted),
            )
            Pictures.write(
                self.folder / "class", class_images.pictures(self.class_dataset, wanted.prompt, wanted.count)
            )

    def run_all(self, runs: Sequence[Run]) -> generator_pb2.FineTuneGeneratorResult:
        """Trains and publishes every run; with `dry_run` only times the first."""
        path = self.folder / "checkpoint"
        found = None if self.request.dry_run else self.job.latest_checkpoint_file(path)
        finished, unfinished = ([], False) if found is None else checkpoint.finished(path)
        resume = path if unfinished else None
        before = sum(done["steps"] for done in finished)
        for run in runs[len(finished) :]:
            outcome, parameters = self._train(run, runs, finished, before, resume)
            resume = None
            if self.request.dry_run and self.estimate is not None:
                return generator_pb2.FineTuneGeneratorResult(plan=self.estimate.message())
            if outcome.stopped:
                raise Stopped(self.job.name)
            if run is runs[-1]:
                self.job.confirm()  # from here on it is too late to cancel, so not before the last
            finished.append(self._publish(run, outcome, parameters))
            before += outcome.total
            if run is not runs[-1]:
                checkpoint.save_between(self.folder / "between", finished)
                self._keep(before, self.folder / "between")
        return self._result(finished)

    def _train(
        self, run: Run, runs: Sequence[Run], finished: list[dict[str, Any]], before: int, resume: Path | None
    ) -> tuple[fit.Outcome, int]:
        """One run, in every process."""
        shared = {
            "folder": str(self.folder),
            "settings": run.settings.to_json(),
            "class_images": run.class_images,
            "vae": self.source.vae is not None,
            "lora": self.source.lora is not None,
            "resume": str(resume) if resume else None,
            "identity": self._identity(run),
            "finished": finished,
        }
        self.group.share(shared)
        watch = _JobWatch(self, run, runs, before)
        self.amid = True
        self.made, outcome = train_shared(self.group, shared, watch)
        self.amid = False
        return outcome, sum(parameter.numel() for parameter in self.made.trained())

    def _identity(self, run: Run) -> dict[str, Any]:
        """Which training a checkpoint is of, beside its settings."""
        source = self.source
        return {
            "recipe": source.recipe,
            "run": run.name,
            "base": source.base.name,
            "dataset": source.dataset.name,
            "images": len(source.chosen.pictures),
            "class_dataset": self.class_dataset.name if self.class_dataset else "",
            "class_images": run.class_images,
            "vae": source.vae.name if source.vae else "",
            "lora": source.lora.name if source.lora else "",
        }

    def _images(self) -> Iterator[tuple[Picture, bytes]]:
        chosen = self.source.chosen.pictures
        places = pa.array(list(chosen), pa.int64()).to_numpy()
        pictures = iter(chosen.values())
        for done, (_, data) in enumerate(selection.images(self.source.dataset, places)):
            if done % 500 == 0:
                self.job.progress("reading", done, len(chosen), "images")
                if self.job.should_stop():
                    raise Stopped(self.job.name)
            yield next(pictures), data

    def _time_class_images(self, wanted: class_images.Wanted, existing: str) -> None:
        """Draws one to know what the missing ones will take; the plan's own images stand in for all."""
        missing = class_images.missing(self.job.store, existing, wanted)
        if missing:
            pipeline = self._class_pipeline()
            started = time.monotonic()
            list(class_images.drawn(pipeline, wanted, 1))
            self._drawing = missing * (time.monotonic() - started)
        Pictures.write(self.folder / "class", self._images())

    def _class_pipeline(self) -> Any:
        return samples.pipeline_in(self.folder / "base", modules.device())

    def _class_progress(self, wanted: class_images.Wanted) -> Callable[[int], None]:
        def told(made: int) -> None:
            self.job.progress("class images", made, wanted.count, "images")
            if self.job.should_stop():
                raise Stopped(self.job.name)

        return told

    def _keep(self, step: int, path: Path) -> None:
        self.job.save_checkpoint_file(step, path, self.training.checkpoint_limit)

    def _publish(self, run: Run, outcome: fit.Outcome, parameters: int) -> dict[str, Any]:
        """Stores what a run made; what the result says of it."""
        manifests = [*self.source.parents(), *([self.class_dataset.manifest] if self.class_dataset else [])]
        tail = outcome.losses[-max(outcome.total // 10, 1) :]
        told: dict[str, Any] = {
            "name": run.name,
            "steps": outcome.total,
            "images": len(self.source.chosen.pictures),
            "left_out": self.source.chosen.left_out,
            "class_images": run.class_images,
            "parameters": parameters,
            "loss": statistics.fmean(tail),
            "schedule": run.settings.schedule,
        }
        common: dict[str, Any] = {
            "description": f"{self.source.recipe} of {self.source.base.name} on {told['images']:,} images of "
            f"{self.source.dataset.name}" + (f", setting {run.name}" if run.name else ""),
            "parents": [manifest.name for manifest in manifests],
            "terms": inherited_terms(manifests),
            "details": {"recipe": self.source.recipe, "settings": run.settings.to_json(), "training": told},
            "libraries": ("torch", "diffusers", "accelerate", "transformers", "peft"),
            "beside": self._beside(run, outcome),
        }
        store, target = self.job.store, self.request.target_model
        with scratch_folder("model") as folder:
            if run.settings.lora_rank:
                file = modules.save_lora(self.made, folder)
                model = diffusion_models.publish_lora(store, file, self.source.base.name, target, **common)
            else:
                whole = look_through(modules.save_pipeline(self.made, folder / "model"))
                model = diffusion_models.publish_folder(store, whole, target, **common)
        return {**told, "model": model.name}

    def _beside(self, run: Run, outcome: fit.Outcome) -> Iterator[tuple[str, bytes]]:
        """The losses as a table, and the validation images."""
        sink = pa.BufferOutputStream()
        steps = pa.array(range(1, len(outcome.losses) + 1), pa.int64())
        pq.write_table(pa.table({"step": steps, "loss": pa.array(outcome.losses, pa.float32())}), sink)
        yield "training/losses.parquet", sink.getvalue().to_pybytes()
        for key in self.job.store.list(f"{self.job.name}/parts/{self._sample_folder(run)}/"):
            yield f"training/{key.rsplit('/', 1)[1]}", self.job.store.get(key)

    def sample(self, run: Run, step: int, made: modules.Modules) -> None:
        """Validation images: each prompt once, always from the same noise."""
        from fairloop.provenance.marks import Mark, put_mark
        from services.generator.encode import encode_png

        of_minors = any(map(prompt_safety.names_minor, self.training.validation_prompts))
        pipeline = samples.pipeline_of(made, checked=of_minors)
        for number, prompt in enumerate(self.training.validation_prompts):
            drawn = samples.draw(
                pipeline,
                prompt,
                1,
                run.settings.seed,
                purpose=f"validation_{number}",
                size=run.settings.resolution,
                steps=SAMPLE_INFERENCE_STEPS,
                guidance=SAMPLE_GUIDANCE,
                as_it_comes=True,
            )
            for _, pixels in drawn:
                mark = Mark(self.source.base.name, run.settings.seed, number)
                name = f"step{step:08d}-{number:02d}.png"
                png = put_mark(encode_png(pixels[None])[0], mark)
                self.job.store.put(f"{self.job.name}/parts/{self._sample_folder(run)}/{name}", png)

    def _sample_folder(self, run: Run) -> str:
        return f"samples-{run.name}" if run.name else "samples"

    def plan(self, run: Run, runs: Sequence[Run], step_seconds: Sequence[float], images: int) -> Estimate:
        """What all runs take, from a few timed steps of one."""
        processes = self.group.size
        steps = sum(one.settings.steps(images, processes) for one in runs)
        median = statistics.median(step_seconds)
        weights = sum(p.numel() * p.element_size() for _, p in self.made.named())
        whole = weights if run.settings.lora_rank else _folder_size(self.folder / "base")
        # Weights, two moments of AdamW, and the average where there is one.
        state = weights * (4 if run.settings.ema else 3)
        kept = self.training.checkpoint_limit or steps // (self.training.checkpoint_steps or CHECKPOINT_STEPS)
        return Estimate(
            steps=steps,
            seconds_per_step=median,
            timed_steps=len(step_seconds),
            seconds=time.monotonic() - self._started + self._drawing + steps * median,
            memory_bytes=modules.peak_device_memory() or peak_memory(),
            disk_bytes=_folder_size(self.folder) + state + whole,
            store_bytes=kept * state + len(runs) * whole,
            device=str(modules.device()),
        )

    def _result(self, finished: Sequence[Mapping[str, Any]]) -> generator_pb2.FineTuneGeneratorResult:
        return generator_pb2.FineTuneGeneratorResult(
            model=finished[0]["model"],
            images=finished[0]["images"],
            steps=sum(done["steps"] for done in finished),
            runs=[generator_pb2.DiffusionRun(**done) for done in finished],
            class_dataset=self.class_dataset.name if self.class_dataset else "",
            plan=self.estimate.message() if self.estimate else None,
        )


class _JobWatch(fit.Watch):
    """What an operation does while one of its runs trains."""

    def __init__(self, trainer: Trainer, run: Run, runs: Sequence[Run], before: int) -> None:
        self._trainer, self._run, self._runs, self._before = trainer, run, runs, before
        training = trainer.training
        if not trainer.request.dry_run:
            self.checkpoint_steps = training.checkpoint_steps or CHECKPOINT_STEPS
            if training.validation_prompts:
                self.sample_steps = training.validation_steps or SAMPLE_STEPS
        self._times: list[float] = []

    def ready(self, made: modules.Modules) -> None:
        self._trainer.made = made
        self._times.append(time.monotonic())

    def should_stop(self) -> bool:
        planned = self._trainer.estimate is not None
        return self._trainer.job.should_stop() or (self._trainer.request.dry_run and planned)

    def progress(self, step: int, total: int, loss: float) -> None:
        trainer = self._trainer
        plan = trainer.estimate.measures if trainer.estimate else {}
        trainer.job.progress("training", step, total, "steps", loss=loss, **plan)
        self._times.append(time.monotonic())
        if trainer.estimate is None and (len(self._times) == TIMED_STEPS + 2 or step == total):
            seconds = [b - a for a, b in zip(self._times, self._times[1:], strict=False)]
            seconds = seconds[1:] or seconds  # the first warms up
            images = len(trainer.source.chosen.pictures)
            trainer.estimate = trainer.plan(self._run, self._runs, seconds, images)
            announce(trainer.job, trainer.estimate)

    def checkpoint(self, step: int, path: Path) -> None:
        if not self._trainer.request.dry_run:
            self._trainer._keep(self._before + step, path)

    def sample(self, step: int, modules: modules.Modules) -> None:
        self._trainer.sample(self._run, step, modules)


def train_shared(
    group: Group, shared: Mapping[str, Any], watch: fit.Watch | None = None
) -> tuple[modules.Modules, fit.Outcome]:
    """One run as every process of a training does it, from what the leader shared."""
    import torch

    torch.set_num_threads(max(read_settings().threads // group.size, 1))
    folder = Path(shared["folder"])
    settings = Settings(**shared["settings"])
    made = modules.load(
        folder / "base",
        settings,
        vae=folder / "other" / "vae" if shared["vae"] else None,
        lora=folder / "lora" if shared["lora"] else None,
    )
    outcome = fit.fit(
        made,
        Pictures(folder / "images"),
        settings,
        identity=shared["identity"],
        class_pictures=Pictures(folder / "class", shared["class_images"]) if shared["class_images"] else None,
        group=group,
        resume=Path(shared["resume"]) if shared["resume"] else None,
        finished=shared["finished"],
        watch=watch,
    )
    return made, outcome


def work(
    job: TrainingJob,
    source: Source,
    runs: Sequence[Run],
    wanted: class_images.Wanted | None = None,
    existing: str = "",
) -> generator_pb2.FineTuneGeneratorResult:
    """Does all runs of a request in this process and those that follow it."""
    group = Group()
    with scratch_folder("training") as folder:
        trainer = Trainer(job, source, folder, group)
        try:
            for run in runs:
                fit.check_machine(run.settings)
            trainer.fetch(wanted, existing)
            return trainer.run_all(runs)
        finally:
            # Amid a run they hear nothing; they end when the leader's connection does.
            if not trainer.amid:
                group.finish()


def _folder_size(folder: Path) -> int:
    return sum(os.path.getsize(path) for path in folder.rglob("*") if path.is_file())
