"""InsightFace's containers: pickled pair lists that are not unpickled, and RecordIO read by offset."""

from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.importers import Record, UnusableFileError
from fairloop.importers.contents import FileContents
from fairloop.importers.insightface_bin import read_bin
from fairloop.importers.insightface_rec import MAGIC
from fairloop.importers.restricted_pickle import Span, load
from tests.support.layouts import layout, pairs, problems, records
from tests.support.trees import image_bytes, plant

IMAGES = [image_bytes(n) for n in range(4)]


def read(record: Record) -> bytes:
    assert record.read is not None
    return record.read()


def python_2(bins: list[bytes], same: list[bool]) -> bytes:
    """What Python 2's `pickle.dump((bins, issame), f, 2)` writes: bytes are its BINSTRING (T, length)."""
    out = io.BytesIO()
    out.write(b"\x80\x02]q\x00(")
    for data in bins:
        out.write(b"T" + struct.pack("<i", len(data)) + data + b"q\x01")
    out.write(b"e]q\x02(" + b"".join(b"\x88" if one else b"\x89" for one in same) + b"e\x86q\x03.")
    return out.getvalue()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("arrays", [False, True])
def test_a_bin_of_any_protocol_gives_images_and_pairs(tmp_path: Path, protocol: int, arrays: bool) -> None:
    bins: list[Any] = [np.frombuffer(one, np.uint8) for one in IMAGES] if arrays else IMAGES
    same = np.array([True, False]) if arrays else [True, False]
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps((bins, same), protocol))
    found = records("insightface-bin", tmp_path)
    assert [read(r) for r in found] == IMAGES
    assert {r.subject for r in found} == {None}
    assert [(p.list, p.first, p.second, p.same) for p in pairs("insightface-bin", tmp_path)] == [
        ("lfw", "lfw.bin/000000", "lfw.bin/000001", True),
        ("lfw", "lfw.bin/000002", "lfw.bin/000003", False),
    ]


def test_a_bin_of_python_2_stays_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "agedb_30.bin"
    path.write_bytes(python_2(IMAGES, [True, False]))
    held = read_bin(FileContents(path))
    assert all(isinstance(one, Span) for one in held.images)
    assert [held.read(n) for n in range(4)] == IMAGES
    assert held.same == (True, False)
    assert layout("insightface-bin", tmp_path, published="agedb").terms[0].redistribution == "no"
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(UnusableFileError, match="changed while it was read"):
        held.read(0)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/fairloop-was-here",)


class Opened:
    def __reduce__(self) -> Any:
        return open, ("/etc/passwd",)


HUGE_ARRAY = (
    # numpy.ndarray((10**12,)): a real class to call would take a terabyte.
    b"\x80\x02cnumpy\nndarray\n(\x8a\x06\x00\x10\xa5\xd4\xe8\x00t\x85R."
)
HUGE_MEMO = b"\x80\x02Nr\xff\xff\xff\x7f."  # LONG_BINPUT at 2^31: C's unpickler allocates up to it
LAUGHS = b"\x80\x02]q\x00" + b"".join(b"]q%c(h%ch%ce" % (n, n - 1, n - 1) for n in range(1, 60)) + b"\x86."


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pickle.dumps(Evil()), "calls for 'posix system'"),
        (pickle.dumps(Evil(), 0), "calls for 'posix system'"),
        (pickle.dumps(Opened()), "calls for '(_io|io) open'"),
        (pickle.dumps({"a": 1}), "holds the instruction EMPTY_DICT"),
        (pickle.dumps(np.zeros((2, 2), np.uint8)), "has not one dimension"),
        (pickle.dumps(np.zeros(2, np.float64)), "holds an array of 'f8'"),
        (pickle.dumps(np.array([None, 1], dtype=object)), "holds an array of 'O8'"),
        (HUGE_ARRAY, "calls ndarray in a way that makes no array"),
        (b"\x80\x02cnumpy\ndtype\n)\x81.", "holds the instruction NEWOBJ"),
        (b"\x80\x02\x82\x01.", "holds the instruction EXT1"),
        (b"\x80\x02X\x05\x00\x00\x00helloQ.", "holds the instruction BINPERSID"),
        (pickle.dumps((IMAGES, [True]), 4)[:-200], "is no whole pickle"),
        (b"\x80\x04B\xff\xff\xff\x7fshort", "is no whole pickle"),
        (b"\x80\x02e.", "finds nothing to work on"),
        (b"\x80\x02h\x07.", "finds nothing to work on"),
        (b"\x80\x02\x85.", "finds nothing to work on"),
        (b"\x80\x02NN.", "does not end with one value"),
        (b"", "is no whole pickle"),
        (b"\xff\xd8\xff\xe0 no pickle at all", "is no whole pickle"),
    ],
)
def test_a_pickle_that_is_more_than_data_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "lfw.bin"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=said):
        load(FileContents(path))
    assert not Path("/tmp/fairloop-was-here").exists()


