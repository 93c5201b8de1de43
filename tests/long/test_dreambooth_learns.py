"""DreamBooth ties a rare word to what its few images show, and to nothing else.

A tiny latent diffusion model first learns the catalogue's faces, dark and light alike, without a word for
either. Its instances are then the darkest fifth of the faces under a word that says nothing, in six
wordings; asked in others with the word it shows dark faces more often than before, and more often than
without it, where prior preservation holds. With as many faces drawn at random the word comes to mean nothing.
All are drawn from the same noise, so that each item is its own control (McNemar's exact test).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fairloop import diffusion_models, registry
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
    known: Known, name: str, instances: NDArray[np.int64], seed: int, folder: Path, class_dataset: str = ""
) -> tuple[Any, str]:
    """The pipeline with the LoRA that DreamBooth made of the instances; and the class images it had."""
    world = known.world
    request = generator_pb2.FineTuneGeneratorRequest(
        model=known.model,
        dataset=captioned(world, name, world.faces[instances], said(len(instances), WORD)),
        target_model="models/sks",
        seed=seed,
        dreambooth=generator_pb2.DreamBooth(
            training=options(STEPS, batch_size=16, lora_rank=RANK, learning_rate=5e-3),
            class_prompt=CLASS,
            prior_weight=2.0,
            class_dataset=class_dataset,
            class_images=CLASS_IMAGES,
            class_inference_steps=10,
            class_guidance=1.0,
        ),
    )
    result = dreambooth.run(LocalJob(world.store, f"operations/generator-{name}-{seed}", request))
    made = registry.open_model(world.store, result.model, "generator")
    folder.mkdir()
    file = diffusion_models.download_lora(world.store, made, folder)
    found = pipeline(known.folder)
    found.load_lora_weights(folder, weight_name=file.name)
    return found, result.class_dataset


def dark(made: Any, known: Known, word: str, seed: int, wordings: Sequence[str] = HELD_OUT) -> Any:
    """For every held-out wording and noise: whether a dark face is shown, bool (wordings × ITEMS,)."""
    light = [shown(made, wording.format(word), seed, ITEMS) for wording in wordings]
    return np.concatenate(light) < known.world.middle


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_word_comes_to_show_what_its_images_show_and_the_class_moves_less(
    known: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("FAIRLOOP_THREADS", "1")
    started = time.process_time()
    base = pipeline(known.folder)
    darkest = np.argsort(known.world.light)[:INSTANCES]
    anybody = np.random.default_rng(seed).permutation(len(known.world.faces))[:INSTANCES]
    tuned, class_dataset = taught(known, "darkest", darkest, seed, tmp_path / "darkest")
    drawn, _ = taught(known, f"anybody{seed}", anybody, seed, tmp_path / "anybody", class_dataset)
    before, after, control = (dark(made, known, WORD, seed) for made in (base, tuned, drawn))
    class_before, class_after = (dark(made, known, "", seed) for made in (base, tuned))
    p, chance, apart = (
        improvement(*pair) for pair in ((before, after), (before, control), (class_after, after))
    )
    print(
        f"seed {seed}: dark with the word {before.mean():.2f} → {after.mean():.2f} (p = {p:.1e}), "
        f"of faces at random {control.mean():.2f} (p = {chance:.2f}); "
        f"without it {class_before.mean():.2f} → {class_after.mean():.2f}, "
        f"apart by p = {apart:.1e}; {time.process_time() - started:.0f} s of a core"
    )
    assert p < 0.01
    assert chance > 0.01
    assert apart < 0.01
