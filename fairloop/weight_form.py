"""Whether a file has the form that its loader reads, seen from its frame alone.

For weights whose publisher states no sha256: a web page saved in their place, or
a download that broke off, is refused before it is kept. Nothing is unpickled and
no network is built; what is inside is the loader's to check.
"""

from __future__ import annotations

import itertools
import zipfile
from pathlib import Path
from typing import BinaryIO

from fairloop.errors import InvalidInput
from fairloop.safetensors_header import read_header

ONNX_GRAPH = 7
"""Field of `ModelProto` in onnx.proto: the graph."""
CAFFE_LAYERS = {2, 100}
"""Fields of `NetParameter` in caffe.proto: layers of the old and of the new kind."""
OLD_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""How files of torch before 1.6 begin: their magic number, pickled."""
HDF5 = b"\x89HDF\r\n\x1a\n"
HDF5_ENDS = {0: 40, 1: 44, 2: 28, 3: 28}
"""By the version of an HDF5 superblock, where it says at which byte the file ends."""
LARGEST_TEXT = 10_000_000
"""Bytes of a description in text."""


def check(path: Path, loader: str, field: str = "file") -> None:
    """`InvalidInput` on `field` when the file cannot be what `loader` reads.

    Knows `safetensors`, `onnx`, `caffe` (a description that ends in `.prototxt`,
    weights otherwise), `torch_weights_only` and `keras_hdf5`; says nothing of other loaders.
    """
    if loader == "safetensors":
        read_header(path, field)
        return
    with path.open("rb") as file:
        if loader == "onnx":
            right = ONNX_GRAPH in _fields(file)
        elif loader == "caffe" and path.suffix == ".prototxt":
            right = _describes_layers(file)
        elif loader == "caffe":
            right = bool(CAFFE_LAYERS & _fields(file))
        elif loader == "torch_weights_only":
            right = _is_torch(file)
        elif loader == "keras_hdf5":
            right = _is_hdf5(file)
        else:
            return
        if right:
            return
        file.seek(0)
        page = file.read(256).lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))
    hint = "; it is a web page: was the link's page saved?" if page else "; has the download broken off?"
    kind = {"onnx": "ONNX", "caffe": "Caffe", "torch_weights_only": "torch", "keras_hdf5": "HDF5"}[loader]
    raise InvalidInput(field, f"{path.name} is no whole {kind} file{hint}")


def _fields(file: BinaryIO) -> set[int]:
    """The numbers of a Protocol Buffers message's own fields; none when its bytes do not add up.

    The wire format: https://protobuf.dev/programming-guides/encoding/.
    """
    end = file.seek(0, 2)
    file.seek(0)
    found = set()
    while file.tell() < end:
        tag = _varint(file)
        if tag is None or tag >> 3 == 0:
            return set()
        match tag & 7:
            case 0:
                length: int | None = 0 if _varint(file) is not None else None
            case 1:
                length = 8
            case 2:
                length = _varint(file)
            case 5:
                length = 4
            case _:
                length = None
        if length is None or length > end - file.tell():
            return set()
        file.seek(length, 1)
        found.add(tag >> 3)
    return found


def _varint(file: BinaryIO) -> int | None:
    number = 0
    for place in range(10):
        byte = file.read(1)
        if not byte:
            return None
        number |= (byte[0] & 127) << 7 * place
        if byte[0] < 128:
            return number
    return None


def _describes_layers(file: BinaryIO) -> bool:
    try:
        text = file.read(LARGEST_TEXT).decode()
    except UnicodeDecodeError:
        return False
    words = text.replace("{", " { ").split()
    return any(a in ("layer", "layers") and b == "{" for a, b in itertools.pairwise(words))


def _is_torch(file: BinaryIO) -> bool:
    if file.read(len(OLD_TORCH)) == OLD_TORCH:
        return True
    file.seek(0)
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return False


def _is_hdf5(file: BinaryIO) -> bool:
    """Whether an HDF5 file is as long as its superblock says.

    The format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html.
    """
    head = file.read(64)
    if len(head) < 64 or not head.startswith(HDF5) or head[8] not in HDF5_ENDS:
        return False
    widths = head[13:15] if head[8] < 2 else head[9:11]
    place = HDF5_ENDS[head[8]]
    return widths == b"\x08\x08" and file.seek(0, 2) >= int.from_bytes(head[place : place + 8], "little")
