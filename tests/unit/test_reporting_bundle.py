"""Files of a report: page, tables and JSON hold one set of numbers, and equal inputs give equal bytes."""

import io
import json
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest

from fairloop.reporting import bundle, sections
from fairloop.reporting.page import look_up
from fairloop.stats import (
    audit_distribution,
    compare_audits,
    compare_recognizers,
    evaluate_verification,
    score_densities,
)
from fairloop.stats.classification import classification_fairness
from fairloop.stats.cross_group import cross_group_matrix
from fairloop.stats.flags import explain
from fairloop.stats.pairs import evaluate_pairs
from fairloop.stats.rate_summaries import summarise_rates
from fairloop.stats.report import GroupRecord
from fairloop.stats.scan import rate_curves
from fairloop.stats.sweep import threshold_sweep
from tests.support.pages import Reader

FACTS = {
    "label_source": "given: column race of s.csv",
    "inputs": {"e.npy": "ab" * 32, "s.csv": "cd" * 32},
    "notes": ["Nobody said who was photographed with which camera."],
    "title": "Error rates of <model>",
}


def faces(groups, subjects=12, images=4, noise=0.6):
    """Embeddings, subjects and groups; `images` may differ by group."""
    rng = np.random.default_rng(3)
    rows, people, labels = [], [], []
    for g, group in enumerate(groups):
        for s in range(subjects + 2 * g):
            centre = rng.standard_normal(10) + 0.3
            for _ in range(images[g] if isinstance(images, list) else images):
                rows.append(centre + (noise + 0.15 * g) * rng.standard_normal(10))
                people.append(f"{g}/{s}")
                labels.append(group)
    return np.array(rows, np.float32), people, labels


def reader(files):
    return Reader(files["index.html"].decode())


def table(files, name):
    return pq.read_table(io.BytesIO(files[name]))


def drawn(files):
    return {name.removesuffix(".svg") for name in files if name.endswith(".svg")}


def check_paths(files):
    """Every number on the page is the document's at its path."""
    document = json.loads(files["document.json"])
    page = reader(files)
    assert page.numbers
    for path, shown in page.numbers.items():
        assert {float(value) for value, _ in shown} == {look_up(document, path)}, path
    return page


@pytest.fixture(scope="module")
def evaluated():
    given = faces(["race=a", "race=b"])
    failures = np.arange(len(given[1])) % 19 == 0
    report = evaluate_verification(
        *given, fmr=0.03, replicates=100, failures=failures, threshold_in_replicates="both"
    )
    parts = {
        "curves": rate_curves(*given, failures=failures, points=60),
        "sweep": threshold_sweep(*given, failures=failures),
        "cross": cross_group_matrix(*given, threshold=report.threshold, failures=failures, replicates=100),
        "densities": score_densities(*given, failures=failures),
    }
    return report, parts


@pytest.fixture(scope="module")
def files(evaluated):
    report, parts = evaluated
    return bundle.verification_files(report, FACTS, **parts)


def test_an_evaluation_is_written_as_json_tables_figures_and_one_page(files):
    figures = {"rates", "det", "roc", "densities", "cross-group", "sweep"}
    tables = {"groups", "summaries", "curves", "sweep", "cross_group", "densities"}
    assert set(files) == (
        {"report.json", "document.json", "index.html"}
        | {f"{name}.{kind}" for name in figures for kind in ("png", "svg")}
        | {f"{name}.parquet" for name in tables}
    )


