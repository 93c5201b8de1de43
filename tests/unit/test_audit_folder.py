"""The parts of `fairloop audit`: what is read, who labels, what is counted, and where it is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scipy.stats import binomtest

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.tables import FaceRow, Guess
from services.annotator.folder_images import (
    BATCH_IMAGES,
    LARGEST_FILE,
    list_images,
    read_batches,
    read_image,
    readable,
)
from services.annotator.folder_labels import Source, Tally, agreements, sources_of
from services.annotator.folder_output import SCHEMA, check_output, default_output, writing
from services.annotator.folder_shares import distances, share_rows
from services.annotator.folder_tables import ImageIds, harmless
from services.annotator.images import UnreadableImage

ROOT = Path(__file__).resolve().parents[2]
GUESSES = (
    ("gender", "one"),
    ("age", "one"),
    ("skin_tone_band", "two"),
    ("skin_tone_band", "three"),
    ("gender", "four"),
)
VERSIONS = {"one": "1", "two": "2", "three": "3", "four": "4"}


def files(folder: Path, *names: str) -> Path:
    """The folder, holding small files with these names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    return folder


def face(gender: str, tone: str | None, status: str = "ok", judged: str | None = None) -> FaceRow:
    """A row with these labels by the first annotators; the others say the same or `judged`."""
    guesses = {
        ("gender", "one"): Guess(gender),
        ("age", "one"): Guess("20_29"),
        ("skin_tone_band", "two"): Guess(tone, uncertain=tone is None),
        ("skin_tone_band", "three"): Guess(tone, uncertain=tone is None),
        ("gender", "four"): Guess(judged or gender),
    }
    return FaceRow(status, faces_found=2 if status == "several_faces" else 1, guesses=guesses)


def tallied(*rows: tuple[FaceRow, int]) -> Tally:
    tally = Tally(sources_of(GUESSES))
    for row, times in rows:
        for _ in range(times):
            tally.add(row, None)
    return tally


# What is read.


def test_images_are_found_in_all_subfolders_whatever_the_case_of_their_suffix(tmp_path: Path) -> None:
    files(
        tmp_path, "b.PNG", "a.jpg", "sub/deep/c.JpEg", "sub/d.webp", "e.bmp", "notes.txt", "data.npz", "f.gif"
    )
    listing = list_images(tmp_path)
    assert listing.images == ("a.jpg", "b.PNG", "e.bmp", "sub/d.webp", "sub/deep/c.JpEg")
    assert listing.skipped == {"no image by its name": 3}
    assert listing.subfolders() == ["sub"]


def test_hidden_files_and_links_to_folders_are_skipped_and_counted(tmp_path: Path) -> None:
    files(tmp_path, "a.png", ".b.png", ".thumbnails/c.png", "sub/d.png")
    (tmp_path / "sub" / "circle").symlink_to(tmp_path)
    (tmp_path / "linked.png").symlink_to(tmp_path / "a.png")
    listing = list_images(tmp_path)
    assert listing.images == ("a.png", "linked.png", "sub/d.png")
    assert listing.skipped == {"hidden": 2, "link to a folder": 1}


@pytest.mark.parametrize(
    ("names", "said"),
    [((), "it is empty"), (("a.txt", "b/c.doc"), "it has 2 other files"), (None, "does not exist")],
)
def test_a_folder_without_images_is_an_error_that_names_it(
    tmp_path: Path, names: tuple[str, ...] | None, said: str
) -> None:
    folder = tmp_path / "my photos"
    if names is not None:
        folder.mkdir()
        files(folder, *names)
    with pytest.raises(InvalidInput, match=said) as caught:
        list_images(folder)
    assert caught.value.violations[0].field == "folder"
    assert str(folder) in str(caught.value)


def test_what_cannot_be_read_says_why_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with (tmp_path / "huge.png").open("wb") as sparse:
        sparse.truncate(LARGEST_FILE + 1)
    found = {name: read_image(tmp_path / f"{name}.png") for name in ("pipe", "self", "gone", "zero", "huge")}
    reasons = {name: str(one) for name, one in found.items() if isinstance(one, UnreadableImage)}
    assert len(reasons) == 5
    assert reasons["pipe"] == reasons["zero"] == "image: is no regular file"
    assert "symbolic links" in reasons["self"]
    assert "No such file" in reasons["gone"]
    assert "320,000,001 bytes" in reasons["huge"]
    assert [one.status for one in found.values() if isinstance(one, UnreadableImage)] == ["corrupt"] * 4 + [
        "too_large"
    ]


