"""Audits of prompts beside each other: tables by hand, the reference system's files, page and figures."""

from __future__ import annotations

import csv
import io
import json

import pytest

from fairloop.errors import InvalidInput
from fairloop.prompt_audit import FAILED, GROUPS, targets
from fairloop.prompt_comparison import compare
from fairloop.reporting.bundle import prompt_files
from fairloop.reporting.figures.prompts import (
    average_boxes_canvas,
    group_bars_canvas,
    prompt_bars_canvas,
    prompt_boxes_canvas,
)
from fairloop.reporting.measured import Estimate
from fairloop.reporting.page import look_up
from fairloop.reporting.prompt_tables import prompt_tables
from fairloop.reporting.prompted import SetQuality
from fairloop.reporting.sections import prompted
from fairloop.stats.intervals import wilson
from fairloop.stats.paired_shares import Pairs, paired_difference
from tests.support.pages import Reader

SMALL = {"gender": ("Male", "Female"), "race": ("white", "black")}
SAID = {"label_source": "gender by one abc, race by another def", "texts": {"ceo": "A photo of a CEO"}}
NINE = ("ceo", "executive", "plumbing", "doctor", "nice", "nurse", "criminal", "delivery", "entrepreneur")


def rows(prompt: str, *groups: str) -> list[dict[str, str]]:
    """`Male white`, or `--` for a face that was not found."""
    found = []
    for group in groups:
        gender, _, race = group.partition(" ")
        found.append({"prompt": prompt, "gender": gender, "race": race or FAILED})
    return found


BASE = [
    *rows("ceo", "Male white", "Male white", "Male white", "Female black", "--"),
    *rows("nurse", "Female white", "Female white", "Male black", "Female black", "--"),
]
TUNED = [
    *rows("ceo", "Male white", "Female black", "Male white", "Female black", "Female white"),
    *rows("nurse", "Female white", "Male white", "Male black", "--", "--"),
]


def test_shares_have_both_denominators_and_failures_are_counted_apart() -> None:
    found = compare({"SDM": BASE}, SMALL)
    (row,) = [r for r in found.shares if r.prompt == "ceo" and r.group == ("Male", "white")]
    assert (row.count, row.images, row.seen) == (3, 5, 4)
    assert (row.share, row.of_seen) == (0.6, 0.75)
    assert row.interval == wilson(3, 5)
    assert row.of_seen_interval == wilson(3, 4)
    assert [(f.prompt, f.no_face, f.images, f.rate) for f in found.faces] == [
        ("ceo", 1, 5, 0.2),
        ("nurse", 1, 5, 0.2),
    ]
    assert found.changes == ()
    assert len(found.shares) == 8


def test_changes_of_pairs_are_those_of_the_same_noise() -> None:
    found = compare({"SDM": BASE, "tuned": TUNED}, SMALL, paired=True)
    changes = {(r.prompt, r.group): r for r in found.changes}
    row = changes["ceo", ("Female", "black")]
    # Image by image: no/no, no/yes, no/no, yes/yes, failed/no.
    assert row.interval == paired_difference(Pairs(1, 0, 1, 3)).interval
    assert (row.before, row.after, row.change) == (0.2, 0.4, pytest.approx(0.2))
    unpaired = compare({"SDM": BASE, "tuned": TUNED}, SMALL)
    assert [r.change for r in unpaired.changes] == pytest.approx([r.change for r in found.changes])
    # Of those seen, before: (3, 0, 0, 1)/4 and (0, 1, 2, 1)/4; after: (2, 0, 1, 2)/5 and (1, 1, 1, 0)/3.
    moved = found.variation["tuned"]
    assert moved.before == pytest.approx((0.5 + 0.25) / 2)
    assert moved.after == pytest.approx((0.3 + 0.25) / 2)


def test_pairs_need_as_many_images_of_each_prompt() -> None:
    with pytest.raises(InvalidInput, match="tuned has 4 images of nurse, SDM 5"):
        compare({"SDM": BASE, "tuned": TUNED[:-1]}, SMALL, paired=True)
    with pytest.raises(InvalidInput, match="that of tuned has no image"):
        compare({"SDM": BASE, "tuned": []}, SMALL)


def test_a_prompt_of_objects_is_named_and_left_out_of_rule_and_distance() -> None:
    objects = [*BASE, *rows("cleaning", "--", "--", "Male white")]
    found = compare({"SDM": objects, "tuned": objects}, SMALL)
    (row,) = [f for f in found.faces if f.prompt == "cleaning" and f.model == "SDM"]
    assert row.dropped == "no face in 67% of its images, more than 50%"
    assert {share.prompt for share in found.missing["SDM"]} == {"ceo", "nurse"}
    assert found.variation["tuned"].before == compare({"SDM": BASE, "t": BASE}, SMALL).variation["t"].before


def read(files: dict[str, bytes], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files[name].decode())))


