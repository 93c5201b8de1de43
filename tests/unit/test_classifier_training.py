"""What a classifier's training does: losses, what is frozen, epochs, early stopping, going on, judging."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from fairloop.commands import classifying
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.preparation.composition import Demand
from fairloop.stats.risk import cvar as measured_cvar
from fairloop.v1.annotator_pb2 import (
    CLASSIFIER_LOSS_DAW,
    CLASSIFIER_TRAINED_HEAD,
    ClassifierOptions,
    ImageDemand,
    TrainClassifierRequest,
)
from services.annotator import classifier_options
from services.annotator.classifier_fit import Hooks, Items, batches, class_weights, draws, fit
from services.annotator.classifier_inputs import parted
from services.annotator.classifier_losses import cvar, image_losses, risk
from services.annotator.classifier_network import Shape, fresh, pixels, with_head
from services.annotator.classifier_options import Config
from services.annotator.classifier_samples import Sample, check_apart, classes_of, composed, divided

TINY_VGG = Shape("vgg", 32, (3, 3, 4, 4, 6), (1, 1, 1, 1, 1), dense=8, outputs=5)
TINY_RESNET = Shape("resnet", 32, (4, 4, 6, 8), (1, 1, 1, 1), outputs=5)
CONFIG = Config(epochs=3, batch_size=8, seed=3)


def patterns(count: int, seed: int, side: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noise of two brightnesses, and which of the two each image is."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    images = rng.integers(0, 120, (count, side, side, 3)) + 100 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


def items(count: int, seed: int, shape: Shape = TINY_RESNET, grouped: bool = False) -> Items:
    images, labels = patterns(count, seed)
    groups = np.arange(count) % 3 if grouped else None
    return Items(lambda chosen: pixels(images[chosen], shape), labels, groups)


TRAIN, VALIDATION = items(40, 1), items(24, 2)


def network(shape: Shape = TINY_RESNET) -> nn.Sequential:
    return parted(with_head(fresh(shape, 1), 2, seed=1), "all")[1]


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.9, 1.0])
def test_the_loss_of_the_worst_is_the_measured_cvar(alpha: float) -> None:
    losses = np.random.default_rng(7).exponential(1, 23)
    assert float(cvar(torch.tensor(losses), alpha)) == pytest.approx(float(measured_cvar(losses, alpha)))
    assert float(cvar(torch.tensor([1.0, 2, 3, 4]), 0.5)) == 3.5


def test_dag_is_over_images_and_daw_over_groups_of_images() -> None:
    losses = torch.tensor([1.0, 2, 3, 4, 10, 20])
    groups = torch.tensor([5, 5, 7, 7, 9, 9])
    assert float(risk(losses, None, "cross_entropy", 0.5, 0.9)) == pytest.approx(40 / 6)
    assert float(risk(losses, None, "dag", 0.5, 0.9)) == pytest.approx(34 / 3)
    # Of two losses a, b: share .9 of 2 is 1.8, so (b + .8 a) / 1.8. Half of three groups is 1.5.
    within = [(2 + 0.8 * 1) / 1.8, (4 + 0.8 * 3) / 1.8, (20 + 0.8 * 10) / 1.8]
    assert float(risk(losses, groups, "daw", 0.5, 0.9)) == pytest.approx((within[2] + 0.5 * within[1]) / 1.5)


def test_the_gradient_of_the_worst_goes_to_the_worst_alone() -> None:
    losses = torch.tensor([1.0, 4.0, 2.0, 3.0], requires_grad=True)
    cvar(losses, 0.5).backward()  # type: ignore[no-untyped-call]
    assert losses.grad is not None
    assert losses.grad.tolist() == [0.0, 0.5, 0.0, 0.5]


def test_of_two_classes_the_loss_is_the_binary_cross_entropy() -> None:
    logits, labels = torch.randn(9, 2), torch.tensor([0, 1] * 4 + [1])
    expected = nn.functional.binary_cross_entropy_with_logits(
        logits[:, 1] - logits[:, 0], labels.float(), reduction="none"
    )
    torch.testing.assert_close(image_losses(logits, labels), expected)


def test_class_weights_are_those_of_scikit_learn() -> None:
    labels = np.array([0] * 5 + [1] * 3 + [2] * 12)
    weights = class_weights(labels, 3)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)
    losses = image_losses(torch.zeros(20, 3), torch.from_numpy(labels), weights)
    np.testing.assert_allclose(losses.numpy(), np.log(3) * expected[labels], rtol=1e-6)


def test_an_epoch_draws_512_with_replacement_or_takes_every_image_once() -> None:
    plain = draws(CONFIG, 4, 100)
    assert sorted(plain.tolist()) == list(range(100))
    assert plain.tolist() == draws(CONFIG, 4, 100).tolist()
    assert plain.tolist() != draws(CONFIG, 5, 100).tolist()
    drawn = draws(replace(CONFIG, epoch_images=512), 0, 100)
    assert len(drawn) == 512
    assert set(drawn.tolist()) <= set(range(100))
    assert [len(step) for step in batches(np.arange(20), 8)] == [8, 8, 4]
    assert [len(step) for step in batches(np.arange(17), 8)] == [8, 8]


@pytest.mark.parametrize("shape", [TINY_VGG, TINY_RESNET])
@pytest.mark.parametrize("trained", ["head", "top"])
def test_what_is_frozen_stays_and_what_is_trained_moves(shape: Shape, trained: str) -> None:
    net = with_head(fresh(shape, 1), 2, seed=1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    frozen, rest = parted(net, trained)
    images, labels = patterns(24, 1)

    def inputs(chosen: NDArray[np.int64]) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = frozen(pixels(images[chosen], shape))
        return found

    both = Items(inputs, labels)
    fit(rest, both, both, replace(CONFIG, epochs=2), classes=2)
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    parts = {"head": ("head.",), "top": ("head.", "top.")}[trained]
    assert moved
    assert all(name.startswith(parts) for name in moved)
    assert any(name.startswith(parts[-1]) for name in moved)


def test_it_learns_what_can_be_learnt() -> None:
    config = replace(CONFIG, epochs=6, learning_rate=0.005)
    history = fit(network(), TRAIN, VALIDATION, config, classes=2).history
    assert history.epochs == 6
    assert history.validation_accuracy[history.best_epoch - 1] > 0.9
    assert history.validation_loss[history.best_epoch - 1] < np.log(2) / 2


def test_a_training_that_gets_no_better_ends_and_keeps_its_best_epoch() -> None:
    # Labels that say nothing of the images: what is learnt by heart makes the validation worse.
    images, labels = patterns(40, 1)
    shuffled = np.random.default_rng(0).permutation(labels)
    train = Items(lambda chosen: pixels(images[chosen], TINY_RESNET), shuffled)
    config = replace(CONFIG, epochs=60, patience=3, learning_rate=0.02)
    states: dict[int, Any] = {}
    net = network()

    def keep(epoch: int, write: Callable[[Path], None]) -> None:
        states[epoch] = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    history = fit(net, train, VALIDATION, config, classes=2, hooks=Hooks(on_checkpoint=keep)).history
    assert history.epochs < 60
    assert history.best_epoch == int(np.argmin(history.validation_loss)) + 1 == history.epochs - 3
    best, last = states[history.best_epoch], states[history.epochs]
    assert all(torch.equal(tensor, best[name]) for name, tensor in net.state_dict().items())
    assert not all(torch.equal(tensor, last[name]) for name, tensor in best.items())


@pytest.mark.parametrize(("loss", "shape"), [("cross_entropy", TINY_RESNET), ("daw", TINY_VGG)])
def test_a_training_that_goes_on_from_a_checkpoint_ends_in_the_same_bits(
    loss: str, shape: Shape, tmp_path: Path
) -> None:
    train, validation = items(40, 1, shape, grouped=True), items(24, 2, shape, grouped=True)
    config = replace(CONFIG, loss=loss, epoch_images=30, class_weights=True)
    whole = fit(network(shape), train, validation, config, classes=2)

    asked = iter([False] * 6 + [True] * 10)
    first = fit(
        network(shape),
        train,
        validation,
        config,
        classes=2,
        hooks=Hooks(lambda epoch, write: write(tmp_path / f"{epoch}"), should_stop=asked.__next__),
    )
    assert first.stopped
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    again = fit(network(shape), train, validation, config, classes=2, checkpoint=tmp_path / "1")
    assert same_bits(again.net, whole.net)
    assert again.history == whole.history
    with pytest.raises(InvalidInput, match=r"was made with seed 3, this training has 4"):
        fit(network(shape), train, validation, replace(config, seed=4), classes=2, checkpoint=tmp_path / "1")
    (tmp_path / "other").write_bytes(b"no checkpoint")
    with pytest.raises(InvalidInput, match="is not one of this training"):
        fit(network(shape), train, validation, config, classes=2, checkpoint=tmp_path / "other")


def test_a_training_that_diverges_names_its_rate_and_epoch() -> None:
    nan = Items(lambda chosen: torch.full((len(chosen), 3, 32, 32), float("nan")), TRAIN.labels)
    with pytest.raises(InvalidInput, match=r"learning_rate.*diverged in epoch 1.*under 0\.001"):
        fit(network(), nan, VALIDATION, CONFIG, classes=2)


def sample(number: int, label: str, source: str = "real", subject: str | None = None, **more: str) -> Sample:
    labels = {"race": label, **more}
    return Sample(number, f"{number:032x}", subject, label, labels, source)


def test_only_real_images_are_held_out_and_nobody_stands_on_two_sides() -> None:
    everything = [
        sample(number, ("white", "black")[number // 2 % 2], subject=f"person:{number // 2}")
        for number in range(80)
    ]
    # Synthetic images of people who are there in real ones, too.
    everything += [sample(100 + n, "white", "synthetic", f"person:{n}") for n in range(40)]
    everything += [sample(200 + n, "black", "synthetic") for n in range(20)]
    found = divided(everything, Config(validation_share=0.2, test_share=0.3), validation=True, test=True)
    assert [len(found[part]) for part in ("validation", "test")] == [16, 24]
    assert {one.source for part in ("validation", "test") for one in found[part]} == {"real"}
    for part in ("validation", "test"):
        check_apart(found["train"], found[part], part)
        assert {label: sum(one.label == label for one in found[part]) for label in ("white", "black")} == {
            "white": len(found[part]) // 2,
            "black": len(found[part]) // 2,
        }
    assert sum(one.source == "synthetic" and one.subject_id is None for one in found["train"]) == 20
    assert list(divided(everything, Config(), validation=False, test=False)) == ["train"]
    with pytest.raises(InvalidInput, match=r"test_dataset.*2 of its images are trained on"):
        check_apart(everything, everything[3:5], "test_dataset")


def test_the_composition_is_exactly_what_was_asked_for() -> None:
    train = [sample(n, "white") for n in range(30)] + [sample(50 + n, "black") for n in range(8)]
    train += [sample(100 + n, "black", "synthetic") for n in range(30)]
    wanted = {Demand("race=white", "real"): 12, Demand("race=black", "synthetic"): 9}
    found, lacking = composed(train, wanted, seed=1, take=False)
    assert len(found) == 21
    assert sum(one.label == "white" and one.source == "real" for one in found) == 12
    assert sum(one.label == "black" and one.source == "synthetic" for one in found) == 9
    assert not lacking
    more = {Demand("race=black", "real"): 20}
    with pytest.raises(PreconditionFailed, match="real race=black: 8 of 20"):
        composed(train, more, seed=1, take=False)
    some, lacking = composed(train, more, seed=1, take=True)
    assert len(some) == 8
    assert lacking == {Demand("race=black", "real"): 12}


def test_classes_are_those_that_occur_in_canonical_order_and_none_is_only_held_out() -> None:
    train = [sample(1, "indian"), sample(2, "black"), sample(3, "white")]
    assert classes_of(train, {}, "race") == ("white", "black", "indian")
    with pytest.raises(PreconditionFailed, match="no training image is of middle_eastern, which test"):
        classes_of(train, {"test": [sample(4, "middle_eastern")]}, "race")
    with pytest.raises(PreconditionFailed, match=r"have 1 classes \(white\)"):
        classes_of(train[2:], {}, "race")


def request(**options: Any) -> TrainClassifierRequest:
    return TrainClassifierRequest(
        dataset=f"datasets/x/versions/{'a' * 16}",
        target_model="models/y",
        attribute="race",
        architecture="resnet_small",
        options=ClassifierOptions(**options),
    )


def test_requests_are_checked_field_by_field() -> None:
    classifier_options.check(request())
    assert classifier_options.settings(request(epochs=4)) == {
        "seed": 0,
        "loss": "cross_entropy",
        "trained": "all",
        "epochs": 4,
    }
    based = request()
    based.base, based.architecture = f"models/b/versions/{'b' * 16}", ""
    assert classifier_options.settings(based)["trained"] == "head"
    both = request()
    both.base = based.base
    twice = request()
    twice.composition.extend([ImageDemand(cell="race=white", source="real", count=1)] * 2)
    held = request(test_share=0.2)
    held.test_dataset = held.dataset
    for field, wrong in {
        "base": both,
        "composition": twice,
        "test_share": held,
        "epochs": request(epochs=-1),
        "batch_size": request(batch_size=1),
        "learning_rate": request(learning_rate=2.0),
        "worst_share": request(worst_share=1.5),
        "validation_share": request(validation_share=1.0),
        "trained": request(trained=CLASSIFIER_TRAINED_HEAD),
        "group_by": request(loss=CLASSIFIER_LOSS_DAW),
        "robustness": request(robustness=["snow"]),
        "loss": request(loss=17),
    }.items():
        with pytest.raises(InvalidInput, match=field) as error:
            classifier_options.check(wrong)
        assert str(error.value).startswith(field)


def test_the_command_asks_for_what_its_options_say() -> None:
    options = {
        **dict.fromkeys(("epochs", "epoch_images", "patience", "batch_size", "seed"), 7),
        "learning_rate": 0.25,
        "loss": "daw",
        "class_weights": True,
        "groups": ("gender",),
        "take_what_there_is": False,
        "changes": ("all",),
        "trained": "top",
        "align": True,
        "architecture": None,
        "demands": ("age=3_9,gender=male:real:30", ":synthetic:5"),
    }
    made = classifying._request("race", "x", options)
    made.base, made.dataset = f"models/b/versions/{'b' * 16}", f"datasets/x/versions/{'a' * 16}"
    classifier_options.check(made)
    assert made.target_model == "models/x"
    assert tuple(made.options.robustness) == classifier_options.CHANGES
    chosen = Config(**classifier_options.settings(made))
    assert (chosen.loss, chosen.trained, chosen.epoch_images) == ("daw", "top", 7)
    assert classifier_options.alignment(made) == "landmarks"
    assert classifier_options.demands(made.composition) == {
        Demand("age=3_9,gender=male", "real"): 30,
        Demand("", "synthetic"): 5,
    }
    wrong = CliRunner().invoke(
        classifying.train_classifier, ["datasets/x", "race", "--name", "x", "--images", "race=white:30"]
    )
    assert wrong.exit_code == 2
    assert "'race=white:30' is not CELL:SOURCE:COUNT" in wrong.output