def test_batches_hold_at_most_64_images_and_lose_none(tmp_path: Path) -> None:
    files(tmp_path, *(f"{number:03}.png" for number in range(150)))
    listing = list_images(tmp_path)
    batches = list(read_batches(listing))
    assert [len(batch) for batch in batches] == [BATCH_IMAGES, BATCH_IMAGES, 22]
    assert tuple(file.path for batch in batches for file in batch) == listing.images
    assert batches[0][7].picture == b"007.png"


def test_a_name_that_is_no_utf_8_becomes_a_text(tmp_path: Path) -> None:
    files(tmp_path, os.fsdecode(b"caf\xe9.png"))
    (path,) = list_images(tmp_path).images
    assert readable(path) == "caf\\xe9.png"
    assert readable("café 猫.png") == "café 猫.png"


# Who labels, and what is counted.


def test_every_annotator_of_an_attribute_is_a_source_and_intersections_pair_them_in_order() -> None:
    assert [(source.attributes, source.annotators) for source in sources_of(GUESSES)] == [
        ("gender", "one"),
        ("gender", "four"),
        ("age", "one"),
        ("skin_tone_band", "two"),
        ("skin_tone_band", "three"),
        ("gender,skin_tone_band", "one,two"),
        ("gender,skin_tone_band", "four,three"),
    ]
    alone = sources_of([("gender", "one"), ("skin_tone_band", "two"), ("skin_tone_band", "three")])
    assert [source.annotators for source in alone[-2:]] == ["one,two", "one,three"]
    assert [source.annotators for source in sources_of([("skin_tone_band", "two")])] == ["two"]


def test_a_row_is_in_its_cell_or_says_why_it_is_in_none() -> None:
    source = Source((("gender", "one"), ("skin_tone_band", "two")))
    assert source.label(face("female", "dark")) == "gender=female,skin_tone_band=dark"
    assert source.label(face("female", "dark", "several_faces")) == "gender=female,skin_tone_band=dark"
    assert source.label(face("female", None)) == "uncertain"
    assert source.label(FaceRow("no_face")) == "no_face"
    assert {source.label(FaceRow(status)) for status in ("corrupt", "too_large")} == {"failed"}


def test_shares_leave_out_and_count_in_what_has_no_label() -> None:
    tally = tallied(
        (face("female", "light"), 6),
        (face("male", "dark", "several_faces"), 2),
        (face("male", None), 4),
        (FaceRow("no_face"), 5),
        (FaceRow("corrupt"), 3),
    )
    rows = {row["cell"]: row for row in share_rows(tally, VERSIONS, False) if row["annotators"] == "one,two"}
    assert len(rows) == 6 + 4
    light, dark = rows["gender=female,skin_tone_band=light"], rows["gender=male,skin_tone_band=dark"]
    assert (light["count"], light["certain"], light["faces"], light["images"]) == (6, 8, 12, 20)
    assert (light["share"], light["share_of_faces"], light["share_of_images"]) == (6 / 8, 6 / 12, 6 / 20)
    assert (dark["several_faces"], dark["share"], dark["share_one_face"]) == (2, 2 / 8, 0.0)
    for name, whole in (("share", 8), ("share_of_faces", 12), ("share_of_images", 20), ("share_one_face", 6)):
        wilson = binomtest(6, whole).proportion_ci(method="wilson")
        assert (light[f"{name}_low"], light[f"{name}_high"]) == pytest.approx((wilson.low, wilson.high))
    assert {name: rows[name]["count"] for name in ("no_face", "uncertain", "failed", "several_faces")} == {
        "no_face": 5,
        "uncertain": 4,
        "failed": 3,
        "several_faces": 2,
    }
    assert rows["uncertain"]["share"] is None
    assert rows["uncertain"]["share_of_faces"] == 4 / 12
    assert rows["no_face"]["share_of_faces"] is None
    assert rows["no_face"]["share_of_images"] == 5 / 20


def test_without_any_certain_label_there_are_counts_and_no_shares() -> None:
    rows = share_rows(tallied((FaceRow("no_face"), 3)), VERSIONS, True)
    assert {row["share"] for row in rows} == {None}
    assert {row["share_of_images"] for row in rows if row["cell"] == "no_face"} == {1.0}
    assert distances(tallied((FaceRow("no_face"), 3)), VERSIONS) == []


