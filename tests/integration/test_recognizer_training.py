"""What a training of a recogniser can be told: losses, groups, stages, several passes a step, validation."""

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.v1.recognizer_pb2 import TrainingOptions
from services.recognizer import checkpoint, curves, fit, held_out, iresnet, network, order, training_set
from services.recognizer.cells import Cells
from services.recognizer.config import Config
from services.recognizer.held_out import HeldOut
from services.recognizer.margins import MarginLoss, Margins
from services.recognizer.network import Network
from services.recognizer.order import Order
from services.recognizer.team import Team
from services.recognizer.training_set import People

TINY = Config(
    epochs=3,
    batch_size=8,
    size=16,
    widths=(4, 4, 6, 8),
    embedding=8,
    learning_rate=0.05,
    checkpoint_every=4,
    threads=1,
)
DEEP = replace(TINY, architecture="iresnet", depths=(1, 1, 1, 1))


def patterns(classes: int = 6, images: int = 8) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noisy copies of one random 16×16 pattern a class."""
    rng = np.random.default_rng(5)
    own = rng.integers(60, 196, (classes, 1, 16, 16, 3))
    noisy = own + rng.integers(-60, 60, (classes, images, 16, 16, 3))
    return noisy.reshape(-1, 16, 16, 3).astype(np.uint8), np.repeat(np.arange(classes), images)


IMAGES, LABELS = patterns()
CELLS = ["gender=female" if label < 2 else "gender=male" for label in LABELS]
TOTAL = 18


def same_bits(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


@pytest.fixture(scope="module")
def base() -> Network:
    return fit.fit(IMAGES, LABELS, DEEP).net


@pytest.mark.parametrize(
    ("frozen", "trains"),
    [
        (("stem", "stage1", "stage2", "stage3"), ("layer4", "bn2", "fc", "features")),
        (("stem", "stage1", "stage2", "stage3", "stage4"), ("bn2", "fc", "features")),
        ((), ("conv1", "bn1", "prelu", "layer1", "layer2", "layer3", "layer4", "bn2", "fc", "features")),
    ],
    ids=["1,2,3", "1,2,3,4", "none"],
)
def test_exactly_the_frozen_stages_keep_weights_and_running_statistics(
    base: Network, frozen: tuple[str, ...], trains: tuple[str, ...]
) -> None:
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    tuned = fit.fit(IMAGES, LABELS, replace(DEEP, frozen=frozen, seed=4), base=base).net
    moved = {
        name.split(".")[0]
        for name, tensor in tuned.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert moved == set(trains)
    assert torch.equal(tuned.state_dict()["features.weight"], torch.ones(8)), (
        "the last scale is never trained"
    )


def test_statistics_of_frozen_stages_move_only_when_they_are_let(base: Network) -> None:
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    config = replace(DEEP, frozen=("stem", "stage1"), statistics_move=True)
    tuned = fit.fit(IMAGES, LABELS, config, base=base).net
    for name, tensor in tuned.state_dict().items():
        if name.split(".")[0] in ("conv1", "bn1", "prelu", "layer1"):
            statistic = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
            assert torch.equal(tensor, before[name]) != statistic, name


def test_two_passes_of_half_a_batch_are_the_gradient_of_the_whole() -> None:
    # Without batch norms in training mode a mean over two halves is the mean over all.
    still = replace(DEEP, epochs=1, flip=False, frozen=("stem",), clip=1e6)
    whole, halves = replace(still, batch_size=8), replace(still, batch_size=4, accumulation=2)
    torch.manual_seed(3)
    start = iresnet.IResNet(DEEP.shape())  # type: ignore[arg-type]
    found = []
    for config in (whole, halves):
        training = fit._Training(IMAGES, LABELS, config, start, None, None, Team())
        training.net.eval()
        training._passes(0)
        found.append([p.grad for p in training._parameters if p.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_running_statistics_of_a_step_move_once_to_the_mean_over_its_passes() -> None:
    config = replace(DEEP, accumulation=2, batch_size=4, flip=False)
    training = fit._Training(IMAGES, LABELS, config, None, None, None, Team())
    mean, first = training.net.bn1.running_mean.clone(), training.net.bn1.running_var.clone()  # type: ignore[union-attr]
    batches = [training.order.chosen(0, number) for number in (0, 1)]
    with torch.no_grad():
        outputs = [training.net.conv1(order.tensor(IMAGES[b], training.order, 0)) for b in batches]  # type: ignore[operator]
    training._passes(0)
    expected = sum(0.9 * mean + 0.1 * y.mean((0, 2, 3)) for y in outputs) / 2
    torch.testing.assert_close(training.net.bn1.running_mean, expected)  # type: ignore[union-attr]
    variance = sum(0.9 * first + 0.1 * y.var((0, 2, 3)) for y in outputs) / 2
    torch.testing.assert_close(training.net.bn1.running_var, variance)  # type: ignore[union-attr]
    assert training.net.bn1.num_batches_tracked == 1, "one step, whatever its passes"  # type: ignore[union-attr]


@pytest.mark.parametrize(("nesterov", "moved"), [(False, (1.0, 2.9)), (True, (1.9, 4.61))])
def test_momentum_is_plain_or_nesterovs(nesterov: bool, moved: tuple[float, float]) -> None:
    # Gradient 1, momentum 0.9: the buffer is 1, then 1.9. Plain takes the buffer, Nesterov 1 + 0.9 of it.
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = fit._optimiser([weight], replace(TINY, nesterov=nesterov, weight_decay=0.0))
    for after in moved:
        weight.grad = torch.ones(1)
        optimiser.step()
        assert weight.item() == pytest.approx(-TINY.learning_rate * after)


def test_a_step_clips_the_whole_gradient_and_decays_network_and_centres_alike() -> None:
    # Plain descent: θ − rate·(g·clip/‖g‖ + decay·θ), ‖g‖ over everything that is trained.
    config = replace(TINY, momentum=0.0, weight_decay=0.3, clip=0.01, schedule="constant", warmup=0.0)
    training = fit._Training(IMAGES, LABELS, config, None, None, None, Team())
    training._passes(0)
    parameters = dict(training.net.named_parameters()) | {"centres": training.loss.centres}
    gradients = {name: p.grad.double() for name, p in parameters.items() if p.grad is not None}
    assert gradients.keys() == parameters.keys()
    norm = math.sqrt(sum(float((g * g).sum()) for g in gradients.values()))
    assert norm > 1, "it is clipped to a hundredth of this or less"
    expected = {
        name: p.detach().double() - 0.05 * (gradients[name] * 0.01 / norm + 0.3 * p.detach().double())
        for name, p in parameters.items()
    }
    again = fit._Training(IMAGES, LABELS, config, None, None, None, Team())
    again.step()
    assert again.history.norms[0] == pytest.approx(norm, rel=1e-5)
    stepped = dict(again.net.named_parameters()) | {"centres": again.loss.centres}
    for name, value in expected.items():
        torch.testing.assert_close(stepped[name].double(), value, rtol=1e-5, atol=1e-7)


class Scripted:
    """A judge whose values are given; it counts how often it was asked."""

    def __init__(self, *values: float, name: str = "tmr") -> None:
        self.values, self.name, self.asked = values, name, 0

    def __call__(self, net: Network, loss: MarginLoss) -> dict[str, float]:
        self.asked += 1
        return {self.name: self.values[self.asked - 1], "other": 1.0}


def test_validation_comes_at_the_start_after_every_k_epochs_and_at_the_end() -> None:
    config = replace(TINY, epochs=5, validate_every=2)
    result = fit.fit(IMAGES, LABELS, config, judge=Scripted(0.1, 0.2, 0.3, 0.4))
    assert [record["step"] for record in result.evaluations] == [0, 12, 24, 30]
    assert (result.best_step, result.step) == (30, 30)


@pytest.mark.parametrize(
    ("criterion", "values", "best"),
    [
        ("tmr", (0.1, 0.5, 0.3, 0.5), 6),
        ("garbe", (0.9, 0.5, 0.2, 0.3), 12),
        ("worst_group_fnmr", (0.1, 0.5, 0.3, 0.5), 0),
        ("loss", (3.0, 2.0, 1.0, 0.5), 18),
    ],
)
def test_the_best_checkpoint_by_the_named_criterion_is_kept_the_first_of_equals(
    criterion: str, values: tuple[float, ...], best: int
) -> None:
    config = replace(TINY, validate_every=1, criterion=criterion, seed=2)
    states: list[dict[str, torch.Tensor]] = []
    scripted = Scripted(*values, name=criterion)

    def judge(net: Network, loss: MarginLoss) -> dict[str, float]:
        states.append({name: tensor.clone() for name, tensor in net.state_dict().items()})
        return scripted(net, loss)

    result = fit.fit(IMAGES, LABELS, config, judge=judge)
    assert result.best_step == best
    kept = states[best // 6]
    assert all(torch.equal(tensor, kept[name]) for name, tensor in result.net.state_dict().items())


def test_a_training_without_a_better_validation_ends_early() -> None:
    config = replace(TINY, epochs=50, validate_every=1, patience=2)
    result = fit.fit(IMAGES, LABELS, config, judge=Scripted(0.1, 0.3, 0.2, 0.3, 0.9))
    assert (result.step, result.total, result.best_step, result.stopped) == (18, 300, 6, False)


def test_validation_changes_nothing_of_the_training() -> None:
    plain = fit.fit(IMAGES, LABELS, TINY)
    judged = fit.fit(IMAGES, LABELS, replace(TINY, validate_every=1), judge=Scripted(0.1, 0.2, 0.3, 0.4))
    assert same_bits(plain.net, judged.net)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "cosface", "optimiser": "adamw", "learning_rate": 1e-3},
        {"loss": "combined", "margin_multiplier": 1.1, "sample_rate": 0.5, "interclass_filter": 0.4},
        {"accumulation": 2, "sampling": "balanced", "worst_share": 0.5},
        {"precision": "bfloat16", "group_margins": (("gender=female", 0.7),)},
        {"precision": "float16", "epochs": 2},
    ],
    ids=lambda changes: "_".join(changes),
)
def test_every_recipe_learns_and_resumes_in_the_same_bits(changes: dict[str, Any]) -> None:
    config = replace(DEEP, **{"epochs": 4, "validate_every": 1, **changes})
    values = (0.1, 0.4, 0.2, 0.3, 0.2, 0.1, 0.1)
    whole = fit.fit(IMAGES, LABELS, config, cells=CELLS, judge=Scripted(*values))
    tenth = max(whole.total // 10, 2)
    assert whole.losses[-tenth:].mean() < whole.losses[:tenth].mean()
    stop_at = whole.total // 2 + 1
    saved: dict[int, bytes] = {}
    asked = iter(range(1000))
    judge = Scripted(*values)
    fit.fit(
        IMAGES,
        LABELS,
        config,
        cells=CELLS,
        judge=judge,
        on_checkpoint=saved.__setitem__,
        should_stop=lambda: next(asked) == stop_at,
    )
    went_on = fit.fit(IMAGES, LABELS, config, cells=CELLS, judge=judge, checkpoint=saved[stop_at])
    assert same_bits(went_on.net, whole.net)
    assert went_on.evaluations == whole.evaluations
    np.testing.assert_array_equal(went_on.norms, whole.norms)


def test_a_checkpoint_of_a_version_that_had_fewer_settings_is_gone_on_with() -> None:
    saved: dict[int, bytes] = {}
    whole = fit.fit(IMAGES, LABELS, TINY, on_checkpoint=saved.__setitem__)
    old = torch.load(io.BytesIO(saved[8]), weights_only=True)
    for name in ("accumulation", "loss", "passes", "precision", "architecture"):
        del old["settings"][name]
    for name in ("norms", "evaluations", "best", "best_step"):
        del old[name]
    file = io.BytesIO()
    torch.save(old, file)
    assert same_bits(fit.fit(IMAGES, LABELS, TINY, checkpoint=file.getvalue()).net, whole.net)
    with pytest.raises(InvalidInput, match="was made with accumulation 1, this training has 2"):
        fit.fit(IMAGES, LABELS, replace(TINY, accumulation=2), checkpoint=file.getvalue())
    assert checkpoint.read(file.getvalue()).losses == whole.losses[:8].tolist()


def test_balanced_sampling_shows_every_cell_equally_often_and_goes_round_small_ones() -> None:
    cells = np.array([0] * 40 + [1] * 10)
    drawn = Order(replace(TINY, sampling="balanced", batch_size=50), 50, 1, cells)
    epochs = [drawn.chosen(step) for step in range(3)]
    for epoch in epochs:
        images, times = np.unique(epoch, return_counts=True)
        assert np.bincount(cells[epoch]).tolist() == [25, 25]
        assert times[images < 40].max() == 1, "a large cell has no image twice"
        assert set(times[images >= 40]) == {2, 3}
        assert (images >= 40).sum() == 10, "every image of the small cell is there"
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_subject_is_in_the_cell_of_most_of_its_images() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    cells = Cells(labels, 2, ["b", "b", "a", "b", "a"], TINY)
    assert (cells.names, cells.of_classes.tolist()) == (["a", "b"], [1, 0])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "cells", "message"),
    [
        ({"sampling": "balanced"}, None, "sampling: needs the cell of every image"),
        ({"worst_share": 0.5}, None, "worst_share: needs the cell"),
        (
            {"group_margins": (("gender=other", 0.5),)},
            CELLS,
            "gender=other has no image; there are gender=female",
        ),
        ({}, CELLS[1:], "cells: 47 for 48 images"),
        ({"accumulation": 7}, None, r"batch_size: 8 × 7 passes a step is more than there are images \(48\)"),
        (
            {"validate_every": 1, "criterion": "garbe"},
            None,
            "criterion: the held-out images give no garbe; they give tmr",
        ),
    ],
)
def test_what_the_data_cannot_give_is_named(changes: dict[str, Any], cells: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        fit.fit(IMAGES, LABELS, replace(TINY, **changes), cells=cells, judge=Scripted(0.1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patience": 2}, "patience: 2 without a validation"),
        ({"loss": "triplet"}, "loss: 'triplet' is not one of arcface, cosface, combined"),
        ({"group_margins": (("a", 2.0),)}, "group_margins: 2.0 of a is outside 0–1.5"),
        ({"sample_rate": 0.0}, "sample_rate: 0.0 is outside 0–1, 0 excluded"),
        ({"architecture": "vit"}, "architecture: 'vit' is not one of residual, iresnet"),
        ({"loss": "combined", "margin_multiplier": 5.0}, "margin_multiplier: 5.0 is outside 1–4"),
    ],
)
def test_settings_that_are_not_allowed_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(TINY, **values)


def test_rates_are_those_counted_by_hand() -> None:
    # Cosines of six unit vectors in the plane, subjects a, a, b, b, c, c; angles in degrees.
    degrees = np.array([0.0, 10.0, 40.0, 55.0, 120.0, 180.0])
    rows = np.column_stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]).astype(np.float32)
    subjects = ["a", "a", "b", "b", "c", "c"]
    # 12 impostor pairs; apart by 30° (10–40), 40, 45, 55, 65, … At FMR 1/12 the threshold lets only
    # 30° through, so it is the smallest score above cos 40°. Genuine: 10° and 15° match, 60° does not.
    found = held_out.rates(rows, subjects, None, 1 / 12)
    assert found.fmr == pytest.approx(1 / 12)
    assert found.tmr == pytest.approx(2 / 3)
    assert math.cos(math.radians(40)) < found.threshold <= math.cos(math.radians(30)) + 1e-6
    assert (found.worst_group_fnmr, found.garbe) == (None, None)


def test_rates_by_group_have_the_worst_group_and_garbe() -> None:
    # Two groups of two people. h's genuine pairs are 30° and 80° apart, its impostor pairs 20°, 50°, 100°
    # and 130°; g's 5° and 5°, and 115° and more. One of eight impostor pairs may pass: the threshold is the
    # smallest above cos 50°. There FMR is 0 in g and 1/4 in h, FNMR 0 and 1/2.
    degrees = np.array([0.0, 5.0, 120.0, 125.0, 0.0, 30.0, 50.0, 130.0])
    rows = np.column_stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]).astype(np.float32)
    subjects, cells = ["a", "a", "b", "b", "c", "c", "d", "d"], ["g"] * 4 + ["h"] * 4
    found = held_out.rates(rows, subjects, cells, 1 / 8)
    assert (found.fmr, found.tmr, found.worst_group_fnmr) == (1 / 8, 3 / 4, 1 / 2)
    # The Gini of (0, x) is 1, for both.
    assert found.garbe == pytest.approx(1.0)


def test_held_out_people_that_cannot_be_judged_by_are_refused() -> None:
    rows = np.eye(4, dtype=np.float32)
    with pytest.raises(InvalidInput, match="no held-out subject has two images"):
        held_out.rates(rows, ["a", "b", "c", "d"], None, 0.5)
    with pytest.raises(
        InvalidInput, match=r"fmr: undefined at 0\.01: 4 impostor comparisons, at least 100 needed"
    ):
        held_out.rates(rows, ["a", "a", "b", "b"], None, 0.01)
    with pytest.raises(InvalidInput, match="no impostor pair"):
        held_out.rates(rows, ["a", "a", "a", "a"], None, 0.5)
    with pytest.raises(InvalidInput, match=r"others: has nothing to judge by: fmr: undefined at 0\.01: 4 "):
        held_out.check_judgeable(HeldOut(lambda n: IMAGES[n], ["a", "a", "b", "b"]), 0.01, "others")
    held_out.check_judgeable(HeldOut(lambda n: IMAGES[n], ["a", "a", "b", "b"]), 0.25, "others")


def people(*subjects: str, cells: list[str] | None = None) -> People:
    rows = np.arange(len(subjects), dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    return People(lambda numbers: rows[numbers], list(subjects), cells, 0)


def test_people_on_both_sides_are_refused_with_the_list() -> None:
    with pytest.raises(
        InvalidInput, match=r"validation_dataset: 2 of its subjects are trained on: ann, bob"
    ) as caught:
        training_set.check_apart(
            people("ann", "bob", "cy"), people("bob", "ann", "dee"), "validation_dataset"
        )
    assert caught.value.metadata["subjects"] == "ann, bob"
    training_set.check_apart(people("ann"), people("bob"), "validation_dataset")


@pytest.mark.parametrize("kind", [1, 2], ids=["subjects", "images"])
def test_a_split_is_seeded_whole_and_what_it_says(kind: int) -> None:
    everybody = people(*(f"s{number % 20:02}" for number in range(100)))
    options = TrainingOptions(split=kind)  # type: ignore[arg-type]
    train, other = training_set.divided(everybody, options, 0.2, 3)
    again, _ = training_set.divided(everybody, options, 0.2, 3)
    third, _ = training_set.divided(everybody, options, 0.2, 4)
    assert (len(train.subjects), len(other.subjects)) == (80, 20)
    assert train.subjects == again.subjects
    shared = set(train.subjects) & set(other.subjects)
    if kind == 1:
        assert not shared
        assert train.known != third.known
    else:
        assert set(train.subjects) == {f"s{n:02}" for n in range(20)}, "every class is trained on"
    # The images come along with their subjects.
    numbers = train.images(np.arange(80))[:, 0, 0, 0]
    assert [f"s{number % 20:02}" for number in numbers.tolist()] == train.subjects


def test_held_out_images_of_unknown_people_have_no_loss_and_are_counted() -> None:
    config = replace(TINY, validate_every=1, criterion="loss")
    names = [f"s{label}" for label in LABELS]
    strangers = HeldOut(lambda numbers: IMAGES[numbers], [*names[:4], *["x"] * 4])
    judge = held_out.by_loss(strangers, [f"s{n}" for n in range(6)], config)
    result = fit.fit(IMAGES, LABELS, config, judge=judge)
    assert all(record["without_class"] == 4 for record in result.evaluations)
    # By hand: the cross-entropy of the four known images, all of class 0, against all six classes.
    torch.manual_seed(7)
    loss = MarginLoss(6, 8, Margins(angle=0.3), scale=4.0, sample_rate=0.5)
    centres = loss.centres.detach().numpy().astype(np.float64)
    cosines = fit.embed(result.net, IMAGES[:4]) @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T
    logits = np.exp(4 * np.column_stack([np.cos(np.arccos(cosines[:, 0]) + 0.3), cosines[:, 1:]]))
    by_hand = -np.log(logits[:, 0] / logits.sum(axis=1)).mean()
    assert judge(result.net, loss)["loss"] == pytest.approx(by_hand, rel=1e-5)
    nobody = held_out.by_loss(HeldOut(lambda n: IMAGES[n], ["x"] * 8), ["s0"], config)
    with pytest.raises(
        InvalidInput, match="criterion: the held-out images give no loss; they give without_class"
    ):
        fit.fit(IMAGES, LABELS, config, judge=nobody)


def test_one_image_a_subject_trains() -> None:
    result = fit.fit(IMAGES[:16], np.arange(16), replace(TINY, epochs=2))
    assert np.isfinite(result.losses).all()


def test_curves_hold_every_step_and_every_validation() -> None:
    config = replace(TINY, validate_every=1)
    result = fit.fit(IMAGES, LABELS, config, judge=Scripted(0.1, 0.4, 0.2, 0.3))
    steps, validations = curves.steps_table(result, config), curves.validations_table(result)
    assert steps["step"].to_pylist() == list(range(1, TOTAL + 1))
    assert steps["loss"].to_pylist() == result.losses.tolist()
    assert steps["learning_rate"].to_pylist() == [
        fit.learning_rate(config, step, TOTAL) for step in range(TOTAL)
    ]
    assert (steps["gradient_norm"].to_numpy() > 0).all()
    assert validations.to_pydict() == {
        "step": [0, 6, 12, 18],
        "other": [1.0] * 4,
        "tmr": [0.1, 0.4, 0.2, 0.3],
        "best": [False, True, False, False],
    }


def test_a_network_of_either_kind_is_saved_and_loaded_by_its_kind(tmp_path: Path, base: Network) -> None:
    network.save(base, tmp_path / "a.safetensors")
    again = network.load("iresnet", tmp_path / "a.safetensors")
    np.testing.assert_array_equal(fit.embed(again, IMAGES), fit.embed(base, IMAGES))
    with pytest.raises(InvalidInput, match=r"no metadata entry fairloop\.residual"):
        network.load("residual", tmp_path / "a.safetensors")
