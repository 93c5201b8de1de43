"""A classifier's training request as the trainer's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fairloop import names, taxonomy
from fairloop.errors import InvalidInput
from fairloop.preparation.composition import Demand
from fairloop.seeds import check_seed
from fairloop.v1 import annotator_pb2

LOSSES = {
    annotator_pb2.CLASSIFIER_LOSS_UNSPECIFIED: "cross_entropy",
    annotator_pb2.CLASSIFIER_LOSS_CROSS_ENTROPY: "cross_entropy",
    annotator_pb2.CLASSIFIER_LOSS_DAG: "dag",
    annotator_pb2.CLASSIFIER_LOSS_DAW: "daw",
}
TRAINED = {
    annotator_pb2.CLASSIFIER_TRAINED_UNSPECIFIED: "",
    annotator_pb2.CLASSIFIER_TRAINED_HEAD: "head",
    annotator_pb2.CLASSIFIER_TRAINED_TOP: "top",
    annotator_pb2.CLASSIFIER_TRAINED_ALL: "all",
}
ALIGNMENTS = {
    annotator_pb2.CLASSIFIER_ALIGNMENT_UNSPECIFIED: "",
    annotator_pb2.CLASSIFIER_ALIGNMENT_NONE: "none",
    annotator_pb2.CLASSIFIER_ALIGNMENT_LANDMARKS: "landmarks",
}
NUMBERS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "epoch_images",
    "patience",
    "worst_share",
    "worst_share_within",
    "validation_share",
    "test_share",
)
"""Fields where 0 means the default."""
ARCHITECTURES = ("vgg_face", "resnet34", "resnet_small")
"""Names of `classifier_network.ARCHITECTURES`, which needs torch."""
CHANGES = ("blur", "brightness", "crop", "hue", "jpeg", "rotation")
MOST_DEMANDS = 1_000


@dataclass(frozen=True)
class Config:
    """Settings of one training; InvalidInput names the field that is not allowed.

    The defaults are those of the first reference system, but that an epoch
    passes over all images.
    """

    epochs: int = 20
    """1–10,000."""
    batch_size: int = 32
    """Images of a step, 2–4096."""
    learning_rate: float = 1e-3
    """Of Adam, above 0, at most 1."""
    epoch_images: int = 0
    """Images that an epoch draws with replacement, up to 10,000,000; 0: each once."""
    patience: int = 0
    """Epochs without a lower validation loss that end the training, up to 10,000; 0: never."""
    loss: str = "cross_entropy"
    """cross_entropy | dag | daw."""
    worst_share: float = 0.5
    """α over the images (dag) or the groups (daw), above 0, at most 1."""
    worst_share_within: float = 0.9
    """α within a group (daw), above 0, at most 1."""
    class_weights: bool = False
    """Whether rare classes weigh more."""
    trained: str = "all"
    """head | top | all."""
    validation_share: float = 0.15
    """Of the subjects that choose the best epoch, 0–1, both excluded."""
    test_share: float = 0.15
    """Of those that judge the result."""
    seed: int = 0
    """0 … 2⁶³−1."""

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name, allowed in (("loss", tuple(LOSSES.values())[1:]), ("trained", ("head", "top", "all"))):
            if getattr(self, name) not in allowed:
                raise InvalidInput(name, f"{getattr(self, name)!r} is not one of {', '.join(allowed)}")
        for name, least, most in (
            ("epochs", 1, 10_000),
            ("batch_size", 2, 4096),
            ("epoch_images", 0, 10_000_000),
            ("patience", 0, 10_000),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise InvalidInput(name, f"{value!r} is not a whole number in {least}–{most:,}")
        for name in ("learning_rate", "worst_share", "worst_share_within"):
            if not 0 < getattr(self, name) <= 1:
                raise InvalidInput(name, f"{getattr(self, name)} is outside 0–1, 0 excluded")
        for name in ("validation_share", "test_share"):
            if not 0 < getattr(self, name) < 1:
                raise InvalidInput(name, f"{getattr(self, name)} is outside 0–1, both excluded")
        if self.validation_share + self.test_share >= 1:
            raise InvalidInput("test_share", f"{self.test_share} leaves no images to train on")


def settings(request: annotator_pb2.TrainClassifierRequest) -> dict[str, Any]:
    """Keyword arguments of `Config`: what the request sets, and nothing else."""
    options = request.options
    chosen: dict[str, Any] = {"seed": request.seed}
    chosen["loss"] = _named("loss", options.loss, LOSSES)
    trained = _named("trained", options.trained, TRAINED)
    chosen["trained"] = trained or ("head" if request.base else "all")
    for name in NUMBERS:
        if value := getattr(options, name):
            chosen[name] = value
    if options.class_weights:
        chosen["class_weights"] = True
    return chosen


def alignment(request: annotator_pb2.TrainClassifierRequest) -> str:
    """none | landmarks, or "" where the request does not say."""
    return _named("alignment", request.options.alignment, ALIGNMENTS)


def demands(wanted: Sequence[annotator_pb2.ImageDemand]) -> dict[Demand, int]:
    """A composition as `fairloop.preparation.composition` takes it."""
    found: dict[Demand, int] = {}
    if len(wanted) > MOST_DEMANDS:
        raise InvalidInput("composition", f"{len(wanted)} cells; at most {MOST_DEMANDS:,}")
    for one in wanted:
        taxonomy.parse_cell(one.cell, "composition")
        if one.source not in ("real", "synthetic"):
            raise InvalidInput("composition", f"source {one.source!r} is not real or synthetic")
        if one.count < 1:
            raise InvalidInput("composition", f"{one.cell or 'anybody'}: {one.count} is no number of images")
        demand = Demand(one.cell, one.source)
        if demand in found:
            raise InvalidInput("composition", f"{one.source} {one.cell or 'anybody'} stands there twice")
        found[demand] = one.count
    return found


def check(request: annotator_pb2.TrainClassifierRequest) -> None:
    """`InvalidInput` for whatever is wrong with a request without asking the store."""
    names.check("dataset version", request.dataset, "dataset")
    names.check("model", request.target_model, "target_model")
    taxonomy.values(request.attribute)
    for field in ("validation_dataset", "test_dataset"):
        if value := getattr(request, field):
            names.check("dataset version", value, field)
    if bool(request.base) == bool(request.architecture):
        both = "both are named" if request.base else "neither is named"
        raise InvalidInput("base", f"a base or an architecture ({', '.join(ARCHITECTURES)}): {both}")
    if request.base:
        names.check("model version", request.base, "base")
    elif request.architecture not in ARCHITECTURES:
        raise InvalidInput(
            "architecture", f"{request.architecture!r} is not one of {', '.join(ARCHITECTURES)}"
        )
    options = request.options
    chosen = Config(**settings(request))
    alignment(request)
    demands(request.composition)
    if chosen.trained != "all" and request.architecture:
        raise InvalidInput("trained", f"{chosen.trained!r} without a base: there is nothing learnt to keep")
    for position, attribute in enumerate(options.group_by):
        taxonomy.values(attribute)
        if attribute in options.group_by[:position]:
            raise InvalidInput("group_by", f"{attribute} stands there twice")
    if chosen.loss == "daw" and not options.group_by:
        raise InvalidInput("group_by", "names no attribute, and the loss is over groups")
    for change in options.robustness:
        if change not in CHANGES:
            raise InvalidInput("robustness", f"{change!r} is not one of {', '.join(CHANGES)}")
    for field in ("validation", "test"):
        if getattr(request, f"{field}_dataset") and getattr(options, f"{field}_share"):
            raise InvalidInput(f"{field}_share", "stands beside a dataset that is held out as a whole")


def _named(field: str, value: int, allowed: dict[Any, str]) -> str:
    if value not in allowed:
        raise InvalidInput(field, f"{value} is none that this version knows")
    return allowed[value]
