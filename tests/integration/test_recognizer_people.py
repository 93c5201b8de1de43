"""What a training takes from a dataset: images with a subject, their groups, and what it refuses."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image as Pillow

from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.spool import Spool
from fairloop.store import ObjectStore
from fairloop.v1.recognizer_pb2 import SPLIT_SUBJECTS, TrainingOptions
from services.recognizer.training_set import People, Pixels, divided, read_people

SIZE = 16
Row = tuple[str | None, dict[str, str]]


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(np.full((SIZE, SIZE, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


def dataset(store: ObjectStore, rows: Sequence[Row], *, broken: bool = False) -> Dataset:
    """One image a row, as bright as its place; with `broken` the last is none."""
    writer = DatasetWriter(store, "datasets/people")
    for place, (subject, labels) in enumerate(rows):
        data = b"no image" if broken and place == len(rows) - 1 else png(place)
        name = f"test:{subject}" if subject else None
        writer.add(Image(data, SIZE, SIZE, "png", name, labels=labels, source="real", index=place))
    return writer.finish()


def read(store: ObjectStore, rows: Sequence[Row], group_by: Sequence[str] = ()) -> tuple[People, list[int]]:
    """The people of these rows, and the brightness of their images in order."""
    with Spool(SIZE) as spool:
        people = read_people(dataset(store, rows), spool, group_by)
        shades = people.images(np.arange(len(people.subjects)))[:, 0, 0, 0].tolist()
    return people, shades


def test_images_without_a_subject_are_left_out_and_a_missing_label_is_no_group(store: ObjectStore) -> None:
    rows: list[Row] = [
        ("a", {"gender": "female", "race": "black"}),
        (None, {"gender": "female", "race": "black"}),
        ("b", {"gender": "male"}),
        ("a", {}),
    ]
    people, shades = read(store, rows, ("gender", "race"))
    assert (people.subjects, shades) == (["test:a", "test:b", "test:a"], [0, 2, 3])
    assert people.cells == ["gender=female,race=black", "", ""]
    assert people.classes().tolist() == [0, 1, 0]


def test_a_dataset_that_nothing_can_be_learnt_from_is_refused_with_the_reason(store: ObjectStore) -> None:
    with pytest.raises(PreconditionFailed, match=r"has 1 subject; training needs two or more"):
        read(store, [("a", {}), ("a", {}), (None, {})])
    with pytest.raises(PreconditionFailed, match=r"no image of .* came with gender and race: there are no"):
        read(store, [("a", {"race": "black"}), ("b", {})], ("gender", "race"))
    with (
        Spool(SIZE) as spool,
        pytest.raises(PreconditionFailed, match=r"^\w{32} of datasets/people/.* cannot be read: "),
    ):
        read_people(dataset(store, [("a", {}), ("b", {})], broken=True), spool)


def test_images_without_a_face_are_counted_and_too_few_faces_are_refused(store: ObjectStore) -> None:
    def faces_up_to(brightest: int) -> tuple[People, int]:
        def turn(pixels: Pixels) -> Pixels | None:
            return pixels if pixels[0, 0, 0] <= brightest else None

        with Spool(SIZE) as spool:
            found = read_people(dataset(store, [("a", {}), ("b", {}), ("a", {})]), spool, (), turn)
            return found, found.without_face

    people, without = faces_up_to(1)
    assert (people.subjects, without) == (["test:a", "test:b"], 1)
    with pytest.raises(PreconditionFailed, match=r"has 1 subject in whose images a face was found"):
        faces_up_to(0)


def test_a_split_that_leaves_nobody_on_one_side_is_refused() -> None:
    images = np.zeros((4, SIZE, SIZE, 3), np.uint8)
    people = People(lambda numbers: images[numbers], ["a", "a", "b", "b"], None, 0)
    options = TrainingOptions(split=SPLIT_SUBJECTS)
    with pytest.raises(
        InvalidInput, match=r"held_out_share: 0\.5 leaves 1 subject to train on; 2 are needed"
    ):
        divided(people, options, 0.5, 0)
