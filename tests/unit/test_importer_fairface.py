"""FairFace as it is published: the authors' CSVs, S0's with generated rows, and the hub's Parquet files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairloop import importers
from fairloop.errors import InvalidInput
from fairloop.importers import UnusableFileError
from tests.support.layouts import layout, problems, records
from tests.support.trees import image_bytes, plant

# The order of the class labels on the data set card of HuggingFaceM4/FairFace.
HUB_RACES = ["East Asian", "Indian", "Black", "White", "Middle Eastern", "Latino_Hispanic", "Southeast Asian"]
HUB_AGES = ["0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"]
# predict.py of dchen236/FairFace.
MODEL_RACES = [
    "White",
    "Black",
    "Latino_Hispanic",
    "East Asian",
    "Southeast Asian",
    "Indian",
    "Middle Eastern",
]
CANONICAL = {name: name.lower().replace(" ", "_") for name in MODEL_RACES}
HEADER = "file,age,gender,race,service_test\n"


def fairface(root: Path, text: str, name: str = "fairface_label_train.csv") -> Path:
    (root / name).write_text(text, encoding="utf-8")
    return root


def test_words_of_all_races_and_both_spellings_of_70_are_read(tmp_path: Path) -> None:
    rows = "".join(f"train/{n}.jpg,50-59,Male,{race},False\n" for n, race in enumerate(MODEL_RACES))
    rows += "val/1.jpg,more than 70,Female,White,True\nval/2.jpg,70+,Female,White,True\n"
    found = records("fairface", fairface(tmp_path, HEADER + rows))
    assert [r.labels["race"] for r in found[:7]] == [CANONICAL[race] for race in MODEL_RACES]
    assert dict(found[0].labels) == {
        "split": "train",
        "age": "50_59",
        "gender": "male",
        "race": "white",
        "service_test": "false",
    }
    assert [(r.labels["age"], r.labels["split"]) for r in found[7:]] == [
        ("70_plus", "val"),
        ("70_plus", "val"),
    ]
    assert {r.subject for r in found} == {None}  # FairFace does not say who is shown
    assert found[7].place == "fairface_label_train.csv, line 9 (val/1.jpg)"


def test_a_csv_with_a_byte_order_mark_semicolons_windows_line_ends_and_spaces_is_read(tmp_path: Path) -> None:
    plant(tmp_path, "train/1.JPG", "val/a b.jpg")
    (tmp_path / "fairface_label_val.csv").write_bytes(
        "\ufefffile;age;gender;race\r\ntrain/1.JPG; 0-2;Female;East Asian \r\n"
        "val/a b.jpg;3-9;M;Indian\r\n".encode()
    )
    found = records("fairface", tmp_path)
    assert [(r.path, r.labels["race"], r.labels["gender"], r.labels["age"]) for r in found] == [
        ("train/1.JPG", "east_asian", "female", "0_2"),
        ("val/a b.jpg", "indian", "male", "3_9"),
    ]
    assert problems("fairface", tmp_path) == []


def test_generated_rows_are_synthetic_and_keep_the_race_that_was_asked_for(tmp_path: Path) -> None:
    fairface(
        tmp_path,
        HEADER + "train/1.jpg,20-29,Male,White,False\n"
        "imgs_jpg/white/white_0.jpg,-1,-1,White,\nimgs_jpg/black/black_0.jpg,-1,,Black,False\n",
        "fairface_label_train_w_synth.csv",
    )
    found = records("fairface", tmp_path)
    assert [(r.provenance["source"], r.provenance.get("requested_cell")) for r in found] == [
        ("real", None),
        ("synthetic", "race=white"),
        ("synthetic", "race=black"),
    ]
    assert dict(found[1].labels) == {"split": "train", "race": "white"}


def test_age_minus_one_outside_the_generated_folder_and_wrong_labels_are_told_by_line(tmp_path: Path) -> None:
    plant(tmp_path, "train/1.jpg")
    fairface(
        tmp_path,
        HEADER + "train/1.jpg,-1,Male,White,False\ntrain/1.jpg,300,Male,White,False\n"
        "train/1.jpg,20-29,Male,Caucasian,False\n../1.jpg,20-29,Male,White,False\n"
        "train/9.jpg,20-29,Male,White,False\n,20-29,Male,White,False\n",
    )
    assert [text.partition(": ")[::2] for text in problems("fairface", tmp_path)] == [
        (
            "fairface_label_train.csv, line 2",
            "age -1 marks a generated image, and this file does not lie under imgs_jpg/",
        ),
        (
            "fairface_label_train.csv, line 3",
            f"column age: '300' is not one of {', '.join([*HUB_AGES[:-1], '70+', HUB_AGES[-1]])}",
        ),
        (
            "fairface_label_train.csv, line 4",
            f"column race: 'Caucasian' is not one of {', '.join(MODEL_RACES)}",
        ),
        (
            "fairface_label_train.csv, line 5 (../1.jpg)",
            "'../1.jpg' leads out of the folder; paths are relative to it",
        ),
        ("fairface_label_train.csv, line 6 (train/9.jpg)", "does not exist"),
        ("fairface_label_train.csv, line 7", "column file is empty; it names the image"),
    ]


@pytest.mark.parametrize(("order", "races"), [("hub", HUB_RACES), ("model", MODEL_RACES)])
def test_integer_codes_are_read_in_the_order_that_is_given(
    tmp_path: Path, order: str, races: list[str]
) -> None:
    rows = "".join(f"train/{code}.jpg,{code},1,{code},0\n" for code in range(7))
    fairface(tmp_path, HEADER + rows)
    found = records("fairface", tmp_path, order=order)
    assert [r.labels["race"] for r in found] == [CANONICAL[race] for race in races]
    assert [r.labels["age"] for r in found][:3] == ["0_2", "3_9", "10_19"]
    assert {r.labels["gender"] for r in found} == {"female"}  # 1 in both orders


def test_integer_codes_without_an_order_are_refused_and_told_what_to_say(tmp_path: Path) -> None:
    fairface(tmp_path, HEADER + "train/1.jpg,0,0,3,0\n")
    with pytest.raises(
        InvalidInput, match=r"--order hub \(0 is East Asian\) or --order model \(0 is White\)"
    ):
        layout("fairface", tmp_path)


def test_a_table_of_another_set_or_half_the_columns_is_refused(tmp_path: Path) -> None:
    fairface(tmp_path, "file,age,gender\ntrain/1.jpg,20-29,Male\n")
    with pytest.raises(InvalidInput, match="no column 'race'; it has file, age, gender"):
        layout("fairface", tmp_path)
    fairface(tmp_path, "Image Path,Target\nx.jpg,1\n")
    with pytest.raises(InvalidInput, match="no column 'file'; it has Image Path, Target"):
        layout("fairface", tmp_path)
    with pytest.raises(InvalidInput, match="has no fairface_label_"):
        layout("fairface", plant(tmp_path / "empty", "1.jpg"))


def test_the_crop_is_kept_and_must_be_that_of_the_folder_name(tmp_path: Path) -> None:
    root = tmp_path / "fairface-img-margin125-trainval"
    root.mkdir()
    fairface(root, HEADER + "train/1.jpg,20-29,Male,White,False\n")
    found = layout("fairface", root)
    assert found.details == {"published": ["fairface"], "padding": "1.25"}
    assert [terms.licence for terms in found.terms] == ["CC BY 4.0"]
    with pytest.raises(InvalidInput, match=r"0\.25 is given, and the folder is named margin125"):
        layout("fairface", root, padding="0.25")
    with pytest.raises(InvalidInput, match=r"not one of 0\.25, 1\.25"):
        layout("fairface", root, padding="0.5")


def hub(
    path: Path,
    rows: list[tuple[int, int, int]],
    *,
    races: list[str] | None = HUB_RACES,
    first: int = 0,
    kind: pa.DataType | None = None,
) -> Path:
    """A Parquet file in the hub's form: images of bytes, integer codes, class names in its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = kind or pa.int64()
    columns = {
        "image": pa.array(
            [{"bytes": image_bytes(first + n), "path": f"{n}.jpg"} for n in range(len(rows))],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        ),
        "age": pa.array([age for age, _, _ in rows], kind),
        "gender": pa.array([gender for _, gender, _ in rows], kind),
        "race": pa.array([race for _, _, race in rows], kind),
        "service_test": pa.array([True] * len(rows)),
    }
    table = pa.table(columns)
    if races is not None:
        label = {"_type": "ClassLabel"}
        features: dict[str, Any] = {
            "image": {"_type": "Image"},
            "age": {"names": HUB_AGES, **label},
            "gender": {"names": ["Male", "Female"], **label},
            "race": {"names": races, **label},
        }
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=3)
    return path