def test_rates_on_the_page_are_those_of_the_table_and_of_the_report(files, evaluated):
    page, report = reader(files), evaluated[0]
    for k, row in enumerate(table(files, "groups.parquet").to_pylist()):
        path = f"verification.arms.0.groups.{k}"
        record = report.groups[k]
        assert page.find("tr")
        for key in ("subjects", "images", "genuine", "impostor", "fta"):
            assert page.value(f"{path}.{key}") == row[key] == getattr(record, key)
        for key in ("false_matches", "false_non_matches"):
            assert page.value(f"{path}.{key}.0") == row[key] == getattr(record, key)
        assert page.value(f"{path}.own_thresholds.0") == row["own_threshold"] == record.own_threshold
        for kind in ("fmr", "fnmr", "fnmr_at_own_threshold"):
            assert page.value(f"{path}.{kind}.value") == row[kind] == getattr(record, kind)
            ends = [page.value(f"{path}.{kind}.{end}") for end in ("low", "high")]
            assert ends == row[f"{kind}_interval"] == list(getattr(record, f"{kind}_interval"))
        for kind in ("fmr", "fnmr"):
            ends = [page.value(f"{path}.{kind}_rechosen.{end}") for end in ("low", "high")]
            assert ends == row[f"{kind}_interval_rechosen"]
            assert page.value(f"{path}.generalised_{kind}.value") == row[f"generalised_{kind}"]
    named = [tr["data-group"] for tr in page.find("tr") if "data-group" in tr]
    assert named == [record.group for record in report.groups]


def test_summaries_on_the_page_are_those_of_the_table_and_of_the_report(files, evaluated):
    page, report = reader(files), evaluated[0]
    rows = {row["name"]: row for row in table(files, "summaries.parquet").to_pylist()}
    shown = [tr["data-summary"] for tr in page.find("tr") if "data-summary" in tr]
    assert set(shown) == set(rows) == set(report.summaries)
    for k, name in enumerate(shown):
        path, row, summary = f"verification.arms.0.summaries.{k}", rows[name], report.summaries[name]
        assert page.value(f"{path}.estimate.value") == row["value"] == summary.value
        ends = [page.value(f"{path}.estimate.{end}") for end in ("low", "high")]
        assert ends == row["interval"] == list(summary.interval)
        for key in ("null_mean", "null_p95", "p_value"):
            assert page.value(f"{path}.{key}") == row[key] == getattr(summary, key)
    words = "".join(page.text)
    for key, value in report.conventions.items():
        assert f"{key}: {value}" in words


def test_curves_sweep_matrix_and_densities_are_tables_too(files, evaluated):
    parts = evaluated[1]
    curves = table(files, "curves.parquet").to_pydict()
    assert curves["fmr"] == [fmr for curve in parts["curves"] for fmr in curve.fmr]
    sweep = table(files, "sweep.parquet").to_pydict()
    assert sweep["value"] == [value for values in parts["sweep"].summaries.values() for value in values]
    matrix = table(files, "cross_group.parquet").to_pylist()
    assert [row["fmr"] for row in matrix] == [fmr for row in parts["cross"].fmr for fmr in row]
    page = reader(files)
    assert page.value("verification.cross_group.rows.0.1.fmr.value") == parts["cross"].fmr[0][1]
    densities = table(files, "densities.parquet").to_pydict()
    assert densities["genuine"] == [height for d in parts["densities"] for height in d.genuine]


def test_every_number_on_the_page_is_the_documents(files):
    assert len(check_paths(files).numbers) > 100


def test_equal_inputs_give_equal_bytes(files, evaluated):
    report, parts = evaluated
    assert bundle.verification_files(report, FACTS, **parts) == files


def test_the_json_is_the_report_with_its_facts_and_all_that_was_drawn(files, evaluated):
    report, parts = evaluated
    body = json.loads(files["report.json"])
    assert body == json.loads(json.dumps(bundle.verification_body(report, FACTS, **parts)))
    assert body["schema"] == "fairloop.verification/1"
    assert body["inputs"] == FACTS["inputs"]
    assert body["curves"][0]["fmr"] == list(parts["curves"][0].fmr)
    assert body["cross_group"]["fmr"][0][1] == parts["cross"].fmr[0][1]


def test_tables_name_their_schema(files):
    for name in ("groups", "summaries", "curves", "sweep", "cross_group", "densities"):
        metadata = table(files, f"{name}.parquet").schema.metadata
        assert metadata[b"schema"] == b"fairloop.verification/1"
        assert metadata[b"table"] == name.encode()


