"""Training process: `python -m services.recognizer.train --operation operations/{id}`.

Started by torchrun or accelerate's launcher, its processes train together:
`torchrun --nproc-per-node 4 -m services.recognizer.train --operation operations/{id}`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from fairloop import registry
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput
from fairloop.manifest import Manifest, download, inherited_terms
from fairloop.scratch import scratch_folder
from fairloop.serving import launcher
from fairloop.serving.training import Stopped, TrainingJob, main
from fairloop.spool import Spool
from fairloop.store import ObjectStore
from fairloop.v1 import recognizer_pb2

if TYPE_CHECKING:
    # Not when it runs: torch takes seconds to import, in which the heartbeat must go.
    from services.recognizer.config import Config
    from services.recognizer.fit import Result
    from services.recognizer.held_out import Rates
    from services.recognizer.network import Network
    from services.recognizer.team import Team
    from services.recognizer.training_set import People

NAME = "RecognizerService.FineTune"
THREADS = 1
"""A network this small gains little from more: 600 images/s with one thread whatever else runs, 480 with two
that sleep while they wait, 950 with two that spin on an idle machine but 150 beside another process. And the
weights are then the same bits on any machine of a kind."""
TRAINABLE = ("residual", "iresnet")
"""Kinds of models that can be trained further."""
KEPT_CHECKPOINTS = 2
"""Each holds network, optimiser and the best network so far: 0.8 GB of an iresnet100. The one before the
last is for a last one that was not written whole."""
TAIL = 10
"""The loss that is reported is the mean over the last so-manieth part of the steps."""


def fine_tune(job: TrainingJob) -> recognizer_pb2.FineTuneRecognizerResult:
    """Trains a network to tell the subjects of a dataset apart, and publishes it."""
    from services.recognizer.team import join

    team = join()
    try:
        with ExitStack() as open_files:
            return _Recipe(job, team, open_files).run()
    finally:
        team.close()


class _Recipe:
    """One training of one request: what it reads, what it trains, what it makes of it."""

    def __init__(self, job: TrainingJob, team: Team, open_files: ExitStack) -> None:
        from services.recognizer import options
        from services.recognizer.config import Config

        self.job, self.team, self._open_files = job, team, open_files
        self.request: recognizer_pb2.FineTuneRecognizerRequest = job.request
        self.base_manifest: Manifest | None = None
        self.base: Network | None = None
        shape: dict[str, Any] = {}
        if self.request.base:
            self.base_manifest, self.base = read_base(job.store, self.request.base)
            shape = {"architecture": self.base_manifest.details["kind"], **vars(self.base.shape)}
        self.settings = options.settings(self.request)
        small = shape.get("architecture", self.settings.get("architecture", "residual")) == "residual"
        threads = THREADS if small and team.size == 1 else 0
        self.config: Config = Config(**self.settings, **shape, threads=threads)
        self.dataset = Dataset.open(job.store, self.request.dataset)
        self._judged_on: list[Manifest] = []
        self.alignment = self._alignment()

    def run(self) -> recognizer_pb2.FineTuneRecognizerResult:
        from services.recognizer import fit, worker

        job = self.job
        everybody = self._people(self.dataset)
        train, held_out = self._divided(everybody)
        others = self._others(train)
        labels = train.classes()
        found = job.latest_checkpoint()
        checkpoint = found[1] if found else None
        worker.tell(self.team, self.config, labels, train.cells, self.base, checkpoint)
        result = fit.fit(
            train.images,
            labels,
            self.config,
            base=self.base,
            cells=train.cells,
            judge=self._judge(train, held_out),
            checkpoint=checkpoint,
            on_checkpoint=lambda step, data: job.save_checkpoint(step, data, KEPT_CHECKPOINTS),
            on_progress=lambda step, total, loss: job.progress("training", step, total, "steps", loss=loss),
            should_stop=job.should_stop,
            team=self.team,
        )
        if result.stopped:
            raise Stopped(job.name)
        forgotten = self._forgetting(result.net, others)
        job.confirm()
        model = self._publish(result, train, forgotten)
        made = recognizer_pb2.FineTuneRecognizerResult(
            model=model.name,
            steps=result.step,
            planned_steps=result.total,
            images=len(labels),
            subjects=len(train.known),
            loss=float(np.mean(result.losses[-max(result.step // TAIL, 1) :])),
            best_step=result.best_step,
            without_face=everybody.without_face,
            forgetting=forgotten,
        )
        best = [record for record in result.evaluations if int(record["step"]) == result.best_step]
        if best and "tmr" in best[0]:
            made.validation.CopyFrom(
                recognizer_pb2.VerificationRates(**{f: best[0][f] for f in _rate_fields() if f in best[0]})
            )
        return made

    def _alignment(self) -> str:
        """`none` or `five_points`: as asked, else as the base takes its images."""
        asked = self.request.options.alignment
        if asked:
            return "none" if asked == recognizer_pb2.ALIGNMENT_NONE else "five_points"
        return str(self.base_manifest.details.get("alignment", "none")) if self.base_manifest else "none"

    def _people(self, dataset: Dataset) -> People:
        """A dataset's images, read into a file that goes when the training ends."""
        from services.recognizer import align
        from services.recognizer.training_set import read_people

        def tell(done: int, total: int) -> None:
            self.job.progress("reading", done, total, "images")
            if self.job.should_stop():
                raise Stopped(self.job.name)

        spool = self._open_files.enter_context(Spool(self.config.size))
        turn = align.turner(self.config.size) if self.alignment == "five_points" else None
        return read_people(dataset, spool, self.request.options.group_by, turn, tell)

    def _divided(self, everybody: People) -> tuple[People, People | None]:
        from services.recognizer import options, training_set

        if self.request.validation_dataset:
            dataset = Dataset.open(self.job.store, self.request.validation_dataset)
            self._judged_on.append(dataset.manifest)
            other = self._people(dataset)
            training_set.check_apart(everybody, other, "validation_dataset")
            return everybody, other
        if not self.request.options.split:
            return everybody, None
        share = self.request.options.held_out_share or options.DEFAULT_SHARE
        return training_set.divided(everybody, self.request.options, share, self.config.seed)

    def _others(self, train: People) -> People | None:
        """Those by whom one sees what was forgotten."""
        from services.recognizer import held_out, training_set

        if not self.request.forgetting_dataset:
            return None
        others = self._people(Dataset.open(self.job.store, self.request.forgetting_dataset))
        training_set.check_apart(train, others, "forgetting_dataset")
        held_out.check_judgeable(others.held_out(), self._fmr, "forgetting_dataset")
        return others

    def _judge(self, train: People, held_out: People | None) -> Any:
        from services.recognizer import held_out as judges

        if held_out is None:
            return None
        people = held_out.held_out()
        by_loss = judges.by_loss(people, train.known, self.config)
        if self.config.criterion == "loss":
            return by_loss
        return judges.both(judges.by_verification(people, self._fmr), by_loss)

    @property
    def _fmr(self) -> float:
        from services.recognizer.held_out import DEFAULT_FMR

        return self.request.options.fmr or DEFAULT_FMR

    def _forgetting(self, net: Network, others: People | None) -> recognizer_pb2.Forgetting | None:
        from services.recognizer.held_out import embedded, rates

        if others is None or self.base is None:
            return None
        self.job.progress("judging what was forgotten", 0, 2, "models")
        before, after = (
            rates(embedded(model, others.held_out()), others.subjects, others.cells, self._fmr)
            for model in (self.base, net)
        )
        return recognizer_pb2.Forgetting(
            dataset=self.request.forgetting_dataset, before=_message(before), after=_message(after)
        )

    def _publish(
        self, result: Result, train: People, forgotten: recognizer_pb2.Forgetting | None
    ) -> Manifest:
        from services.recognizer import curves, network

        request, config = self.request, self.config
        with scratch_folder("model") as folder:
            path = folder / "recogniser.safetensors"
            network.save(result.net, path)
            weights = path.read_bytes()
        parents = [name for name in (request.dataset, request.base, request.validation_dataset) if name]
        details: dict[str, Any] = {
            "dimension": config.embedding,
            "seed": config.seed,
            "settings": self.settings,
            "steps": result.step,
            "alignment": self.alignment,
        }
        if result.evaluations:
            details["best_step"] = result.best_step
            details["validations"] = [dict(record) for record in result.evaluations]
        if forgotten is not None:
            details["forgetting"] = {
                "dataset": forgotten.dataset,
                **{
                    when: {f.name: value for f, value in getattr(forgotten, when).ListFields()}
                    for when in ("before", "after")
                },
            }
        what = "iResNet" if config.architecture == "iresnet" else "residual network"
        loss = {"arcface": "ArcFace", "cosface": "CosFace"}.get(config.loss, "the combined margin")
        return registry.publish(
            self.job.store,
            request.target_model,
            {"recogniser.safetensors": weights},
            service="recognizer",
            kind=config.architecture,
            description=f"{what} with {loss}, trained on {len(train.known)} subjects of {request.dataset}",
            parents=parents,
            terms=inherited_terms(
                [
                    self.dataset.manifest,
                    *([self.base_manifest] if self.base_manifest else []),
                    *self._judged_on,
                ]
            ),
            details=details,
            libraries=["torch", "numpy"],
            beside=curves.files(result, config).items(),
        )