def test_the_tables_of_the_reference_system_have_its_names_and_keep_their_labels() -> None:
    lacking = [row for row in TUNED if row["prompt"] == "ceo"]
    found = compare({"SDM": BASE, "linear300": lacking}, SMALL)
    wanted = targets(found.missing["SDM"], {"ceo": "A photo of a CEO", "nurse": "A photo of a nurse"})
    files = prompt_tables(found, wanted, ())
    kinds = ("grouped", "gender", "race")
    assert {name for name in files if name.startswith("results_")} == {
        f"results_{prompt}{kind}.csv" for prompt in ("prompt_", "") for kind in kinds
    }
    grouped = read(files, "results_prompt_grouped.csv")
    assert list(grouped[0]) == ["prompt", "gender", "race", "SDM", "linear300"]
    assert len(grouped) == 8
    assert grouped[0] == {
        "prompt": "ceo",
        "gender": "Male",
        "race": "white",
        "SDM": "0.6",
        "linear300": "0.4",
    }
    assert {row["linear300"] for row in grouped if row["prompt"] == "nurse"} == {"0.0"}
    by_gender = {row["gender"]: row for row in read(files, "results_gender.csv")}
    # Of all images: 3/5 and 1/5 are men; tuned 2/5 of the only prompt.
    assert float(by_gender["Male"]["SDM"]) == pytest.approx(0.4)
    assert float(by_gender["Male"]["linear300"]) == pytest.approx(0.4)
    missing = read(files, "prompts_to_generate.csv")
    assert list(missing[0]) == ["prompt", "gender", "race", "perc"]
    assert {(row["prompt"], row["gender"], row["race"]) for row in missing if row["perc"] == "0.0"} == {
        ("ceo", "Male", "black"),
        ("ceo", "Female", "white"),
        ("nurse", "Male", "white"),
    }


def test_every_number_on_the_page_is_the_documents() -> None:
    found = compare({"before": BASE, "after": TUNED}, SMALL, paired=True)
    wanted = targets(found.missing["before"], {"ceo": "A photo of a CEO", "nurse": "A photo of a nurse"})
    quality = [
        SetQuality(model="after", group="all", images=5, kid=Estimate(value=0.01, low=-0.01, high=0.03)),
        SetQuality(model="after", group="gender=female,race=white", images=3, near_duplicates=1),
    ]
    decisions = [{"step": "1", "decision": "a <b> decision", "because": "it is so"}]
    files = prompt_files(found, {**SAID, "decisions": decisions}, wanted, quality)
    document = json.loads(files["document.json"])
    page = Reader(files["index.html"].decode())
    assert page.numbers
    for path, shown in page.numbers.items():
        assert {float(value) for value, _ in shown} == {look_up(document, path)}, path
    assert page.value("prompts.distances.0.missing_before") == len(found.missing["before"])
    assert page.value("prompts.quality.0.kid.low") == -0.01
    text = " ".join(page.text)
    assert "A photo of a black Female nurse" in text  # one of five is a fifth, and a quarter is due
    assert "A photo of a white Female nurse" not in text
    assert "a <b> decision" in text


def test_figures_have_a_panel_per_prompt_and_no_bar_for_failures() -> None:
    audits = {
        name: [row for prompt in NINE for row in rows(prompt, "Male white", "Female black", "--", last)]
        for name, last in (("SDM", "Male indian"), ("linear300", "Female asian"), ("poly20", "Male asian"))
    }
    found = prompted(compare(audits), SAID, [])
    for canvas in (prompt_bars_canvas(found, "gender"), prompt_bars_canvas(found, "race")):
        assert [ax.get_title(loc="left") for ax in canvas.axes] == list(NINE)
        assert canvas.axes[0].get_ylabel() == "Percentage"
        assert [tick.get_text() for tick in canvas.axes[4].get_xticklabels()] == list(audits)
    bars = prompt_bars_canvas(found, "race").axes[0].containers
    assert len(bars) == len(GROUPS["race"])
    assert [bar.get_height() for bar in bars[GROUPS["race"].index("white")]] == [25, 25, 25]
    assert [bar.get_height() for bar in bars[GROUPS["race"].index("asian")]] == [0, 25, 25]
    legend = prompt_bars_canvas(found, "race").legends[0]
    assert FAILED not in [text.get_text() for text in legend.get_texts()]
    boxes = prompt_boxes_canvas(found)
    assert [ax.get_title(loc="left") for ax in boxes.axes] == list(NINE)
    assert average_boxes_canvas(found).axes[0].get_title(loc="left") == "Average percentage distribution"


def test_error_bars_are_the_standard_deviation_over_the_prompts() -> None:
    audits = {"SDM": [*rows("ceo", *["Male white"] * 4), *rows("nurse", "Male white", *["Female white"] * 3)]}
    canvas = group_bars_canvas(prompted(compare(audits, SMALL), SAID, []))
    (container,) = [c for c in canvas.axes[0].containers if hasattr(c, "patches") and c.patches]
    assert [bar.get_height() for bar in container] == [62.5, 0, 37.5, 0]
    low, high = container.errorbar.lines[2][0].get_segments()[0][:, 1]
    # Shares 1 and ¼: the deviation is ¾ / √2.
    assert (high - low) / 2 == pytest.approx(75 / 2**0.5)
