"""`fairloop protocol` and `fairloop compare-thresholds` on files: what they print, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from fairloop.cli import main
from fairloop.stats.bfw import bfw_protocol
from fairloop.stats.rfw import rfw_protocol
from fairloop.stats.threshold_baseline import compare_thresholds
from tests.unit.stats.worlds import Population, sample

QUICK = ("--replicates", "100")
RACES = ("African", "Asian")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def rfw_lists(folder: Path) -> tuple[list[str], np.ndarray, np.ndarray, tuple[list[str], list[str]]]:
    """RFW's lists with the score at the end of each line: 100 pairs a race, half of them genuine."""
    rng = np.random.default_rng(1)
    words, scores, genuine, first, second = [], [], [], [], []
    for place, race in enumerate(RACES):
        lines = []
        for row in range(100):
            same, one = row % 2 == 0, f"m.{race[:2]}{rng.integers(30):02}"
            other = one if same else f"{one}x"
            score = round((0.5 if same else 0.1) + (0.15 + 0.1 * place) * rng.standard_normal(), 5)
            lines.append(f"{one}\t1\t2\t{score}" if same else f"{one}\t1\t{other}\t2\t{score}")
            scores.append(score)
            genuine.append(same)
            first.append(one)
            second.append(other)
        (folder / f"{race}.txt").write_text("\n".join(lines) + "\n")
        words += ["--pairs", f"{race}={folder / f'{race}.txt'}"]
    return words, np.array(scores), np.array(genuine), (first, second)


def test_the_races_of_listed_files_are_judged_as_by_the_statistics(tmp_path: Path) -> None:
    words, scores, genuine, subjects = rfw_lists(tmp_path)
    target = tmp_path / "out"
    result = run("protocol", "rfw", *words, "--far", "0.05", *QUICK, "--to", target)
    assert result.exit_code == 0, result.output
    expected = rfw_protocol(
        scores,
        genuine,
        [race for race in RACES for _ in range(100)],
        subjects=subjects,
        far=0.05,
        replicates=100,
    )
    found = json.loads((target / "report.json").read_bytes())
    assert {key: found[key] for key in json.loads(expected.to_json())} == json.loads(expected.to_json())
    assert str(expected) in result.output
    races = pq.read_table(target / "races.parquet").to_pylist()
    assert [row["accuracy"] for row in races] == [race.accuracy for race in expected.races]
    page = (target / "index.html").read_text()
    assert f'data-path="races.rows.0.accuracy.value" data-value="{expected.races[0].accuracy!r}"' in page
    assert "skewed error ratio (SER)" in page
    assert (target / "races.svg").exists()


