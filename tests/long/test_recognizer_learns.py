"""The default training learns faces, and learns nothing where there is nothing to learn."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from services.recognizer import fit, network
from services.recognizer.fit import Config
from tests.support.rendered_subjects import rendered_subjects, tmr

pytestmark = pytest.mark.recognizer

SEEDS = (0, 1, 2)
BUDGET = 2 * 240.0
"""Seconds of cores that the small network is given: 240 s of two, however busy they are."""


@pytest.mark.timeout(1800)
def test_the_default_training_learns_and_shuffled_labels_do_not() -> None:
    images, labels = rendered_subjects(1, 300, 10)
    unseen, subjects = rendered_subjects(2, 100, 10)
    untrained, trained, shuffled, spent = [], [], [], []
    for seed in SEEDS:
        config = Config(seed=seed, checkpoint_every=100_000)
        fresh = fit.fit(images, labels, config, should_stop=lambda: True).net
        untrained.append(tmr(fit.embed(fresh, unseen), subjects))

        started, worked = time.monotonic(), time.process_time()
        result = fit.fit(images, labels, config)
        seconds, cpu = time.monotonic() - started, time.process_time() - worked
        spent.append(cpu)
        trained.append(tmr(fit.embed(result.net, unseen), subjects))

        control = np.random.default_rng(seed).permutation(labels)
        shuffled.append(tmr(fit.embed(fit.fit(images, control, config).net, unseen), subjects))
        print(
            f"seed {seed}: TMR at FMR 1 % untrained {untrained[-1]:.3f}, trained {trained[-1]:.3f}, "
            f"shuffled labels {shuffled[-1]:.3f}; {result.total} steps in {seconds:.1f} s "
            f"({cpu:.1f} s of cores, {result.total * config.batch_size / seconds:.0f} images/s)"
        )
    assert max(spent) <= BUDGET
    # 0.90 is asked for; 0.92 is known of a network of 1.75 M parameters, and this one has a third.
    assert min(trained) > 0.92
    assert max(trained) - min(trained) < 0.04
    # Chance is not 1 % here: any smooth function of the pixels keeps some look-alikes together.
    assert max(shuffled) < max(untrained) + 0.1
    assert max(shuffled) < min(trained) - 0.3


SMALL = Config(epochs=6, batch_size=32, checkpoint_every=100_000)
RECIPES: dict[str, dict[str, Any]] = {
    "arcface": {},
    "cosface": {"loss": "cosface", "cosine_margin": 0.35},
    "combined": {"loss": "combined", "margin_multiplier": 1.0, "margin": 0.3, "cosine_margin": 0.2},
    "multiplied": {"loss": "combined", "margin_multiplier": 1.2, "margin": 0.2, "cosine_margin": 0.1},
    "partial": {"sample_rate": 0.4, "interclass_filter": 0.4},
    "adamw": {"optimiser": "adamw", "learning_rate": 2e-3, "schedule": "polynomial"},
    "accumulated": {"batch_size": 16, "accumulation": 2},
    "bfloat16": {"precision": "bfloat16"},
    "balanced": {"sampling": "balanced"},
    "worst_groups": {"worst_share": 0.5},
    "group_margins": {"group_margins": (("a", 0.6),)},
    "iresnet": {"architecture": "iresnet", "depths": (1, 1, 1, 1), "widths": (8, 16, 32, 64)},
}


def accepted(embeddings: NDArray[np.float32], subjects: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each subject's share of its genuine pairs that match at FMR 1 % over all, (subjects,)."""
    scores = embeddings @ embeddings.T
    one, other = np.triu_indices(len(subjects), 1)
    genuine = subjects[one] == subjects[other]
    pairs = scores[one, other]
    impostors = np.sort(pairs[~genuine])[::-1]
    match = pairs[genuine] > impostors[int(0.01 * len(impostors))]
    whose = subjects[one][genuine]
    return np.bincount(whose, match) / np.bincount(whose)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("recipe", list(RECIPES))
def test_every_loss_and_recipe_learns_and_shuffled_identities_do_not(recipe: str, seed: int) -> None:
    images, labels = rendered_subjects(1, 150, 8)
    unseen, subjects = rendered_subjects(2, 100, 8)
    # A third of the people are in group a; nothing in their pictures tells.
    cells = ["a" if label % 3 == 0 else "b" for label in labels]
    config = replace(SMALL, seed=seed, **RECIPES[recipe])
    fresh = fit.fit(images, labels, config, cells=cells, should_stop=lambda: True).net
    started = time.process_time()
    trained = fit.fit(images, labels, config, cells=cells).net
    seconds = time.process_time() - started
    control = np.random.default_rng(seed).permutation(labels)
    shuffled = fit.fit(images, control, config, cells=cells).net
    before, after, without = (
        accepted(fit.embed(net, unseen), subjects) for net in (fresh, trained, shuffled)
    )
    # Paired over the people held out: each is one item.
    better = wilcoxon(after, before, alternative="greater").pvalue
    than_shuffled = wilcoxon(after, without, alternative="greater").pvalue
    print(
        f"{recipe}, seed {seed}: TMR {before.mean():.3f} → {after.mean():.3f} (p {better:.1e}), "
        f"shuffled {without.mean():.3f} (p {than_shuffled:.1e}); {seconds:.1f} s of a core"
    )
    assert better < 0.01
    assert than_shuffled < 0.01
    assert without.mean() < before.mean() + 0.1, "shuffled identities taught it something"


def test_a_training_ends_in_the_same_bits_after_a_stop_half_way() -> None:
    images, labels = rendered_subjects(1, 60, 10)
    config = Config(epochs=2, threads=2)
    saved: dict[int, bytes] = {}
    whole = fit.fit(images, labels, config)
    asked = iter(range(whole.total))
    fit.fit(
        images,
        labels,
        config,
        on_checkpoint=saved.__setitem__,
        should_stop=lambda: next(asked) == whole.total // 2,
    )
    resumed = fit.fit(images, labels, config, checkpoint=saved[whole.total // 2])
    assert _bytes(resumed.net) == _bytes(whole.net)


def _bytes(net: network.Network) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in net.state_dict().values()]
