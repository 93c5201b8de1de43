"""DreamBooth ties a rare word to what its few images show, and to nothing else.

A tiny latent diffusion model first learns the catalogue's faces, dark and light alike, without a word for
either. Its instances are then the darkest fifth of the faces under a word that says nothing, in six
wordings; asked in others with the word it shows dark faces more often than before, and more often than
without it. With as many faces drawn at random the word comes to mean nothing. Prior preservation holds the
prompt of the class images where it was; without it that prompt shows the instances too. (Wordings of the
class that no class image had move about half as far: a text encoder of random weights does not know that
they mean the same.) All are drawn from the same noise, so that each item is its own control (McNemar's exact
test).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fairloop.v1 import generator_pb2
from services.generator.recipes import dreambooth
from tests.support.matched_pairs import improvement
from tests.support.small_face_diffusion import (
    World,
    captioned,
    downloaded,
    face_world,
    from_captions,
    options,
    pipeline,
    shown,
    with_lora,
)
from tests.support.trainings import LocalJob

pytestmark = pytest.mark.generator

SEEDS = (0, 1, 2)
BASE_STEPS, STEPS = 250, 200
RANK = 8
INSTANCES = 120
CLASS_IMAGES = 96
WORD = "sks "
TAUGHT = (
    "a photo of {}person",
    "a {}face",
    "the face of {}person",
    "portrait of {}person",
    "photo of one {}person",
    "this is {}person",
)
HELD_OUT = ("picture of {}person", "one {}face", "the {}person in a picture")
CLASS = "a photo of a person"
ITEMS = 24
"""Images of each held-out wording."""
CLASS_ITEMS = 72
STAYS = 0.15
"""Most that the class prompt's share may move: twice the standard error of the share of the two sets of
images that it comes from, 96 that are trained on and 72 that are looked at."""


@dataclass(frozen=True)
class Known:
    """A model that knows the faces: its name, and its folder."""

    world: World
    model: str
    folder: Path


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> Iterator[Known]:
    with pytest.MonkeyPatch.context() as patch, face_world(tmp_path_factory.mktemp("base"), s3) as world:
        patch.setenv("FAIRLOOP_THREADS", "1")
        everybody = captioned(world, "everybody", world.faces, said(len(world.faces), ""))
        model = from_captions(world, everybody, 0, BASE_STEPS)
        yield Known(world, model, downloaded(world, model, tmp_path_factory.mktemp("known")))


def said(count: int, word: str) -> list[str]:
    return [TAUGHT[k % len(TAUGHT)].format(word) for k in range(count)]


def taught(
    known: Known,
    name: str,
    instances: NDArray[np.int64],
    seed: int,
    folder: Path,
    class_dataset: str = "",
    prior_weight: float = 2.0,
) -> tuple[Any, str]:
    """The pipeline with the LoRA that DreamBooth made of the instances; and the class images it had."""
    world = known.world
    prior: dict[str, Any] = {
        "class_prompt": CLASS,
        "class_dataset": class_dataset,
        "class_images": CLASS_IMAGES,
    }
    request = generator_pb2.FineTuneGeneratorRequest(
        model=known.model,
        dataset=captioned(world, name, world.faces[instances], said(len(instances), WORD)),
        target_model="models/sks",
        seed=seed,
        dreambooth=generator_pb2.DreamBooth(
            training=options(STEPS, batch_size=16, lora_rank=RANK, learning_rate=5e-3),
            class_inference_steps=10,
            class_guidance=1.0,
            prior_weight=prior_weight,
            **(prior if prior_weight else {}),
        ),
    )
    result = dreambooth.run(LocalJob(world.store, f"operations/generator-{name}-{seed}", request))
    return with_lora(world, result.model, known.folder, folder), result.class_dataset


def dark(made: Any, known: Known, word: str, seed: int) -> Any:
    """For every held-out wording and noise: whether a dark face is shown, bool (wordings × ITEMS,)."""
    light = [shown(made, wording.format(word), seed, ITEMS) for wording in HELD_OUT]
    return np.concatenate(light) < known.world.middle


def dark_class(made: Any, known: Known, seed: int) -> Any:
    """The same of the very prompt that the class images have, bool (CLASS_ITEMS,)."""
    return shown(made, CLASS, seed, CLASS_ITEMS) < known.world.middle


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_word_comes_to_show_what_its_images_show_and_the_class_stays_where_it_was(
    known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("FAIRLOOP_THREADS", "1")
    started = time.process_time()
    base = pipeline(known.folder)
    darkest = np.argsort(known.world.light)[:INSTANCES]
    anybody = np.random.default_rng(seed).permutation(len(known.world.faces))[:INSTANCES]
    tuned, class_dataset = taught(known, "darkest", darkest, seed, tmp_path / "darkest")
    drawn, _ = taught(known, f"anybody{seed}", anybody, seed, tmp_path / "anybody", class_dataset)
    alone, _ = taught(known, f"alone{seed}", darkest, seed, tmp_path / "alone", prior_weight=0)
    before, after, control = (dark(made, known, WORD, seed) for made in (base, tuned, drawn))
    p, chance = improvement(before, after), improvement(before, control)
    class_before, class_after = (dark(made, known, "", seed) for made in (base, tuned))
    apart = improvement(class_after, after)
    was, stayed, lost = (dark_class(made, known, seed) for made in (base, tuned, alone))
    spared = improvement(stayed, lost)
    print(
        f"seed {seed}: dark with the word {before.mean():.2f} → {after.mean():.2f} (p = {p:.1e}), "
        f"of faces at random {control.mean():.2f} (p = {chance:.2f}); "
        f"without it {class_before.mean():.2f} → {class_after.mean():.2f}, apart by p = {apart:.1e}; "
        f"class prompt {was.mean():.2f} → {stayed.mean():.2f}, without prior preservation "
        f"{lost.mean():.2f} (p = {spared:.1e}); {time.process_time() - started:.0f} s of a core"
    )
    assert p < 0.01
    assert chance > 0.01
    assert apart < 0.01
    moved = abs(stayed.mean() - was.mean())
    assert moved < STAYS
    assert moved < (after.mean() - before.mean()) / 3
    assert spared < 0.01
    assert lost.mean() - was.mean() > (after.mean() - before.mean()) / 2