def test_the_uniform_target_comes_with_its_distance_and_what_chance_gives() -> None:
    tally = tallied((face("female", "light"), 90), (face("male", "light"), 10))
    assert {row["target"] for row in share_rows(tally, VERSIONS, False)} == {None}
    targets = {row["cell"]: row["target"] for row in share_rows(tally, VERSIONS, True)}
    assert (targets["gender=female"], targets["skin_tone_band=dark"]) == (1 / 2, 1 / 3)
    first = distances(tally, VERSIONS)[0]
    assert (first["attributes"], first["annotators"]) == ("gender", "one")
    assert first["total_variation"] == pytest.approx(0.4)
    # Of 100 fair coins 95 % lie within 10 of 50: a distance of .1.
    assert first["null_p95"] == pytest.approx(0.1, abs=0.021)
    assert first["p_value"] < 0.01


def test_groups_are_counted_each_for_itself() -> None:
    tally = Tally(sources_of(GUESSES))
    for group, gender in (("nurse", "female"), ("nurse", "male"), ("doctor", "male")):
        tally.add(face(gender, "medium"), group)
    rows = [row for row in share_rows(tally, VERSIONS, False) if row["annotators"] == "one"]
    shares = {(row["group"], row["cell"]): row["share"] for row in rows if row["attributes"] == "gender"}
    assert shares["nurse", "gender=female"] == 0.5
    assert shares["doctor", "gender=female"] == 0.0
    assert shares[None, "gender=female"] == pytest.approx(1 / 3)


def test_agreement_stands_beside_what_chance_gives() -> None:
    # The example of Cohen's paper as textbooks give it: 20, 5, 10, 15 of 50 agree in .7, by chance in .5.
    counts = (("female", "female", 20), ("female", "male", 5), ("male", "female", 10), ("male", "male", 15))
    rows = [(face(first, "light", judged=second), times) for first, second, times in counts]
    found = {record["attribute"]: record for record in agreements(tallied(*rows, (FaceRow("no_face"), 9)))}
    gender = found["gender"]
    assert (gender["first"], gender["second"]) == ("one", "four")
    assert gender["table"] == [[20, 5, 0], [10, 15, 0], [0, 0, 0]]
    assert (gender["certain"], gender["agreement"], gender["by_chance"]) == (50, 0.7, 0.5)
    assert gender["kappa"] == pytest.approx(0.4)
    wilson = binomtest(35, 50).proportion_ci(method="wilson")
    assert (gender["low"], gender["high"]) == pytest.approx((wilson.low, wilson.high))
    assert set(found) == {"gender", "skin_tone_band"}


def test_faces_that_one_annotator_is_uncertain_of_are_in_the_table_and_not_in_the_agreement() -> None:
    record = agreements(tallied((face("male", None), 3), (face("male", "dark"), 1)))[1]
    assert record["values"] == ["light", "medium", "dark", "uncertain"]
    assert record["table"] == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 3]]
    assert (record["certain"], record["agreement"], record["kappa"]) == (1, 1.0, None)
    nobody = agreements(tallied((face("male", None), 3)))[1]
    assert (nobody["certain"], nobody["agreement"], nobody["kappa"]) == (0, None, None)


def test_repeated_bytes_get_numbered_ids() -> None:
    ids = ImageIds()
    found = [ids.next(data) for data in (b"a", b"b", b"a", UnreadableImage("gone"), UnreadableImage("gone"))]
    # sha256 of "a" begins so (FIPS 180-4 implementations agree), and that of nothing.
    assert found[0] == "ca978112ca1bbdcafac231b39a23dc4d"
    assert found[2] == f"{found[0]}-2"
    assert found[3:] == ["e3b0c44298fc1c149afbf4c8996fb924", "e3b0c44298fc1c149afbf4c8996fb924-2"]
    assert ids.repeats == 1


def test_no_spreadsheet_takes_a_name_for_a_formula() -> None:
    assert harmless("=cmd|' /C calc'!A0.png") == "./=cmd|' /C calc'!A0.png"
    assert {harmless(f"{first}x")[:2] for first in "=+-@\t\r"} == {"./"}
    assert harmless("a/=b.png") == "a/=b.png"


