"""`fairloop evaluate` and `fairloop stats summary`: what they print, write and refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fairloop.cli import main
from fairloop.errors import InvalidInput
from fairloop.standalone.output import check_folder, write_folder
from fairloop.stats.pairs import evaluate_pairs

RATES = "group,fmr,fnmr\na,0.01,0.05\nb,0.02,0.05\nc,0.03,0.10\nd,0.04,0.20\n"


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def pairs_file(folder: Path) -> tuple[Path, np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(3)
    genuine = np.arange(1_000) % 4 == 0
    scores = np.round(np.where(genuine, 0.6, 0.1) + 0.15 * rng.normal(size=1_000), 6)
    groups = ["a" if k % 8 < 4 else "b" for k in range(1_000)]
    lines = [f"{s},{int(g)},{c}" for s, g, c in zip(scores, genuine, groups, strict=True)]
    path = folder / "scores.csv"
    path.write_text("\n".join(["score,genuine,group", *lines]) + "\n")
    return path, scores, genuine, groups


def test_pairs_are_evaluated_as_by_the_statistics_and_lost_guarantees_are_told(tmp_path: Path) -> None:
    path, scores, genuine, groups = pairs_file(tmp_path)
    target = tmp_path / "out"
    words = ("evaluate", "--pairs", path, "--fmr", "0.05", "--replicates", "200", "--to", target)
    result = run(*words)
    assert result.exit_code == 0, result.output
    expected = evaluate_pairs(scores, genuine, groups, fmr=0.05, replicates=200)
    found = json.loads((target / "report.json").read_bytes())
    plain = json.loads(expected.to_json())
    assert {key: found[key] for key in plain} == plain
    assert str(expected) in result.output
    assert "No subject ids: how many people are behind a group is unknown" in result.output
    assert set(found["inputs"]) == {"scores.csv"}
    assert found["label_source"] == "given: column group of scores.csv"
    names = {file.name for file in target.iterdir()}
    assert {"index.html", "groups.parquet", "curves.parquet", "det.svg", "rates.png"} <= names
    assert set(json.loads((target / "manifest.json").read_bytes())["files"]) == names - {"manifest.json"}
    refused = run(*words)
    assert refused.exit_code == 1
    assert "--overwrite replaces it" in refused.output


def test_a_summary_of_rates_has_the_reference_value_and_says_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "rates.csv").write_text(RATES)
    result = run("stats", "summary", tmp_path / "rates.csv", "--to", tmp_path / "out")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert report["summaries"]["garbe"]["value"] == pytest.approx(0.375)
    assert f"open {tmp_path / 'out' / 'index.html'}" in result.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "--embeddings: give --embeddings and --subjects, or --pairs"),
        (("--pairs", "p.csv", "--embeddings", "e.npy"), "--embeddings: does not go with --pairs"),
        (("--pairs", "p.csv", "--subject", "id"), "--subject: does not go with --pairs"),
        (("--pairs", "absent.csv"), "absent.csv: does not exist"),
        (("--pairs", "p.csv", "--eer", "--fmr", "0.1"), "--eer: does not go with --fmr or --threshold"),
        (("--pairs", "p.csv", "--best-accuracy"), "--best-accuracy: needs --folds"),
        (("--pairs", "p.csv", "--replicates", "7"), "--replicates: 7 is outside 100–100,000"),
        (("--pairs", "p.csv", "--seed", "-1"), "--seed: -1 is outside 0–2^63−1"),
        (("--embeddings", "e.npy", "--subjects", "s.csv", "--folds", "10"), "--folds: is of the scores"),
        (("--embeddings", "e.npy", "--subjects", "s.csv"), "e.npy: does not exist"),
    ],
)
def test_options_that_do_not_go_together_are_told_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("evaluate", *words)
    assert result.exit_code == 1
    assert says in result.output


def test_errors_of_the_statistics_name_the_file_or_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.eye(4, dtype=np.float32)
    rows[2, 2] = np.nan
    np.save("e.npy", rows)
    Path("s.csv").write_text("subject,g\na,x\na,x\nb,x\nb,x\n")
    words = ("evaluate", "--embeddings", "e.npy", "--subjects", "s.csv", "--group", "g")
    result = run(*words)
    assert "Error: e.npy: row 2 (subject 'b') holds NaN or infinity" in result.output
    assert "in a column `failed` of s.csv" in result.output
    assert result.exit_code == 1
    np.save("e.npy", np.eye(4))
    assert "--fmr: 1.5 is outside 0–1" in run(*words, "--fmr", "1.5").output
    assert "--alpha" in run(*words, "--alpha", "2").output
    assert not Path("e-evaluation").exists()


def test_a_folder_that_no_evaluation_wrote_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(InvalidInput, match=r"holds 'thesis\.tex', which no evaluation wrote"):
            check_folder(folder, overwrite)
    ours = tmp_path / "ours"
    write_folder(check_folder(ours, False), {"report.json": b"1", "old.png": b"2"})
    write_folder(check_folder(ours, True), {"report.json": b"3"})
    assert {path.name: path.read_bytes() for path in ours.glob("[!m]*")} == {"report.json": b"3"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "ours"]
    (ours / "notes.txt").write_text("x")
    with pytest.raises(InvalidInput, match=r"holds 'notes\.txt'"):
        check_folder(ours, True)
    with pytest.raises(InvalidInput, match="is a file; name a folder"):
        check_folder(folder / "thesis.tex", True)


def test_a_place_that_cannot_be_written_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInput, match=r"--to: .*cannot be made, because .*file is a file"):
        check_folder(tmp_path / "file" / "deep" / "out", False)
    with pytest.raises(InvalidInput, match="cannot be looked at"):
        check_folder(tmp_path / ("x" * 300), False)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(InvalidInput, match="is the folder this runs in"):
        check_folder(Path(), True)
    if os.geteuid() != 0:  # who may write everywhere
        here.chmod(0o500)
        with pytest.raises(InvalidInput, match="may not be written"):
            check_folder(here / "out", False)


def test_the_commands_load_matplotlib_only_when_they_run_and_say_how_to_get_it() -> None:
    code = (
        "import sys\n"
        "sys.modules['matplotlib'] = None\n"
        "from fairloop.cli import main\n"
        "assert 'fairloop.stats' not in sys.modules and 'scipy' not in sys.modules\n"
        "main(['evaluate', '--pairs', 'x.csv'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "`fairloop evaluate` needs matplotlib" in done.stderr
    assert "pip install 'fairloop[stats]'" in done.stderr