def test_the_hubs_codes_and_images_are_read_by_row_group(tmp_path: Path) -> None:
    rows = [(code, code % 2, code) for code in range(7)]
    hub(tmp_path / "0.25" / "train-00000-of-00001-abc.parquet", rows)
    hub(tmp_path / "0.25" / "validation-00000-of-00001-def.parquet", [(8, 1, 3)], first=50)
    found = records("fairface-hub", tmp_path)
    assert [r.labels["race"] for r in found] == [*(CANONICAL[race] for race in HUB_RACES), "white"]
    assert [r.labels["gender"] for r in found[:2]] == ["male", "female"]
    assert (found[-1].labels["age"], found[-1].labels["split"]) == ("70_plus", "validation")
    # Backwards too: groups are read when they are asked for, whatever the order.
    for number in (7, 0, 6, 3, 5):
        read = found[number].read
        assert read is not None
        assert read() == image_bytes(50 if number == 7 else number)
    assert importers.survey("fairface-hub", tmp_path)[1].records == 8
    assert [r.labels["split"] for r in records("fairface-hub", tmp_path, split="validation")] == [
        "validation"
    ]


def test_a_parquet_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = hub(tmp_path / "train-0.parquet", [(1, 0, 0)] * 4)
    found = records("fairface-hub", tmp_path)
    hub(path, [(1, 0, 0)] * 5, first=60)
    read = found[0].read
    assert read is not None
    with pytest.raises(UnusableFileError, match="changed while it was read"):
        read()


