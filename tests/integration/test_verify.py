"""`fairloop verify`: nothing is found in what is sound, and each kind of damage is found by name."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from fairloop import dataset as dataset_module
from fairloop import manifest, registry
from fairloop.cli import main
from fairloop.dataset import Dataset, DatasetWriter, Image
from fairloop.errors import DataLoss
from fairloop.manifest import Manifest, Part, Terms
from fairloop.provenance import inspection, lineage
from fairloop.store import ObjectStore
from fairloop.table_store import ANNOTATIONS, EMBEDDINGS, TableWriter, to_parquet
from fairloop.tables import FaceRow, Guess, annotation_record, annotation_schema, embedding_schema
from services.metrics.reports import Made, commit, inputs_of, put_parts
from tests.support.manifests import version
from tests.support.metrics_world import png

MIT = Terms("MIT", "yes", "yes", "yes", "not_needed")
GUESSES = [("gender", "face_api")]


class Sound:
    """A model, a dataset of three shards by it, annotations, embeddings, a report: as services make them."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.model = registry.publish(
            store,
            "models/m",
            {"a.bin": b"first", "b.bin": b"second"},
            service="recognizer",
            kind="test",
            description="",
            terms=[MIT],
        )
        writer = DatasetWriter(store, "datasets/d", parents=[self.model.name], terms=[MIT])
        for k in range(8):
            writer.add(
                Image(png(k % 7), 8, 8, "png", f"test:{k // 2}" if k else None, labels={"gender": "female"})
            )
        self.dataset = writer.finish()
        self.ids: list[str] = self.dataset.index["image_id"].to_pylist()
        self.annotations = self.annotated(self.ids, ("dlib_hog", "19"))
        self.embeddings = self._embeddings()
        self.report = self._report()

    def annotated(self, ids: list[str], detector: tuple[str, str], *named: str) -> Manifest:
        """Annotations whose version is made from `named` too, as that of another detector than the usual."""
        schema = annotation_schema(GUESSES)
        table = TableWriter(self.store, ANNOTATIONS, schema, [self.dataset.name, "face_api@v1", *named])
        rows = [FaceRow("ok", guesses={GUESSES[0]: Guess("female", (0.9, 0.1))}) for _ in ids]
        records = [annotation_record(i, row, GUESSES) for i, row in zip(ids, rows, strict=True)]
        table.add(to_parquet(records, schema))
        details = {
            "annotators": {"face_api": "v1"},
            "guesses": [list(guess) for guess in GUESSES],
            "detector": dict([detector]),
        }
        return table.finish({"status_ok": len(ids)}, [MIT], details)

    def _embeddings(self) -> Manifest:
        schema = embedding_schema(4)
        table = TableWriter(self.store, EMBEDDINGS, schema, [self.dataset.name, self.model.name])
        vector = np.float32([0.5, 0.5, 0.5, 0.5]).tolist()
        rows = [
            {"image_id": i, "face": 0, "subject_id": None, "status": "ok", "embedding": vector if k else None}
            for k, i in enumerate(self.ids)
        ]
        table.add(to_parquet(rows, schema))
        return table.finish({"status_ok": 8}, [MIT], {"model": self.model.name})

    def _report(self) -> Manifest:
        made = Made(
            "audit",
            {"report.json": json.dumps({"share": 0.5}).encode(), "figure.svg": b"<svg/>"},
            {},
            "",
            inputs_of([self.annotations]),
            [MIT],
        )
        prepared = put_parts(self.store, made)
        commit(self.store, prepared)
        return lineage.read_manifest(self.store, prepared.name)

    def findings(self, *names: str) -> list[str]:
        return [str(finding) for finding in inspection.inspect(self.store, names)]

    def change(self, found: Manifest, **fields: Any) -> None:
        """Writes a manifest that says something else."""
        manifest.commit(self.store, replace(found, **fields))

    def rewrite(self, found: Manifest, suffix: str, edit: Callable[[bytes], bytes]) -> None:
        """Puts other bytes in the place of a part, and has the manifest agree with them."""
        part = found.part(suffix)
        made = manifest.put_part(self.store, part.key, edit(self.store.get(part.key)))
        self.change(found, parts=tuple(made if p.key == part.key else p for p in found.parts))


