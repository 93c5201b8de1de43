"""A fine-tuned diffusion model obeys captions that it never saw; with shuffled captions it does not.

Faces of the catalogue's DCGAN are captioned with what the annotator's colour measure says of
them: lighter or darker than their median. A tiny latent diffusion model, whose VAE is trained
first, learns from six wordings and is asked in two others. Before and after are drawn from the
same noise, so that each item is its own control (McNemar's exact test, one-sided).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.matched_pairs import improvement
from tests.support.small_face_diffusion import (
    World,
    captioned,
    downloaded,
    face_world,
    from_captions,
    pipeline,
    shown,
)

pytestmark = pytest.mark.generator

SEEDS = (0, 1, 2)
STEPS = 300
WORDS = ("dark", "light")
TAUGHT = (
    "face of {} person",
    "a {} face",
    "photo of one {} person",
    "the {} face of a person",
    "portrait, {}",
    "this person is {}",
)
HELD_OUT = ("a photo of a {} face", "one {} person")
ITEMS = 16
"""Images of each held-out wording and word."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> Iterator[World]:
    with face_world(tmp_path_factory.mktemp("base"), s3) as made:
        yield made


def trained(world: World, name: str, words: list[str], seed: int, folder: Path) -> Any:
    captions = [TAUGHT[k % len(TAUGHT)].format(word) for k, word in enumerate(words)]
    model = from_captions(world, captioned(world, name, world.faces, captions), seed, STEPS)
    return pipeline(downloaded(world, model, folder))


def obeyed(made: Any, world: World, seed: int) -> NDArray[np.bool_]:
    """For every held-out wording, word and noise: whether the picture is what was asked for."""
    found = [
        (shown(made, wording.format(word), seed, ITEMS) > world.middle) == (word == "light")
        for wording in HELD_OUT
        for word in WORDS
    ]
    return np.concatenate(found)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", SEEDS)
def test_held_out_prompts_are_obeyed_after_training_and_not_with_shuffled_captions(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("FAIRLOOP_THREADS", "1")
    started = time.process_time()
    words = [WORDS[int(light > world.middle)] for light in world.light]
    before = obeyed(pipeline(world.folder), world, seed)
    after = obeyed(trained(world, "right", words, seed, tmp_path / "right"), world, seed)
    mixed = np.random.default_rng(seed).permutation(words).tolist()
    shuffled = obeyed(trained(world, f"mixed{seed}", mixed, seed, tmp_path / "mixed"), world, seed)
    p, chance = improvement(before, after), improvement(before, shuffled)
    print(
        f"seed {seed}: obeyed before {before.mean():.2f}, after {after.mean():.2f} (p = {p:.1e}), "
        f"with shuffled captions {shuffled.mean():.2f} (p = {chance:.2f}); "
        f"{time.process_time() - started:.0f} s of a core"
    )
    assert p < 0.01
    assert chance > 0.01
