"""ONNX networks of others, loaded with this server's threads and checked for their shapes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import onnxruntime  # type: ignore[import-untyped]

from fairloop.errors import InvalidInput

# The largest network that annotators use (a VGG-Face) takes 580 MB.
LARGEST_FILE = 1 << 30


def session_of(source: str | bytes, name: str) -> onnxruntime.InferenceSession:
    """A session on FAIRLOOP_THREADS threads (default: all processors), which sleep while they wait.

    Raises `InvalidInput` with the name when the file, or the bytes, are no network.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("FAIRLOOP_THREADS") or os.cpu_count() or 1)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public base
        reason = " ".join(str(error).split())[:300]
        raise InvalidInput("weights", f"{name} is no ONNX network ({reason})") from error


def open_session(
    path: Path, inputs: Sequence[int | None], outputs: Sequence[Sequence[int | None]]
) -> onnxruntime.InferenceSession:
    """`session_of` a file whose shapes are these.

    `inputs` are the sizes of its one input, `outputs` those that its outputs
    must have, in order; None fits any, a size that the graph leaves open fits too.
    Raises `InvalidInput` with the file's name when it is another network.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise InvalidInput("weights", f"{path.name} has more than {LARGEST_FILE >> 20} MB")
    session = session_of(str(path), path.name)
    found = [one.shape for one in session.get_inputs()], [one.shape for one in session.get_outputs()]
    if not (_fit(found[0], [inputs]) and _fit(found[1], outputs)):
        raise InvalidInput(
            "weights",
            f"{path.name} maps {found[0]} to {found[1]}; needed are {_text([inputs])} and {_text(outputs)}",
        )
    return session


def _fit(found: Sequence[Sequence[object]], wanted: Sequence[Sequence[int | None]]) -> bool:
    return len(found) == len(wanted) and all(
        len(one) == len(other)
        and all(
            size is None or not isinstance(given, int) or given == size
            for given, size in zip(one, other, strict=True)
        )
        for one, other in zip(found, wanted, strict=True)
    )


def _text(shapes: Sequence[Sequence[int | None]]) -> str:
    return ", ".join(
        f"[{', '.join('any' if size is None else str(size) for size in shape)}]" for shape in shapes
    )