@pytest.fixture
def sound(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Sound:
    monkeypatch.setattr(dataset_module, "SHARD_IMAGES", 3)
    return Sound(store)


def parquet(edit: Callable[[pa.Table], pa.Table]) -> Callable[[bytes], bytes]:
    """An edit of a Parquet file's bytes."""

    def edited(data: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(edit(pq.read_table(pa.BufferReader(data))), sink)
        changed: bytes = sink.getvalue().to_pybytes()
        return changed

    return edited


def test_nothing_is_found_in_what_is_sound_and_progress_ends_at_the_whole(sound: Sound) -> None:
    told: list[inspection.Progress] = []
    assert list(inspection.inspect(sound.store, [], told.append)) == []
    whole = sum(
        part.size
        for name in lineage.stored_names(sound.store)
        for part in lineage.read_manifest(sound.store, name).parts
    )
    assert (told[-1].bytes, told[-1].all_bytes, told[-1].resources) == (whole, whole, 5)


def test_bytes_that_changed_or_are_gone_are_found_by_their_object(sound: Sound) -> None:
    tars = [part for part in sound.dataset.manifest.parts if part.key.endswith(".tar")]
    data = bytearray(sound.store.get(tars[0].key))
    data[600] ^= 1
    sound.store.put(tars[0].key, bytes(data))
    sound.store.put(tars[1].key, b"short")
    sound.store.delete(tars[2].key)
    found = sound.findings(sound.dataset.name)
    assert len(found) == 3
    assert found[0].startswith(f"{tars[0].key}: has sha256 ")
    assert found[1] == f"{tars[1].key}: has 5 bytes; its manifest says {tars[1].size}"
    assert found[2] == f"{tars[2].key}: is missing"


def test_an_image_that_is_not_the_one_of_the_index_is_found_although_all_hashes_of_parts_agree(
    sound: Sound,
) -> None:
    row = sound.dataset.rows()[4]

    def other_pixels(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[row["offset"] + row["size"] - 20] ^= 1
        return bytes(changed)

    sound.rewrite(sound.dataset.manifest, f"{row['blob']}.tar", other_pixels)
    found = sound.findings(sound.dataset.name)
    image = f"{sound.dataset.name}/images/{row['image_id']}"
    assert f"{image}: its bytes do not have the sha256 of the index" in found
    assert any("is named after another sha256" in text for text in found)
    assert any("make it version" in text for text in found)


def test_what_stands_beside_an_image_in_its_shard_must_agree_with_the_index(sound: Sound) -> None:
    row = sound.dataset.rows()[0]

    def relabelled(data: bytes) -> bytes:
        sink = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(data)) as old,
            tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as new,
        ):
            for member in old:
                file = old.extractfile(member)
                assert file is not None
                content = file.read().replace(b"female", b"male  ")
                new.addfile(member, io.BytesIO(content))
        return sink.getvalue()

    sound.rewrite(sound.dataset.manifest, f"{row['blob']}.tar", relabelled)
    image = f"{sound.dataset.name}/images/{row['image_id']}"
    assert f"{image}: {row['image_id']}.json has other labels than the index" in sound.findings(
        sound.dataset.name
    )


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda t: t.drop_columns(["prompt"]), "has no column prompt"),
        (lambda t: t.append_column("extra", pa.array([1] * 8)), "has a column extra that its schema"),
        (lambda t: t.slice(0, 7), "has 7 images; its manifest says 8"),
        (lambda t: pa.concat_tables([t.slice(0, 7), t.slice(0, 1)]), "2 times"),
        (
            lambda t: t.set_column(2, "offset", pa.array([o + 512 for o in t["offset"].to_pylist()])),
            "has no file at byte",
        ),
        (lambda t: t.set_column(3, "size", pa.array([9] * 8)), "bytes in its shard; the index says 9"),
        (lambda t: t.set_column(1, "blob", pa.array(["0" * 64] * 8)), "which is no part of it"),
    ],
)
def test_an_index_that_is_wrong_is_found(
    sound: Sound, edit: Callable[[pa.Table], pa.Table], expected: str
) -> None:
    sound.rewrite(sound.dataset.manifest, "/index.parquet", parquet(edit))
    assert any(expected in text for text in sound.findings(sound.dataset.name))


def test_a_version_that_does_not_follow_from_the_rows_is_found_unless_something_was_erased(
    sound: Sound,
) -> None:
    def other_subject(table: pa.Table) -> pa.Table:
        place = table.column_names.index("requested_cell")
        return table.set_column(place, "requested_cell", pa.array(["gender=male"] * 8))

    sound.rewrite(sound.dataset.manifest, "/index.parquet", parquet(other_subject))
    (found,) = sound.findings(sound.dataset.name)
    assert "its rows and shards make it version" in found
    now = lineage.read_manifest(sound.store, sound.dataset.name)
    sound.change(now, details={**now.details, "erasures": [{"images": 1}]})
    assert sound.findings(sound.dataset.name) == []


def test_a_table_that_lost_rows_or_gained_others_is_found(sound: Sound) -> None:
    sound.rewrite(sound.annotations, "/table.parquet", parquet(lambda t: t.slice(0, 6)))
    found = sound.findings(sound.annotations.name)
    assert any("has 6 rows; its manifest says 8" in text for text in found)
    assert any("has 6 rows of ok; its manifest says 8" in text for text in found)
    assert any(f"lacks 2 images of {sound.dataset.name}" in text for text in found)
    assert any("its rows and parents make it annotations/" in text for text in found)
    repeated = parquet(lambda t: pa.concat_tables([t, t.slice(0, 1)]))
    sound.rewrite(sound.embeddings, "/table.parquet", repeated)
    assert any(
        f"has face 0 of image {sound.ids[0]} 2 times" in t for t in sound.findings(sound.embeddings.name)
    )


