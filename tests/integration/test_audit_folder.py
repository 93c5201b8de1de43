"""`fairloop audit` on real images: what it writes, and what the page says of it."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from scipy.stats import binomtest

from fairloop.cli import Commands
from fairloop.models import fetch
from fairloop.tables import guess_column
from services.annotator.engine import Engine
from services.annotator.folder import audit
from services.annotator.folder_output import FILES
from services.generator import dcgan
from services.generator.encode import encode_png
from services.generator.latents import subject_centres

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ("a photo of a doctor", "a photo of a nurse", "gender=female,skin_tone_band=dark")
PER_PROMPT = 25
HOSTILE = '<script>alert("1")<b>\n=1+1.png'
PROGRAM = (
    # A test run in the background of a shell inherits that Ctrl-C is ignored.
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from fairloop.cli import Commands; from services.annotator.folder import audit;"
    "Commands(commands={'audit': audit})()"
)


def fairloop(*arguments: str) -> Result:
    """Runs the command as the installed `fairloop` does."""
    return CliRunner().invoke(Commands(commands={"audit": audit}), ["audit", *arguments])


@dataclass
class Page(HTMLParser):
    """What a reader of a page sees: its numbers, its pictures, its text, and what it would load."""

    numbers: list[tuple[str, str, str]] = field(default_factory=list)
    """(data-path, data-value, text)."""
    tags: Counter[str] = field(default_factory=Counter)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        self.attributes += found.items()
        if "data-path" in found:
            self.numbers.append((found["data-path"], found["data-value"], ""))

    def handle_data(self, data: str) -> None:
        self.text += data
        # The number's own text follows its start tag at once.
        if self.numbers and not self.numbers[-1][2]:
            path, value, _ = self.numbers[-1]
            self.numbers[-1] = (path, value, data)

    @classmethod
    def read(cls, output: Path) -> Page:
        page = cls()
        page.feed((output / "index.html").read_text(encoding="utf-8"))
        return page


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three prompts of rendered faces, a photograph of six people, and what else lies about."""
    folder = tmp_path_factory.mktemp("images") / "photos"
    # One call for all: a call takes as long for one image as for a block of them.
    latents = subject_centres(11, range(len(PROMPTS) * PER_PROMPT))
    faces = encode_png(dcgan.render(dcgan.load(fetch("dcgan-faces")), latents))
    for index, data in enumerate(faces):
        prompt = folder / PROMPTS[index // PER_PROMPT]
        prompt.mkdir(parents=True, exist_ok=True)
        (prompt / f"{index % PER_PROMPT:03}.png").write_bytes(data)
    face = (folder / PROMPTS[0] / "000.png").read_bytes()
    (folder / "people.JPG").write_bytes(fetch("insightface-t1").read_bytes())
    (folder / PROMPTS[1] / HOSTILE).write_bytes(face)
    (folder / PROMPTS[1] / "cut.png").write_bytes(face[: len(face) // 2])
    (folder / PROMPTS[1] / "text.png").write_text("no image")
    (folder / PROMPTS[1] / "empty.png").write_bytes(b"")
    Image.new("1", (8000, 8000)).save(folder / "wide.png")
    Image.new("RGB", (1, 1)).save(folder / "dot.bmp")
    Image.new("RGB", (20_000, 1)).save(folder / "line.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "circle").symlink_to(folder)
    (folder / "notes.txt").write_text("no image either")
    return folder


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in [folder, *folder.rglob("*")]
    }


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of one audit with thumbnails and the uniform target."""
    output, before = tmp_path_factory.mktemp("made") / "audit", state(photos)
    result = fairloop(str(photos), "--output", str(output), "--target", "uniform", "--threads", "2")
    assert result.exit_code == 0, result.output
    assert state(photos) == before, "the audited folder was written to"
    assert str(output / "index.html") in result.output
    assert f"fairloop audit {photos} --no-faces" in result.output
    assert sorted(path.name for path in output.iterdir()) == sorted(FILES)
    return output


def annotations(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(output / "annotations.parquet").to_pylist()
    return rows


def test_every_image_is_a_row_and_says_what_became_of_it(made: Path) -> None:
    rows = {row["path"]: row for row in annotations(made)}
    assert len(rows) == 3 * PER_PROMPT + 9
    assert list(rows) == sorted(rows)
    assert rows["people.JPG"]["status"] == "several_faces"
    assert rows["people.JPG"]["faces_found"] == 6
    corrupt = {path for path, row in rows.items() if row["status"] == "corrupt"}
    assert {path.split("/")[-1] for path in corrupt} == {"cut.png", "text.png", "empty.png", "itself.png"}
    assert [path for path, row in rows.items() if row["status"] == "too_large"] == ["wide.png"]
    assert rows["dot.bmp"]["status"] == rows["line.png"]["status"] == "no_face"
    repeated, first = rows[f"{PROMPTS[1]}/{HOSTILE}"], rows[f"{PROMPTS[0]}/000.png"]
    assert repeated["image_id"] == f"{first['image_id']}-2"
    assert repeated["group"] == PROMPTS[1]
    assert rows["people.JPG"]["group"] == "."


def test_rows_are_those_of_the_service(photos: Path, made: Path) -> None:
    rows = {row["path"]: row for row in annotations(made)}
    paths = [path for path in rows if path.endswith(("people.JPG", "003.png", "text.png"))]
    with Engine.load(1) as engine:
        chosen = engine.select(())
        described = engine.describe([(photos / path).read_bytes() for path in paths], chosen)
    assert len(paths) == 5
    for path, face in zip(paths, described, strict=True):
        assert rows[path]["status"] == face.status
        for attribute, annotator in chosen.guesses:
            guess = face.guesses.get((attribute, annotator))
            label = None if guess is None else guess.label
            assert rows[path][guess_column(attribute, annotator)] == label


def label_of(row: dict[str, Any], attributes: str, annotators: str) -> str:
    """The label of a table's row, written again from the description of `shares.parquet`."""
    if row["status"] in ("corrupt", "too_large"):
        return "failed"
    if row["status"] == "no_face":
        return "no_face"
    pairs = list(zip(attributes.split(","), annotators.split(","), strict=True))
    labels = [row[f"perceived_{attribute}.{annotator}.label"] for attribute, annotator in pairs]
    if None in labels:
        return "uncertain"
    return ",".join(f"{attribute}={label}" for (attribute, _), label in zip(pairs, labels, strict=True))


def test_shares_count_the_rows_of_the_annotation_table(made: Path) -> None:
    rows, shares = annotations(made), pq.read_table(made / "shares.parquet").to_pylist()
    groups = {row["group"] for row in shares}
    assert groups == {None, ".", *PROMPTS}
    # gender, tone and both by two annotators each, age by one; their cells and four outcomes.
    assert len(shares) == len(groups) * (2 * (2 + 4) + 9 + 4 + 2 * (3 + 4) + 2 * (6 + 4))
    for share in shares:
        mine = [row for row in rows if share["group"] in (None, row["group"])]
        labels = Counter(label_of(row, share["attributes"], share["annotators"]) for row in mine)
        outside = labels["no_face"] + labels["failed"]
        assert share["images"] == len(mine)
        assert share["faces"] == len(mine) - outside
        assert share["certain"] == len(mine) - outside - labels["uncertain"]
        if share["cell"] == "several_faces":
            assert share["count"] == sum(row["status"] == "several_faces" for row in mine)
            continue
        assert share["count"] == labels[share["cell"]]
        if "=" in share["cell"] and share["certain"]:
            assert share["share"] == share["count"] / share["certain"]
            wilson = binomtest(share["count"], share["certain"]).proportion_ci(method="wilson")
            assert (share["share_low"], share["share_high"]) == pytest.approx((wilson.low, wilson.high))


def test_numbers_on_the_page_are_those_of_the_tables(made: Path) -> None:
    tables = {
        "shares": pq.read_table(made / "shares.parquet").to_pylist(),
        "manifest": json.loads((made / "manifest.json").read_text(encoding="utf-8")),
    }
    page = Page.read(made)
    assert len(page.numbers) > 500
    for path, value, text in page.numbers:
        found: Any = tables
        for key in path.split("/"):
            found = found[int(key)] if isinstance(found, list) else found[key]
        if found is None:
            assert (value, text) == ("", "–")
            continue
        assert float(value) == found
        shown = float(re.sub(r"[,% ]", "", text))
        percentage = isinstance(found, float) and not path.endswith(("/p_value", "/seconds", "/kappa"))
        assert shown == pytest.approx(100 * found if percentage else found, abs=0.05 if percentage else 0.051)


def test_every_share_of_all_images_is_on_the_page_and_every_prompt_in_its_table(made: Path) -> None:
    shares = pq.read_table(made / "shares.parquet").to_pylist()
    page = Page.read(made)
    shown = {path for path, _, _ in page.numbers}
    for index, row in enumerate(shares):
        if row["group"] is None and "=" in row["cell"]:
            columns = ("count", "share", "share_of_faces", "share_of_images", "share_one_face")
            assert {f"shares/{index}/{column}" for column in columns} <= shown
        elif row["group"] is not None and row["attributes"] == "gender,skin_tone_band":
            assert f"shares/{index}/count" in shown, row
    # The third prompt is named like a cell: what came of it is its part of the prompt's images.
    (asked,) = [
        index
        for index, row in enumerate(shares)
        if row["group"] == row["cell"] == PROMPTS[2] and row["annotators"] == "age_and_gender,skin_tone"
    ]
    assert f"shares/{asked}/share_of_images" in shown
    assert page.tags["svg"] == sum(row["group"] is None and row["share"] is not None for row in shares)


def test_names_cannot_put_anything_on_the_page(made: Path) -> None:
    text = (made / "index.html").read_text(encoding="utf-8")
    page = Page.read(made)
    assert page.tags["script"] == 0
    assert page.tags.keys().isdisjoint({"link", "iframe", "object", "embed", "form", "base"})
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    loaded = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset")]
    assert all(value.startswith("data:image/jpeg;base64,") for value in loaded)
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes


def test_the_contact_sheet_shows_at_most_eight_of_each_cell(made: Path) -> None:
    page = Page.read(made)
    pictures = [value for name, value in page.attributes if name == "src"]
    shares = pq.read_table(made / "shares.parquet").to_pylist()
    repeated = label_of(
        next(row for row in annotations(made) if row["path"].endswith(HOSTILE)),
        "gender,skin_tone_band",
        "age_and_gender,skin_tone",
    )
    cells = {
        row["cell"]: row["count"] - (row["cell"] == repeated)
        for row in shares
        if row["group"] is None and row["annotators"] == "age_and_gender,skin_tone"
    }
    del cells["failed"], cells["several_faces"]
    assert len(pictures) == sum(min(8, count) for count in cells.values())
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2])))
        assert image.format == "JPEG"
        assert max(image.size) <= 96
    assert f"It does contain {len(pictures)} small pictures" in page.text
    assert "The images never left this machine." in page.text


