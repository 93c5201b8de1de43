"""AI-Face, releases 1 and 2: columns under all their names, codes told apart, trimming, pairing."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.importers import Folder, Problem, Record
from fairloop.importers.ai_face_columns import ALIASES
from fairloop.pairing import Example, examples, loader_report, paired_batches, pixels
from tests.support.layouts import layout, problems, records
from tests.support.trees import plant

V2 = "Image Path,Gender,Age,Skin Tone,Intersection,Target\n"
V1 = (
    "Image Path,Uncertainty Score Gender,Uncertainty Score Age,Uncertainty Score Race,Ground Truth Gender,"
    "Ground Truth Age,Ground Truth Race,Intersection,Target\n"
)


def write(root: Path, text: str) -> Path:
    root.mkdir(exist_ok=True)
    (root / "t.csv").write_text(text, encoding="utf-8")
    return root


def found(root: Path, text: str, **options: object) -> list[Record]:
    return records("ai-face", write(root, text), table="t.csv", **options)


@pytest.mark.parametrize(("gender", "tone"), list(itertools.product(["female", "male"], range(1, 11))))
def test_an_intersection_is_three_times_male_plus_the_band(gender: str, tone: int) -> None:
    band = 0 if tone <= 3 else 1 if tone <= 6 else 2
    code = taxonomy.intersection_code(gender, tone)
    assert code == (3 if gender == "male" else 0) + band
    assert taxonomy.intersection_of(code) == (gender, ["light", "medium", "dark"][band])


def test_intersections_outside_0_to_5_are_refused() -> None:
    for code in (-1, 6):
        with pytest.raises(InvalidInput, match=f"{code} is outside 0–5"):
            taxonomy.intersection_of(code)
    with pytest.raises(InvalidInput, match="'woman' is not one of female, male"):
        taxonomy.intersection_code("woman", 3)


def test_release_2_is_read_with_genders_tones_bands_and_targets(tmp_path: Path) -> None:
    rows = found(tmp_path, V2 + "GANs/a.png,1,2,1,3,1\nReal/FFHQ/b.png,0,0,10,2,0\n")
    assert [(r.path, dict(r.labels), r.provenance["source"]) for r in rows] == [
        (
            "GANs/a.png",
            {
                "gender": "male",
                "age_ai_face": "adult",
                "skin_tone": "1",
                "skin_tone_band": "light",
                "intersection_ai_face": "male_light",
                "target": "fake",
            },
            "synthetic",
        ),
        (
            "Real/FFHQ/b.png",
            {
                "gender": "female",
                "age_ai_face": "child",
                "skin_tone": "10",
                "skin_tone_band": "dark",
                "intersection_ai_face": "female_dark",
                "target": "real",
            },
            "real",
        ),
    ]
    assert layout("ai-face", tmp_path, table="t.csv").details == {"published": ["ai-face"], "release": 2}


# The spellings that S1 accepts, and those of the benchmark's loaders.
SPELLINGS = {
    "gender": ["Gender", "gender", "Gender Label", "gender_label", "Predicted Gender", "Ground Truth Gender"],
    "age": ["Age", "age", "Age Group", "age_group", "Predicted Age", "Ground Truth Age"],
    "tone": ["Skin Tone", "SkinTone", "skin_tone", "Skin_Tone", "Predicted Skin Tone"],
    "intersection": ["Intersection", "Intersection Label", "intersection", "intersec_label"],
    "target": ["Target", "target", "Label", "label"],
}


@pytest.mark.parametrize(("meaning", "name"), [(m, n) for m, names in SPELLINGS.items() for n in names])
def test_every_spelling_of_a_column_is_read(tmp_path: Path, meaning: str, name: str) -> None:
    header = V2.replace(ALIASES[meaning][0], name, 1)
    (row,) = found(tmp_path, header + "a.png,1,2,5,4,1\n")
    assert (row.labels["gender"], row.labels["age_ai_face"], row.labels["skin_tone"]) == (
        "male",
        "adult",
        "5",
    )
    assert (row.labels["intersection_ai_face"], row.labels["target"]) == ("male_medium", "fake")


def test_release_1_is_read_with_its_own_ages_races_and_intersections(tmp_path: Path) -> None:
    rows = found(tmp_path, V1 + "a.png,0.1,0.2,0.3,1,0,1,1,1\nb.png,0.1,0.2,0.3,0,3,0,4,0\n")
    first, second = (dict(r.labels) for r in rows)
    # 0 young, 1 white; intersections 0-3 are male.
    assert (first["age_ai_face"], first["race_ai_face"], first["race"]) == ("young", "white", "white")
    assert first["race4"] == "white"
    assert (first["gender"], first["intersection_ai_face"], first["uncertainty_age"]) == (
        "male",
        "male_white",
        "0.2",
    )
    assert (second["age_ai_face"], second["race_ai_face"], second["gender"]) == ("others", "asian", "female")
    # "Asian" is several values of seven, and one of four.
    assert "race" not in second
    assert second["race4"] == "asian"
    assert layout("ai-face", tmp_path, table="t.csv").details["release"] == 1


def test_columns_that_are_not_read_are_listed(tmp_path: Path) -> None:
    write(tmp_path, V2.replace("Target", "Target,Split,Specific") + "a.png,1,2,5,4,1,train,7\n")
    notes = layout("ai-face", tmp_path, table="t.csv").notes
    assert "t.csv: columns that are not read: Split" in notes


def test_the_two_maps_of_ages_are_told_apart_by_the_code_that_only_one_has(tmp_path: Path) -> None:
    ages = {"code": "0,1,2,3,4", "readme": "0,1,3,4,5"}
    for name, codes in ages.items():
        text = V2 + "".join(f"{code}.png,1,{code},5,4,1\n" for code in codes.split(","))
        rows = found(tmp_path, text)
        assert [r.labels["age_ai_face"] for r in rows] == ["child", "young", "adult", "middle", "senior"]
        assert any(f"map `{name}`" in note for note in layout("ai-face", tmp_path, table="t.csv").notes)
    both = V2 + "a.png,1,3,5,4,1\n"
    assert [r.labels["age_ai_face"] for r in found(tmp_path, both)] == ["middle"]
    assert "its codes are in both maps" in " ".join(layout("ai-face", tmp_path, table="t.csv").notes)
    assert [r.labels["age_ai_face"] for r in found(tmp_path, both, ages="readme")] == ["adult"]


def test_ages_that_fit_no_map_or_another_than_the_given_one_are_refused(tmp_path: Path) -> None:
    write(tmp_path, V2 + "a.png,1,2,5,4,1\nb.png,1,5,5,4,1\n")
    with pytest.raises(InvalidInput, match="has 2 and 5; no published map has both"):
        layout("ai-face", tmp_path, table="t.csv")
    write(tmp_path, V2 + "a.png,1,5,5,4,1\n")
    with pytest.raises(InvalidInput, match="code is given, and column Age has codes of readme only"):
        layout("ai-face", tmp_path, table="t.csv", ages="code")


def test_inverted_genders_are_seen_by_the_intersections_and_asked_about(tmp_path: Path) -> None:
    # 4 is male, medium; the column says 0.
    text = V2 + "a.png,0,2,5,4,1\nb.png,1,2,5,1,1\n"
    write(tmp_path, text)
    with pytest.raises(
        InvalidInput, match=r"all 2 codes of Gender contradict Intersection.*--genders inverted"
    ):
        layout("ai-face", tmp_path, table="t.csv")
    assert [r.labels["gender"] for r in found(tmp_path, text, genders="inverted")] == ["male", "female"]


def test_a_row_that_contradicts_its_intersection_is_told_by_line(tmp_path: Path) -> None:
    plant(tmp_path, "a.png")
    write(
        tmp_path,
        V2 + "a.png,1,2,5,4,1\na.png,0,2,5,4,1\na.png,1,2,9,4,1\na.png,1,2,11,4,1\na.png,1,2,5,6,1\n"
        "a.png,1,300,5,4,1\na.png,1,2,5,4,2\na.png,1,2,5,4,\n,1,2,5,4,1\n",
    )
    assert problems("ai-face", tmp_path, table="t.csv", ages="code") == [
        "t.csv, line 3: column Intersection: 4 is male and medium; the row's own gender is female",
        "t.csv, line 4: column Intersection: 4 is male and medium; the row's own skin_tone_band is dark",
        "t.csv, line 5: column Skin Tone: '11' is not one of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10",
        "t.csv, line 6: column Intersection: '6' is outside 0–5",
        "t.csv, line 7: column Age: '300' is not one of 0, 1, 2, 3, 4",
        "t.csv, line 8: column Target: '2' is not one of 0, 1, real, fake",
        "t.csv, line 9: column Target is empty; it tells real from generated",
        "t.csv, line 10: column Image Path is empty; it names the image",
    ]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("file,age,gender,race,service_test", "no column Image Path"),
        ("Image Path,Gender", "no column Target"),
        ("Image Path,Target,Gender", "neither skin tones .* nor races"),
        ("Image Path,Target,Skin Tone,Ground Truth Race", "release 2 and Ground Truth Race of release 1"),
        ("Image Path,Target,Skin Tone,Age,age", "has Age and age, which say the same"),
    ],
)
def test_a_table_of_another_set_is_refused(tmp_path: Path, header: str, said: str) -> None:
    write(tmp_path, f"{header}\n{','.join('1' for _ in header.split(','))}\n")
    with pytest.raises(InvalidInput, match=said):
        layout("ai-face", tmp_path, table="t.csv")


def test_annotations_are_trimmed_to_what_is_on_disk_by_the_longest_keyword(tmp_path: Path) -> None:
    plant(tmp_path, "StyleGAN2_FFHQ/1.png", "STYLEGAN/2.png", "STGAN_CelebA/3.png")
    # 1 lies in the folder of STYLEGAN2, not of STYLEGAN; 4 only where the shorter keyword would look.
    plant(tmp_path, "STYLEGAN/4.png", first=9)
    write(
        tmp_path,
        V2 + "GANs/STYLEGAN2/1.png,1,2,5,4,1\nGANs/STYLEGAN/2.png,1,2,5,4,1\nx/STGAN/3.png,1,2,5,4,1\n"
        "GANs/STYLEGAN2/4.png,1,2,5,4,1\nDMs/Palette/1.png,1,2,5,4,1\n",
    )
    trimmed = layout("ai-face", tmp_path, table="t.csv", trim=True)
    assert [r.path for r in trimmed.records() if isinstance(r, Record)] == [
        "StyleGAN2_FFHQ/1.png",
        "STYLEGAN/2.png",
        "STGAN_CelebA/3.png",
    ]
    assert "2 of 5 rows name no image on disk and were left out" in trimmed.notes
    assert (trimmed.details["rows_kept"], trimmed.details["rows_dropped"]) == (3, 2)
    plant(tmp_path, "pal/1.png", first=20)
    more = records("ai-face", tmp_path, table="t.csv", trim=True, folder=("Palette=pal",))
    assert more[-1].path == "pal/1.png"
    assert problems("ai-face", tmp_path, table="t.csv", trim=True) == []
    with pytest.raises(InvalidInput, match="none of the 5 rows"):
        layout("ai-face", plant(tmp_path / "other", "1.png"), table=str(tmp_path / "t.csv"), trim=True)


def test_a_keyword_folder_that_leads_outside_finds_nothing(tmp_path: Path) -> None:
    plant(tmp_path / "in", "AttGAN/1.png")
    plant(tmp_path / "out", "2.png")
    write(tmp_path / "in", V2 + "AttGAN/1.png,1,2,5,4,1\nPalette/2.png,1,2,5,4,1\n")
    rows = records("ai-face", tmp_path / "in", table="t.csv", trim=True, folder=("Palette=../out",))
    assert [r.path for r in rows] == ["AttGAN/1.png"]


def paired(tmp_path: Path) -> tuple[list[Example], list[Example]]:
    plant(tmp_path, *(f"f{n}.png" for n in range(5)), *(f"r{n}.png" for n in range(3)))
    (tmp_path / "train_fake_spe.csv").write_text(
        V2.replace("Target", "Target,Specific") + "".join(f"f{n}.png,1,2,5,4,1,{n + 3}\n" for n in range(5))
    )
    (tmp_path / "train_real.csv").write_text(V2 + "".join(f"r{n}.png,0,2,5,1,0\n" for n in range(3)))
    return examples(tmp_path, "train_real.csv"), examples(tmp_path, "train_fake_spe.csv")


def test_a_loader_gets_size_shape_label_and_intersection(tmp_path: Path) -> None:
    _, fake = paired(tmp_path)
    report = loader_report(tmp_path, fake * 2)
    assert report.lines() == (
        "dataset size: 10",
        "batch shape: [8, 3, 256, 256]",
        "label: 1",
        "intersection: male_medium",
    )
    values = pixels(Folder.open(tmp_path), fake[0], 4)
    assert (values.shape, values.dtype) == ((3, 4, 4), np.float32)
    assert -1 <= values.min() < values.max() <= 1
    (tmp_path / "f0.png").unlink()
    with pytest.raises(InvalidInput, match=r"train_fake_spe\.csv, line 2 \(f0\.png\): does not exist"):
        loader_report(tmp_path, fake)


def test_a_batch_is_n_real_ones_and_then_n_generated_ones(tmp_path: Path) -> None:
    real, fake = paired(tmp_path)
    assert [one.specific for one in real + fake] == ["0", "0", "0", "3", "4", "5", "6", "7"]
    batches = list(paired_batches(real, fake, 2, seed=3))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    for batch in batches:
        half = len(batch) // 2
        assert [one.target for one in batch] == [0] * half + [1] * half
    generated = [one.record.path for batch in batches for one in batch[len(batch) // 2 :]]
    assert sorted(generated) == [f"f{n}.png" for n in range(5)]  # each once an epoch
    assert batches == list(paired_batches(real, fake, 2, seed=3))
    assert batches != list(paired_batches(real, fake, 2, seed=4))
    assert batches != list(paired_batches(real, fake, 2, seed=3, epoch=1))
    drawn = [
        one.record.path
        for epoch in range(400)
        for one in next(paired_batches(real, fake, 5, seed=1, epoch=epoch))[:5]
    ]
    # 2,000 draws among three: 667 each, deviation 21.
    assert all(abs(drawn.count(f"r{n}.png") - 2000 / 3) < 5 * 21.1 for n in range(3))


def test_lists_of_the_wrong_sort_are_not_paired(tmp_path: Path) -> None:
    real, fake = paired(tmp_path)
    with pytest.raises(InvalidInput, match=r"real: train_fake_spe\.csv, line 2 .* has the target 1"):
        next(paired_batches(fake, fake, 2, seed=0))
    with pytest.raises(InvalidInput, match="generated: there is none to pair"):
        next(paired_batches(real, [], 2, seed=0))
    assert not [
        item
        for item in layout("ai-face", tmp_path, table="train_real.csv").records()
        if isinstance(item, Problem)
    ]