def test_annotations_by_another_detector_are_as_sound_as_those_by_the_usual_one(sound: Sound) -> None:
    assert sound.findings(sound.annotated(sound.ids, ("scrfd", "1"), "scrfd@1").name) == []
    other = sound.annotated(sound.ids, ("scrfd", "1"), "scrfd@2")
    assert any("its rows and parents make it annotations/" in text for text in sound.findings(other.name))


def test_what_tells_of_a_training_beside_its_weights_is_no_part_of_the_name(sound: Sound) -> None:
    for weights in ({"w.bin": b"weights"}, {"a.bin": b"first", "b.bin": b"other"}):
        trained = registry.publish(
            sound.store,
            "models/trained",
            weights,
            service="recognizer",
            kind="test",
            description="",
            terms=[MIT],
            beside=[("steps.parquet", b"losses"), ("validations.parquet", b"rates")],
        )
        assert sound.findings(trained.name) == []
        sound.change(trained, parts=tuple(reversed(trained.parts)))
        assert any("its files make it version" in text for text in sound.findings(trained.name))


def test_names_that_do_not_follow_from_contents_are_found(sound: Sound) -> None:
    parts = sound.model.parts
    sound.change(sound.model, parts=(parts[1], parts[0]))
    assert any("its files make it version" in text for text in sound.findings(sound.model.name))
    sound.rewrite(sound.report, "/report.json", lambda data: data.replace(b"0.5", b"0.6"))
    (found,) = sound.findings(sound.report.name)
    assert found.startswith(f"{sound.report.name}: its contents make it reports/")


def test_missing_parents_and_terms_that_were_not_inherited_are_found(sound: Sound) -> None:
    gone = f"datasets/gone/versions/{version(1)}"
    sound.change(sound.embeddings, parents=(*sound.embeddings.parents, gone))
    assert f"{sound.embeddings.name}: its parent {gone} is missing" in sound.findings(sound.embeddings.name)
    sound.change(sound.annotations, terms=())
    assert f"{sound.annotations.name}: lacks terms of {sound.dataset.name}: MIT" in sound.findings(
        sound.annotations.name
    )
    sound.change(sound.model, terms=())
    assert f"{sound.model.name}: no terms are recorded" in sound.findings(sound.model.name)


@pytest.mark.parametrize("count", [10**30, 2**63, -1])
def test_a_count_or_a_size_that_nothing_can_have_is_refused_where_the_manifest_is_read(
    sound: Sound, count: int
) -> None:
    written = sound.dataset.manifest
    sound.change(written, counts={**written.counts, "images": count})
    with pytest.raises(DataLoss, match=f"{count} is no count of 'images'"):
        Dataset.open(sound.store, sound.dataset.name)
    index = replace(sound.model.parts[0], size=count)
    sound.change(sound.model, parts=(index, *sound.model.parts[1:]))
    with pytest.raises(DataLoss, match=f"of {count} bytes is no part"):
        registry.open_model(sound.store, sound.model.name, "recognizer")


def test_what_cannot_be_read_at_all_is_a_finding_and_ends_nothing(sound: Sound) -> None:
    sound.rewrite(sound.dataset.manifest, "/index.parquet", lambda data: b"PAR1 no")
    sound.store.put(f"{sound.model.name}/manifest.json", b"[]")
    found = sound.findings()
    assert any(f"{sound.dataset.name}/index.parquet: cannot be read (ArrowInvalid" in text for text in found)
    assert any(text.startswith(f"{sound.model.name}/manifest.json: ") for text in found)
    hostile = Part("datasets/d/blobs/x.tar", "0" * 64, 1)
    sound.change(sound.report, parts=(hostile,))
    assert f"{hostile.key}: is missing" in sound.findings(sound.report.name)


def test_the_command_prints_a_line_a_finding_and_fails(
    sound: Sound, store_environment: dict[str, str]
) -> None:
    run = CliRunner(env=store_environment)
    done = run.invoke(main, ["verify", "--all"])
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "verified 5 resources" in done.stderr
    sound.store.delete(sound.model.parts[0].key)
    done = run.invoke(main, ["verify", "models/m", "datasets/d"])
    assert done.exit_code == 1
    assert done.stdout == f"{sound.model.parts[0].key}: is missing\n"
    done = run.invoke(main, ["verify", "models/m", "--json"])
    assert json.loads(done.stdout)["findings"] == [
        {"object": sound.model.parts[0].key, "problem": "is missing"}
    ]
    assert run.invoke(main, ["verify"]).exit_code == 2
