"""The second reference system's command on a recogniser that was trained, and on nothing that was not.

An iresnet18 of published size learns faces from our own recipe, is saved as arcface_torch saves a backbone
and put into the cache where the catalogue's backbone belongs. The command then goes on with it word for word
as the reference system has it, but for architecture and epochs: the base is the catalogue's.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from fairloop.cli import main
from fairloop.store import ObjectStore
from services.recognizer import fit, iresnet, published, train
from services.recognizer.config import Config
from services.recognizer.folder_training import fine_tune_recognizer
from tests.support.rendered_subjects import rendered_subjects, tmr

pytestmark = pytest.mark.recognizer

SIDE = 112
EPOCHS = 6
PEOPLE, AGES = 15, 8
TEST_PEOPLE, TEST_AGES = 20, 3


def enlarged(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same at the size that published recognisers take."""
    return np.stack(
        [np.asarray(Image.fromarray(i).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for i in images]
    )


def write_people(folder: Path, prefix: str, seed: int, people: int, ages: int) -> None:
    """identity/identity_age.png, as the reference system's generators write them."""
    images, subjects = rendered_subjects(seed, people, ages)
    for number, (image, subject) in enumerate(zip(images, subjects, strict=True)):
        name = f"{prefix}{subject:03}"
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / name / f"{name}_{number % ages * 8 + 3}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`backbone.pth` of an iresnet18, people to train on and others to test on."""
    made = tmp_path_factory.mktemp("reference")
    images, labels = rendered_subjects(1, 80, 5)
    shape = iresnet.Shape(iresnet.DEPTHS["iresnet18"])
    # bfloat16 is more than twice as fast on processors that multiply it.
    config = Config(
        architecture="iresnet", **vars(shape), precision="bfloat16", batch_size=20, epochs=4, seed=1
    )
    torch.save(fit.fit(enlarged(images), labels, config).net.state_dict(), made / "backbone.pth")
    write_people(made / "cusp", "s", 3, PEOPLE, AGES)
    write_people(made / "fgnet", "t", 4, TEST_PEOPLE, TEST_AGES)
    return made


@pytest.mark.timeout(3600)
def test_the_reference_systems_command_goes_on_with_the_catalogues_backbone(folder: Path) -> None:
    unseen, subjects = rendered_subjects(2, 30, 3)
    backbone = published.read_backbone(folder / "backbone.pth", "iresnet18")
    torch.manual_seed(1)
    fresh = iresnet.IResNet(backbone.shape)
    learnt, chance = (tmr(fit.embed(net, enlarged(unseen)), subjects) for net in (backbone, fresh))
    print(f"TMR at FMR 1 % on unseen people: fresh weights {chance:.3f}, backbone {learnt:.3f}")
    assert learnt > chance + 0.1, "the backbone has learnt faces"

    environment = {"FAIRLOOP_CACHE": str(folder / "cache")}
    words = ["models", "put", "arcface-ms1mv3-r18", str(folder / "backbone.pth")]
    put = CliRunner(env=environment).invoke(main, words, catch_exceptions=False)
    assert put.exit_code == 0, put.output
    ran = CliRunner(env=environment).invoke(
        fine_tune_recognizer,
        [
            *("--input", str(folder / "cusp"), "--architecture", "iresnet18"),
            *("--lr", "0.01", "--momentum", "0.9", "--epochs", str(EPOCHS)),
            *("--batch-size", "25", "--frozen-layers", "1,2,3", "--experiment-name", "cusp"),
            *("--test-data", str(folder / "fgnet"), "--to", str(folder / "experiments")),
        ],
        catch_exceptions=False,
    )
    print(ran.output)
    assert ran.exit_code == 0, ran.output
    experiment = folder / "experiments" / "cusp"
    assert (experiment / "training_settings.txt").read_text().splitlines() == [
        "Frozen Layers: stem, layer1, layer2, layer3",
        "Batch Size: 25",
        f"Number of epochs: {EPOCHS}",
        "Learning Rate: 0.01",
        "Optimizer: sgd",
        "Momentum: 0.9",
        "Training dataset: cusp",
        "Test dataset: fgnet",
    ]
    lines = (experiment / "validation_loss_results.txt").read_text().splitlines()
    found = [re.fullmatch(r"LOSS train (\d+\.\d{6}), valid (\d+\.\d{6}), test .*", line) for line in lines]
    losses = [(float(match[1]), float(match[2])) for match in found if match]
    assert len(losses) == len(lines) == EPOCHS
    facts = json.loads((experiment / "result.json").read_text())
    start = facts["validations"][0]["loss"]
    # It converges: the people's images that it has not seen are told apart far better than at the start.
    assert min(valid for _, valid in losses) < start / 2
    assert losses[-1][0] < losses[0][0] / 2
    assert facts["best_step"] > 0
    before, after = (facts["test"][when]["tmr"] for when in ("before", "after"))
    assert after > before - 0.05, "what it knew of others is not lost"

    (best,) = (experiment / "models" / "finetuned_state_dict").iterdir()
    tuned = published.read_backbone(best, "iresnet18").state_dict()
    moved = {n.split(".")[0] for n, t in backbone.state_dict().items() if not torch.equal(t, tuned[n])}
    assert moved == {"layer4", "bn2", "fc", "features"}, "frozen layers kept weights and running statistics"


def test_the_backbone_becomes_a_model_of_the_store_that_can_be_trained_further(
    folder: Path, store: ObjectStore, store_environment: dict[str, str]
) -> None:
    words = ["--architecture", "iresnet18", "--name", "arcface-r18", "--alignment", "none"]
    ran = CliRunner(env=store_environment).invoke(
        main, ["models", "put-recogniser", str(folder / "backbone.pth"), *words], catch_exceptions=False
    )
    assert ran.exit_code == 0, ran.output
    (name,) = re.findall(
        r"^(models/arcface-r18/versions/\w{16}): iresnet, 112 pixels to 512", ran.output, re.M
    )
    manifest, net = train.read_base(store, name)
    assert (manifest.details["size"], manifest.details["dimension"]) == (112, 512)
    stored = net.state_dict()
    for tensor, value in published.read_backbone(folder / "backbone.pth", "iresnet18").state_dict().items():
        assert torch.equal(value, stored[tensor]), tensor