def test_what_may_be_said_and_its_limits_stand_before_every_table(files):
    html = files["index.html"].decode()
    page = reader(files)
    words = "".join(page.text)
    verdict = next(tag["data-verdict"] for tag in page.find("section") if "data-verdict" in tag)
    assert verdict in ("a difference beyond chance", "no difference beyond chance seen at this size")
    said = ["as somebody perceives them", FACTS["notes"][0], "Fewer than 250 subjects: intervals cover less"]
    for sentence in said:
        assert html.index(sentence) < html.index("<table")
    assert FACTS["label_source"] in words
    assert "sha256 " + "ab" * 32 in words
    assert "<time" not in html


def test_a_headline_within_chance_does_not_hide_what_is_beyond_it():
    def body(**p_values):
        summaries = {
            name: {"formula": f"{name} (0 is fair)", "value": 0.1, "p_value": p}
            for name, p in p_values.items()
        }
        return {"summaries": summaries, "flags": (), "groups": ()}

    within = sections.finding(body(fnmr_gap_at_own_threshold=0.2, garbe=0.3)).sentence
    assert "others" not in within
    few = sections.finding(body(fnmr_gap_at_own_threshold=0.2, garbe=0.001, gini_fmr=None, fnmr_gap=0.01))
    assert few.sentence.endswith("others do go beyond chance: garbe and fnmr_gap.")
    names = ("garbe", "gini_fmr", "gini_fnmr", "fmr_gap", "fnmr_gap")
    many = sections.finding(body(fnmr_gap_at_own_threshold=0.2, **dict.fromkeys(names, 0.001))).sentence
    assert many.endswith("garbe, gini_fmr, gini_fnmr and 2 more.")


def test_the_page_needs_nothing_from_outside_and_runs_nothing(files):
    html = files["index.html"].decode()
    page = reader(files)
    assert not page.find("script")
    assert not page.find("link")
    for _, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href"):
            assert attrs.get(name, "data:image/").startswith("data:image/")
    assert "url(" not in html
    assert "Error rates of &lt;model&gt;" in html
    assert all(attrs["alt"] for attrs in page.find("img"))
    assert len(page.find("caption")) == len(page.find("table"))


HOSTILE = ["<script>alert(1)</script>", "bell\x07 and\x00 nul", "x" * 300, "$\\frac{1}{0}$ & --> 東亜"]


def test_hostile_names_are_escaped_and_break_nothing():
    given = faces(HOSTILE, subjects=6)
    report = evaluate_verification(*given, fmr=0.05, replicates=100)
    files = bundle.verification_files(
        report,
        {**FACTS, "label_source": "<b>\x1b$x$"},
        curves=rate_curves(*given, points=30),
        cross=cross_group_matrix(*given, threshold=report.threshold, replicates=100),
    )
    page = check_paths(files)
    html = files["index.html"].decode()
    assert not page.find("script")
    assert not page.find("b")
    assert not any(ord(c) < 32 and c != "\n" for c in html)
    shown = {tr["data-group"] for tr in page.find("tr") if "data-group" in tr}
    assert shown == {name.replace("\x07", "\ufffd").replace("\x00", "\ufffd") for name in HOSTILE}
    for name in drawn(files):
        ElementTree.fromstring(files[f"{name}.svg"])
        assert files[f"{name}.png"].startswith(b"\x89PNG")
    assert set(table(files, "groups.parquet")["group"].to_pylist()) == set(HOSTILE)


def test_one_group_says_that_nothing_can_be_said():
    given = faces(["only"], subjects=15)
    report = evaluate_verification(*given, fmr=0.02, replicates=100)
    files = bundle.verification_files(report, FACTS, sweep=threshold_sweep(*given))
    page = check_paths(files)
    assert any(tag.get("data-verdict") == "nothing can be said" for tag in page.find("section"))
    assert drawn(files) == {"rates"}
    assert page.value("verification.arms.0.summaries.0.estimate.value") is None
    assert page.value("verification.arms.0.groups.0.fmr.value") == report.groups[0].fmr
    # A table's columns do not depend on what is in it.
    two = bundle.verification_files(
        evaluate_verification(*faces(["a", "b"]), fmr=0.02, replicates=100), FACTS
    )
    for name in ("groups.parquet", "summaries.parquet"):
        assert table(files, name).schema == table(two, name).schema
    assert table(files, "groups.parquet").column_names == list(GroupRecord.__dataclass_fields__)


