"""Classifiers learn what can be seen on a face, and learn nothing where there is nothing to learn.

The label is whether a rendered face's skin is lighter than that of half of them,
by the annotator `ita`: an angle in CIELAB, of skin against the light around it,
which follows from no single place of the picture.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from services.annotator import classifier_network
from services.annotator.classifier_fit import Items, fit, logits
from services.annotator.classifier_inputs import parted, through
from services.annotator.classifier_network import ARCHITECTURES, Classifier, fresh, pixels, with_head
from services.annotator.classifier_options import Config
from services.annotator.describe import describe
from services.annotator.detector import Detector
from services.annotator.ita import ItaTone
from tests.support.rendered_subjects import rendered_subjects

pytestmark = [pytest.mark.annotator, pytest.mark.timeout(1800)]

SEEDS = (0, 1, 2)
SHAPE = ARCHITECTURES["resnet_small"]
CONFIG = Config(epochs=12, patience=5, learning_rate=0.003)
TRAIN, VALIDATION, TEST = slice(0, 1200), slice(1200, 1500), slice(1500, 2000)


@dataclass(frozen=True)
class Faces:
    """One face of each of 2,000 rendered subjects; `thirds` says which third of the brightness it is in."""

    images: NDArray[np.uint8]
    light: NDArray[np.int64]
    thirds: NDArray[np.int64]


@functools.cache
def faces() -> Faces:
    images, _ = rendered_subjects(11, 2000, 1)
    rows = describe(list(images), [ItaTone.load()], Detector.load(), cropped=True)
    found = [row.guesses["skin_tone_band", "ita"].value for row in rows]
    angles = np.array([np.nan if angle is None else angle for angle in found])
    bright = images.reshape(len(images), -1).mean(axis=1)
    thirds = np.searchsorted(np.quantile(bright, [1 / 3, 2 / 3]), bright)
    return Faces(images, (angles > np.nanmedian(angles)).astype(np.int64), thirds)


def items(part: slice, labels: NDArray[np.int64], net: Classifier | None = None) -> Items:
    """A part of the faces; with a network, what its frozen parts give of them."""
    found = faces()
    images = found.images[part]
    if net is None:
        return Items(lambda chosen: pixels(images[chosen], SHAPE), labels[part], found.thirds[part])
    frozen, _ = parted(net, "head")
    features = np.concatenate(
        [through(frozen, pixels(images[s : s + 64], SHAPE)) for s in range(0, len(images), 64)]
    )
    return Items(lambda chosen: torch.from_numpy(features[chosen]), labels[part], found.thirds[part])


def above_chance(right: Sequence[bool], labels: NDArray[np.int64]) -> float:
    """p of as many right answers, were each right with the probability of the commoner class."""
    chance = max(labels.mean(), 1 - labels.mean())
    return float(binomtest(int(np.sum(right)), len(right), chance, alternative="greater").pvalue)


def judged(config: Config, labels: NDArray[np.int64], base: Classifier | None = None) -> tuple[float, float]:
    """Accuracy on the test faces, and its p."""
    net = with_head(base or fresh(SHAPE, config.seed), 2, config.seed)
    _, rest = parted(net, config.trained)
    seen = None if base is None else net
    fit(rest, items(TRAIN, labels, seen), items(VALIDATION, labels, seen), config, classes=2)
    truth = labels[TEST]
    right = logits(rest, items(TEST, labels, seen)).argmax(1).numpy() == truth
    return float(right.mean()), above_chance(right.tolist(), truth)


def test_held_out_faces_are_known_above_chance_in_every_seed_and_with_shuffled_labels_in_none() -> None:
    labels = faces().light
    print(f"\n{labels.mean():.3f} of {len(labels)} faces are lighter than the median by ita")
    for seed in SEEDS:
        config = Config(**{**vars(CONFIG), "seed": seed})
        accuracy, p = judged(config, labels)
        # Those of the test faces, too: against the true ones, any function of the pixels is off chance.
        control, control_p = judged(config, np.random.default_rng(seed).permutation(labels))
        print(f"seed {seed}: {accuracy:.3f} (p {p:.1e}); shuffled labels {control:.3f} (p {control_p:.2f})")
        assert p < 0.01
        assert control_p > 0.01


@pytest.mark.parametrize("loss", ["dag", "daw"])
def test_the_losses_of_the_worst_learn_too(loss: str) -> None:
    accuracy, p = judged(Config(**{**vars(CONFIG), "loss": loss, "class_weights": True}), faces().light)
    print(f"\n{loss}: {accuracy:.3f} (p {p:.1e})")
    assert p < 0.01


def test_a_new_head_on_a_frozen_base_learns_another_attribute() -> None:
    """The base learnt tone; one layer on top of its frozen features tells brightness."""
    base = with_head(fresh(SHAPE, 3), 2, 3)
    _, rest = parted(base, "all")
    light = faces().light
    fit(rest, items(TRAIN, light), items(VALIDATION, light), CONFIG, classes=2)
    bright = (faces().thirds == 2).astype(np.int64)
    config = Config(**{**vars(CONFIG), "trained": "head", "epochs": 40, "epoch_images": 512})
    net = with_head(base.eval(), 2, 4)
    _, head = parted(net, "head")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    fit(head, items(TRAIN, bright, net), items(VALIDATION, bright, net), config, classes=2)
    right = logits(head, items(TEST, bright, net)).argmax(1).numpy() == bright[TEST]
    print(f"\nbrightness from frozen features: {right.mean():.3f}")
    assert above_chance(right.tolist(), bright[TEST]) < 0.01
    after = net.state_dict()
    assert all(
        (tensor == after[name]).all() for name, tensor in before.items() if not name.startswith("head.")
    )
    assert classifier_network.size_of(SHAPE, "head") == (128,)
