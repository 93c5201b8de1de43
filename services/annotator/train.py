"""Training process: `python -m services.annotator.train --operation operations/{id}`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fairloop import registry
from fairloop.dataset import Dataset
from fairloop.errors import PreconditionFailed
from fairloop.manifest import Manifest, inherited_terms
from fairloop.preparation.composition import Demand
from fairloop.scratch import scratch_folder
from fairloop.serving import launcher
from fairloop.serving.methods import Method, Pools
from fairloop.serving.training import Stopped, TrainingJob, main
from fairloop.store import ObjectStore
from fairloop.table_store import PREDICTIONS, TableWriter, to_parquet
from fairloop.tables import prediction_schema
from fairloop.v1 import annotator_pb2
from services.annotator import classifier, classifier_options
from services.annotator.classifier_options import Config
from services.annotator.classifier_samples import (
    Sample,
    cell_of,
    check_apart,
    classes_of,
    composed,
    divided,
    group_numbers,
    groups,
    samples,
)

if TYPE_CHECKING:
    # Not when it runs: torch takes seconds to import, in which the heartbeat must go.
    from services.annotator.classifier_evaluation import Judged
    from services.annotator.classifier_fit import Items, Result
    from services.annotator.classifier_inputs import Read
    from services.annotator.classifier_network import Classifier, Meaning

NAME = "AnnotatorService.TrainClassifier"
KEPT_CHECKPOINTS = 2
"""The one before the last is for a last one that was not written whole."""
HELD_OUT = ("validation", "test")
EVALUATION, CURVE = "evaluation.json", "epochs.parquet"
CURVE_SCHEMA = "fairloop.classifier_epochs/1"
ROWS = 10_000
"""Predictions that are written at a time."""


def train_classifier(job: TrainingJob) -> annotator_pb2.TrainClassifierResult:
    """Trains a network to guess one attribute, judges it, and publishes it as an annotator."""
    if launcher.count() > 1:
        raise PreconditionFailed(f"a classifier trains in one process; {launcher.count()} were started")
    classifier.check_installed()
    with ExitStack() as open_files:
        return _Recipe(job, open_files).run()


class _Recipe:
    """One training of one request: what it reads, what it trains, what it makes of it."""

    def __init__(self, job: TrainingJob, open_files: ExitStack) -> None:
        self.job, self._files = job, open_files
        self.request: annotator_pb2.TrainClassifierRequest = job.request
        self.config = Config(**classifier_options.settings(self.request))
        self.group_by = tuple(self.request.options.group_by)
        self.lacking: Mapping[Demand, int] = {}
        self.without_label = 0
        self.base: Manifest | None = None
        self.datasets: dict[str, Dataset] = {"train": Dataset.open(job.store, self.request.dataset)}
        for part in HELD_OUT:
            if name := getattr(self.request, f"{part}_dataset"):
                self.datasets[part] = Dataset.open(job.store, name)

    def run(self) -> annotator_pb2.TrainClassifierResult:
        from services.annotator.classifier_inputs import parted
        from services.annotator.torch_device import prepared

        parts = self._samples()
        classes = classes_of(parts["train"], {part: parts[part] for part in HELD_OUT}, self.request.attribute)
        net, meaning = self._network(classes)
        net.to(prepared())
        _, trained = parted(net, self.config.trained)
        read = self._read(net, meaning, parts)
        items = self._items(read, classes)
        result = self._fit(trained, items, len(classes))
        judged = self._judged(trained, items["test"], read["test"].samples, meaning)
        evaluation = self._evaluation(judged, net, read["test"])
        self.job.confirm()
        model = self._publish(net, meaning, result, evaluation, len(items["train"]))
        predictions = self._predictions(model, judged, read["test"].samples)
        overall = evaluation["tables"][0]
        low, high = overall["accuracy_interval"] or (overall["accuracy"],) * 2
        return annotator_pb2.TrainClassifierResult(
            model=model.name,
            predictions=predictions.name,
            epochs=result.history.epochs,
            best_epoch=result.history.best_epoch,
            train_images=len(items["train"]),
            validation_images=len(items["validation"]),
            test_images=len(items["test"]),
            without_label=self.without_label,
            without_face=sum(one.without_face for one in read.values()),
            lacking=[
                annotator_pb2.ImageDemand(cell=demand.cell, source=demand.source, count=count)
                for demand, count in sorted(self.lacking.items())
            ],
            accuracy=overall["accuracy"],
            accuracy_low=low,
            accuracy_high=high,
            evaluation_json=json.dumps(evaluation, ensure_ascii=False, allow_nan=False),
        )

    def _samples(self) -> dict[str, list[Sample]]:
        """The images of each part: those held out first, then what the composition takes of the rest."""
        found: dict[str, list[Sample]] = {}
        grouped = self.config.loss == "daw"
        for part, dataset in self.datasets.items():
            found[part], without = samples(dataset, self.request.attribute, self.group_by, grouped=grouped)
            self.without_label += without
        missing = {part: part not in found for part in HELD_OUT}
        found |= divided(found["train"], self.config, **missing)
        found["train"], self.lacking = composed(
            found["train"],
            classifier_options.demands(self.request.composition),
            self.config.seed,
            take=self.request.options.take_what_there_is,
        )
        for part in HELD_OUT:
            if not missing[part]:
                check_apart(found["train"], found[part], f"{part}_dataset")
        return found

    def _network(self, classes: tuple[str, ...]) -> tuple[Classifier, Meaning]:
        from services.annotator import classifier_network

        wanted = classifier_options.alignment(self.request)
        seed = self.config.seed
        if not self.request.base:
            shape = classifier_network.ARCHITECTURES[self.request.architecture]
            base = classifier_network.fresh(shape, seed)
        else:
            kinds = (classifier.KIND, classifier.BASE_KIND)
            self.base = classifier.opened(self.job.store, self.request.base, "base", kinds)
            base, was = classifier.read(self.job.store, self.base)
            wanted = wanted or was.alignment
        meaning = classifier_network.Meaning(self.request.attribute, classes, wanted or "none")
        return classifier_network.with_head(base, len(classes), seed), meaning

    def _read(self, net: Classifier, meaning: Meaning, parts: Mapping[str, list[Sample]]) -> dict[str, Read]:
        from services.annotator import detectors
        from services.annotator.classifier_inputs import Reader

        detector = detectors.load() if meaning.alignment == "landmarks" else None
        reader = Reader(net, self.config.trained, meaning.alignment, detector, self._files)
        keep = ("test",) if self.request.options.robustness else ()

        def tell(done: int, total: int) -> None:
            self.job.progress("reading", done, total, "images")
            if self.job.should_stop():
                raise Stopped(self.job.name)

        found: dict[str, Read] = {}
        first = {
            part: chosen for part, chosen in parts.items() if part == "train" or part not in self.datasets
        }
        found |= reader.read(self.datasets["train"], first, keep_chips=keep, tell=tell)
        for part in HELD_OUT:
            if part in self.datasets:
                found |= reader.read(self.datasets[part], {part: parts[part]}, keep_chips=keep, tell=tell)
        return found

    def _items(self, read: Mapping[str, Read], classes: tuple[str, ...]) -> dict[str, Items]:
        import numpy as np

        from services.annotator.classifier_fit import Items

        cells: list[str] = []
        if self.config.loss == "daw":
            everybody = [sample for one in read.values() for sample in one.samples]
            cells = sorted({cell_of(sample, self.group_by) for sample in everybody})
        return {
            part: Items(
                one.inputs,
                np.array([classes.index(sample.label) for sample in one.samples], np.int64),
                group_numbers(one.samples, self.group_by, cells) if cells else None,
            )
            for part, one in read.items()
        }

    def _fit(self, trained: Any, items: Mapping[str, Items], classes: int) -> Result:
        from services.annotator import classifier_fit

        job = self.job
        scratch = self._files.enter_context(scratch_folder("training"))
        found = job.latest_checkpoint_file(scratch / "found")

        def save(epoch: int, write: Any) -> None:
            write(scratch / "made")
            job.save_checkpoint_file(epoch, scratch / "made", KEPT_CHECKPOINTS)

        result = classifier_fit.fit(
            trained,
            items["train"],
            items["validation"],
            self.config,
            classes=classes,
            checkpoint=None if found is None else scratch / "found",
            hooks=classifier_fit.Hooks(
                save,
                lambda step, total, loss: job.progress("training", step, total, "steps", loss=loss),
                job.should_stop,
            ),
        )
        if result.stopped:
            raise Stopped(job.name)
        return result

    def _judged(self, trained: Any, test: Items, chosen: list[Sample], meaning: Meaning) -> Judged:
        from services.annotator.classifier_evaluation import Judged
        from services.annotator.classifier_fit import logits
        from services.annotator.classifier_inputs import probabilities

        return Judged(
            attribute=meaning.attribute,
            classes=meaning.classes,
            truth=[sample.label for sample in chosen],
            probabilities=probabilities(logits(trained, test).numpy()),
            subjects=[sample.subject_id for sample in chosen],
            groups=groups(chosen, self.group_by),
            seed=self.config.seed,
        )

    def _evaluation(self, judged: Judged, net: Classifier, test: Read) -> dict[str, Any]:
        from services.annotator import classifier_evaluation
        from services.annotator.classifier_inputs import through
        from services.annotator.classifier_network import pixels

        def tell(done: int, total: int) -> None:
            self.job.progress("judging on worse pictures", done, total, "changes")
            if self.job.should_stop():
                raise Stopped(self.job.name)

        found = classifier_evaluation.evaluation(judged)
        if self.request.options.robustness:
            assert test.chips is not None, "chips were kept"
            net.eval()
            found["robustness"] = classifier_evaluation.robustness(
                judged,
                test.chips,
                lambda images: through(net, pixels(images, net.shape)),
                list(self.request.options.robustness),
                tell,
            )
        return found

    def _publish(
        self, net: Classifier, meaning: Meaning, result: Result, evaluation: dict[str, Any], images: int
    ) -> Manifest:
        from services.annotator import classifier_network

        request, history = self.request, result.history
        with scratch_folder("model") as folder:
            path = folder / classifier.FILE
            classifier_network.save(net, meaning, path)
            weights = path.read_bytes()
        parents = [request.dataset, request.base, request.validation_dataset, request.test_dataset]
        about = f"{net.shape.family}, {', '.join(meaning.classes)}"
        return registry.publish(
            self.job.store,
            request.target_model,
            {classifier.FILE: weights},
            service="annotator",
            kind=classifier.KIND,
            description=f"Perceived {meaning.attribute} ({about}), trained on {images:,} images",
            parents=list(dict.fromkeys(name for name in parents if name)),
            terms=inherited_terms(
                [*(one.manifest for one in self.datasets.values()), *([self.base] if self.base else [])]
            ),
            details={
                "attribute": meaning.attribute,
                "classes": list(meaning.classes),
                "alignment": meaning.alignment,
                "seed": self.config.seed,
                "settings": classifier_options.settings(request),
                "epochs": history.epochs,
                "best_epoch": history.best_epoch,
                "accuracy": evaluation["tables"][0]["accuracy"],
                "test_images": evaluation["images"],
            },
            libraries=["torch", "numpy"],
            beside=[
                (EVALUATION, json.dumps(evaluation, ensure_ascii=False, allow_nan=False).encode()),
                (CURVE, curve_file(result)),
            ],
        )

    def _predictions(self, model: Manifest, judged: Judged, chosen: list[Sample]) -> Manifest:
        """What the classifier says of the test images, as a table."""
        table = TableWriter(
            self.job.store,
            PREDICTIONS,
            prediction_schema(),
            [self.datasets.get("test", self.datasets["train"]).name, model.name],
        )
        two = len(judged.classes) == 2
        records = [
            {
                "image_id": sample.image_id,
                "subject_id": sample.subject_id,
                "truth": sample.label,
                "predicted": predicted,
                "score": float(score) if two else None,
            }
            for sample, predicted, score in zip(chosen, judged.predicted, judged.scores, strict=True)
        ]
        try:
            for start in range(0, len(records), ROWS):
                table.add(to_parquet(records[start : start + ROWS], prediction_schema()))
            return table.finish(
                {"images": len(records)},
                model.terms,
                {"model": model.name, "positive": judged.positive},
            )
        except BaseException:
            table.discard()
            raise


def curve_file(result: Result) -> bytes:
    """The epochs as a Parquet file: number, losses, accuracy, whether it was the best."""
    from services.annotator.classifier_fit import curve

    table = pa.Table.from_pylist(curve(result.history)).replace_schema_metadata({"schema": CURVE_SCHEMA})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def make_method(store: ObjectStore, pools: Pools, unload: Callable[[], int]) -> Method:
    """The method as a server has it: it checks requests, `unload`s, and leaves the work to this process."""

    async def validate(request: annotator_pb2.TrainClassifierRequest) -> None:
        classifier_options.check(request)
        group_by = list(request.options.group_by)
        for name in (request.dataset, request.validation_dataset, request.test_dataset):
            if name:
                dataset = await pools.io(Dataset.open, store, name)
                await pools.io(samples, dataset, request.attribute, group_by)
        if request.base:
            kinds = (classifier.KIND, classifier.BASE_KIND)
            await pools.io(classifier.opened, store, request.base, "base", kinds)

    return Method(
        NAME,
        annotator_pb2.TrainClassifierRequest,
        validate,
        trainer="services.annotator.train",
        unload=unload,
    )


if __name__ == "__main__" and not launcher.rank():  # of several, the first says that one is enough
    main({NAME: (annotator_pb2.TrainClassifierRequest, train_classifier)}, "annotator")
