"""Embeddings and subjects of a user's files come together by row or by image, or it is told why not."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairloop.errors import InvalidInput
from fairloop.standalone.faces import read_faces, read_vectors
from fairloop.tables import embedding_schema

ROWS = np.arange(8, dtype=np.float32).reshape(4, 2)
SUBJECTS = "subject,race,gender\na,x,F\na,x,F\nb,y,M\n,y,\n"


def files(folder: Path, subjects: str = SUBJECTS, rows: object = ROWS) -> tuple[Path, Path]:
    np.save(folder / "e.npy", np.asarray(rows))
    (folder / "s.csv").write_text(subjects)
    return folder / "e.npy", folder / "s.csv"


def table_of(folder: Path, *, null: int | None = None) -> Path:
    """The same rows as an embedding table of the product, its images in reverse."""
    records = [
        {
            "image_id": f"i{k}",
            "face": 0,
            "subject_id": f"s{k // 2}",
            "status": "ok",
            "embedding": row.tolist(),
        }
        for k, row in enumerate(ROWS)
    ]
    if null is not None:
        records[null] |= {"status": "no_face", "embedding": None}
    path = folder / "e.parquet"
    pq.write_table(pa.Table.from_pylist(records[::-1], schema=embedding_schema(2)), path)
    return path


def test_rows_go_together_in_order_and_one_attribute_is_its_own_label(tmp_path: Path) -> None:
    found = read_faces(*files(tmp_path), ["race"])
    np.testing.assert_array_equal(found.embeddings, ROWS)
    assert found.subjects == ["a", "a", "b", None]
    assert found.groups == ["x", "x", "y", "y"]
    assert not found.failures.any()


def test_several_attributes_are_kept_apart_for_their_intersection(tmp_path: Path) -> None:
    found = read_faces(*files(tmp_path), ["race", "gender"])
    assert found.groups == {"race": ["x", "x", "y", "y"], "gender": ["F", "F", "M", None]}


def test_failed_images_and_another_subject_column_are_read(tmp_path: Path) -> None:
    text = "who,g,failed\na,x,0\na,x,1\nb,y,\nb,y,true\n"
    found = read_faces(*files(tmp_path, text), ["g"], "who")
    assert found.failures.tolist() == [False, True, False, True]
    assert found.subjects == ["a", "a", "b", "b"]


def test_an_embedding_table_is_joined_by_image_and_its_nulls_are_failures(tmp_path: Path) -> None:
    embeddings = table_of(tmp_path, null=1)
    subjects = tmp_path / "labels.csv"
    subjects.write_text("image_id,face,race\n" + "".join(f"i{k},0,g{k}\ni{k},1,other\n" for k in range(4)))
    found = read_faces(embeddings, subjects, ["race"])
    assert found.subjects == ["s1", "s1", "s0", "s0"]
    assert found.groups == ["g3", "g2", "g1", "g0"]
    assert found.failures.tolist() == [False, False, True, False]
    np.testing.assert_array_equal(found.embeddings[[0, 1, 3]], ROWS[[3, 2, 0]])


def test_embeddings_are_mapped_and_not_read(tmp_path: Path) -> None:
    assert isinstance(read_vectors(files(tmp_path)[0]).rows, np.memmap)


@pytest.mark.parametrize(
    ("subjects", "group", "says"),
    [
        ("subject,race\na,x\n", "race", r"s\.csv: has 1 rows for the 4 embeddings of e\.npy"),
        (SUBJECTS, "age", r"--group: s\.csv has no column 'age'; it has subject, race, gender"),
        ("id,race\n" + "a,x\n" * 4, "race", r"--subject: s\.csv has no column subject or subject_id"),
        ("subject,race,failed\n" + "a,x,?\n" * 4, "race", r"s\.csv, line 2, column failed: '\?' is neither"),
    ],
)
def test_subjects_that_do_not_fit_are_told(tmp_path: Path, subjects: str, group: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        read_faces(*files(tmp_path, subjects), [group])


def test_a_column_of_names_is_no_group(tmp_path: Path) -> None:
    rows = np.ones((402, 2), np.float32)
    text = "subject,race\n" + "".join(f"s{k // 2},r{k // 2}\n" for k in range(402))
    with pytest.raises(InvalidInput, match=r"--group: race of s\.csv makes 201 groups; at most 200"):
        read_faces(*files(tmp_path, text, rows), ["race"])


def test_images_that_are_missing_or_twice_are_told(tmp_path: Path) -> None:
    embeddings, subjects = table_of(tmp_path), tmp_path / "s.csv"
    subjects.write_text("image_id,race\ni0,x\ni1,x\n")
    with pytest.raises(InvalidInput, match=r"s\.csv: has no row for image 'i3' and 1 others of e\.parquet"):
        read_faces(embeddings, subjects, ["race"])
    subjects.write_text("image_id,race\ni0,x\ni0,y\n")
    with pytest.raises(InvalidInput, match=r"s\.csv, line 3, column image_id: 'i0' is there already"):
        read_faces(embeddings, subjects, ["race"])


LIARS = ("(-8, 8)", "(1000000000, 8)", "(9, ", "(" * 300, "(2, " + "9" * 30 + ")", "('a', 2)")
"""Shapes that no array has: each makes numpy raise something else."""


def header(shape: str) -> bytes:
    """An .npy file whose header says so, and some bytes."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64)


def test_embeddings_that_are_none_are_told(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    path = tmp_path / "e.npy"
    for content, says in (
        (np.array([Bomb(), 1], dtype=object), "holds Python objects"),
        (np.zeros(4), r"holds float64 of shape \(4,\)"),
        (np.zeros((2, 2), complex), "holds complex128"),
        (np.array([["a", "b"]]), "holds <U1"),
        (np.zeros((1, 2)), "has 1 rows of 2 numbers"),
    ):
        np.save(path, content, allow_pickle=True)
        with pytest.raises(InvalidInput, match=rf"e\.npy: .*{says}"):
            read_vectors(path)
    assert not (tmp_path / "ran").exists()
    for raw, says in (
        (pickle.dumps([1]), "is neither an .npy file nor Parquet"),
        (b"\x93NUMPY\x01\x00", "is no .npy file of plain numbers"),
        (b"", "is neither"),
        *((header(text), "is no .npy file of plain numbers") for text in LIARS),
    ):
        path.write_bytes(raw)
        with pytest.raises(InvalidInput, match=says):
            read_vectors(path)
    np.save(path, ROWS)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InvalidInput, match=r"is no \.npy file of plain numbers"):
        read_vectors(path)


def test_rows_of_different_lengths_are_told(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table({"embedding": [[1.0, 2.0], None, [3.0]]}), path)
    with pytest.raises(InvalidInput, match=r"e\.parquet, row 2, column embedding: has 1 numbers"):
        read_vectors(path)
