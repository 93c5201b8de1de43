"""What a safetensors file holds: names, types and shapes of its tensors, read from its header alone.

The format (https://github.com/huggingface/safetensors): eight bytes that say how
long the header is, the header as JSON, then the tensors. It holds no code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from fairloop.errors import InvalidInput

LARGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""
MOST_TENSORS = 100_000

WIDTHS: Mapping[str, int] = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2}
WIDTHS = {**WIDTHS, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
"""Bytes of a value of each type."""


@dataclass(frozen=True)
class Tensor:
    """The type and the shape of one tensor."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path, field: str) -> dict[str, Tensor]:
    """The tensors of a file by name.

    `InvalidInput` on `field` when the file is none: too short, a header that is no
    such JSON, or tensors that lie outside of the file or have another size than
    their shape says.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(LARGEST_HEADER, size - 8):
                raise _wrong(field, path)
            found = json.loads(file.read(length))
        if len(found) > MOST_TENSORS:
            raise InvalidInput(field, f"{path.name} has {len(found):,} tensors; at most {MOST_TENSORS:,}")
        tensors = {}
        for name, entry in found.items():
            if name == "__metadata__":
                continue
            shape = tuple(entry["shape"])
            start, end = entry["data_offsets"]
            whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
            if not whole or end - start != prod(shape) * WIDTHS[entry["dtype"]] or end > size - 8 - length:
                raise _wrong(field, path)
            tensors[name] = Tensor(entry["dtype"], shape)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _wrong(field, path) from error
    return tensors


def _wrong(field: str, path: Path) -> InvalidInput:
    return InvalidInput(field, f"{path.name} is no whole safetensors file")
