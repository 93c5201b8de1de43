"""Activation tables are read and written in groups of rows; none is ever whole in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fairloop import manifest
from fairloop.activations import (
    ActivationWriter,
    LayerColumn,
    activation_schema,
    opened,
    unit_blocks,
    write_csv,
)
from fairloop.errors import DataLoss
from fairloop.store import ObjectStore
from services.annotator.activations import _parquet, shard_images
from tests.support.activation_memory import worked

MAPS = LayerColumn("body.maps", "Conv2d", (2, 1, 2), 4, "none")
END = LayerColumn("end", "Linear", (3,), 3, "none")
ANSWERS = np.arange(5 * 7, dtype=np.float32).reshape(5, 7) / 10
SHOWN = np.array([True, True, False, True, True])


def piece(start: int, stop: int) -> bytes:
    rows = range(start, stop)
    schema = activation_schema([MAPS, END], (), masked=False, embedding=True)
    missing = pa.array(~SHOWN[start:stop])
    parts = [
        pa.FixedSizeListArray.from_arrays(
            ANSWERS[start:stop, first : first + size].ravel(), size, mask=missing
        )
        for first, size in ((0, 4), (4, 3))
    ]
    names = [f"{k:032x}" for k in rows]
    statuses = ["ok" if SHOWN[k] else "no_face" for k in rows]
    columns = [pa.array(names), pa.array([None] * len(names), pa.string()), pa.array(statuses)]
    return _parquet(pa.Table.from_arrays([*columns, *parts], schema=schema))


def written(store: ObjectStore, cuts: list[int]) -> manifest.Manifest:
    schema = activation_schema([MAPS, END], (), masked=False, embedding=True)
    writer = ActivationWriter(store, schema, ["datasets/a/versions/0123456789abcdef", "net@1"])
    for start, stop in zip([0, *cuts], [*cuts, 5], strict=True):
        writer.add(piece(start, stop))
    writer.close()
    return writer.finish({}, (), {"network": "net@1"}, (), None)


def test_the_name_follows_from_the_rows_and_not_from_the_pieces_they_came_in(store: ObjectStore) -> None:
    assert written(store, [2]).name == written(store, [1, 3, 4]).name
    assert written(store, []).parents == ("datasets/a/versions/0123456789abcdef",)


def test_a_table_is_written_as_the_reference_systems_csv_with_the_shapes_beside_it(
    store: ObjectStore, tmp_path: Path
) -> None:
    made = written(store, [2])
    path = tmp_path / "fairface_activations.csv"
    with opened(store, made.name) as table:
        assert table.layers == (MAPS, END)
        assert write_csv(table, ["end"], path, lambda image: f"faces/{int(image, 16)}.jpg") == (4, 1)
        assert path.read_text().splitlines() == [
            ",image_paths,0,1,2",
            "0,faces/0.jpg,0.4,0.5,0.6",
            "1,faces/1.jpg,1.1,1.2,1.3",
            "2,faces/3.jpg,2.5,2.6,2.7",
            "3,faces/4.jpg,3.2,3.3,3.4",
        ]
        assert write_csv(table, [], path, lambda image: image) == (4, 1)
    header = path.read_text().splitlines()[0]
    assert header == ",image_paths,body.maps.0,body.maps.1,body.maps.2,body.maps.3,end.0,end.1,end.2"
    shapes = json.loads((tmp_path / "fairface_activations.shapes.json").read_text())
    assert shapes["body.maps"] == {"shape": [2, 1, 2], "pooling": "none", "type": "Conv2d"}


def test_units_come_in_blocks_of_all_rows_that_are_there(store: ObjectStore) -> None:
    with opened(store, written(store, [2]).name) as table:
        blocks = list(unit_blocks(table.groups, MAPS, 4, most=4 * 4 * 3))
    assert [(first, block.shape) for first, block in blocks] == [(0, (4, 3)), (3, (4, 1))]
    np.testing.assert_array_equal(np.hstack([block for _, block in blocks]), ANSWERS[SHOWN, :4])


def test_a_table_with_other_bytes_than_its_manifest_says_is_refused(store: ObjectStore) -> None:
    made = written(store, [2])
    key = made.part("/table.parquet").key
    store.put(key, store.get(key)[:-1])
    with pytest.raises(DataLoss, match="its manifest says"), opened(store, made.name):
        pass


def test_a_group_of_rows_and_a_shard_have_a_few_mebibytes_whatever_the_layer_has() -> None:
    units, mean, largest = worked(6_000)
    assert (units, mean) == (512, pytest.approx(0.5, abs=0.001))
    assert largest < 9 * 2**20  # 4 MiB are gathered, and one more piece
    assert [shard_images([replace(MAPS, units=size)]) for size in (1, 512, 25_088, 2**20)] == [
        256,
        256,
        41,
        1,
    ]
