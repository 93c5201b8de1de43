"""`fairloop annotate`: the files of the reference systems, from tiny networks in the published formats."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from torchvision.models import resnet34

from fairloop.cli import Commands
from fairloop.errors import InvalidInput
from fairloop.models import entry as catalogued
from fairloop.models import fetch, local_path, put
from services.annotator.chip_table import chip_stems
from services.annotator.detector import Detector
from services.annotator.images import decode
from services.annotator.resumable_csv import ResumableCsv
from services.annotator.seed_command import annotate
from tests.support.tiny_annotators import caffe_network, clip_folder, deepface_network

# seeds.md, 0.1
RACES = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
Rows = list[dict[str, str]]
Box = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    return decode(fetch("insightface-t1").read_bytes())


@pytest.fixture(scope="module")
def boxes(photograph: NDArray[np.uint8]) -> list[Box]:
    """Of the photograph's people, the largest first."""
    return [found.box for found in Detector.load().detect(photograph)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of weights with tiny networks under the published names."""
    folder, made = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("made")
    landmarks = fetch("dlib-landmarks-5")
    random = np.random.default_rng(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLOOP_CACHE", str(folder))
        path = local_path(catalogued("dlib-landmarks-5"))
        path.parent.mkdir(parents=True)
        path.symlink_to(landmarks)
        for seed, name in ((7, "fairface-7"), (4, "fairface-4")):
            torch.manual_seed(seed)
            torch.save(resnet34(weights=None, num_classes=18).state_dict(), made / "net.pt")
            put(name, made / "net.pt")
        for name, classes in (("gender", 2), ("age", 8)):
            weights = random.normal(0, 0.02, (classes, 3)).astype(np.float32)
            files = caffe_network(made, name, weights, np.zeros(classes, np.float32))
            for kind, file in zip(("prototxt", "caffemodel"), files, strict=True):
                put(f"adience-{name}.{kind}", file)
        put("deepface-race", deepface_network(made / "race_model_single_batch.onnx", 6, 1))
    return folder


@pytest.fixture(autouse=True)
def environment(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLOOP_CACHE", str(cache))
    monkeypatch.setenv("FAIRLOOP_THREADS", "1")
    monkeypatch.setenv("FAIRLOOP_DEVICE", "cpu")


def fairloop(*arguments: str) -> Any:
    return CliRunner().invoke(Commands(commands={"annotate": annotate}), ["annotate", *arguments])


def read(path: Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def cut(photograph: NDArray[np.uint8], box: Box) -> Image.Image:
    """One of the photograph's people, with a wide margin."""
    left, top, right, bottom = (int(edge) for edge in box)
    side = (right - left) // 2
    return Image.fromarray(photograph).crop(
        (max(left - side, 0), max(top - side, 0), right + side, bottom + side)
    )


def test_a_list_of_images_becomes_chips_scores_and_boxes_in_the_original_pixels(
    photograph: NDArray[np.uint8], boxes: list[Box], tmp_path: Path
) -> None:
    images = tmp_path / "in"
    (images / "other").mkdir(parents=True)
    cut(photograph, boxes[0]).save(images / "a.b.jpg", quality=95)
    cut(photograph, boxes[1]).save(images / "other" / "a.b.png")
    Image.new("RGB", (300, 200), "grey").save(images / "nobody.png")
    (images / "broken.png").write_bytes(b"\x89PNG")
    paths = [str(images / name) for name in ("other/a.b.png", "nobody.png", "a.b.jpg", "broken.png")]
    (tmp_path / "in.csv").write_text("\n".join(["number,img_path", *(f"1,{path}" for path in paths)]))
    done = fairloop("--csv", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    report = {row["img_path"]: (row["status"], row["faces"]) for row in read(tmp_path / "out" / "report.csv")}
    assert report == {
        paths[0]: ("ok", "1"),
        paths[1]: ("no_face", "0"),
        paths[2]: ("ok", "1"),
        paths[3]: ("corrupt", "0"),
    }
    rows = read(tmp_path / "out" / "test_outputs.csv")
    # seeds.md, 5.3: the seed's columns in its order come first.
    assert list(rows[0])[:9] == [
        "face_name_align",
        "race",
        "race4",
        "gender",
        "age",
        "race_scores_fair",
        "race_scores_fair_4",
        "gender_scores_fair",
        "age_scores_fair",
    ]
    assert [row["face_name_align"] for row in rows] == [
        "detected_faces/a.b_face0.png",
        "detected_faces/a.b-2_face0.jpg",
    ]
    words = {
        "race": list(RACES),
        "race4": ["White", "Black", "Asian", "Indian"],
        "gender": ["Male", "Female"],
        "age": ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+"],
    }
    columns = ("race_scores_fair", "race_scores_fair_4", "gender_scores_fair", "age_scores_fair")
    for row in rows:
        for (attribute, labels), column in zip(words.items(), columns, strict=True):
            scores = json.loads(row[column])
            assert len(scores) == len(labels)
            assert sum(scores) == pytest.approx(1, abs=1e-6)
            assert row[attribute] == labels[int(np.argmax(scores))]
        with Image.open(tmp_path / "out" / row["face_name_align"]) as chip:
            assert chip.size == (300, 300)
        pixels = decode(Path(row["img_path"]).read_bytes())
        assert json.loads(row["bbox"]) == pytest.approx(Detector.load().detect(pixels)[0].box, abs=0.01)
    late = fairloop(
        "--csv", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out"), "--layer", "avgpool"
    )
    assert late.exit_code == 1
    assert "has 2 chips that were described without their activations" in late.output
    wrong = fairloop(
        "--csv", str(tmp_path / "in.csv"), "--output", str(tmp_path / "new"), "--layer", "avgpol"
    )
    assert wrong.exit_code == 1
    assert "layer: 'avgpol' is no layer of fairface; there are conv1, bn1, relu, maxpool" in wrong.output


def test_a_second_run_goes_on_and_writes_no_row_twice(photograph: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(photograph[::2, ::2].copy()).save(tmp_path / "group.png")
    Image.new("RGB", (100, 100)).save(tmp_path / "black.png")
    names = [str(tmp_path / name) for name in ("group.png", "black.png")]
    (tmp_path / "in.csv").write_text("\n".join(["img_path", *names]))
    arguments = ("--csv", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out"), "--layer", "avgpool")
    assert fairloop(*arguments).exit_code == 0
    files = [tmp_path / "out" / f"{name}.csv" for name in ("test_outputs", "report", "fairface_activations")]
    outputs, report, activations = files
    whole = [file.read_bytes() for file in files]
    assert len(read(outputs)) == 2
    # What a kill leaves: faces of an image whose row in the report is missing, the last of them torn.
    report.write_bytes(report.read_bytes().splitlines(keepends=True)[0])
    outputs.write_bytes(b"".join(whole[0].splitlines(keepends=True)[:2]) + b"detected_faces/gro")
    activations.write_bytes(b"".join(whole[2].splitlines(keepends=True)[:2]) + b"1,detected_faces/gro")
    assert fairloop(*arguments).exit_code == 0
    assert [file.read_bytes() for file in files] == whole
    assert fairloop(*arguments).exit_code == 0
    assert [file.read_bytes() for file in files] == whole


def test_activations_of_chips_are_the_reference_systems_512_columns(
    photograph: NDArray[np.uint8], boxes: list[Box], cache: Path, tmp_path: Path
) -> None:
    cut(photograph, boxes[0]).save(tmp_path / "one.png")
    (tmp_path / "in.csv").write_text(f"img_path\n{tmp_path / 'one.png'}\n")
    arguments = ("--csv", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out"), "--layer", "avgpool")
    assert fairloop(*arguments).exit_code == 0
    (row,) = read(tmp_path / "out" / "fairface_activations.csv")
    # seeds.md, 5.3: an unnamed index, image_paths, columns 0..511.
    assert list(row) == ["", "image_paths", *map(str, range(512))]
    assert (row[""], row["image_paths"]) == ("0", "detected_faces/one_face0.png")
    network = resnet34(weights=None, num_classes=18).eval()
    network.load_state_dict(torch.load(fetch("fairface-7"), weights_only=True))
    chip = np.asarray(Image.open(tmp_path / "out" / row["image_paths"]).resize((224, 224), Image.BILINEAR))
    scaled = (chip / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.no_grad():
        x = torch.from_numpy(scaled.astype(np.float32)).permute(2, 0, 1)[None]
        expected = torch.nn.Sequential(*list(network.children())[:-1])(x).flatten().numpy()
    found = np.array([float(row[str(unit)]) for unit in range(512)])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    shapes = json.loads((tmp_path / "out" / "fairface_activations.shapes.json").read_text())
    assert shapes["avgpool"]["shape"] == [512, 1, 1]


def test_s1s_columns_hold_its_prompts_indices_and_every_probability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLOOP_CLIP", f"local-dir:{clip_folder(tmp_path / 'clip')}")
    images = tmp_path / "images" / "deep"
    images.mkdir(parents=True)
    random = np.random.default_rng(1)
    for index in range(3):
        Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)).save(images / f"{index}.png")
    (images / "broken.jpg").write_bytes(b"no picture")
    table = tmp_path / "out.csv"
    done = fairloop(str(tmp_path / "images"), "--layout", "s1", "--output", str(table))
    assert done.exit_code == 0, done.output
    assert "skipped deep/broken.jpg" in done.output
    rows = read(table)
    # seeds.md, 2.5
    assert list(rows[0])[:7] == [
        "Image Path",
        "GenderPrompt",
        "GenderIdx",
        "GenderProb_man",
        "GenderProb_woman",
        "SkinPrompt",
        "SkinTonePred",
    ]
    tones = ["very light", "light", "light beige", "beige", "light brown", "medium brown", "dark brown",
             "very dark brown", "almost black", "very dark black"]  # fmt: skip
    assert [row["Image Path"] for row in rows] == [str(images / f"{index}.png") for index in range(3)]
    for row in rows:
        man, woman = float(row["GenderProb_man"]), float(row["GenderProb_woman"])
        assert man + woman == pytest.approx(1)
        assert row["GenderIdx"] == ("0" if man >= woman else "1")
        assert row["GenderPrompt"] == f"a photo of a {'man' if man >= woman else 'woman'}"
        shares = [float(row[f"SkinProb_{tone}"]) for tone in range(1, 11)]
        assert row["SkinTonePred"] == str(int(np.argmax(shares)) + 1)
        assert row["SkinPrompt"] == f"a person with {tones[int(np.argmax(shares))]} skin"
    before = table.read_bytes()
    assert fairloop(str(tmp_path / "images"), "--layout", "s1", "--output", str(table)).exit_code == 0
    assert table.read_bytes() == before


def test_a_folder_of_folders_becomes_one_table_with_a_dash_where_there_is_no_face_and_boxes_drawn(
    photograph: NDArray[np.uint8], boxes: list[Box], tmp_path: Path
) -> None:
    root = tmp_path / "prompts"
    for index, name in enumerate(("ceo", "doctor", "nurse")):
        (root / name).mkdir(parents=True)
        cut(photograph, boxes[index]).save(root / name / f"{name}_0.png")
        (root / name / "notes.txt").write_text("no picture")
    Image.new("RGB", (80, 80)).save(root / "ceo" / "ceo_1.png")
    Image.fromarray(photograph).save(root / "nurse" / "nurse_1.png")
    table, drawn = tmp_path / "out.csv", tmp_path / "drawn"
    arguments = (str(root), "--layout", "s3", "--output", str(table), "--drawn", str(drawn))
    done = fairloop(*arguments)
    assert done.exit_code == 0, done.output
    rows = read(table)
    assert list(rows[0]) == ["prompt", "path", "gender", "age", "race"]
    assert [(row["prompt"], Path(row["path"]).name) for row in rows] == [
        ("ceo", "ceo_0.png"),
        ("ceo", "ceo_1.png"),
        ("doctor", "doctor_0.png"),
        ("nurse", "nurse_0.png"),
        ("nurse", "nurse_1.png"),
    ]
    ages = {"(0-2)", "(4-6)", "(8-12)", "(15-20)", "(25-32)", "(38-43)", "(48-53)", "(60-100)"}
    races = {"asian", "indian", "white", "black", "middle eastern", "latino hispanic"}
    for row in rows:
        found = row["gender"], row["age"], row["race"]
        if row["path"].endswith("ceo_1.png"):
            assert found == ("--", "--", "--")
        else:
            assert found[0] in {"Male", "Female"}
            assert found[1] in ages
            assert found[2] in races
    assert sorted(path.name for path in drawn.rglob("*.png")) == [
        "ceo_0.png", "doctor_0.png", "nurse_0.png", "nurse_1.png"
    ]  # fmt: skip
    with Image.open(drawn / "nurse" / "nurse_1.png") as image:
        marked = np.asarray(image)
    assert marked.shape == photograph.shape
    left, top, right, bottom = (round(edge) for edge in boxes[0])
    middle = (top + bottom) // 2, (left + right) // 2
    for place in ((middle[0], left), (middle[0], right - 1), (top, middle[1]), (bottom - 1, middle[1])):
        assert tuple(marked[place]) == (0, 255, 0)
    assert (marked[middle] == photograph[middle]).all()
    before = table.read_bytes()
    table.write_bytes(b"".join(before.splitlines(keepends=True)[:3]) + b"doctor,/half")
    assert fairloop(*arguments).exit_code == 0
    assert table.read_bytes() == before


def test_what_is_not_named_or_names_nothing_is_said(tmp_path: Path) -> None:
    both = fairloop(str(tmp_path), "--csv", str(tmp_path / "in.csv"))
    assert (both.exit_code, "either a folder (with --layout) or a CSV file" in both.output) == (1, True)
    assert "--layout: is needed" in fairloop(str(tmp_path)).output
    assert "there is no file" in fairloop("--csv", str(tmp_path / "in.csv")).output
    (tmp_path / "in.csv").write_text("path\nx.png\n")
    assert "has the columns path; img_path is needed" in fairloop("--csv", str(tmp_path / "in.csv")).output
    (tmp_path / "in.csv").write_text("img_path\n" + "x" * 200_000)
    assert "line 2 is none of a CSV file" in fairloop("--csv", str(tmp_path / "in.csv")).output
    inside = ("--output", str(tmp_path / "o.csv"), "--drawn", str(tmp_path / "boxes"))
    empty = fairloop(str(tmp_path), "--layout", "s3", "--output", str(tmp_path / "o.csv"))
    assert (empty.exit_code, "has no image" in empty.output) == (1, True)
    assert "drawn: " in fairloop(str(tmp_path), "--layout", "s3", *inside).output


def test_names_of_chips_keep_their_dots_and_never_meet() -> None:
    stems = chip_stems(["x/a.b.png", "y/a.b.jpg", "a.jpg", "a-2.jpg", "z/a.png"])
    assert list(stems.values()) == ["a.b", "a.b-2", "a", "a-2", "a-3"]


def test_a_table_with_other_columns_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InvalidInput, match="has the columns a, b; this writes b, a"):
        ResumableCsv(path, ("b", "a"), "a")
    assert path.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("data", [b"\x89PNG", b"notes without an end", b'"open\nquote\n'])
def test_a_file_that_is_no_table_is_not_touched(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "photograph"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="photograph: holds something else than a table; this writes a, b"):
        ResumableCsv(path, ("a", "b"), "a")
    assert path.read_bytes() == data


def test_a_table_whose_first_line_was_cut_off_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,")
    with ResumableCsv(path, ("a", "b"), "a") as table:
        assert not table.done
    assert path.read_bytes() == b"a,b\n"


def test_names_with_ends_of_lines_and_quotes_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    names = ["a\rb", "a\r\nb", "a\nb", 'a"b', "a,b", "\udcff"]
    for name in names:
        with ResumableCsv(path, ("key", "text"), "key") as table:
            table.add([{"key": name, "text": "x"}])
    with ResumableCsv(path, ("key", "text"), "key") as table:
        assert list(table.done) == names


def test_a_row_is_whole_when_its_quotes_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with ResumableCsv(path, ("key", "text"), "key") as table:
        table.add([{"key": "one", "text": 'two\nlines, "quoted"'}])
    whole = path.read_bytes()
    path.write_bytes(whole + b'two,"begun\n')
    with ResumableCsv(path, ("key", "text"), "key") as table:
        assert list(table.done) == ["one"]
    assert path.read_bytes() == whole