def test_what_has_no_value_is_a_dash_beside_its_reason():
    given = faces(["easy", "hard", "alone"], images=[4, 4, 1], noise=0.05)
    report = evaluate_verification(*given, fmr=0.02, replicates=100)
    assert report.group("easy").fnmr == 0
    assert report.group("alone").fnmr is None
    files = bundle.verification_files(report, FACTS)
    page = check_paths(files)
    at = [record.group for record in report.groups].index("alone")
    path = f"verification.arms.0.groups.{at}"
    assert page.value(f"{path}.fmr.value") == report.group("alone").fmr
    assert page.value(f"{path}.fnmr.value") is None
    words = "".join(page.text)
    assert "No subject with two usable images: FNMR has no value: alone" in words
    shown = [tr["data-summary"] for tr in page.find("tr") if "data-summary" in tr]
    place = f"verification.arms.0.summaries.{shown.index('fnmr_max_over_min')}"
    summary = report.summaries["fnmr_max_over_min"]
    assert page.value(f"{place}.estimate.value") is None
    assert page.value(f"{place}.under_zero_policy") == summary.value_under_zero_policy
    assert "undefined: a group has a zero FNMR" in words


def test_pairs_without_subjects_do_not_claim_any():
    rng = np.random.default_rng(2)
    genuine = np.arange(600) % 2 == 0
    scores = rng.standard_normal(600) + 2.5 * genuine
    report = evaluate_pairs(scores, genuine, [f"g{k % 3 // 2}" for k in range(600)], fmr=0.05, replicates=100)
    files = bundle.verification_files(report, FACTS)
    page = check_paths(files)
    words = "".join(page.text)
    assert "were all pairs independent" in words
    assert "an unknown number of subjects" in words
    assert page.value("verification.arms.0.groups.0.subjects") is None
    # What the list has of a group is rows, not photographs.
    assert '<th scope="col" rowspan="2">pairs</th>' in files["index.html"].decode()


def test_a_classifiers_page_shows_its_table():
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 400)
    score = truth + rng.standard_normal(400)
    groups = ["lacks negatives" if t == 1 and k % 4 == 0 else f"g{k % 2}" for k, t in enumerate(truth)]
    report = classification_fairness(truth, (score > 0.5).astype(int), groups, scores=score, replicates=100)
    files = bundle.classification_files(report, FACTS)
    page = check_paths(files)
    assert drawn(files) == {"classification"}
    rows = table(files, "groups.parquet").to_pylist()
    assert [row["group"] for row in rows] == [*(g.group for g in report.groups), report.overall.group]
    for k, row in enumerate(rows):
        for key in ("fpr", "tpr", "accuracy", "positive_rate", "balanced_error", "auc"):
            assert page.value(f"classification.groups.{k}.{key}.value") == row[key]
        for key in ("true_positives", "false_positives", "true_negatives", "false_negatives"):
            assert page.value(f"classification.groups.{k}.{key}") == row[key]
    measures = {row["name"]: row for row in table(files, "measures.parquet").to_pylist()}
    shown = [tr["data-summary"] for tr in page.find("tr") if "data-summary" in tr]
    assert set(shown) == set(measures) == set(report.measures)
    for k, name in enumerate(shown):
        assert page.value(f"classification.measures.{k}.estimate.value") == report.measures[name].value
        assert page.value(f"classification.measures.{k}.null_p95") == measures[name]["null_p95"]


