"""`fairloop datasets`: from an import to a page, to prepared sets and to files, as a person types it."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets as hugging_face
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from fairloop.cli import main
from fairloop.contact_sheet import contact_sheet
from fairloop.dataset import Dataset
from fairloop.store import ObjectStore
from tests.support.pages import Reader
from tests.support.trees import image_bytes, plant

Run = Callable[..., Result]

PROMPTS = {
    "East Asian": "face of East Asian person",
    "Indian": "face of Indian person",
    "Black": "face of Black person",
    "White": "face of White person",
    "Middle Eastern": "face of Middle Eastern person",
    "Latino_Hispanic": "face of Latino Hispanic  person",
    "Southeast Asian": "face of Southeast Asian person",
}
"""The first reference system's strings, to the letter."""
RACES = [race.lower().replace(" ", "_") for race in PROMPTS]


@pytest.fixture
def run(
    store: ObjectStore, store_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    for key, value in store_environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)

    def typed(*words: str, code: int = 0) -> Result:
        done = CliRunner().invoke(main, [*words])
        assert done.exit_code == code, done.output
        return done

    return typed


def fairface(root: Path) -> Path:
    """Three images of each race in train, one in val, and two generated ones of White and Black."""
    tables: dict[str, list[list[str]]] = {"train_w_synth": [], "val": []}
    number = 0
    for race in PROMPTS:
        for k in range(4):
            split = "val" if k == 3 else "train"
            number += 1
            path = f"{split}/{number}.jpg"
            tables["val" if k == 3 else "train_w_synth"].append(
                [path, "20-29", ("Male", "Female")[k % 2], race, "False"]
            )
            plant(root, path, first=number)
    for race in ("White", "Black"):
        for k in range(2):
            path = f"imgs_jpg/{race.lower()}/{k}.jpg"
            plant(root, path, first=100 + number + k)
            tables["train_w_synth"].append([path, "-1", "", race, "False"])
            number += 1
    for name, rows in tables.items():
        with open(root / f"fairface_label_{name}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["file", "age", "gender", "race", "service_test"], *rows])
    return root


def opened(store: ObjectStore, name: str) -> Dataset:
    (key,) = [k for k in store.list(f"datasets/{name}/versions/") if k.endswith("/manifest.json")]
    return Dataset.open(store, key.removesuffix("/manifest.json"))


def labels(dataset: Dataset) -> list[dict[str, str]]:
    return [dict(row["labels"]) for row in dataset.rows()]


def test_train_and_validation_are_prompted_saved_to_disk_and_reload_equal(
    run: Run, store: ObjectStore, tmp_path: Path
) -> None:
    root = fairface(tmp_path / "in")
    done = run("import", "fairface", str(root), "--name", "ff")
    assert f"next: fairloop datasets explore {opened(store, 'ff').name} --to FOLDER" in done.output
    run("datasets", "caption", "ff", "--to", "prompted", "--compatible")
    prompted = opened(store, "prompted")
    run("datasets", "export", "hf-dataset", "prompted", "--to", "saved", "--policy", "research")
    loaded = hugging_face.load_from_disk("saved")
    assert {name: len(part) for name, part in loaded.items()} == {"train": 25, "val": 7}
    words = {race.lower().replace(" ", "_"): prompt for race, prompt in PROMPTS.items()}
    for name, part in loaded.items():
        assert {"image", "text", "age", "gender", "race", "service_test"} <= set(part.column_names)
        own = [given for given in labels(prompted) if given["split"] == name]
        for column in ("text", "age", "gender", "race", "service_test"):
            assert part[column][:] == [given.get(column) for given in own]
        assert part["text"][:] == [words[race] for race in part["race"]]
    assert {tuple(image.size) for part in loaded.values() for image in part["image"]} == {(13, 12)}


def test_a_label_that_the_template_names_and_images_lack_is_counted_or_left_without_a_caption(
    run: Run, store: ObjectStore, tmp_path: Path
) -> None:
    run("import", "fairface", str(fairface(tmp_path / "in")), "--name", "ff")
    words = ("datasets", "caption", "ff", "--to", "c", "--template", "a {gender} face")
    refused = run(*words, code=1)
    assert "--template: 4 of 32 images" in refused.output
    assert "4 images have no caption" in run(*words, "--missing", "skip").output
    assert Counter("text" in given for given in labels(opened(store, "c"))) == {True: 28, False: 4}


def test_a_composition_from_a_file_or_from_options_has_exactly_what_was_asked_for(
    run: Run, store: ObjectStore, tmp_path: Path
) -> None:
    run("import", "fairface", str(fairface(tmp_path / "in")), "--name", "ff")
    Path("make-up.toml").write_text('White = 2\nS_White = 1\n"Latino_Hispanic" = 3\nS_Black = 2\n')
    Path("make-up.json").write_text('{"White": 2, "S_White": 1, "Latino_Hispanic": 3, "S_Black": 2}')
    run("datasets", "compose", "ff", "--to", "toml", "--composition", "make-up.toml", "--seed", "3")
    run("datasets", "compose", "ff", "--to", "json", "--composition", "make-up.json", "--seed", "3")
    wants = (
        "race=white:real:2",
        "race=white:synthetic:1",
        "race=latino_hispanic:real:3",
        "race=black:synthetic:2",
    )
    options = [word for want in wants for word in ("--want", want)]
    run("datasets", "compose", "ff", "--to", "options", *options, "--seed", "3")
    made = opened(store, "toml")
    assert Counter((row["source"], dict(row["labels"])["race"]) for row in made.rows()) == {
        ("real", "white"): 2,
        ("synthetic", "white"): 1,
        ("real", "latino_hispanic"): 3,
        ("synthetic", "black"): 2,
    }
    versions = {opened(store, name).name.rpartition("/")[2] for name in ("toml", "json", "options")}
    assert len(versions) == 1
    assert made.manifest.details["preparation"]["wanted"]["synthetic race=white"] == 1
    short = run("datasets", "compose", "ff", "--to", "s", "--want", "race=white:real:9", code=1)
    assert "real race=white: 4 of 9" in short.output
    taken = run("datasets", "compose", "ff", "--to", "s", "--want", "race=white:real:9", "--short", "take")
    assert "real race=white: 4 (5 too few)" in taken.output
    Path("wrong.toml").write_text('White = "many"\n')
    for words, said in (
        (["--want", "race=white:some:3"], "'race=white:some:3' is not CELL:SOURCE:COUNT"),
        (["--want", "race=green:real:3"], "race=green is not known; race has white, black"),
        (["--composition", "wrong.toml"], "no table of names and whole numbers"),
        (["--composition", "absent.toml"], "absent.toml cannot be read as TOML or .json"),
    ):
        assert said in run("datasets", "compose", "ff", "--to", "x", *words, code=1).output


def people(root: Path, count: int, images: int, first: int = 0) -> Path:
    return plant(
        root, *(f"{s:02}/{s:02}_{20 + k}.png" for s in range(count) for k in range(images)), first=first
    )


def test_identity_folders_are_mixed_under_prefixes_split_and_written_again(
    run: Run, store: ObjectStore, tmp_path: Path
) -> None:
    people(tmp_path / "cusp", 10, 5)
    people(tmp_path / "eg3d", 10, 5, first=500)
    for name in ("cusp", "eg3d"):
        run("import", "identity-folders", name, "--name", name, "--namespace", "same", "--synthetic")
    wrong = run("datasets", "merge", "cusp", "eg3d", "--to", "mixed", "--prefix", "one", code=1)
    assert "--prefix: 1 for 2 datasets; give one for each, or none" in wrong.output
    run("datasets", "merge", "cusp", "eg3d", "--to", "mixed", "--prefix", "cusp", "--prefix", "eg3d")
    assert opened(store, "mixed").manifest.counts == {"images": 100, "subjects": 20, "shards": 1}
    shares = ("--shares", "train=0.8,test=0.2", "--seed", "4")
    run("datasets", "split", "mixed", "--to", "closed", "--by", "image", *shares)
    closed = opened(store, "closed")
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for row in closed.rows():
        parts[dict(row["labels"])["split"]].append(row["subject_id"])
    assert {name: len(found) for name, found in parts.items()} == {"train": 80, "test": 20}
    assert len(set(parts["train"])) == 20  # every class is trained
    done = run("datasets", "split", "mixed", "--to", "open", *shares, "--apart")
    assert "train: 80 images of 16 subjects" in done.output
    train, test = (
        {row["subject_id"] for row in opened(store, f"open-{part}").rows()} for part in ("train", "test")
    )
    assert train.isdisjoint(test)
    assert len(train | test) == 20
    run("datasets", "export", "identity-folders", "mixed", "--to", "out", "--policy", "research")
    assert len(list(Path("out").glob("*/*.png"))) == 100
    assert Path("out/cusp-03/cusp-03_22.png").read_bytes() == Path("cusp/03/03_22.png").read_bytes()
    again = run("import", "folder", "out", "--name", "counted", "--dry-run")
    assert "100 records can be imported, 0 cannot" in again.output


def test_both_asian_halves_become_one_and_nobody_is_lost(
    run: Run, store: ObjectStore, tmp_path: Path
) -> None:
    run("import", "fairface", str(fairface(tmp_path / "in")), "--name", "ff")
    run("datasets", "merge", "ff", "--to", "six", "--races", "race6")
    found = Counter(given["race6"] for given in labels(opened(store, "six")))
    assert found == {
        "white": 6,
        "black": 6,
        "asian": 8,
        "latino_hispanic": 4,
        "indian": 4,
        "middle_eastern": 4,
    }
    assert Counter(given["race"] for given in labels(opened(store, "six")))["southeast_asian"] == 4


def test_an_exploration_counts_and_finds_and_shows_nobody_real_unless_told(
    run: Run, store: ObjectStore, tmp_path: Path
) -> None:
    root = fairface(tmp_path / "in")
    Image.new("RGB", (20, 20)).save(root / "train/1.jpg")
    whole = image_bytes(77, ".jpg", 40)
    (root / "train/2.jpg").write_bytes(whole[:200] + bytes(300) + whole[-2:])
    run("import", "fairface", str(root), "--name", "ff")
    done = run("datasets", "explore", "ff", "--to", "page", "--sheet", "3", "--by", "gender,race,split")
    assert "1 broken" in done.output
    assert "1 black" in done.output
    page = Reader(Path("page/index.html").read_text(encoding="utf-8"))
    races = [row for row in pq.read_table("page/counts.parquet").to_pylist() if row["attribute"] == "race"]
    assert {row["value"]: (row["real"], row["synthetic"]) for row in races} == {
        **dict.fromkeys(RACES, (4, 0)),
        "white": (4, 2),
        "black": (4, 2),
    }
    assert page.value("highlights.0.after.value") == 32
    document: dict[str, Any] = json.loads(Path("page/document.json").read_text(encoding="utf-8"))
    for path, printed in page.numbers.items():
        value: Any = document
        for step in path.split("."):
            value = value[int(step)] if isinstance(value, list) else value[step]
        assert {float(full) for full, _ in printed} == {value}
    crossed = {row["attributes"] for row in pq.read_table("page/intersections.parquet").to_pylist()}
    assert "gender,race,split" in crossed
    # Only generated images are on the sheet, of which two races have two.
    shown = {row["cell"]: len(row["faces"]) for row in document["faces"]}
    assert {cell: count for cell, count in shown.items() if count} == {"race=white": 2, "race=black": 2}
    assert Path("page/contact_sheet.png").is_file()
    again = run("datasets", "explore", "ff", "--to", "page", code=1)
    assert "page exists; --overwrite replaces it" in again.output
    # With real people: seven rows of up to five; the damaged image is one of the East Asian ones.
    sheet = contact_sheet(opened(store, "ff"), "race", 5, seed=1)
    assert {race: len(found) for race, found in sheet.rows.items()} == {
        **dict.fromkeys(RACES, 4),
        "white": 5,
        "black": 5,
        "east_asian": 3,
    }
    width, height = Image.open(io.BytesIO(sheet.png())).size
    assert (width > 5 * 96, height) == (True, 7 * 100)


def test_datasets_are_listed_and_shown_by_their_short_names(run: Run, tmp_path: Path) -> None:
    assert "has no dataset; next: fairloop import --help" in run("datasets", "list").output
    people(tmp_path / "in", 2, 3)
    run("import", "identity-folders", "in", "--name", "aged", "--how", "measured")
    (listed,) = run("datasets", "list").output.splitlines()
    assert "6 images  2 subjects" in listed
    shown = run("datasets", "show", "aged").output
    assert shown.startswith("datasets/aged/versions/")
    assert "label age: measured, file names" in shown
    found = json.loads(run("datasets", "show", "datasets/aged", "--json").output)
    assert found["counts"]["images"] == 6
    assert "datasets/none has no version" in run("datasets", "show", "none", code=1).output
