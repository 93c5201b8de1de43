"""What leaves the store comes back the same, and opens in the programs that it is for."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets as hugging_face
import numpy as np
import pytest
import webdataset
from numpy.typing import NDArray
from PIL import Image as Pillow

from fairloop import dataset as dataset_module
from fairloop import exports, importers
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.exports import hf_dataset
from fairloop.importers import Choices
from fairloop.manifest import Terms
from fairloop.preparation import derived
from fairloop.provenance.marks import Mark, put_mark
from fairloop.selection import Selection
from fairloop.store import ObjectStore
from tests.support.trees import image_bytes, plant

OPEN = Terms("CC0-1.0", "yes", "yes", "yes", "yes")
MODEL = "models/faces/versions/0123456789abcdef"
LABELS = ("race=race", "gender=gender", "age_years=age_years", "split=split", "text=text", "batch=batch")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hugging_face.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def build(store: ObjectStore, root: Path, terms: Terms = OPEN) -> Dataset:
    """Nine images in four formats of three people and of nobody known: repeats, missing labels, marks."""
    plant(root, "a/1.png", "a/2.JPG", "b/1.bmp", "b/2.webp", "c/x y.png", "c/3.jpeg", "lone.png")
    (root / "a/again.png").write_bytes((root / "a/1.png").read_bytes())
    marked = put_mark(image_bytes(50, ".png"), Mark(MODEL, 7, 3))
    (root / "made.png").write_bytes(marked)
    rows = [
        ("a/1.png", "ann", "white", "female", "31", "train", "face of White person", "x"),
        ("a/2.JPG", "ann", "white", "female", "43", "train", "", ""),
        ("b/1.bmp", "bob", "east_asian", "male", "7", "test", 'a, "b"', ""),
        ("b/2.webp", "bob", "east_asian", "", "7", "train", "", ""),
        ("c/x y.png", "ca/rl", "black", "male", "", "test", "", "y"),
        ("c/3.jpeg", "ca/rl", "", "male", "70", "", "", ""),
        ("lone.png", "", "", "", "", "", "", ""),
        ("a/again.png", "ann", "white", "female", "31", "train", "", ""),
        ("made.png", "", "white", "female", "", "train", "", ""),
    ]
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as file:
        names = ("file", "who", "race", "gender", "age_years", "split", "text", "batch")
        csv.writer(file).writerows([names, *rows])
    return bring(store, root, "table", terms=terms, table="labels.csv", subject="who", label=LABELS)


def bring(
    store: ObjectStore, root: Path, kind: str, name: str = "mine", terms: Terms = OPEN, **options: Any
) -> Dataset:
    choices = Choices("mine", terms=(terms,))
    return importers.import_dataset(store, kind, root, f"datasets/{name}", choices, **options).dataset


def known(dataset: Dataset, *without: str) -> list[tuple[Any, ...]]:
    """(id, subject, source, labels) of every image, sorted; where it lay is another place by now."""
    return sorted(
        (
            row["image_id"],
            row["subject_id"] or "",
            row["source"],
            sorted((k, v) for k, v in row["labels"] if k not in ("file", *without)),
        )
        for row in dataset.rows()
    )


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"))


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_a_folder_has_the_original_files_and_a_table_that_brings_everything_back(
    store: ObjectStore, tmp_path: Path
) -> None:
    first = build(store, tmp_path / "in")
    done = exports.export_dataset(store, first.name, "folder", tmp_path / "out")
    assert (done.images, done.folder) == (9, tmp_path / "out")
    images = {name for name in files(tmp_path / "in") if not name.endswith(".csv")}
    assert files(tmp_path / "out") == {*images, "images.csv", "TERMS.md", "CARD.md"}
    for name in images:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    again = bring(
        store, tmp_path / "out", "table", "again", table="images.csv", subject="subject", label=LABELS
    )
    assert known(again) == known(first)
    assert [dict(row["labels"])["file"] for row in again.rows()] == [
        dict(row["labels"])["file"] for row in first.rows()
    ]
    with open(tmp_path / "out/images.csv", encoding="utf-8", newline="") as file:
        made = [row for row in csv.DictReader(file) if row["source"] == "synthetic"]
    assert [(row["file"], row["model"], row["seed"], row["index"]) for row in made] == [
        ("made.png", MODEL, "7", "3")
    ]


def test_what_an_image_says_of_its_own_making_survives_export_and_import(
    store: ObjectStore, tmp_path: Path
) -> None:
    first = build(store, tmp_path / "in")
    for kind in ("folder", "webdataset", "hf-dataset", "fairface"):
        exports.export_dataset(
            store, first.name, kind, tmp_path / kind, selection=Selection(source="synthetic")
        )
        again = bring(store, tmp_path / kind, kind, f"from-{kind}")
        (row,) = again.rows()
        assert (row["source"], row["model"], row["seed"], row["index"]) == ("synthetic", MODEL, 7, 3)


def test_generated_people_of_two_seeds_stay_two_and_keep_what_they_were_accepted_by(
    store: ObjectStore, tmp_path: Path
) -> None:
    writer = dataset_module.DatasetWriter(store, "datasets/made", terms=[OPEN])
    for seed in (7, 8):
        data = put_mark(image_bytes(seed, ".png"), Mark(MODEL, seed, 0))
        perceived = {"perceived_gender.scene": "female"}
        image = dataset_module.Image(
            data, 13, 12, "png", f"0123456789abcdef:{seed}:3", perceived, "synthetic"
        )
        writer.add(image)
    made = writer.finish()
    exports.export_dataset(store, made.name, "webdataset", tmp_path / "out")
    again = bring(store, tmp_path / "out", "webdataset", "again")
    assert [dict(row["labels"])["perceived_gender.scene"] for row in again.rows()] == ["female"] * 2
    merged = derived.write(store, "datasets/merged", [derived.Piece(made, prefix="x")]).dataset
    for found in (again, merged):
        assert len({row["subject_id"] for row in found.rows()}) == 2


def test_a_folder_per_person_or_per_label_never_mixes_two(store: ObjectStore, tmp_path: Path) -> None:
    plant(tmp_path / "in", "a_b/1.png", "a/b/1.png", "2.png", "A_B/1.png")
    first = bring(store, tmp_path / "in", "folder", subjects="folder")
    exports.export_dataset(store, first.name, "folder", tmp_path / "who", by="subject")
    folders: dict[str, set[str]] = {}
    with open(tmp_path / "who/images.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            folders.setdefault(row["file"].partition("/")[0].casefold(), set()).add(row["subject"])
    # Three people whose names differ by what a folder's name cannot say, or by case alone.
    assert sorted(map(sorted, folders.values())) == [[""], ["A_B"], ["a/b"], ["a_b"]]
    labelled = build(store, tmp_path / "labelled")
    exports.export_dataset(store, labelled.name, "folder", tmp_path / "races", by="race")
    found = {name for name in files(tmp_path / "races") if "/" in name}
    assert {name.partition("/")[0] for name in found} == {"white", "east_asian", "black", "_unknown"}
    assert {"white/1.png", "east_asian/1.bmp", "_unknown/lone.png"} <= found
    with pytest.raises(InvalidInput, match="'skin' is not one of file, subject, age, age_years, batch, "):
        exports.export_dataset(store, labelled.name, "folder", tmp_path / "none", by="skin")


def test_names_from_outside_stay_in_the_folder_and_never_write_over_each_other(
    store: ObjectStore, tmp_path: Path
) -> None:
    rows = [
        "../../up.png",
        "/etc/x.png",
        "CON.png",
        "a",
        "a/b.png",
        ".hidden",
        "images.csv",
        "same.png",
        "same.png",
    ]
    writer = dataset_module.DatasetWriter(store, "datasets/odd", terms=[OPEN])
    for seed, name in enumerate([*rows, "x" * 300 + ".png", "b\\c\x00d.png", "", "TERMS.md/e.png"]):
        image = dataset_module.Image(image_bytes(seed, ".png"), 13, 12, "png", labels={"file": name})
        writer.add(image)
    odd = writer.finish()
    exports.export_dataset(store, odd.name, "folder", tmp_path / "to/out")
    assert files(tmp_path) == {f"to/out/{name}" for name in files(tmp_path / "to/out")}
    found = files(tmp_path / "to/out")
    assert {"up.png", "etc/x.png", "_CON.png", "a.png", "a/b.png", "_hidden.png"} <= found
    assert {"images.csv.png", "same.png", "same-2.png", "b/c_d.png"} <= found
    again = bring(store, tmp_path / "to/out", "folder", "again")
    assert {row["sha256"] for row in again.rows()} == {row["sha256"] for row in odd.rows()}


def samples(folder: Path) -> Iterator[dict[str, Any]]:
    tars = sorted(str(path) for path in folder.glob("*.tar"))
    yield from webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode("rgb8")


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves its tars open
@pytest.mark.parametrize("part", [Selection(), Selection(split="train")], ids=["whole", "part"])
def test_tars_load_in_webdataset_with_every_pixel_and_come_back(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: Selection
) -> None:
    monkeypatch.setattr(dataset_module, "SHARD_IMAGES", 3)
    first = build(store, tmp_path / "in")
    rows = [row for row in first.rows() if not part or dict(row["labels"]).get("split") == part.split]
    assert len(rows) == (5 if part else 9)
    exports.export_dataset(store, first.name, "webdataset", tmp_path / "out", selection=part)
    assert len(list((tmp_path / "out").glob("mine-*.tar"))) == (2 if part else 3)
    found = list(samples(tmp_path / "out"))
    assert [sample["__key__"] for sample in found] == [row["image_id"] for row in rows]
    for sample, row in zip(found, rows, strict=True):
        np.testing.assert_array_equal(sample["png"], pixels(first.read(row["image_id"])))
    again = bring(store, tmp_path / "out", "webdataset", "again")
    wanted = [row for row in known(first) if row[0] in {r["image_id"] for r in rows}]
    assert known(again) == wanted


def test_a_hugging_face_set_loads_in_its_library_with_splits_columns_and_every_pixel(
    store: ObjectStore, tmp_path: Path
) -> None:
    first = build(store, tmp_path / "in")
    exports.export_dataset(store, first.name, "hf-dataset", tmp_path / "out")
    loaded = hugging_face.load_from_disk(str(tmp_path / "out"))
    assert {name: len(part) for name, part in loaded.items()} == {"test": 2, "train": 5, "unsplit": 2}
    assert loaded["train"].column_names[:2] == ["image", "text"]
    assert isinstance(loaded["train"].features["image"], hugging_face.Image)
    seen = {}
    for name, part in loaded.items():
        for sample in part:
            seen[sample["image_id"]] = {**sample, "split": name}
    for row in first.rows():
        sample, labels = seen.pop(row["image_id"]), dict(row["labels"])
        np.testing.assert_array_equal(
            np.asarray(sample["image"].convert("RGB")), pixels(first.read(row["image_id"]))
        )
        for name in ("text", "race", "gender", "age", "age_years"):
            assert sample[name] == labels.get(name)
        assert sample["split"] == labels.get("split", "unsplit")
        assert (sample["source"], sample["model"], sample["seed"]) == (
            row["source"],
            row["model"],
            row["seed"],
        )
    assert not seen
    named = tuple(label for label in LABELS if not label.startswith("split"))
    again = bring(store, tmp_path / "out", "hf-dataset", "again", subject="subject", label=named)
    assert [row[:3] for row in known(again)] == [row[:3] for row in known(first)]
    assert known(again, "split") == known(first, "split")


def test_a_large_hugging_face_set_has_several_files_and_loads_as_one(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf_dataset, "BLOCK_ROWS", 2)
    monkeypatch.setattr(hf_dataset, "FILE_BYTES", 500)
    first = build(store, tmp_path / "in")
    exports.export_dataset(store, first.name, "hf-dataset", tmp_path / "out")
    found = {path.name for path in (tmp_path / "out/train").glob("*.arrow")}
    assert found == {f"data-{number:05}-of-{len(found):05}.arrow" for number in range(len(found))}
    assert len(found) >= 3
    loaded = hugging_face.load_from_disk(str(tmp_path / "out"))
    own = {row["image_id"]: dict(row["labels"]).get("split", "unsplit") for row in first.rows()}
    assert {image: name for name, part in loaded.items() for image in part["image_id"]} == own
    assert loaded["train"]["image_id"][:] == [image for image in own if own[image] == "train"]


def test_a_set_without_splits_is_one_hugging_face_data_set_and_reloads_equal(
    store: ObjectStore, tmp_path: Path
) -> None:
    plant(tmp_path / "in", *(f"white/{k}.png" for k in range(7)), *(f"black/{k}.jpg" for k in range(4)))
    first = bring(store, tmp_path / "in", "folder", folders="race")
    exports.export_dataset(store, first.name, "hf-dataset", tmp_path / "out")
    loaded = hugging_face.load_from_disk(str(tmp_path / "out"))
    assert isinstance(loaded, hugging_face.Dataset)
    assert loaded["race"][:] == [dict(row["labels"])["race"] for row in first.rows()]
    # The library's own copy of it is the same again.
    loaded.save_to_disk(str(tmp_path / "copy"))
    again = bring(store, tmp_path / "copy", "hf-dataset", "again", label=("race=race",))
    assert known(again) == known(first)


def test_identity_folders_are_named_after_person_and_age_and_come_back(
    store: ObjectStore, tmp_path: Path
) -> None:
    first = build(store, tmp_path / "in")
    with pytest.raises(PreconditionFailed, match=r"3 of 9 images .* lack a subject or the label age_years"):
        exports.export_dataset(store, first.name, "identity-folders", tmp_path / "out")
    done = exports.export_dataset(store, first.name, "identity-folders", tmp_path / "out", unknown="skip")
    assert "3 images without a subject or the label age_years were left out" in done.notes
    images = files(tmp_path / "out") - {"TERMS.md", "CARD.md"}
    assert images == {
        "ann/ann_31.png",
        "ann/ann_31a.png",
        "ann/ann_43.jpg",
        "bob/bob_7.bmp",
        "bob/bob_7.webp",
        "ca_rl/ca_rl_70.jpg",
    }
    again = bring(store, tmp_path / "out", "identity-folders", "again")
    ages = {row["image_id"]: dict(row["labels"]).get("age_years") for row in first.rows()}
    assert {row["image_id"]: dict(row["labels"])["age_years"] for row in again.rows()} == {
        key: ages[key] for key in (row["image_id"] for row in again.rows())
    }


def test_fairface_comes_back_with_generated_rows_marked_by_their_age(
    store: ObjectStore, tmp_path: Path
) -> None:
    root = plant(tmp_path / "in", "train/1.jpg", "train/2.jpg", "val/1.jpg", "imgs_jpg/white/white_0.jpg")
    (root / "fairface_label_train_w_synth.csv").write_text(
        "file,age,gender,race,service_test\n"
        "train/1.jpg,more than 70,Male,East Asian,True\n"
        "train/2.jpg,0-2,Female,Latino_Hispanic,False\n"
        "imgs_jpg/white/white_0.jpg,-1,-1,White,False\n"
    )
    (root / "fairface_label_val.csv").write_text(
        "file,age,gender,race,service_test\nval/1.jpg,20-29,Female,Middle Eastern,False\n"
    )
    first = bring(store, root, "fairface", padding="0.25")
    exports.export_dataset(store, first.name, "fairface", tmp_path / "out", policy="research")
    for name in sorted(path.name for path in root.glob("*.csv")):
        ours = (tmp_path / "out" / name).read_text()
        assert ours == (root / name).read_text().replace("-1,-1,White", "-1,,White")
    again = bring(store, tmp_path / "out", "fairface", "again", padding="0.25")
    assert known(again) == known(first)


def test_terms_stop_an_export_before_anything_is_written_and_go_with_it_otherwise(
    store: ObjectStore, tmp_path: Path
) -> None:
    closed = Terms("CC-BY-NC-ND-4.0", "no", "no", "no", "unknown", purpose="research on fairness")
    first = build(store, tmp_path / "in", closed)
    out = tmp_path / "out"
    with pytest.raises(PreconditionFailed, match=r"policy publish .*CC-BY-NC-ND-4\.0 forbids redistribution"):
        exports.export_dataset(store, first.name, "folder", out)
    assert {path.name for path in tmp_path.iterdir()} == {"in"}
    reason = "shown to the committee | only"
    done = exports.export_dataset(store, first.name, "folder", out, acknowledge=reason)
    assert done.use.objections
    said = (out / "TERMS.md").read_text()
    assert "| CC-BY-NC-ND-4.0 | no | no | no | unknown |" in said
    assert "the policy **publish**" in said
    assert "shown to the committee \\| only" in said
    assert "forbids redistribution" in said
    assert f"# {first.name}" in (out / "CARD.md").read_text()


def test_an_export_is_whole_or_not_there_and_writes_over_nothing(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(store, tmp_path / "in")
    out = tmp_path / "out"
    (tmp_path / ".out.export/half").mkdir(parents=True)  # what a killed one left
    (tmp_path / ".out.export/half/a.png").write_bytes(b"x")

    def fail(stage: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exports.export_dataset(store, first.name, "folder", out, progress=fail)
    assert {path.name for path in tmp_path.iterdir()} == {"in"}
    out.mkdir()

    def meddle(stage: str, done: int, total: int | None) -> None:
        (out / "mine.txt").write_text("mine")

    with pytest.raises(PreconditionFailed, match="made by somebody else meanwhile"):
        exports.export_dataset(store, first.name, "folder", out, progress=meddle)
    assert files(out) == {"mine.txt"}
    with pytest.raises(InvalidInput, match="out exists; an export is a new folder"):
        exports.export_dataset(store, first.name, "folder", out)
    with pytest.raises(InvalidInput, match="by: is no option of webdataset; it has none"):
        exports.export_dataset(store, first.name, "webdataset", tmp_path / "new", by="race")
    with pytest.raises(InvalidInput, match="'zip' is not known; there are folder, identity-folders, "):
        exports.export_dataset(store, first.name, "zip", tmp_path / "new")


def test_a_selection_reads_only_the_shards_that_hold_its_images(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_module, "SHARD_IMAGES", 3)
    first = build(store, tmp_path / "in")
    read: list[str] = []
    own = ObjectStore.get

    def get(self: ObjectStore, key: str, *rest: Any, **more: Any) -> bytes:
        read.append(key)
        return own(self, key, *rest, **more)

    monkeypatch.setattr(ObjectStore, "get", get)
    exports.export_dataset(
        store, first.name, "folder", tmp_path / "out", selection=Selection(cell="race=east_asian")
    )
    # Files are sorted by the table: bob's are the third and fourth of nine, in the first two shards.
    assert len({key for key in read if key.endswith(".tar")}) == 2
    assert {"b/1.bmp", "b/2.webp"} < files(tmp_path / "out")
    with pytest.raises(PreconditionFailed, match="no image is race=white,gender=male, split val"):
        exports.export_dataset(
            store,
            first.name,
            "folder",
            tmp_path / "none",
            selection=Selection("race=white,gender=male", "val"),
        )
