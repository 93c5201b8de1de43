"""What a release stored is read by today's code, and what a later one stored is refused by name."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairloop import names, registry
from fairloop.dataset import Dataset
from fairloop.errors import PreconditionFailed
from fairloop.provenance import inspection, lineage
from fairloop.serving.operation_store import OperationStore
from fairloop.serving.operations_servicer import to_operation
from fairloop.serving.record import SUCCEEDED
from fairloop.serving.shards import output_of
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, PREDICTIONS, read_table
from fairloop.v1.annotator_pb2 import AnnotateRequest, AnnotateResult
from services.metrics.reports import read_report
from tests.support.released import RELEASES, restore

MODEL = "models/tiny/versions/9a129038d9a00aed"
DATASET = "datasets/tiny/versions/7b2441878c5f1c5c"
TABLES = {
    ANNOTATIONS: "annotations/d145caae3a4d33d0",
    EMBEDDINGS: "embeddings/81f33715c6c2a9a4",
    PREDICTIONS: "predictions/77732562381fe191",
}
KINDS = {"dataset version", "model version", "annotations", "embeddings", "predictions", "report"}
"""Those of the first release; a kind that comes later has no older number to be read."""
REPORT = "reports/562d6afe38fca524"
OPERATION = "operations/annotator-mdl7htz2a6thc6q76ckff4awhx"
COUNTED = "annotations/f9106e3a9501f66c"
"""What that operation of the tests' own server made: its parts are no tables."""
TRAINING = "operations/recognizer-" + "a" * 26


@pytest.fixture(params=RELEASES)
def released(request: pytest.FixtureRequest, store: ObjectStore) -> ObjectStore:
    """The bucket as the release left it."""
    restore(request.param, store)
    return store


def test_every_kind_that_has_a_manifest_is_there_and_sound_by_its_own_hashes(released: ObjectStore) -> None:
    found = set(lineage.stored_names(released)) - {COUNTED}
    assert found == {MODEL, DATASET, *TABLES.values(), REPORT}
    assert {names.kind_of(name) for name in found} == KINDS <= set(lineage.SCHEMAS)
    assert list(inspection.inspect(released, sorted(found))) == []


def test_images_rows_and_provenance_of_a_dataset_are_those_that_were_written(released: ObjectStore) -> None:
    dataset = Dataset.open(released, DATASET)
    rows = dataset.rows()
    assert [row["subject_id"] for row in rows] == ["s:1", "s:1", None]
    assert [row["source"] for row in rows] == ["real", "real", "synthetic"]
    assert (rows[2]["model"], rows[2]["seed"], rows[2]["index"], rows[2]["steps"]) == (MODEL, 7, 2, 30)
    assert dict(rows[0]["labels"]) == {"gender": "female"}
    assert all(dataset.read(row["image_id"]).startswith(b"\x89PNG") for row in rows)
    (terms,) = dataset.manifest.terms
    assert (terms.licence, terms.redistribution, dataset.manifest.parents) == ("CC-BY-4.0", "yes", (MODEL,))


def test_tables_model_and_report_hold_what_was_written(released: ObjectStore) -> None:
    _, annotations = read_table(released, TABLES[ANNOTATIONS], ANNOTATIONS)
    first = annotations.to_pylist()[0]
    assert annotations["status"].to_pylist() == ["ok", "no_face", "no_face"]
    assert (first["box"], first["quality"]) == ([1.0, 0.0, 5.0, 4.0], 0.5)
    assert "female" in first.values()
    assert [0.75, 0.25] in first.values()
    _, embeddings = read_table(released, TABLES[EMBEDDINGS], EMBEDDINGS)
    np.testing.assert_array_equal(np.array(embeddings["embedding"].to_pylist()), np.eye(3, 4))
    _, predictions = read_table(released, TABLES[PREDICTIONS], PREDICTIONS)
    row = predictions.to_pylist()[0]
    assert (row["truth"], row["predicted"], row["score"]) == ("a", "b", 0.25)
    assert registry.open_model(released, MODEL, "recognizer").details["kind"] == "residual"
    _, body = read_report(released, REPORT)
    assert body["fmr"] == 0.001


def test_an_operation_answers_with_its_result_and_a_training_goes_on_from_its_checkpoint(
    released: ObjectStore,
) -> None:
    operations = OperationStore(released)
    request, record = operations.request(OPERATION), operations.current(OPERATION)
    assert request is not None
    assert record is not None
    assert (request.method, request.caller, record.state) == (
        "AnnotatorService.Annotate",
        "anonymous",
        SUCCEEDED,
    )
    assert AnnotateRequest.FromString(request.body).dataset == DATASET
    made = AnnotateResult()
    assert to_operation(OPERATION, record, request).response.Unpack(made)
    assert (made.annotations, made.images) == (COUNTED, 2)
    for index in range(2):
        shard = operations.shard(OPERATION, index)
        assert shard is not None
        (part,) = output_of(shard).parts
        assert released.size(part.key) == part.size
    assert operations.latest_checkpoint(TRAINING) == (40, b"state of step 40")


def later(store: ObjectStore, key: str) -> str:
    """Gives a JSON document the number of a later schema, which is returned."""
    document = json.loads(store.get(key))
    document["schema"] = re.sub(r"\d+$", "2", document["schema"])
    store.put_json(key, document)
    return str(document["schema"])


def test_a_manifest_of_a_later_schema_is_refused_with_what_would_read_it(released: ObjectStore) -> None:
    for name in (MODEL, DATASET, *TABLES.values(), REPORT):
        newer = later(released, f"{name}/manifest.json")
        with pytest.raises(PreconditionFailed, match=rf"{name}.* {newer};.* update fairloop"):
            lineage.read_manifest(released, name)


def test_an_operation_of_a_later_schema_is_refused_by_its_key(released: ObjectStore) -> None:
    operations = OperationStore(released)
    (attempt,) = released.list(f"{OPERATION}/attempts/")
    for key, read in ((f"{OPERATION}/request.json", operations.request), (attempt, operations.current)):
        newer = later(released, key)
        with pytest.raises(PreconditionFailed, match=rf"{key}.* {newer};.* update fairloop"):
            read(OPERATION)


@pytest.mark.parametrize("kind", TABLES)
def test_columns_that_a_later_minor_release_adds_to_a_table_do_not_keep_it_from_being_read(
    released: ObjectStore, kind: str
) -> None:
    """The reader goes by names of columns: it passes over those that it does not know."""
    key = f"{TABLES[kind]}/table.parquet"
    table = pq.read_table(pa.BufferReader(released.get(key)))
    sink = pa.BufferOutputStream()
    pq.write_table(table.append_column("of_a_later_release", pa.nulls(len(table), pa.int8())), sink)
    data = sink.getvalue().to_pybytes()
    released.put(key, data)
    manifest = json.loads(released.get(f"{TABLES[kind]}/manifest.json"))
    manifest["parts"][0] |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    released.put_json(f"{TABLES[kind]}/manifest.json", manifest)
    _, found = read_table(released, TABLES[kind], kind)
    assert found.drop_columns(["of_a_later_release"]).equals(table)