# Where it is written.


def test_the_default_output_is_never_inside_the_folder(tmp_path: Path) -> None:
    photos = tmp_path / "album" / "photos"
    (photos / "sub").mkdir(parents=True)
    assert default_output(photos, tmp_path) == tmp_path / "photos-audit"
    assert default_output(photos, photos) == tmp_path / "album" / "photos-audit"
    assert default_output(photos, photos / "sub") == tmp_path / "album" / "photos-audit"


def earlier(folder: Path) -> Path:
    """A folder as an audit leaves it, as far as it is looked at."""
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"schema": SCHEMA}))
    (folder / "index.html").write_text("old")
    return folder


def test_an_output_that_would_do_harm_is_refused(tmp_path: Path) -> None:
    photos = tmp_path / "album" / "photos"
    photos.mkdir(parents=True)
    taken, notes = earlier(tmp_path / "taken"), earlier(tmp_path / "notes")
    (notes / "thesis.tex").write_text("years of work")
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "index.html").write_text("a web site")
    (tmp_path / "inside").symlink_to(photos)
    refused = {
        photos / "audit": "only read",
        tmp_path / "inside" / "audit": "only read",
        photos: "only read",
        tmp_path / "album": "holds",
        strange: "not an earlier audit",
        notes: "'thesis.tex', which no audit wrote",
    }
    for output, said in refused.items():
        with pytest.raises(InvalidInput, match=said) as caught:
            check_output(output, photos, overwrite=True)
        assert caught.value.violations[0].field == "output"
    with pytest.raises(InvalidInput, match="--overwrite"):
        check_output(taken, photos, overwrite=False)
    assert check_output(taken, photos, overwrite=True) == taken
    assert check_output(tmp_path / "new", photos, overwrite=False) == tmp_path / "new"


def test_an_output_appears_as_a_whole_and_replaces_the_earlier_one(tmp_path: Path) -> None:
    target = earlier(tmp_path / "audit")
    with writing(target) as folder:
        (folder / "index.html").write_text("new")
        assert (target / "index.html").read_text() == "old"
    assert [path.name for path in target.iterdir()] == ["index.html"]
    assert (target / "index.html").read_text() == "new"
    assert target.stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_what_fails_leaves_the_earlier_output_and_nothing_else(tmp_path: Path) -> None:
    target = earlier(tmp_path / "audit")

    def interrupted() -> None:
        with writing(target) as folder:
            (folder / "index.html").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (target / "index.html").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_leftovers_of_a_killed_audit_are_cleared(tmp_path: Path) -> None:
    target = tmp_path / "audit"
    partial, replaced = tmp_path / ".audit.partial", tmp_path / ".audit.replaced"
    partial.mkdir()
    (partial / "images.csv").write_text("half")
    # Killed between its two renames: the earlier output lies aside.
    earlier(replaced)
    with writing(target) as folder:
        assert list(folder.iterdir()) == []
        assert (target / "index.html").read_text() == "old"
        (folder / "index.html").write_text("new")
    assert (target / "index.html").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["audit"]


def test_two_audits_do_not_write_to_the_same_output(tmp_path: Path) -> None:
    with writing(tmp_path / "audit") as folder:
        (folder / "index.html").write_text("first")
        with pytest.raises(PreconditionFailed, match="another audit"), writing(tmp_path / "audit"):
            pass
        assert (folder / "index.html").read_text() == "first"
    assert (tmp_path / "audit" / "index.html").read_text() == "first"


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    output = writing(tmp_path / "file" / "audit")
    with pytest.raises(PreconditionFailed, match="file/audit cannot be written"), output:
        pass


def test_the_command_loads_neither_torch_nor_a_server() -> None:
    code = "import json, sys, services.annotator.folder; print(json.dumps(sorted(sys.modules)))"
    modules = set(json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)))
    absent = {"torch", "prefect", "matplotlib", "pandas", "sklearn", "fairloop.client"}
    assert absent.isdisjoint(modules)
    # Of what servers are made of it takes the processes that compute, and what they log with.
    servers = {"server", "settings", "runner", "operation_store", "training", "interceptors"}
    assert {f"fairloop.serving.{name}" for name in servers}.isdisjoint(modules)
    assert {"services.annotator.servicer", "services.generator", "services.metrics"}.isdisjoint(modules)
