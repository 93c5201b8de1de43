"""The page shows the document's numbers, all of them readable back, and needs nothing from outside."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from fairloop.reporting import sections
from fairloop.reporting.document import BudgetLine, Decision, Document, Face, FaceRow, Highlight, Provenance
from fairloop.reporting.figures import figures
from fairloop.reporting.figures.differences import differences_figure
from fairloop.reporting.measured import Estimate
from fairloop.reporting.page import FORMATS, ROUNDING, look_up, render
from fairloop.stats import audit_distribution, compare_audits, compare_recognizers, score_densities
from tests.support.pages import Reader

CELLS = [
    "gender=female,skin_tone_band=dark",
    "gender=female,skin_tone_band=light",
    "gender=male,skin_tone_band=dark",
]
SOURCE = "ITA bands, face-api"
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def stored(report):
    """A report as it comes back from the store."""
    return json.loads(report.to_json())


@pytest.fixture(scope="module")
def arms():
    rng = np.random.default_rng(1)
    centre, image = rng.standard_normal((60, 16)), rng.standard_normal((240, 16))
    subjects = [f"s{i // 4}" for i in range(240)]
    groups = ["skin_tone_band=dark"] * 120 + ["skin_tone_band=light"] * 120
    noise = [np.repeat(scale, 120)[:, None] for scale in ([1.4, 0.8], [1.0, 0.8])]
    runs = [
        [
            np.repeat(centre, 4, axis=0) + n * (image + 0.2 * rng.standard_normal(image.shape))
            for _ in range(3)
        ]
        for n in noise
    ]
    report = compare_recognizers(
        *runs, subjects, groups, fmr=0.02, replicates=100, names=("generated", "balanced")
    )
    return report, {
        name: score_densities(run[0], subjects, groups)
        for name, run in zip(("generated", "balanced"), runs, strict=True)
    }


@pytest.fixture(scope="module")
def document(arms):
    comparison, _ = arms
    before = audit_distribution(
        {CELLS[0]: 70, CELLS[1]: 25, CELLS[2]: 5, "no_face": 12}, CELLS, label_source=SOURCE
    )
    after = audit_distribution(
        {CELLS[0]: 40, CELLS[1]: 35, CELLS[2]: 25, "no_face": 9}, CELLS, label_source=SOURCE
    )
    made = audit_distribution([CELLS[0], "no_face"], CELLS, requested=[CELLS[0], CELLS[0]])
    return Document(
        title="Did <balancing> close the gap?",
        created="2026-11-22T10:00:00Z",
        verdict=sections.verdict(stored(comparison)),
        limits=("Rendered subjects: nothing here is about real people.",),
        highlights=(
            Highlight(
                label="GARBE", before=Estimate(value=0.5), after=Estimate(value=0.25, low=0.1, high=0.4)
            ),
        ),
        shares=sections.shares(
            stored(before), stored(after), stored(compare_audits(before, after)), sample="fresh seed"
        ),
        no_faces=sections.no_faces({"training": stored(made)}),
        verification=sections.verification(stored(comparison), group_source="consensus of the judge"),
        decisions=(Decision(step="audit", decision="steer", because="p 0.001"),),
        budget=(BudgetLine(step="stack", planned_seconds=30, actual_seconds=17.25),),
        peak_memory_bytes=5_400_000_000,
        provenance=(Provenance(kind="generator", name="models/dcgan/versions/0c3b90b138cfc4e8"),),
        faces=(FaceRow(cell=CELLS[0], faces=(Face(uri=PIXEL, alt="rendered face"),)),),
    )


@pytest.fixture(scope="module")
def page(document):
    drawn = tuple(plot.figure for plot in figures(document))
    return Reader(render(document.model_copy(update={"figures": drawn})))


def test_every_number_on_the_page_is_the_documents(document, page):
    plain = json.loads(document.to_json())
    assert len(page.numbers) > 150
    for path, shown in page.numbers.items():
        for value, _ in shown:
            assert float(value) == look_up(plain, path), path


def test_every_rate_share_and_summary_of_the_document_is_on_the_page(document, page):
    wanted = []
    for a, arm in enumerate(document.verification.arms):
        for g in range(len(arm.groups)):
            wanted += [
                f"verification.arms.{a}.groups.{g}.{k}.value"
                for k in ("fmr", "fnmr", "fnmr_at_own_threshold")
            ]
        wanted += [f"verification.arms.{a}.summaries.{s}.null_p95" for s in range(len(arm.summaries))]
    wanted += [f"shares.cells.{c}.{k}.value" for c in range(len(CELLS)) for k in ("before", "after", "ratio")]
    wanted += [
        f"verification.differences.{k}.estimate.low" for k in range(len(document.verification.differences))
    ]
    wanted += ["no_faces.0.no_face.value", "budget.0.actual_seconds", "verification.control.estimate.value"]
    assert set(wanted) <= set(page.numbers)


def test_printed_numbers_are_their_values_rounded(page):
    for path, shown in page.numbers.items():
        for value, text in shown:
            if abs(float(value)) < ROUNDING or path.endswith(("p_value", "bytes")):
                continue
            printed = float(text.strip("+ ×%s").replace("−", "-").replace(",", ""))
            # Shares and rates are printed in percent; a lower end leaves the unit to the upper one.
            ratio = printed / float(value)
            assert min(abs(ratio - 1), abs(ratio - 100) / 100) < 0.04, (path, value, text)


def test_the_verdict_stands_first_in_full_with_its_limits(document, page):
    text = "".join(page.text)
    assert document.verdict.sentence in text
    assert (
        text.index(document.verdict.sentence)
        < text.index("nothing here is about real people")
        < text.index("GARBE")
    )
    assert any(attrs.get("data-verdict") == document.verdict.verdict for attrs in page.find("section"))


def test_the_page_asks_for_nothing_from_outside(document):
    html = render(document)
    reader = Reader(html)
    assert not reader.find("script")
    assert not reader.find("link")
    for tag, attrs in reader.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            if name in attrs:
                assert attrs[name].startswith("data:image/"), (tag, attrs)
    assert "url(" not in html
    assert "@import" not in html


def test_text_from_outside_is_escaped(document):
    html = render(document)
    assert "Did &lt;balancing&gt; close the gap?" in html
    assert "<balancing>" not in html


def test_tables_have_captions_and_images_have_text(page):
    assert len(page.find("caption")) == len(page.find("table")) >= 7
    assert all(attrs["alt"] for attrs in page.find("img"))
    assert all(attrs.get("scope") for attrs in page.find("th"))


def test_parts_that_are_missing_leave_no_trace():
    html = render(Document(title="Folder", created="2026-11-22T10:00:00Z"))
    assert "Who is in the images" not in html
    assert "<table" not in html


def test_an_audit_alone_has_a_table_without_a_before():
    audit = audit_distribution({CELLS[0]: 3, CELLS[1]: 1}, CELLS, label_source=SOURCE)
    shares = sections.shares(None, stored(audit), sample="a folder")
    reader = Reader(render(Document(title="t", created="c", shares=shares)))
    assert "shares.cells.0.after.value" in reader.numbers
    assert not any("before" in path for path in reader.numbers)


def test_a_document_survives_json_and_refuses_unknown_fields(document):
    assert Document.from_json(document.to_json()) == document
    plain = json.loads(document.to_json())
    assert plain["schema"] == "fairloop.report/1"
    with pytest.raises(ValidationError, match="extra"):
        Document.from_json(json.dumps({**plain, "tilte": "typo"}))
    with pytest.raises(ValidationError):
        Document.from_json(json.dumps({**plain, "schema": "fairloop.report/2"}))


def test_a_thumbnail_must_be_an_inline_image():
    with pytest.raises(ValidationError):
        Face(uri="https://example.org/face.png", alt="face")


def test_figures_say_how_many_at_which_threshold_and_by_whose_labels(document, arms):
    made = {plot.figure.name: plot for plot in figures(document, arms[1])}
    assert set(made) == {"shares", "share-bars", "share-change", "rates", "differences", "densities"}
    assert SOURCE in made["shares"].figure.caption
    for name in ("rates", "densities"):
        caption = made[name].figure.caption
        assert "consensus of the judge" in caption
        assert "genuine" in caption
    assert "FMR ≤ 0.02" in made["rates"].figure.caption
    for plot in made.values():
        assert plot.png.startswith(b"\x89PNG")
        assert "<svg" in plot.figure.svg
        assert plot.figure.alt


def test_the_same_document_gives_the_same_figures(document):
    first, second = (differences_figure(document.verification) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("style", "value", "text"),
    [
        ("percent", 0.0103, "1.03"),
        ("percent", 0.09998, "10.0"),
        ("number", 0.0, "0"),
        ("number", 0.000123, "0.000123"),
        ("signed", 0.5, "+0.500"),
        ("signed", -0.5, "-0.500"),
        ("signed", 2e-6, "+2.00e-06"),
        ("signed", 0.1 + 0.2 - 0.3, "0"),
        ("count", 177000, "177,000"),
        ("p", 0.0004, "< 0.001"),
        ("seconds", 9.96, "10"),
        ("seconds", 3.21, "3.2"),
    ],
)
def test_numbers_are_written_with_three_significant_digits(style, value, text):
    assert FORMATS[style][0](value) == text
