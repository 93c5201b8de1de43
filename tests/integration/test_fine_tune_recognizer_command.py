"""`fairloop fine-tune-recognizer` with the reference system's arguments, on folders of people."""

import json
import re
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from fairloop.errors import InvalidInput
from services.recognizer import folder_training, iresnet, published
from services.recognizer.folder_training import fine_tune_recognizer, frozen_parts

SHAPE = iresnet.Shape(depths=(1, 1, 1, 1), widths=(4, 6, 8, 10), size=16, embedding=8)
PEOPLE, IMAGES = 6, 10


def write_people(folder: Path, names: list[str], images: int, seed: int) -> None:
    """identity/identity_age.png: noisy copies of one random pattern a person."""
    rng = np.random.default_rng(seed)
    for name in names:
        own = rng.integers(60, 196, (16, 16, 3))
        (folder / name).mkdir(parents=True)
        for age in range(images):
            noisy = own + rng.integers(-50, 50, own.shape)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / name / f"{name}_{age * 5}.png")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    write_people(folder / "cusp", [f"p{n}" for n in range(PEOPLE)], IMAGES, 1)
    # Fewer people than there are classes: the reference system fed their labels to other people's centres.
    write_people(folder / "fgnet", ["001", "002", "003"], 8, 2)
    torch.manual_seed(1)
    net = iresnet.IResNet(SHAPE)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    iresnet.save(net, folder / "backbone.safetensors")
    return folder


def run(folders: Path, to: Path, *words: str, name: str = "first", epochs: int = 3) -> Result:
    """The reference system's call."""
    return CliRunner().invoke(
        fine_tune_recognizer,
        [
            *("--input", str(folders / "cusp"), "--base", str(folders / "backbone.safetensors")),
            *("--lr", "0.01", "--momentum", "0.9", "--epochs", str(epochs), "--batch-size", "8"),
            *("--frozen-layers", "1,2,3", "--experiment-name", name, "--test-data", str(folders / "fgnet")),
            *("--to", str(to), *words),
        ],
        catch_exceptions=False,
    )


@pytest.fixture(scope="module")
def done(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("experiments")
    ran = run(folders, to)
    assert ran.exit_code == 0, ran.output
    assert re.search(r"test data before: TMR [01]\.\d{4} at FMR", ran.output)
    return to / "first"


def test_the_settings_file_says_what_the_reference_systems_says(done: Path) -> None:
    assert (done / "training_settings.txt").read_text().splitlines() == [
        "Frozen Layers: stem, layer1, layer2, layer3",
        "Batch Size: 8",
        "Number of epochs: 3",
        "Learning Rate: 0.01",
        "Optimizer: sgd",
        "Momentum: 0.9",
        "Training dataset: cusp",
        "Test dataset: fgnet",
    ]


def test_there_is_a_line_of_losses_an_epoch_and_none_for_people_without_a_class(done: Path) -> None:
    lines = (done / "validation_loss_results.txt").read_text().splitlines()
    assert len(lines) == 3
    steps = pq.read_table(done / "steps.parquet")["loss"].to_numpy()
    # 48 of 60 images are trained on: eight of ten of each person, so six steps of eight an epoch.
    assert len(steps) == 18
    validations = pq.read_table(done / "validations.parquet").to_pydict()
    for epoch, line in enumerate(lines):
        found = re.fullmatch(r"LOSS train (\d+\.\d{6}), valid (\d+\.\d{6}), test not applicable", line)
        assert found, line
        assert float(found[1]) == pytest.approx(steps[epoch * 6 : (epoch + 1) * 6].mean(), abs=1e-5)
        assert float(found[2]) == pytest.approx(validations["loss"][epoch + 1], abs=1e-6)


def test_the_best_epochs_state_is_kept_alone_and_holds_the_frozen_layers_as_they_were(
    folders: Path, done: Path
) -> None:
    validations = pq.read_table(done / "validations.parquet").to_pydict()
    best = int(np.argmin(validations["loss"]))
    (file,) = (done / "models" / "finetuned_state_dict").iterdir()
    assert file.name == f"model_{max(best - 1, 0)}"
    assert validations["best"].index(True) == best
    state = torch.load(file, weights_only=True)
    base = published.read_own(folders / "backbone.safetensors").state_dict()
    moved = {name.split(".")[0] for name, tensor in state.items() if not torch.equal(tensor, base[name])}
    assert moved <= {"layer4", "bn2", "fc", "features"}
    assert "fc" in moved or best == 0
    own = published.read_own(done / "fine_tuned_model" / "recogniser.safetensors").state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in state.items())
    with Image.open(done / "curves.png") as figure:
        assert figure.format == "PNG"
    facts = json.loads((done / "result.json").read_text())
    assert set(facts["test"]) == {"before", "after"}
    assert facts["settings"]["nesterov"] is False, "the reference system's momentum is plain"
    assert not (done / "checkpoint.pt").exists()


