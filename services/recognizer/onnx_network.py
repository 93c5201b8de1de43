"""ONNX recognisers of InsightFace's packs (`w600k_r50.onnx` and kin): embedding only.

Input (N, 3, S, S), RGB, one output (N, D). Whether pixels go in as 0…255 or as
−1…1 is told, as insightface itself tells it, by the graph: one that begins with
a subtraction and a multiplication normalises its input by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput, PreconditionFailed

LARGEST_FILE = 2**31 - 1
"""Bytes: a protobuf message is no larger, and weights beside the file are refused."""
FIRST_NODES = 8
CUDA = "CUDAExecutionProvider"
BATCH = 64


@dataclass(frozen=True)
class Layout:
    """What a recogniser's graph takes and gives."""

    input: str
    output: str
    size: int
    dimension: int
    raw: bool
    """True when the graph normalises 0…255 by itself."""


def layout(data: bytes, field: str) -> Layout:
    """The layout of an ONNX file's bytes; InvalidInput when it is no recogniser's.

    Files that point to weights beside them are refused: they could name any
    file of this machine.
    """
    onnx = _imported("onnx")
    if len(data) > LARGEST_FILE:
        raise InvalidInput(field, f"{len(data):,} bytes; at most {LARGEST_FILE:,}")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        # The parser raises what protobuf raises, whatever it met.
        raise InvalidInput(field, f"is not a readable ONNX file: {type(error).__name__}") from error
    tensors = _within(model, onnx.TensorProto)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data for tensor in tensors):
        raise InvalidInput(field, "keeps weights in files beside it; only whole files are taken")
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise InvalidInput(
            field, f"has {len(inputs)} inputs and {len(graph.output)} outputs; a recogniser has one of each"
        )
    shape = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
    out = [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or not 16 <= shape[2] <= 512:
        raise InvalidInput(field, f"its input is {shape}; a recogniser takes (N, 3, S, S), S 16–512")
    if len(out) != 2 or not 2 <= out[1] <= 4096:
        raise InvalidInput(field, f"its output is {out}; a recogniser gives (N, D), D 2–4096")
    first = [node.name for node in graph.node[:FIRST_NODES]]
    subtracts = any(name.startswith(("Sub", "_minus")) for name in first)
    multiplies = any(name.startswith(("Mul", "_mul")) for name in first)
    return Layout(inputs[0].name, graph.output[0].name, shape[2], out[1], subtracts and multiplies)


class OnnxNetwork:
    """A recogniser's graph in onnxruntime."""

    def __init__(self, path: Path, threads: int, *, device: str = "cpu") -> None:
        """`device` is cpu, auto (CUDA where onnxruntime has it) or cuda, which is never silently the CPU.

        Raises InvalidInput for a file that is none, PreconditionFailed without
        onnxruntime or without the device.
        """
        runtime = _imported("onnxruntime")
        data = path.read_bytes()
        self.layout = layout(data, f"model {path.name}")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        # A warning about a graph is no news to whoever runs it.
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        if device != "cpu" and CUDA in runtime.get_available_providers():
            providers.insert(0, CUDA)
        try:
            self._session = runtime.InferenceSession(data, options, providers=providers)
        except Exception as error:
            # onnxruntime's errors have no common class.
            raise InvalidInput(f"model {path.name}", f"onnxruntime refuses it: {error}") from error
        # A provider that cannot start is left out by onnxruntime, which says so only in its log.
        if device == "cuda" and CUDA not in self._session.get_providers():
            raise PreconditionFailed(
                f"model {path.name} is asked to run on CUDA, but onnxruntime sees none here: "
                "install onnxruntime-gpu, or set FAIRLOOP_DEVICE to auto or cpu"
            )

    def embed(self, images: NDArray[np.uint8], flip: bool) -> NDArray[np.float32]:
        """L2-normalised embeddings, float32 (N, D), of uint8 (N, size, size, 3) images."""
        rows = [np.empty((0, self.layout.dimension), np.float32)]
        for start in range(0, len(images), BATCH):
            x = np.ascontiguousarray(images[start : start + BATCH].transpose(0, 3, 1, 2), np.float32)
            if not self.layout.raw:
                x = (x - 127.5) / 127.5
            y = self._run(x)
            if flip:
                y = y + self._run(np.ascontiguousarray(x[:, :, :, ::-1]))
            norms = np.linalg.norm(y, axis=1, keepdims=True)
            rows.append((y / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32))
        return np.concatenate(rows)

    def _run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._session.run([self.layout.output], {self.layout.input: x})[0]
        return found


def _within(message: Any, kind: type[Any]) -> Iterator[Any]:
    """Every message of this kind inside another: weights lie in attributes of nodes and in subgraphs, too."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for part in value if field.is_repeated else (value,):
            if isinstance(part, kind):
                yield part
            else:
                yield from _within(part, kind)


def _imported(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise PreconditionFailed(
            f"ONNX recognisers need {name}, which is not installed here: pip install 'fairloop[recognizer]'"
        ) from error