def base_manifest(store: ObjectStore, name: str) -> Manifest:
    """The manifest of a model that can be trained further; InvalidInput for another kind."""
    manifest = registry.open_model(store, name, "recognizer", "base")
    kind = manifest.details["kind"]
    if kind not in TRAINABLE:
        raise InvalidInput("base", f"{name} is a {kind}; {' and '.join(TRAINABLE)} can be trained further")
    return manifest


def read_base(store: ObjectStore, name: str) -> tuple[Manifest, Network]:
    """A model that can be trained further, and its network."""
    from services.recognizer import network

    manifest = base_manifest(store, name)
    with scratch_folder("model") as scratch:
        path = download(store, manifest, scratch)[0]
        return manifest, network.load(manifest.details["kind"], path)


def _message(rates: Rates) -> recognizer_pb2.VerificationRates:
    return recognizer_pb2.VerificationRates(**vars(rates))


def _rate_fields() -> list[str]:
    return [field.name for field in recognizer_pb2.VerificationRates.DESCRIPTOR.fields]


def _start() -> None:
    if launcher.rank() == 0:
        main({NAME: (recognizer_pb2.FineTuneRecognizerRequest, fine_tune)}, "recognizer")
        return
    # Not the first process of several: it hears from that one what to do.
    from services.recognizer import worker
    from services.recognizer.team import join

    team = join()
    worker.work(team)
    team.close()


if __name__ == "__main__":
    _start()
