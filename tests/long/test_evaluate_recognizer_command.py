"""`fairloop evaluate-recognizer`: a recogniser's file judged on a folder of people of known ages."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from services.recognizer import iresnet, published
from services.recognizer.folder_evaluation import evaluate_recognizer
from tests.support.pages import Reader

pytestmark = pytest.mark.recognizer

SHAPE = iresnet.Shape(depths=(1, 1, 1, 1), widths=(4, 6, 8, 10), size=16, embedding=8)
AGES = (8, 12, 14, 22, 28, 35)
OLD = (50, 60)
PEOPLE, WITH_OLD = 12, 3


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, twelve people of six ages, three of them also old, and a table of groups."""
    root = tmp_path_factory.mktemp("years")
    for seed in (1, 2):
        torch.manual_seed(seed)
        net = iresnet.IResNet(SHAPE)
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
        iresnet.save(net, root / f"net{seed}.safetensors")
    shutil.copy(root / "net1.safetensors", root / "again.safetensors")
    rng = np.random.default_rng(0)
    rows = ["subject,tone"]
    for person in range(PEOPLE):
        name = f"{person + 1:03}"
        own = rng.integers(60, 196, (16, 16, 3))
        (root / "people" / name).mkdir(parents=True)
        rows.append(f"{name},{'dark' if person % 2 else 'light'}")
        for age in (*AGES, *(OLD if person < WITH_OLD else ())):
            pixels = np.clip(own + rng.integers(-40, 40, own.shape), 0, 255) * (0.4 if person % 2 else 1.0)
            Image.fromarray(pixels.astype(np.uint8)).save(root / "people" / name / f"{name}_{age:02}.png")
    (root / "groups.csv").write_text("\n".join(rows) + "\n")
    return root


def run(files: Path, to: Path, *words: str, model: str = "net1") -> Result:
    arguments = ["--input", str(files / "people"), "--model", str(files / f"{model}.safetensors")]
    return CliRunner().invoke(evaluate_recognizer, [*arguments, "--to", str(to), *words])