def test_a_parquet_file_whose_own_names_are_in_the_other_order_is_refused(tmp_path: Path) -> None:
    hub(tmp_path / "train-0.parquet", [(1, 0, 0)], races=MODEL_RACES)
    with pytest.raises(InvalidInput, match="names the codes of race White, Black"):
        layout("fairface-hub", tmp_path)


def test_a_parquet_file_that_names_no_classes_needs_the_order_said(tmp_path: Path) -> None:
    hub(tmp_path / "train-0.parquet", [(1, 0, 0)], races=None)
    with pytest.raises(InvalidInput, match="--order hub"):
        layout("fairface-hub", tmp_path)
    assert [r.labels["race"] for r in records("fairface-hub", tmp_path, order="hub")] == ["east_asian"]


def test_both_crops_are_asked_about(tmp_path: Path) -> None:
    for padding in ("0.25", "1.25"):
        hub(tmp_path / padding / "train-0.parquet", [(1, 0, 0)])
    with pytest.raises(InvalidInput, match=r"--padding 0\.25 or --padding 1\.25"):
        layout("fairface-hub", tmp_path)
    chosen = layout("fairface-hub", tmp_path, padding="1.25")
    assert chosen.details["padding"] == "1.25"
    assert [r.path for r in chosen.records() if isinstance(r, importers.Record)] == [
        "1.25/train-0.parquet/000000"
    ]


def test_wrong_codes_words_and_images_elsewhere_are_told(tmp_path: Path) -> None:
    path = hub(tmp_path / "train-0.parquet", [(1, 0, 7), (1, 0, 0)])
    assert problems("fairface-hub", tmp_path) == ["train-0.parquet, row 1: column race: 7 is outside 0–6"]
    table = pq.read_table(path)
    away = pa.array([{"bytes": None, "path": "/etc/passwd"}] * 2, table.schema.field("image").type)
    pq.write_table(table.set_column(0, "image", away), path)
    last = [r for r in layout("fairface-hub", tmp_path).records() if isinstance(r, importers.Record)][-1]
    assert last.read is not None
    with pytest.raises(UnusableFileError, match="has no bytes"):
        last.read()
    words = pa.array(["White", "Black"])
    pq.write_table(table.set_column(table.schema.get_field_index("race"), "race", words), path)
    with pytest.raises(InvalidInput, match="column race holds string"):
        layout("fairface-hub", tmp_path)
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(InvalidInput, match="is no Parquet file"):
        layout("fairface-hub", tmp_path)
