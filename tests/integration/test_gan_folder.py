"""`fairloop train-gan` and `generate-samples`: the reference commands on folders, seeded and resumable."""

from __future__ import annotations

import argparse
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from fairloop.cli import main
from fairloop.provenance.marks import Mark, read_mark
from services.generator.dcgan import Generator
from services.generator.gan_checkpoint import STATES
from tests.support.processes import select_pause

SMALL = ["--image-size", "32", "--latent-dim", "8", "--batch-size", "8", "--device", "cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 pictures in two folders, in several formats, and a text that is none."""
    root = tmp_path_factory.mktemp("pictures")
    for place, suffix in enumerate(("png", "JPG", "bmp", "webp") * 6 + ("png",) * 2):
        folder = root / f"part{place % 2}"
        folder.mkdir(exist_ok=True)
        pixels = np.random.default_rng(place).integers(0, 256, (36, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{place:02}.{suffix}")
    (root / "notes.txt").write_text("no picture")
    return root


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def ended(*words: object) -> str:
    result = run(*words)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Four epochs of three steps, and what was said."""
    out = tmp_path_factory.mktemp("out") / "dcgan"
    return out, ended(
        "train-gan", "--data-root", pictures, "--out-dir", out, "--num-epochs", 4, "--sample-every", 5, *SMALL
    )


def test_training_writes_the_reference_systems_files(trained: tuple[Path, str], pictures: Path) -> None:
    out, said = trained
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    sheets = [(0, 0), (1, 3), (2, 5), (2, 6), (3, 9), (4, 10), (4, 12)]
    assert found == sorted(
        [f"checkpoints/dcgan_epoch{epoch}.pt" for epoch in range(1, 5)]
        + [f"samples/epoch{epoch}_step{step}.png" for epoch, step in sheets]
        + ["losses.parquet", "losses.png"]
    )
    entries = torch.load(out / "checkpoints" / "dcgan_epoch2.pt", weights_only=True)
    assert entries["epoch"] == 2
    assert {*STATES.values(), "args", "noise", "rng", "history"} <= entries.keys()
    assert (entries["args"]["latent_dim"], entries["args"]["data_root"]) == (8, str(pictures))
    assert entries["rng"] == {"seed": 0, "step": 6}
    assert entries["history"].shape == (6, 4)
    assert len(entries["optimizerD_state_dict"]["state"]) == len(list(entries["netD_state_dict"])) - 2 * 3
    assert pq.read_table(out / "losses.parquet").num_rows == 12
    assert "[1/4][1/3] Loss_D:" in said
    assert f"fairloop generate-samples --checkpoint {out}/checkpoints/dcgan_epoch4.pt" in said


def test_a_training_that_was_stopped_goes_on_to_the_same_bits(
    trained: tuple[Path, str], pictures: Path, tmp_path: Path
) -> None:
    whole, out = trained[0], tmp_path / "stopped"
    words = [
        "train-gan",
        "--data-root",
        pictures,
        "--out-dir",
        out,
        "--num-epochs",
        4,
        "--sample-every",
        5,
        *SMALL,
    ]
    command = [str(Path(sys.executable).with_name("fairloop")), *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not (out / "checkpoints" / "dcgan_epoch2.pt").exists():
        assert process.poll() is None, process.communicate()[0]
        select_pause(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    refused = run(*words)
    assert refused.exit_code != 0
    assert "is not empty: name another folder, or go on with --resume" in refused.output
    said = ended(*words, "--resume")
    assert "going on after epoch" in said
    for name in ("netG_state_dict", "netD_state_dict", "optimizerG_state_dict"):
        one, other = (
            torch.load(folder / "checkpoints" / "dcgan_epoch4.pt", weights_only=True)[name]
            for folder in (whole, out)
        )
        assert [t.numpy().tobytes() for t in tensors(one)] == [t.numpy().tobytes() for t in tensors(other)]
    assert (out / "losses.parquet").read_bytes() == (whole / "losses.parquet").read_bytes()
    for sheet in (whole / "samples").iterdir():
        assert (out / "samples" / sheet.name).read_bytes() == sheet.read_bytes()


def tensors(state: dict[str, object]) -> list[torch.Tensor]:
    """The tensors of a network's or an optimiser's state, in order."""
    if "state" in state:
        return [t for own in state["state"].values() for t in own.values() if isinstance(t, torch.Tensor)]  # type: ignore[attr-defined]
    return [t for t in state.values() if isinstance(t, torch.Tensor)]


def test_another_training_does_not_go_on_from_this_ones_checkpoint(
    trained: tuple[Path, str], pictures: Path
) -> None:
    words = ["train-gan", "--data-root", pictures, "--out-dir", trained[0], *SMALL, "--resume"]
    assert "was made with learning_rate 0.0002, this training has 0.001" in run(*words, "--lr", 0.001).output


def test_a_dry_run_says_the_plan_and_writes_nothing(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "planned"
    said = ended(
        "train-gan", "--data-root", pictures, "--out-dir", out, "--num-epochs", 1000, *SMALL, "--dry-run"
    )
    assert "3,000 steps of" in said
    assert "median of 5 timed" in said
    assert not out.exists()


def test_a_cuda_device_that_is_not_there_is_said(
    trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    checkpoint = trained[0] / "checkpoints" / "dcgan_epoch4.pt"
    said = ended(
        "generate-samples", "--checkpoint", checkpoint, "--num-samples", 1, "--out-dir", tmp_path / "s"
    )
    assert "there is no CUDA device here: computing on the CPU" in said


def test_samples_hang_on_seed_and_number_alone_and_say_that_they_were_generated(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    checkpoint = trained[0] / "checkpoints" / "dcgan_epoch4.pt"
    made = {}
    for name, options in (
        ("four", ["--batch-size", 4]),
        ("ten", ["--batch-size", 10]),
        ("other", ["--seed", 1]),
    ):
        words = [
            "--checkpoint",
            checkpoint,
            "--num-samples",
            10,
            "--out-dir",
            tmp_path / name,
            "--device",
            "cpu",
        ]
        ended("generate-samples", *words, *options)
        made[name] = [path.read_bytes() for path in sorted((tmp_path / name).iterdir())]
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
            f"sample_{k:05}.png" for k in range(10)
        ]
    assert made["four"] == made["ten"]
    assert not {*made["four"]} & {*made["other"]}
    with Image.open(io.BytesIO(made["four"][3])) as image:
        assert image.size == (32, 32)
        assert read_mark(image) == Mark(seed=0, index=3)
    again = [
        "generate-samples",
        "--checkpoint",
        checkpoint,
        "--num-samples",
        5,
        "--out-dir",
        tmp_path / "four",
    ]
    refused = run(*again)
    assert "holds 10 samples: name another folder, or add to them with --continue" in refused.output
    assert "from sample_00010.png" in ended(*again, "--continue")
    assert len(list((tmp_path / "four").iterdir())) == 15
    assert (tmp_path / "four" / "sample_00003.png").read_bytes() == made["four"][3]


def test_a_checkpoint_of_the_reference_system_itself_is_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Generator(8, 4, 32)
    state = {name.replace("main", "net"): tensor for name, tensor in net.state_dict().items()}
    path = tmp_path / "dcgan_epoch10.pt"
    for args in ({"latent_dim": 8, "image_size": 32}, argparse.Namespace(latent_dim=8, lr=2e-4)):
        torch.save({"epoch": 10, "netG_state_dict": state, "args": args}, path)
        out = tmp_path / type(args).__name__
        ended("generate-samples", "--checkpoint", path, "--num-samples", 2, "--out-dir", out)
        with Image.open(out / "sample_00001.png") as image:
            assert image.size == (32, 32)


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_checkpoints_that_are_none_are_refused_and_nothing_in_them_is_run(tmp_path: Path) -> None:
    state = Generator(8, 4, 32).state_dict()
    path, out = tmp_path / "x.pt", tmp_path / "out"
    cases: list[tuple[object, str]] = [
        ({"netG_state_dict": state, "args": Payload(tmp_path / "run")}, "no checkpoint of plain tensors"),
        ([1], "holds a list"),
        ({"netD_state_dict": state}, "has no netG_state_dict"),
        ({"netG_state_dict": state, "args": {"latent_dim": 9}}, "says latent_dim 9; its weights have 8"),
        ({"netG_state_dict": {**state, "other.1": torch.zeros(1)}}, "layers under several names"),
        ({"netG_state_dict": {"main.0.weight": torch.zeros(3)}}, "does not hold a DCGAN"),
        ({"netG_state_dict": {**state, "main.1.bias": torch.full((16,), torch.nan)}}, "not finite"),
    ]
    for entries, reason in cases:
        torch.save(entries, path)
        result = run("generate-samples", "--checkpoint", path, "--out-dir", out)
        assert result.exit_code != 0
        assert reason in result.output
    path.write_bytes(b"not a checkpoint")
    assert (
        "no checkpoint of plain tensors"
        in run("generate-samples", "--checkpoint", path, "--out-dir", out).output
    )
    assert not (tmp_path / "run").exists()
    assert not out.exists()


def test_wrong_folders_and_options_are_refused_by_name(pictures: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, reason in (
        (["--data-root", tmp_path / "none"], "does not exist"),
        (["--data-root", empty], "holds no .jpg"),
        (["--data-root", pictures, "--out-dir", tmp_path / "new", "--resume"], "no dcgan_epoch"),
        (["--data-root", pictures, "--image-size", 48], "48"),
        (["--data-root", pictures, "--batch-size", 1], "batch_size"),
        ([], "--data-root"),
    ):
        result = run("train-gan", *SMALL, *words)
        assert result.exit_code != 0
        assert reason in result.output
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"not a picture")
    result = run("train-gan", "--data-root", broken, "--out-dir", tmp_path / "o", *SMALL)
    assert "a.png cannot be read" in result.output