@pytest.fixture(scope="module")
def judged(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("judged") / "out"
    words = ("--groups", str(files / "groups.csv"), "--group", "tone", "--fmr", "0.1")
    ran = run(files, to, "--baseline", str(files / "net2.safetensors"), *words)
    assert ran.exit_code == 0, ran.output
    assert "mated old: mean" in ran.output
    assert "over 3 people, 9 left out" in ran.output
    return to


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return rows


def test_scores_are_those_of_the_network_on_the_named_pictures(files: Path, judged: Path) -> None:
    net = published.read_own(files / "net1.safetensors").eval()
    places = [
        (f"{person + 1:03}", age)
        for person in range(PEOPLE)
        for age in (*AGES, *(OLD if person < WITH_OLD else ()))
    ]
    pixels = [
        np.asarray(Image.open(files / "people" / name / f"{name}_{age:02}.png")) for name, age in places
    ]
    batch = (torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.inference_mode():
        rows = net(batch).double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    young = [r for r in table(judged, "similarities") if (r["model"], r["group"]) == ("net1", "mated young")]
    # Aged 12 and 14: one pair for each of the twelve.
    assert len(young) == PEOPLE
    for row in young:
        assert places[row["first"]] == (row["subject"], 12)
        assert places[row["second"]] == (row["subject"], 14)
        assert row["score"] == pytest.approx(rows[row["first"]] @ rows[row["second"]], abs=1e-5)
    (group,) = [
        r for r in table(judged, "similarity_groups") if (r["model"], r["group"]) == ("net1", "mated young")
    ]
    assert group["mean"] == pytest.approx(np.mean([r["score"] for r in young]))
    assert group["std"] == pytest.approx(np.std([r["score"] for r in young], ddof=1))


def test_the_page_prints_the_numbers_of_the_tables(judged: Path) -> None:
    page = Reader((judged / "index.html").read_text())
    groups = {(r["model"], r["group"]): r for r in table(judged, "similarity_groups")}
    document = json.loads((judged / "document.json").read_text())["aged"]
    assert len(document["groups"]) == len(groups) == 10
    for place, shown in enumerate(document["groups"]):
        row = groups[shown["model"], shown["group"]]
        for name in ("mean", "std", "identities", "left_out", "comparisons"):
            assert page.value(f"aged.groups.{place}.{name}") == row[name]
    sweep = {(r["model"], r["group"], r["threshold"]): r for r in table(judged, "age_sweep")}
    assert len(sweep) == 2 * 2 * 40
    for place, shown in enumerate(document["sweep"]):
        row = sweep[shown["model"], shown["group"], shown["threshold"]]
        for name in ("fmr", "fnmr", "garbe"):
            assert page.value(f"aged.sweep.{place}.{name}") == row[name]
    worse = {(r["model"], r["transform"], r["level"], r["group"]): r for r in table(judged, "robustness")}
    # Five transforms, untouched and at four levels, two groups, two models.
    assert len(worse) == len(document["pictures"]) == 5 * 5 * 2 * 2
    for place, shown in enumerate(document["pictures"]):
        row = worse[shown["model"], shown["transform"], shown["level"], shown["group"]]
        for name in ("fmr", "fnmr"):
            assert page.value(f"aged.pictures.{place}.{name}") == row[name]
    for place, row in enumerate(table(judged, "equal_quality")):
        assert page.value(f"aged.faults.{place}.gap") == row["gap"]
    assert {figure["id"] for figure in page.find("figure")} >= {
        "figure-distribution_plot",
        "figure-arcfaceVsFineTuned_non-mated_plot",
        "figure-age-garbe",
        "figure-worse_pictures",
        "figure-worse_pictures_fmr",
    }


def test_groups_differ_in_the_light_that_their_pictures_were_given(judged: Path) -> None:
    rows = table(judged, "robustness")
    light = {
        r["group"]: r["quality"]
        for r in rows
        if (r["model"], r["transform"], r["level"]) == ("net1", "brightness", 1.0)
    }
    assert light["dark"] == pytest.approx(0.4 * light["light"], rel=0.05)


def test_a_baseline_that_is_the_model_itself_has_the_same_curves(files: Path, tmp_path: Path) -> None:
    ran = run(files, tmp_path / "out", "--baseline", str(files / "again.safetensors"))
    assert ran.exit_code == 0, ran.output
    for name in ("densities", "age_sweep", "similarities", "similarity_groups"):
        rows: dict[str, list[dict[str, Any]]] = {"net1": [], "again": []}
        for row in table(tmp_path / "out", name):
            rows[row.pop("model")].append(row)
        assert rows["net1"] == rows["again"]
        assert rows["net1"]


def test_a_model_may_be_an_entry_of_the_catalogue(files: Path, tmp_path: Path) -> None:
    weights = files / "net2.safetensors"
    (tmp_path / "models.toml").write_text(
        f"""schema = "fairloop.models/1"
[models.tiny-published]
description = "two"
file = "net2.safetensors"
sources = ["{weights.as_uri()}"]
sha256 = "{hashlib.sha256(weights.read_bytes()).hexdigest()}"
size = {weights.stat().st_size}
loader = "safetensors"
origin = "a test"
[models.tiny-published.terms]
licence = "none"
commercial = "yes"
derivatives = "yes"
redistribution = "yes"
"""
    )
    environment = {
        "FAIRLOOP_MODELS": str(tmp_path / "models.toml"),
        "FAIRLOOP_CACHE": str(tmp_path / "cache"),
    }
    words = ["--input", str(files / "people"), "--model", "tiny-published", "--baseline", str(weights)]
    ran = CliRunner(env=environment).invoke(evaluate_recognizer, [*words, "--to", str(tmp_path / "out")])
    assert ran.exit_code == 0, ran.output
    scores: dict[str, list[float]] = {"tiny-published": [], "net2": []}
    for row in table(tmp_path / "out", "similarities"):
        scores[row["model"]].append(row["score"])
    assert scores["tiny-published"] == scores["net2"] != []


def test_the_compatible_switch_counts_people_without_photographs_as_errors(
    files: Path, tmp_path: Path
) -> None:
    ran = run(files, tmp_path / "out", "--compatible", "--epoch", "3")
    assert ran.exit_code == 0, ran.output
    old = [r["fnmr"] for r in table(tmp_path / "out", "age_sweep") if r["group"] == "old"]
    assert min(old) >= 9 / 12
    text = (tmp_path / "out" / "garbe_metrics_.txt").read_text().splitlines()
    assert text[0] == "Epoch 3:"
    assert text[1].startswith("Threshold = 0.0: FMR Young = ")
    assert text[2].startswith("Threshold = 0.0: FMR Old = ")
    assert text[2].endswith(f"FNMR Old = {old[0]}")
    assert len(text) == 1 + 40 * 3
    page = Reader((tmp_path / "out" / "index.html").read_text())
    assert "count people without such photographs as non-matches" in " ".join("".join(page.text).split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--band", "ancient=80-90"), "'ancient' is not one of young"),
        (("--band", "old=65-45"), "low–high"),
        (("--age-group", "one=5-20"), "needs at least 2"),
        (("--groups", "nowhere.csv"), "nowhere.csv"),
        (("--fmr", "1.5"), "outside 0–1"),
        (
            ("--groups", "GROUPS", "--group", "tone", "--fmr", "1e-5"),
            "--fmr: undefined at 1e-05: 1264 impostor",
        ),
    ],
)
def test_what_cannot_be_done_is_said(files: Path, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    own = [str(files / "groups.csv") if word == "GROUPS" else word for word in words]
    ran = run(files, tmp_path / "out", *own)
    assert ran.exit_code == 1
    assert said in ran.output
    assert "embedding copies: blur" not in ran.output, "before any copy is made"
    assert not (tmp_path / "out").exists()
