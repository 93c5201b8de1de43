"""Hostile files and images: a small part of what `tests/long/test_hostile.py` tries, and the named cases."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fairloop.bombs import MOST_SCANS, why_costly
from fairloop.errors import DataLoss, FairloopError, InvalidInput, PreconditionFailed
from fairloop.manifest import check_schema
from fairloop.parquet import read_parquet
from fairloop.pixels import UnreadableImage
from fairloop.pixels import decode as decode_for_recogniser
from fairloop.table_store import EMBEDDINGS, TableWriter
from fairloop.tables import embedding_schema
from services.annotator.images import CorruptImage, ImageTooLarge, decode
from services.generator.sampler import load as load_sampler
from services.recognizer.residual import load as load_network
from tests.support.fuzzing import wrong
from tests.support.hostile_images import huge_png, huge_webp, scan_bomb, small_images, text_bomb
from tests.support.hostile_inputs import MemoryStore, case, dataset_objects, tables
from tests.support.hostile_targets import TARGETS
from tests.support.mutations import chunks, mutated

WITHOUT_STORE = [
    *("annotator image", "recogniser image", "table piece", "sampler file", "network file", "token file"),
    *("checkpoint file", "user table"),
]


@pytest.mark.parametrize("name", WITHOUT_STORE)
def test_damaged_inputs_are_answered_or_refused_by_name(name: str) -> None:
    target = TARGETS[name]()
    for number in range(60):
        assert wrong(target, case(name, number)) == "", number


def test_mutations_depend_on_their_seed_alone() -> None:
    data = small_images()["png RGB"]
    found = [mutated(data, f"seed {seed}", [data]) for seed in range(20)]
    assert found == [mutated(data, f"seed {seed}", [data]) for seed in range(20)]
    assert len(set(found)) > 15


@pytest.mark.parametrize("name", sorted(small_images()))
def test_the_chunks_of_a_file_are_the_file(name: str) -> None:
    assert b"".join(chunks(small_images()[name])) == small_images()[name]


TOO_LARGE = {
    "60,000 × 60,000": lambda: huge_png(60_000, 60_000),
    "webp canvas": lambda: huge_webp(16_383, 16_383),
    "scans": lambda: scan_bomb(64, 64, MOST_SCANS),
    "segments": lambda: b"\xff\xd8" + b"\xff\xfe\x00\x02" * 20_000 + small_images()["jpeg RGB"][2:],
    "run lengths": lambda: run_lengths(39_999_999, 1),
    "scans behind a comment": lambda: scan_bomb(64, 64, MOST_SCANS).replace(
        b"\xff\xda", b"\xff\xfe\x00\x04\xff\xd9\xff\xda", 1
    ),
}


def run_lengths(width: int, height: int) -> bytes:
    """A BMP of 8-bit run lengths: one run, then the end of the line, which Pillow fills up byte by byte."""
    body, offset = b"\x01\x05\x00\x00\x00\x01", 54 + 1024
    head = b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset)
    return (
        head
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
        + bytes(1024)
        + body
    )


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_bomb_is_too_large_before_anything_is_decoded(name: str) -> None:
    data = TOO_LARGE[name]()
    began = time.process_time()
    with pytest.raises(ImageTooLarge):
        decode(data)
    refused = decode_for_recogniser(data)
    assert isinstance(refused, UnreadableImage)
    assert refused.status == "too_large"
    assert time.process_time() - began < 1


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_text_chunk_that_unpacks_to_16_megabytes_is_corrupt(kind: bytes) -> None:
    with pytest.raises(CorruptImage, match="too large"):
        decode(text_bomb(kind))


def test_pictures_that_encoders_write_are_not_costly() -> None:
    assert [name for name, data in small_images().items() if why_costly(data)] == []
    assert not why_costly(run_lengths(1_000, 1_000))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**40, 101 * 2**20])
@pytest.mark.parametrize("load", [load_sampler, load_network])
def test_a_safetensors_header_of_any_length_is_refused(
    load: Callable[[Path], object], length: int, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{" * 64)
    with pytest.raises(InvalidInput, match=r"model\.safetensors"):
        load(path)


@pytest.mark.parametrize("number", ["²", "0", "-1", "1" * 5_000, "٣", ""])
def test_a_schema_number_that_is_none_is_refused_by_name(number: str) -> None:
    with pytest.raises(PreconditionFailed, match="datasets/a"):
        check_schema(f"fairloop.dataset/{number}", "fairloop.dataset/1", "datasets/a")


def test_a_parquet_file_is_named_when_it_cannot_be_read_or_lacks_columns() -> None:
    with pytest.raises(DataLoss, match="embeddings/x"):
        read_parquet(tables()[0][:-20], "embeddings/x")
    with pytest.raises(DataLoss, match="embeddings/x has no column 'absent'"):
        read_parquet(tables()[0], "embeddings/x", ["absent"])
    writer = TableWriter(MemoryStore(), EMBEDDINGS, embedding_schema(8), ["datasets/a"])  # type: ignore[arg-type]
    with pytest.raises(DataLoss, match="a piece of a table of embeddings"):
        writer.add(tables()[1])
    writer.discard()


@pytest.mark.parametrize("text", ["\u202ecod.exe", "a\nb", "\x1b[2J", "\x00", "\u2028", "\ud800"])
def test_errors_show_control_characters_as_escapes(text: str) -> None:
    error = InvalidInput("name", f"{text} is no name")
    assert str(error).isprintable()
    assert "is no name" in str(error)
    assert isinstance(error, FairloopError)


def test_the_dataset_whose_objects_are_damaged_in_long_tests_can_be_written() -> None:
    kinds = {key.rsplit(".", 1)[1] for key in dataset_objects()}
    assert kinds >= {"json", "parquet", "tar"}