def test_pairs_without_a_score_are_rejected_in_races_and_told(tmp_path: Path) -> None:
    rows = ["score,same,race,subject1,subject2,fold"]
    for row in range(80):
        same = row % 2 == 0
        score = "" if row in (0, 41) else f"{0.9 if same else 0.1}"
        rows.append(f"{score},{int(same)},{'ab'[row // 40]},p{row},{f'p{row}' if same else 'q'},{row % 4}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    target = tmp_path / "out"
    words = ("--pairs", tmp_path / "t.csv", "--group", "race", "--folds", "fold")
    result = run("protocol", "rfw", *words, *QUICK, "--to", target)
    assert result.exit_code == 0, result.output
    races = json.loads((target / "report.json").read_bytes())["races"]
    # One genuine pair of a is lost; that the impostor pair of b is rejected is right.
    assert [(race["race"], race["errors"]) for race in races] == [("a", 1), ("b", 0)]
    assert "2 pairs have an image without an embedding: they count as rejected." in result.output


def bfw_table(folder: Path) -> tuple[Path, dict[str, list[str]], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    groups = ("asian_females", "white_males")
    columns: dict[str, list[str]] = {name: [] for name in ("fold", "id1", "id2", "group")}
    scores, genuine = [], []
    lines = ["fold,p1,p2,label,id1,id2,att1,att2,score"]
    for row in range(600):
        group, fold, same = groups[row % 2], str(row // 2 % 3), rng.random() < 0.4
        one = int(rng.integers(10))
        other = one if same else (one + 1 + int(rng.integers(9))) % 10
        score = round((0.5 if same else 0.1 * (row % 2)) + 0.15 * rng.standard_normal(), 4)
        first, second = (f"{group}/{fold}{who}" for who in (one, other))
        lines.append(
            f"{fold},{first}/a.jpg,{second}/b.jpg,{int(same)},{first},{second},{group},{group},{score}"
        )
        for name, value in zip(columns, (fold, first, second, group), strict=True):
            columns[name].append(value)
        scores.append(score)
        genuine.append(same)
    (folder / "bfw.csv").write_text("\n".join(lines) + "\n")
    return folder / "bfw.csv", columns, np.array(scores), np.array(genuine)


def test_subgroups_of_a_table_are_judged_at_both_thresholds(tmp_path: Path) -> None:
    path, columns, scores, genuine = bfw_table(tmp_path)
    target = tmp_path / "out"
    words = ("--pairs", path, "--fmr", "0.05", "--fmr", "0.1", *QUICK, "--to", target)
    result = run("protocol", "bfw", *words)
    assert result.exit_code == 0, result.output
    expected = bfw_protocol(
        scores,
        genuine,
        columns["group"],
        columns["fold"],
        subjects=(columns["id1"], columns["id2"]),
        targets=(0.05, 0.1),
        replicates=100,
    )
    found = json.loads((target / "report.json").read_bytes())
    assert found["points"] == json.loads(expected.to_json())["points"]
    assert pq.read_table(target / "points.parquet").num_rows == 4
    page = (target / "index.html").read_text()
    own = expected.points[0].own_fnmr
    assert f'data-path="points.rows.0.own_fnmr.value" data-value="{own!r}"' in page
    # Rates of two policies are not both "at the common threshold".
    assert "at the arm&#39;s thresholds" in page
    assert "at the common threshold" not in page


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of two runs before and after, and who is on the images."""
    folder = tmp_path_factory.mktemp("runs")
    for name, kinship, seed in (("b0", 0.6, 1), ("b1", 0.6, 2), ("a0", 0.0, 3), ("a1", 0.0, 4)):
        world = sample([Population(), Population(kinship=kinship)], [20, 20], 3, seed)
        np.save(folder / f"{name}.npy", world.embeddings)
    rows = [f"{who},{group}" for who, group in zip(world.subjects, world.groups, strict=True)]
    (folder / "s.csv").write_text("\n".join(["subject,g", *rows]) + "\n")
    return folder


def words_of(folder: Path) -> list[str | Path]:
    runs: list[str | Path] = []
    for option, names in (("--before", ("b0", "b1")), ("--after", ("a0", "a1"))):
        for name in names:
            runs += [option, folder / f"{name}.npy"]
    return ["compare-thresholds", *runs, "--subjects", folder / "s.csv", "--group", "g", "--fmr", "0.05"]


def test_three_arms_are_compared_in_one_report_on_people_who_fitted_nothing(
    embedded: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    result = run(*words_of(embedded), *QUICK, "--seed", "4", "--to", target)
    assert result.exit_code == 0, result.output
    arrays = {name: np.load(embedded / f"{name}.npy") for name in ("b0", "b1", "a0", "a1")}
    people = [line.split(",") for line in (embedded / "s.csv").read_text().splitlines()[1:]]
    expected = compare_thresholds(
        [arrays["b0"], arrays["b1"]],
        [arrays["a0"], arrays["a1"]],
        [who for who, _ in people],
        [group for _, group in people],
        fmr=0.05,
        replicates=100,
        seed=4,
    )
    found = json.loads((target / "report.json").read_bytes())
    assert {key: found[key] for key in json.loads(expected.to_json())} == json.loads(expected.to_json())
    assert expected.sentence in result.output
    assert found["split"] == {"fitted_on": {"g0": 10, "g1": 10}, "judged_by": {"g0": 10, "g1": 10}}
    page = (target / "index.html").read_text()
    assert "Does retraining do better than thresholds per group?" in page
    value = expected.comparisons[2].differences["garbe"].value
    assert f'data-path="contest.rows.2.difference.value" data-value="{value!r}"' in page
    thresholds = pq.read_table(target / "thresholds.parquet").to_pylist()
    # Two recognisers with two runs: one threshold for all and one for each of two groups.
    assert len(thresholds) == 12
    assert {"contest.png", "rates.png", "values.parquet", "differences.parquet"} <= {
        file.name for file in target.iterdir()
    }


def test_runs_of_other_images_and_unknown_measures_are_refused(embedded: Path, tmp_path: Path) -> None:
    refused = run(*words_of(embedded), "--measure", "fnmr_gap_at_own_threshold", "--to", tmp_path / "x")
    assert "--measure: 'fnmr_gap_at_own_threshold'; at the arms' thresholds it is" in refused.output
    few = tmp_path / "few.npy"
    np.save(few, np.load(embedded / "a0.npy")[:9])
    refused = run(*words_of(embedded), "--after", few, "--to", tmp_path / "x")
    assert refused.exit_code == 1
    assert "few.npy" in refused.output
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("rfw",), "DATASET: give DATASET with --embeddings, or --pairs"),
        (("rfw", "datasets/x", "--pairs", "a=b.txt"), "DATASET: give DATASET with --embeddings, or --pairs"),
        (("rfw", "datasets/x"), "--embeddings: name a table of DATASET"),
        (("rfw", "--pairs", "a=b.txt", "--embeddings", "embeddings/0"), "--embeddings: goes with DATASET"),
        (("bfw", "datasets/x", "--folds", "5", "--embeddings", "e"), "--folds: goes with --pairs"),
        (("rfw", "datasets/x", "--group", "race", "--embeddings", "e"), "--group: goes with --pairs"),
        (("bfw", "--pairs", "absent.csv"), "absent.csv: does not exist"),
    ],
)
def test_options_of_protocols_that_do_not_go_together_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("protocol", *words)
    assert result.exit_code == 1
    assert says in result.output