def test_an_audits_page_shows_what_was_asked_for_what_came_and_what_changed():
    cells = ["tone=dark", "tone=light"]
    before = audit_distribution(["tone=light"] * 80 + ["tone=dark"] * 20, cells)
    labels = ["tone=light"] * 45 + ["tone=dark"] * 50 + ["no_face"] * 5
    after = audit_distribution(labels, cells, requested=["tone=light"] * 50 + ["tone=dark"] * 50)
    files = bundle.audit_files(after, FACTS, change=compare_audits(before, after), before=before)
    page = check_paths(files)
    assert drawn(files) == {"shares", "share-bars", "share-change"}
    for k, row in enumerate(table(files, "cells.parquet").to_pylist()):
        assert page.value(f"shares.cells.{k}.after.value") == row["share"]
        assert page.value(f"shares.cells.{k}.before.value") == before.cells[k].share
    # Of 50 light requests 45 came light and 5 dark; of 50 dark ones 45 dark and 5 without a face.
    document = json.loads(files["document.json"])
    asked = document["shares"]["requested"]
    counts = {
        row["requested"]: dict(zip(asked["columns"], row["obtained"], strict=True)) for row in asked["rows"]
    }
    assert counts["tone=light"] == {"tone=light": 45, "tone=dark": 5, **dict.fromkeys(("no_face",), 0)} | {
        key: 0 for key in ("uncertain", "failed") if key in asked["columns"]
    }
    changes = {row["name"]: row for row in table(files, "changes.parquet").to_pylist()}
    assert page.value("shares.cells.0.ratio.value") == changes["tone=dark"]["ratio"]
    assert page.value("shares.requested.rows.0.images") == 50


def test_a_comparisons_page_shows_both_arms_and_their_difference():
    embeddings, people, groups = faces(["a", "b"], subjects=8)
    rng = np.random.default_rng(6)
    arms = [[embeddings + 0.1 * rng.standard_normal(embeddings.shape) for _ in range(2)] for _ in range(2)]
    report = compare_recognizers(*arms, people, groups, fmr=0.05, replicates=100, names=("old", "new"))
    files = bundle.comparison_files(
        report, FACTS, densities={"old": score_densities(arms[0][0], people, groups)}
    )
    page = check_paths(files)
    assert drawn(files) == {"rates", "differences", "densities"}
    assert report.decision.sentence in "".join(page.text)
    rows = {row["name"]: row for row in table(files, "differences.parquet").to_pylist()}
    shown = [tr["data-difference"] for tr in page.find("tr") if "data-difference" in tr]
    for k, name in enumerate(shown):
        assert page.value(f"verification.differences.{k}.estimate.value") == rows[name]["value"]
    assert json.loads(files["report.json"])["densities"]["old"]
    html = files["index.html"].decode()
    for sentence in ("Fewer than 250 subjects: intervals cover less", *map(explain, report.flags)):
        assert html.index(f"{sentence[:1].upper()}{sentence[1:]}") < html.index("<table")


def test_summaries_of_a_table_of_rates_are_those_of_the_specification():
    rates = [0.01, 0.02, 0.03, 0.04], [0.05, 0.05, 0.10, 0.20]
    report = summarise_rates(list("abcd"), *rates, accuracy=[93, 94, 95, 98])
    files = bundle.summary_files(report, FACTS)
    page = check_paths(files)
    shown = [tr["data-summary"] for tr in page.find("tr") if "data-summary" in tr]

    def value(name):
        return page.value(f"rates.summaries.{shown.index(name)}.estimate.value")

    assert value("garbe") == pytest.approx(0.375)
    assert value("inequity_rate") == pytest.approx(4.0)
    assert value("skewed_error_ratio") == pytest.approx(3.5)
    assert [page.value(f"rates.groups.{k}.fmr.value") for k in range(4)] == rates[0]
    assert table(files, "groups.parquet")["fnmr"].to_pylist() == rates[1]
    assert drawn(files) == {"rates"}
    assert any(tag.get("data-verdict") == "chance not taken into account" for tag in page.find("section"))