def test_an_interrupted_experiment_goes_on_to_the_same_end(
    folders: Path, tmp_path: Path, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    echo = click.echo

    def interrupted(text: Any = None, **kwargs: Any) -> None:
        if str(text).startswith("epoch 2 of 3"):
            raise KeyboardInterrupt
        echo(text, **kwargs)

    monkeypatch.setattr(folder_training.click, "echo", interrupted)
    assert run(folders, tmp_path).exit_code == 1
    assert (tmp_path / "first" / "checkpoint.pt").is_file()
    monkeypatch.setattr(folder_training.click, "echo", echo)
    again = run(folders, tmp_path)
    assert again.exit_code == 1
    assert "exists: choose another --experiment-name, or --resume" in again.output
    resumed = run(folders, tmp_path, "--resume")
    assert resumed.exit_code == 0, resumed.output
    for file in ("validation_loss_results.txt", "steps.parquet", "fine_tuned_model/recogniser.safetensors"):
        assert (tmp_path / "first" / file).read_bytes() == (done / file).read_bytes(), file
    finished = run(folders, tmp_path, "--resume")
    assert finished.exit_code == 1
    assert "is finished: choose another --experiment-name" in finished.output


def test_people_can_be_held_out_instead_of_images(folders: Path, tmp_path: Path) -> None:
    ran = run(folders, tmp_path, "--split", "subjects", "--opt", "adamW", name="disjoint", epochs=1)
    assert ran.exit_code == 1
    # One of six people is held out, so nobody else is there to be taken for them.
    assert "no impostor pair" in ran.output


def test_people_of_the_test_data_who_are_trained_on_are_refused_by_name_unless_they_are_wanted(
    folders: Path, tmp_path: Path
) -> None:
    write_people(tmp_path / "both", ["p1", "p4", "stranger"], 6, 3)
    words = ("--test-data", str(tmp_path / "both"))
    refused = run(folders, tmp_path / "experiments", *words, epochs=1)
    assert refused.exit_code == 1
    assert "--test-data: 2 of its subjects are trained on: p1, p4; --people-in-both takes" in refused.output
    taken = run(folders, tmp_path / "experiments", *words, "--people-in-both", epochs=1)
    assert taken.exit_code == 0, taken.output
    (line,) = (tmp_path / "experiments" / "first" / "validation_loss_results.txt").read_text().splitlines()
    assert re.search(r"test \d+\.\d{6}$", line), "those who have a class have a loss"


def test_test_data_that_nothing_can_be_told_by_are_refused_before_anything_is_trained(
    folders: Path, tmp_path: Path
) -> None:
    # Three people with two images each: 12 pairs of strangers, and one of them would be FMR 8 %.
    write_people(tmp_path / "few", ["a", "b", "c"], 2, 3)
    ran = run(folders, tmp_path / "experiments", "--test-data", str(tmp_path / "few"))
    assert ran.exit_code == 1
    assert "--test-data: has nothing to judge by: fmr: undefined at 0.01: 12 impostor" in ran.output
    assert "training on" not in ran.output


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1,2,3", ("stem", "stage1", "stage2", "stage3")),
        ("4", ("stem", "stage4")),
        ("2, 1", ("stem", "stage1", "stage2")),
        ("none", ()),
        ("", ()),
    ],
)
def test_layers_are_frozen_by_number_and_the_stem_with_them(text: str, parts: tuple[str, ...]) -> None:
    assert frozen_parts(text) == parts


@pytest.mark.parametrize("text", ["5", "1;2", "stem", "0"])
def test_a_layer_that_is_none_is_named(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"--frozen-layers: .* is not one of 1, 2, 3, 4"):
        frozen_parts(text)


def test_what_cannot_be_done_is_said(folders: Path, tmp_path: Path) -> None:
    def said(*words: str) -> str:
        # Nobody has put weights into this cache.
        ran = CliRunner(env={"FAIRLOOP_CACHE": str(tmp_path / "cache")}).invoke(
            fine_tune_recognizer, ["--to", str(tmp_path), *words], catch_exceptions=False
        )
        assert ran.exit_code != 0
        return ran.output

    data = ("--input", str(folders / "cusp"))
    absent = said(*data)
    assert "arcface-ms1mv3-r50: backbone.pth is not in the cache" in absent
    assert "fairloop models put arcface-ms1mv3-r50 backbone.pth" in absent
    assert "--base: the catalogue has no iresnet200" in said(*data, "--architecture", "iresnet200")
    assert "--frozen-layers: fresh weights have nothing" in said(*data, "--base", "none")
    assert "is not the name of a folder" in said(*data, "--experiment-name", "../up")
    assert "there is no such file" in said(*data, "--base", str(tmp_path / "backbone.pth"))
    assert "does not exist" in said(
        "--input", str(tmp_path / "none"), "--base", str(folders / "backbone.safetensors")
    )
    own = (*data, "--base", str(folders / "backbone.safetensors"), "--experiment-name", "again")
    assert "batch_size: 100 is more than there are images (48)" in said(*own, "--batch-size", "100")
    assert not any((tmp_path / "again").iterdir()), "the next try may have the same name"
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "flat" / "a_1.png")
    flat = said("--input", str(tmp_path / "flat"), "--base", str(folders / "backbone.safetensors"))
    assert "a_1.png does not lie in a folder of one person" in flat
