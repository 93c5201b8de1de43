"""The age and gender network of npm's `@vladmandic/face-api`, rebuilt in ONNX.

The package (MIT licence) publishes the network as two files: a JSON manifest
that names every tensor with its shape and quantisation, and the arrays one
after the other. The layers are those of its `src/xception/TinyXception.ts`
(two middle blocks) and `src/ageGenderNet/AgeGenderNet.ts`: three reduction
blocks and two residual blocks of separable convolutions, 7×7 average pooling,
one linear layer for age and one for gender.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from fairloop.errors import InvalidInput

INPUT_SIZE = 112
"""Height and width of the input in pixels (`toBatchTensor(112, true)`)."""

MEAN_RGB = (122.782, 117.001, 104.298)
"""Subtracted from the 0–255 pixels before the division by 255 (`TinyXception.forwardInput`)."""

GENDERS = ("male", "female")
"""Order of the two gender outputs: `predictAgeAndGender` reads index 0 as the probability of male."""

MIDDLE_BLOCKS = 2

Weights = Mapping[str, NDArray[np.float32]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Quantization(_Strict):
    dtype: Literal["uint8"]
    scale: FiniteFloat = Field(gt=0)
    min: FiniteFloat


class _Tensor(_Strict):
    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32"]
    quantization: _Quantization | None = None


class _Group(_Strict):
    weights: list[_Tensor]
    paths: list[str] = Field(min_length=1, max_length=1)


_MANIFEST = TypeAdapter(list[_Group])


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape (height, width, in, out) of each of the network's tensors, as in its `extractParams`."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, size: int, channels_in: int, channels_out: int) -> None:
        shapes[f"{name}/filters"] = (size, size, channels_in, channels_out)
        shapes[f"{name}/bias"] = (channels_out,)

    def separable(name: str, channels_in: int, channels_out: int) -> None:
        shapes[f"{name}/depthwise_filter"] = (3, 3, channels_in, 1)
        shapes[f"{name}/pointwise_filter"] = (1, 1, channels_in, channels_out)
        shapes[f"{name}/bias"] = (channels_out,)

    def reduction(name: str, channels_in: int, channels_out: int) -> None:
        separable(f"{name}/separable_conv0", channels_in, channels_out)
        separable(f"{name}/separable_conv1", channels_out, channels_out)
        conv(f"{name}/expansion_conv", 1, channels_in, channels_out)

    conv("entry_flow/conv_in", 3, 3, 32)
    reduction("entry_flow/reduction_block_0", 32, 64)
    reduction("entry_flow/reduction_block_1", 64, 128)
    for block in range(MIDDLE_BLOCKS):
        for layer in range(3):
            separable(f"middle_flow/main_block_{block}/separable_conv{layer}", 128, 128)
    reduction("exit_flow/reduction_block", 128, 256)
    separable("exit_flow/separable_conv", 256, 512)
    for head, outputs in (("age", 1), ("gender", len(GENDERS))):
        shapes[f"fc/{head}/weights"] = (512, outputs)
        shapes[f"fc/{head}/bias"] = (outputs,)
    return shapes


def read_weights(manifest: Path, arrays: Path) -> dict[str, NDArray[np.float32]]:
    """Every tensor of the network, dequantised to float32.

    Quantised tensors are uint8 and stand for `value · scale + min`, the others
    are little-endian float32 (`decodeWeights` of TensorFlow.js). Raises
    `InvalidInput` naming the file and the tensor when the manifest is not of
    that form, lacks a tensor, has one too many or one of another shape, or
    when the arrays are shorter or longer than it says.
    """
    tensors = _read_manifest(manifest)
    sizes = [prod(tensor.shape) * (1 if tensor.quantization else 4) for tensor in tensors]
    data = arrays.read_bytes()
    if len(data) != sum(sizes):
        raise InvalidInput(arrays.name, f"has {len(data)} bytes; {manifest.name} describes {sum(sizes)}")
    weights: dict[str, NDArray[np.float32]] = {}
    offset = 0
    for tensor, size in zip(tensors, sizes, strict=True):
        part = data[offset : offset + size]
        offset += size
        if tensor.quantization is not None:
            # In double precision, as JavaScript computes it before it rounds to float32.
            raw = np.frombuffer(part, np.uint8).astype(np.float64)
            values = (raw * tensor.quantization.scale + tensor.quantization.min).astype(np.float32)
        else:
            values = np.frombuffer(part, "<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise InvalidInput(arrays.name, f"tensor {tensor.name} holds values that are not finite")
        weights[tensor.name] = values.reshape(tensor.shape)
    return weights


def _read_manifest(path: Path) -> list[_Tensor]:
    """The tensors of the manifest in file order; checked against `tensor_shapes`."""
    text = path.read_bytes()
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidInput(path.name, f"is not JSON: {error}") from error
    try:
        groups = _MANIFEST.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        tensor_name = _tensor_name(document, first["loc"])
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise InvalidInput(path.name, f"{tensor_name}{place}: {first['msg']}") from error
    if len(groups) != 1:
        raise InvalidInput(path.name, f"has {len(groups)} weight groups; there is one")
    expected = tensor_shapes()
    seen: set[str] = set()
    for tensor in groups[0].weights:
        if tensor.name not in expected:
            raise InvalidInput(path.name, f"tensor {tensor.name} is unknown to the age and gender network")
        if tensor.name in seen:
            raise InvalidInput(path.name, f"tensor {tensor.name} stands twice")
        if tensor.shape != expected[tensor.name]:
            raise InvalidInput(
                path.name, f"tensor {tensor.name} has shape {tensor.shape}; it is {expected[tensor.name]}"
            )
        seen.add(tensor.name)
    missing = [name for name in expected if name not in seen]
    if missing:
        raise InvalidInput(path.name, f"tensor {missing[0]} is missing ({len(missing)} in all)")
    return groups[0].weights


def _tensor_name(document: Any, location: tuple[int | str, ...]) -> str:
    """`tensor X: ` for an error inside the entry of tensor X, else empty."""
    match location:
        case (int(group), "weights", int(index), *_):
            entry = document[group]["weights"][index]
            if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                return f"tensor {entry['name']}: "
    return ""


def build(weights: Weights) -> onnx.ModelProto:
    """The network as an ONNX graph.

    Input `faces`: float32 (N, 112, 112, 3), RGB, 0–255. Outputs `years`:
    float32 (N,), unbounded; `genders`: float32 (N, 2), probabilities in the
    order of `GENDERS`. `weights` are those of `read_weights`.
    """
    graph = _Graph(weights)
    mean = graph.constant("mean_rgb", np.array(MEAN_RGB, np.float32))
    scale = graph.constant("scale", np.array(255, np.float32))
    out = graph.add("Div", graph.add("Sub", "faces", mean), scale)
    out = graph.add("Transpose", out, perm=(0, 3, 1, 2))
    out = graph.add("Relu", graph.conv(out, "entry_flow/conv_in", stride=2))
    out = graph.reduction(out, "entry_flow/reduction_block_0", activate=False)
    out = graph.reduction(out, "entry_flow/reduction_block_1")
    for block in range(MIDDLE_BLOCKS):
        out = graph.residual(out, f"middle_flow/main_block_{block}")
    out = graph.reduction(out, "exit_flow/reduction_block")
    out = graph.add("Relu", graph.separable(out, "exit_flow/separable_conv"))
    out = graph.add("Flatten", graph.add("AveragePool", out, kernel_shape=(7, 7), strides=(2, 2)))
    axis = graph.constant("axis", np.array([1], np.int64))
    graph.add("Squeeze", graph.linear(out, "fc/age"), axis, output="years")
    graph.add("Softmax", graph.linear(out, "fc/gender"), output="genders", axis=1)
    shape = ("N", INPUT_SIZE, INPUT_SIZE, 3)
    proto = helper.make_graph(
        graph.nodes,
        "face_api_age_gender",
        [helper.make_tensor_value_info("faces", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("years", TensorProto.FLOAT, ("N",)),
            helper.make_tensor_value_info("genders", TensorProto.FLOAT, ("N", len(GENDERS))),
        ],
        graph.constants,
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


class _Graph:
    """Nodes and constants of a graph under construction; each method returns its output's name.

    TensorFlow's SAME padding puts the odd pixel at the end: SAME_UPPER.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def tensor(self, name: str, *axes: int) -> str:
        values = self.weights[name]
        return self.constant(name, values.transpose(axes) if axes else values)

    def conv(self, x: str, name: str, stride: int) -> str:
        filters = self.tensor(f"{name}/filters", 3, 2, 0, 1)
        bias = self.tensor(f"{name}/bias")
        return self.add("Conv", x, filters, bias, strides=(stride, stride), auto_pad="SAME_UPPER")

    def separable(self, x: str, name: str) -> str:
        depthwise = self.tensor(f"{name}/depthwise_filter", 2, 3, 0, 1)
        channels = self.weights[f"{name}/depthwise_filter"].shape[2]
        out = self.add("Conv", x, depthwise, group=channels, auto_pad="SAME_UPPER")
        pointwise = self.tensor(f"{name}/pointwise_filter", 3, 2, 0, 1)
        return self.add("Conv", out, pointwise, self.tensor(f"{name}/bias"))

    def reduction(self, x: str, name: str, activate: bool = True) -> str:
        out = self.add("Relu", x) if activate else x
        out = self.separable(out, f"{name}/separable_conv0")
        out = self.separable(self.add("Relu", out), f"{name}/separable_conv1")
        out = self.add("MaxPool", out, kernel_shape=(3, 3), strides=(2, 2), auto_pad="SAME_UPPER")
        return self.add("Add", out, self.conv(x, f"{name}/expansion_conv", stride=2))

    def residual(self, x: str, name: str) -> str:
        out = x
        for layer in range(3):
            out = self.separable(self.add("Relu", out), f"{name}/separable_conv{layer}")
        return self.add("Add", out, x)

    def linear(self, x: str, name: str) -> str:
        return self.add("Gemm", x, self.tensor(f"{name}/weights"), self.tensor(f"{name}/bias"))