def test_a_memo_and_lists_of_lists_cost_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lfw.bin"
    for data in (HUGE_MEMO, LAUGHS):
        path.write_bytes(data)
        with pytest.raises(InvalidInput):
            read_bin(FileContents(path))


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ((IMAGES[:3], [True, False]), "has 3 images for 2 pairs"),
        ((IMAGES, [1, 2]), "neither true nor false of pair 1"),
        ((IMAGES, [True, []]), "neither true nor false of pair 1"),
        ([IMAGES], "is no pair of a list of images"),
        ((IMAGES, None), "is no pair of a list of images"),
        (([], []), "has 0 images for 0 pairs"),
        (b"bytes", "is no pair of a list of images"),
    ],
)
def test_data_that_are_no_pairs_are_refused(tmp_path: Path, held: Any, said: str) -> None:
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps(held))
    with pytest.raises(InvalidInput, match=said):
        layout("insightface-bin", tmp_path)


def test_an_image_that_is_no_bytes_is_told_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "lfw.bin").write_bytes(pickle.dumps(([IMAGES[0], None], [True])))
    assert problems("insightface-bin", tmp_path) == ["lfw.bin/000001: is no bytes"]


def test_one_of_several_bins_is_named(tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(pickle.dumps((IMAGES, [True, False])))
    with pytest.raises(InvalidInput, match=r"has 2 \.bin files; name one"):
        layout("insightface-bin", tmp_path)
    assert len(records("insightface-bin", tmp_path, file="b.bin")) == 4


def framed(data: bytes) -> bytes:
    """A record as dmlc's writer writes it: cut where the data hold the magic word at a multiple of four."""
    word = struct.pack("<I", MAGIC)
    cuts = [at for at in range(0, len(data) - 3, 4) if data[at : at + 4] == word]
    parts = [
        data[begin:end] for begin, end in zip([0, *(c + 4 for c in cuts)], [*cuts, len(data)], strict=True)
    ]
    out = b""
    for number, part in enumerate(parts):
        flag = 0 if len(parts) == 1 else 1 if number == 0 else 3 if number == len(parts) - 1 else 2
        out += struct.pack("<II", MAGIC, flag << 29 | len(part)) + part + b"\0" * (-len(part) % 4)
    return out


def image_record(label: float | list[float], data: bytes) -> bytes:
    if isinstance(label, list):
        return struct.pack("<IfQQ", len(label), 0.0, 0, 0) + struct.pack(f"<{len(label)}f", *label) + data
    return struct.pack("<IfQQ", 0, label, 0, 0) + data


def recordio(root: Path, payloads: list[bytes], identities: int = 3) -> Path:
    offsets, body = [], b""
    for payload in payloads:
        offsets.append(len(body))
        body += framed(payload)
    root.mkdir(exist_ok=True)
    (root / "train.rec").write_bytes(body)
    (root / "train.idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets)))
    (root / "property").write_text(f"{identities},112,112")
    return root


def test_images_before_the_identities_are_read_with_their_labels(tmp_path: Path) -> None:
    # Record 0: images end before 4; records 4 and 5 are identities without a picture.
    tricky = IMAGES[2] + struct.pack("<I", MAGIC) + b"\0\0\0" + struct.pack("<I", MAGIC) + b"tail"
    aligned = tricky + b"\0" * (-len(tricky) % 4) + struct.pack("<I", MAGIC) * 2
    payloads = [
        image_record([4.0, 6.0], b""),
        image_record(0.0, IMAGES[0]),
        image_record([2.0, 0.0], IMAGES[1]),
        image_record(1.0, aligned),
        image_record([1.0, 2.0], b""),
        image_record([2.0, 4.0], b""),
    ]
    assert len(framed(payloads[3])) > len(payloads[3]) + 8  # several parts
    found = records("insightface-rec", recordio(tmp_path / "set", payloads), published="ms1mv3")
    assert [(r.path, r.subject) for r in found] == [
        ("train.rec/00000001", "0"),
        ("train.rec/00000002", "2"),
        ("train.rec/00000003", "1"),
    ]
    assert [read(r) for r in reversed(found)] == [aligned, IMAGES[1], IMAGES[0]]
    assert "property says 3 identities" in layout("insightface-rec", tmp_path / "set").notes


def test_all_records_are_images_where_there_is_no_record_of_identities(tmp_path: Path) -> None:
    root = recordio(tmp_path / "set", [image_record(float(n), IMAGES[n]) for n in range(3)])
    assert [r.subject for r in records("insightface-rec", root)] == ["0", "1", "2"]


def test_broken_records_are_told_by_number(tmp_path: Path) -> None:
    root = recordio(tmp_path / "set", [image_record(float(n), IMAGES[n % 4]) for n in range(4)], identities=3)
    assert problems("insightface-rec", root) == ["train.rec, record 3: its identity is 3; it is 0–2"]
    (root / "property").unlink()
    rec = (root / "train.rec").read_bytes()
    (root / "train.rec").write_bytes(rec[:-40])
    (said,) = problems("insightface-rec", root)
    assert said.startswith("train.rec, record 3: train.rec: the record at byte")
    assert said.endswith("is cut off")
    (root / "train.idx").write_text("1\t4\n2\t999999\n")
    assert problems("insightface-rec", root) == [
        "train.rec, record 1: train.rec has no record at byte 4; the .idx is of another",
        "train.rec, record 2: train.rec ends before byte 1,000,007",
    ]
    (root / "train.idx").write_text("1\t0\n1\t8\n")
    with pytest.raises(InvalidInput, match=r"train\.idx, line 2: has record 1 again"):
        layout("insightface-rec", root)
    (root / "train.idx").write_text("1,0\n")
    with pytest.raises(InvalidInput, match=r"train\.idx, line 1: is not `number offset`"):
        layout("insightface-rec", root)
    (root / "train.idx").unlink()
    with pytest.raises(InvalidInput, match="is not there"):
        layout("insightface-rec", root)


def test_a_fractional_identity_and_a_changed_file_are_refused(tmp_path: Path) -> None:
    root = recordio(tmp_path / "set", [image_record(0.5, IMAGES[0]), image_record(1.0, IMAGES[1])])
    assert problems("insightface-rec", root) == ["train.rec, record 0: its identity is 0.5; it is 0–2"]
    last = [r for r in layout("insightface-rec", root).records() if isinstance(r, Record)][-1]
    with (root / "train.rec").open("ab") as file:
        file.write(b"more")
    with pytest.raises(UnusableFileError, match="changed"):
        read(last)
    with pytest.raises(InvalidInput, match="is not there"):
        layout("insightface-rec", plant(tmp_path / "none", "1.jpg"))