def test_the_csv_files_say_the_same_in_short(made: Path) -> None:
    with (made / "images.csv").open(newline="", encoding="utf-8") as lines:
        images = list(csv.DictReader(lines))
    assert [row["path"] for row in images] == [row["path"] for row in annotations(made)]
    reasons = {row["path"].split("/")[-1]: row["reason"] for row in images if row["reason"]}
    assert reasons["empty.png"] == "there are no bytes"
    assert "not a JPEG, PNG, BMP or WEBP image" in reasons["text.png"]
    assert "8000 × 8000 pixels" in reasons["wide.png"]
    assert "symbolic links" in reasons["itself.png"]
    assert len(reasons) == 5
    with (made / "shares.csv").open(newline="", encoding="utf-8") as lines:
        shares = list(csv.DictReader(lines))
    stored = pq.read_table(made / "shares.parquet").to_pylist()
    assert [row["cell"] for row in shares] == [row["cell"] for row in stored]
    assert [row["share"] for row in shares] == ["" if r["share"] is None else str(r["share"]) for r in stored]


def test_the_manifest_says_what_made_the_labels(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["counts"]["images"] == 3 * PER_PROMPT + 9
    assert manifest["counts"]["failed"] == 5
    assert manifest["counts"]["repeats"] == 1
    assert manifest["skipped"] == {"link to a folder": 1, "no image by its name": 1}
    assert set(manifest["annotators"]) == {"age_and_gender", "skin_tone", "ita", "face_api"}
    for row in pq.read_table(made / "shares.parquet", columns=["annotators", "label_source"]).to_pylist():
        for name in row["annotators"].split(","):
            assert f"{name} {manifest['annotators'][name]['version']}" in row["label_source"]
    assert manifest["thresholds"]["detector"]["score"] == 0.0
    assert manifest["folder"] == "photos"


def test_a_page_without_faces_has_no_picture_and_the_same_shares(
    photos: Path, made: Path, tmp_path: Path
) -> None:
    output = tmp_path / "plain"
    arguments = ("--no-faces", "--annotators", "ita", "--group-by", "nothing", "--output", str(output))
    result = fairloop(str(photos), *arguments)
    assert result.exit_code == 0, result.output
    page = Page.read(output)
    assert page.tags["img"] == 0
    assert "data:image" not in (output / "index.html").read_text(encoding="utf-8")
    assert "It holds no picture" in page.text
    alone = pq.read_table(output / "shares.parquet").to_pylist()
    together = [
        row
        for row in pq.read_table(made / "shares.parquet").to_pylist()
        if row["annotators"] == "ita" and row["group"] is None
    ]
    assert [{**row, "target": None} for row in together] == alone


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{empty}",), "folder: {empty} has no image"),
        (("{empty}/none",), "folder: {empty}/none does not exist"),
        (("{photos}", "--annotators", "nobody"), "annotators: 'nobody' is not known; there are"),
        (("{photos}", "--annotators", ","), "annotators: is empty"),
        (("{photos}", "--annotators", "ita,ita"), "annotators: ita stands twice"),
        (("{photos}", "--output", "{photos}/audit"), "output: {photos}/audit lies in {photos}"),
        (("{photos}", "--output", "{made}"), "output: {made} exists; --overwrite"),
    ],
)
def test_mistakes_are_named(
    photos: Path, made: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    places = {"photos": photos, "made": made, "empty": tmp_path}
    result = fairloop(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith(f"Error: {said.format(**places)}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_audit_that_is_killed_leaves_no_output_and_is_done_again(
    photos: Path, tmp_path: Path, number: signal.Signals
) -> None:
    folder, output = tmp_path / "many", tmp_path / "many-audit"
    folder.mkdir()
    for copy in range(20):
        for path in (photos / PROMPTS[0]).iterdir():
            (folder / f"{copy:02}-{path.name}").hardlink_to(path)
    command = [sys.executable, "-c", PROGRAM, "audit", str(folder), "--annotators", "ita"]
    running = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )
    # Lines of images.csv reach the disk every 8 KB: by then some of the 500 are done, and not all.
    half = tmp_path / ".many-audit.partial" / "images.csv"
    deadline = time.monotonic() + 60
    while not (half.exists() and half.stat().st_size > 0) and running.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert 0 < half.read_text(encoding="utf-8").count("\n") < 480
    running.send_signal(number)
    assert running.wait(30) != 0
    left = {path.name for path in tmp_path.iterdir()}
    assert left == ({"many", ".many-audit.partial"} if number == signal.SIGKILL else {"many"})
    if number != signal.SIGKILL:
        return
    again = fairloop(str(photos / PROMPTS[0]), "--annotators", "ita", "--output", str(output))
    assert again.exit_code == 0, again.output
    assert {path.name for path in tmp_path.iterdir()} == {"many", "many-audit"}
    assert len(annotations(output)) == PER_PROMPT
