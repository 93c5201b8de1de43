"""Every door that takes files from outside, called as the services call it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fairloop import _packages, manifest, models
from fairloop.dataset import Dataset
from fairloop.errors import FairloopError, InvalidInput, PreconditionFailed
from fairloop.manifest import Part
from fairloop.scratch import Scratch
from fairloop.serving.operation_store import OperationStore, StoredRequest
from fairloop.serving.operations_servicer import to_operation
from fairloop.serving.tokens import read_tokens
from fairloop.standalone.table import read_header, read_table
from fairloop.store import ObjectStore, StoreSettings
from fairloop.table_store import EMBEDDINGS, TableWriter
from fairloop.table_store import read_table as read_stored_table
from fairloop.tables import embedding_rows, embedding_schema
from tests.support.hostile_inputs import (
    OPERATION,
    RECORD,
    MemoryStore,
    dataset_objects,
    object_of,
)

Call = Callable[[bytes], object]

ANYTHING = re.compile(".")


@dataclass(frozen=True)
class Target:
    """A door: the call that takes an input, and what the text of every error of it matches."""

    call: Call
    names: re.Pattern[str]


def _in_file(name: str, read: Callable[[Path], object]) -> Call:
    """The call of what takes a path."""
    path = Scratch("hostile").path / name

    def call(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return call


def annotator_image() -> Target:
    from services.annotator.images import decode

    return Target(decode, re.compile(r"^image: "))


def recogniser_image() -> Target:
    from fairloop.pixels import UnreadableImage, decode

    def call(data: bytes) -> None:
        found = decode(data)
        if isinstance(found, UnreadableImage):
            raise found

    return Target(call, re.compile(r"^image: "))


def folder_image() -> Target:
    from services.annotator.folder_images import read_image
    from services.annotator.images import UnreadableImage, decode

    def read(path: Path) -> object:
        found = read_image(path)
        return found if isinstance(found, UnreadableImage) else decode(found)

    return Target(_in_file("image.png", read), re.compile(r"^image: "))


def described_image() -> Target:
    """Decoded, searched for faces, measured: what `AnnotateImages` does with the bytes."""
    from services.annotator import registry
    from services.annotator.describe import describe
    from services.annotator.detector import Detector

    annotators, detector = registry.load(["skin_tone", "ita"]), Detector.load()
    return Target(lambda data: describe([data], annotators, detector), re.compile("image"))


def _store() -> ObjectStore:
    """An empty bucket on the server that the environment names."""
    store = ObjectStore(replace(StoreSettings.from_environment(), bucket=f"fuzz-{uuid.uuid4().hex[:12]}"))
    store.ensure_bucket()
    return store


def _read_all(store: ObjectStore, name: str) -> None:
    dataset = Dataset.open(store, name)
    len(dataset)
    list(dataset.images())
    dataset.read(dataset.rows(0, 1)[0]["image_id"])


def _dataset(name: str, suffix: str) -> Target:
    """A dataset of which one object is another; a part's hash in the manifest is that of what is there."""
    store = _store()
    key, _ = object_of(suffix)
    resource = object_of("manifest.json")[0].removesuffix("/manifest.json")
    for other, data in dataset_objects().items():
        store.put(other, data)
    listing = json.loads(object_of("manifest.json")[1])

    def call(data: bytes) -> None:
        store.put(key, data)
        if suffix == "index.parquet":
            for part in listing["parts"]:
                if part["key"] == key:
                    part.update(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
            store.put_json(f"{resource}/manifest.json", listing)
        _read_all(store, resource)

    return Target(call, re.compile("fuzz"))


def stored_table() -> Target:
    store = _store()
    name = "embeddings/0123456789abcdef"
    key = f"{name}/table.parquet"

    def call(data: bytes) -> None:
        store.put(key, data)
        part = Part(key, hashlib.sha256(data).hexdigest(), len(data))
        manifest.commit(store, manifest.Manifest(EMBEDDINGS, name, (part,)))
        _, table = read_stored_table(store, name, EMBEDDINGS)
        embedding_rows(table["embedding"], name)
        table.to_pylist()

    return Target(call, re.compile(name))


def table_piece() -> Target:
    """What a shard of an operation left, put together."""
    store: Any = MemoryStore()

    def call(data: bytes) -> None:
        writer = TableWriter(store, EMBEDDINGS, embedding_schema(8), ["datasets/a"])
        try:
            writer.add(data)
            writer.finish({})
        finally:
            writer.discard()

    return Target(call, re.compile("piece|table"))


def record() -> Target:
    store = OperationStore(_store())
    asked = StoredRequest("AnnotatorService.Annotate", "me", b"", "0" * 64, False, store.now())
    store.put_request(OPERATION, asked)

    def call(data: bytes) -> None:
        store.store.put(f"{OPERATION}/attempts/0002-annotator-0123.json", data)
        found = store.current(OPERATION)
        if found is not None:
            to_operation(OPERATION, found, store.request(OPERATION))

    return Target(call, re.compile(OPERATION))


def request() -> Target:
    store = OperationStore(_store())
    store.put_record(OPERATION, RECORD)

    def call(data: bytes) -> None:
        store.store.put(f"{OPERATION}/request.json", data)
        to_operation(OPERATION, RECORD, store.request(OPERATION))

    return Target(call, re.compile(OPERATION))


def sampler_file() -> Target:
    from services.generator.sampler import load

    return Target(_in_file("model.safetensors", load), re.compile(r"model\.safetensors"))


def network_file() -> Target:
    from services.recognizer.residual import load

    return Target(_in_file("model.safetensors", load), re.compile(r"model\.safetensors"))


def checkpoint_file() -> Target:
    from services.generator.dcgan import load

    return Target(_in_file("weights.tar", load), re.compile(r"weights\.tar"))


def onnx_file() -> Target:
    from services.annotator.age_gender import _session

    call = _in_file("gender.onnx", lambda path: _session(path, "gender"))
    return Target(call, re.compile(r"gender\.onnx"))


def weights_manifest() -> Target:
    from services.annotator.face_api_network import read_weights

    arrays = models.fetch("face-api-age-gender.bin")
    call = _in_file("weights.json", lambda path: read_weights(path, arrays))
    return Target(call, re.compile(r"weights\.json|\.bin"))


def user_table() -> Target:
    def read(path: Path) -> None:
        header = read_header(path)
        table = read_table(header, header.names)
        for name in header.names:
            for column in (table.labels, table.numbers, table.booleans, table.whole_numbers):
                with contextlib.suppress(InvalidInput):
                    column(name)

    return Target(_in_file("table.csv", read), re.compile(r"table\.csv"))


def token_file() -> Target:
    def read(path: Path) -> None:
        try:
            read_tokens(path, "FAIRLOOP_TOKEN_FILE")
        except FairloopError as error:
            if "secret-" in str(error):
                raise RuntimeError(f"a secret is in the error: {error}") from error
            raise

    return Target(_in_file("tokens", read), re.compile("FAIRLOOP_TOKEN_FILE"))


def catalogue_file() -> Target:
    def read(path: Path) -> object:
        os.environ["FAIRLOOP_MODELS"] = str(path)
        models._read_catalogue.cache_clear()
        return models.catalogue()

    return Target(_in_file("models.toml", read), re.compile(r"models\.toml"))


def package_archive() -> Target:
    """A published package, as the place that pip is configured with serves it."""
    folder = Scratch("hostile").path
    os.environ.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder))
    source = _packages.parse("pypi://pkg==1.0/weights.bin")
    (scratch := folder / "scratch").mkdir()

    class Quiet:
        def start(self, total: int | None) -> None: ...

        def advance(self, count: int) -> None: ...

    def call(data: bytes) -> None:
        name = "pkg-1.0-py3-none-any.whl" if data.startswith(b"PK") else "pkg-1.0.tar.gz"
        (folder / name).write_bytes(data)
        try:
            for _, stream in _packages.members(source, {"weights.bin", "pkg/other.bin"}, scratch, Quiet()):
                while stream.read(1 << 20):
                    pass
        except _packages.SourceError as error:
            raise PreconditionFailed(f"SourceError {error}") from error  # what `fetch` makes of it names it
        finally:
            (folder / name).unlink()
        assert sorted(path.name for path in folder.iterdir()) == ["scratch"]

    return Target(call, ANYTHING)


TARGETS: dict[str, Callable[[], Target]] = {
    "annotator image": annotator_image,
    "recogniser image": recogniser_image,
    "folder image": folder_image,
    "described image": described_image,
    "manifest": lambda: _dataset("manifest", "manifest.json"),
    "index": lambda: _dataset("index", "index.parquet"),
    "shard": lambda: _dataset("shard", ".tar"),
    "stored table": stored_table,
    "table piece": table_piece,
    "record": record,
    "request": request,
    "sampler file": sampler_file,
    "network file": network_file,
    "checkpoint file": checkpoint_file,
    "onnx file": onnx_file,
    "weights manifest": weights_manifest,
    "user table": user_table,
    "token file": token_file,
    "catalogue file": catalogue_file,
    "package archive": package_archive,
}
