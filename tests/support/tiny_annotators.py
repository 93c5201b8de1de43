"""Tiny networks in the formats that annotators' publishers use: open_clip, ONNX, Caffe."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]

CLIP_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def clip_folder(folder: Path, seed: int = 0) -> Path:
    """A CLIP in open_clip's folder format: `open_clip_config.json` and `open_clip_model.safetensors`."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    network = open_clip.CLIP(**CLIP_CONFIG)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    preprocessing = {"mean": [0.481, 0.458, 0.408], "std": [0.269, 0.261, 0.276]}
    config = {"model_cfg": CLIP_CONFIG, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def _save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, NDArray[np.generic]],
    inputs: tuple[str, Sequence[int | str]],
    outputs: Sequence[tuple[str, Sequence[int | str]]],
) -> Path:
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(inputs[0], TensorProto.FLOAT, list(inputs[1]))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def deepface_network(
    path: Path, classes: int, seed: int, batch: int | str = "N", base: int | None = None
) -> Path:
    """Pictures (batch, 224, 224, 3) to `classes` probabilities, in the layout of deepface's ONNX files.

    Networks of one `base` begin with the same weights, as those that were fine-tuned from one network.
    """
    random = np.random.default_rng(seed)
    first = random if base is None else np.random.default_rng(base)
    nodes = [
        helper.make_node("Transpose", ["input"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "k", "kb"], ["c"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[7, 7], strides=[7, 7]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["g"]),
        helper.make_node("Softmax", ["g"], ["output"], axis=1),
    ]
    constants: dict[str, NDArray[np.generic]] = {
        "k": first.normal(0, 0.1, (8, 3, 16, 16)).astype(np.float32),
        "kb": first.normal(0, 0.1, 8).astype(np.float32),
        "w": random.normal(0, 1, (32, classes)).astype(np.float32),
        "b": random.normal(0, 1, classes).astype(np.float32),
    }
    return _save(path, nodes, constants, ("input", [batch, 224, 224, 3]), [("output", [batch, classes])])


def genderage_network(path: Path, seed: int) -> Path:
    """`genderage.onnx` of a pack: (N, 3, 96, 96) to three numbers, its own mean and scale in the graph."""
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Sub", ["data", "mean"], ["centred"], name="_minusscalar0"),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"], name="_mulscalar0"),
        helper.make_node("Conv", ["scaled", "k", "kb"], ["c"], kernel_shape=[12, 12], strides=[12, 12]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["fc1"]),
    ]
    constants: dict[str, NDArray[np.generic]] = {
        "mean": np.array(127.5, np.float32),
        "scale": np.array(1 / 128, np.float32),
        "k": random.normal(0, 0.05, (4, 3, 12, 12)).astype(np.float32),
        "kb": np.zeros(4, np.float32),
        "w": random.normal(0, 0.05, (256, 3)).astype(np.float32),
        "b": np.array([0.0, 0.0, 0.35], np.float32),
    }
    return _save(path, nodes, constants, ("data", ["None", 3, 96, 96]), [("fc1", ["None", 3])])


def landmarks_network(path: Path, points: Floats, seed: int | None = None) -> Path:
    """`2d106det.onnx` of a pack: (N, 3, 192, 192) to 106 points in parts of half the side around its middle.

    It gives these `points`, float32 (106, 2); with a seed, moved by what it sees.
    """
    random = np.random.default_rng(seed)
    kernel = np.zeros((4, 3, 48, 48)) if seed is None else random.normal(0, 0.01, (4, 3, 48, 48))
    nodes = [
        helper.make_node("Sub", ["data", "mean"], ["centred"], name="_minusscalar0"),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"], name="_mulscalar0"),
        helper.make_node("Conv", ["scaled", "k", "kb"], ["c"], kernel_shape=[48, 48], strides=[48, 48]),
        helper.make_node("Tanh", ["c"], ["t"]),
        helper.make_node("Flatten", ["t"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["fc1"]),
    ]
    constants: dict[str, NDArray[np.generic]] = {
        "mean": np.array(127.5, np.float32),
        "scale": np.array(1 / 128, np.float32),
        "k": kernel.astype(np.float32),
        "kb": np.zeros(4, np.float32),
        "w": random.normal(0, 0.02, (64, 212)).astype(np.float32),
        "b": points.astype(np.float32).ravel(),
    }
    return _save(path, nodes, constants, ("data", ["None", 3, 192, 192]), [("fc1", ["None", 212])])


def scrfd_network(path: Path, side: float, bright: float = 0.6) -> Path:
    """`det_10g.onnx` of a pack: nine outputs at strides 8, 16 and 32 with two anchors a place.

    It finds bright patches: at stride 8, an anchor's score rises with the mean of
    its 8 × 8 pixels (0–1 in the original picture) over `bright`; its box reaches
    `side` pixels in each direction, its key points lie a third of that from it.
    """
    nodes, constants, outputs = [], {}, []
    kinds = (("score", 1), ("bbox", 4), ("kps", 10))
    for stride in (8, 16, 32):
        for kind, width in kinds:
            key = f"{kind}_{stride}"
            weights = np.zeros((2 * width, 3, stride, stride), np.float32)
            bias = np.zeros(2 * width, np.float32)
            if kind == "score":
                # The input is (value − 127.5) / 128; both anchors see the same patch, the second less.
                if stride == 8:
                    weights[0] = 40 / (3 * stride**2)
                    bias[0] = -40 * (bright * 255 - 127.5) / 128
                else:
                    bias[0] = -10
                bias[1] = -10
            elif kind == "bbox":
                bias[:] = side / stride
            else:
                points = np.array([[-1, -1], [1, -1], [0, 0], [-1, 1], [1, 1]]) * side / 3 / stride
                bias[:] = np.tile(points.ravel(), 2)
            constants |= {f"{key}_w": weights, f"{key}_b": bias}
            constants[f"{key}_shape"] = np.array([-1, width], np.int64)
            nodes += [
                helper.make_node(
                    "Conv",
                    ["input.1", f"{key}_w", f"{key}_b"],
                    [f"{key}_c"],
                    kernel_shape=[stride] * 2,
                    strides=[stride] * 2,
                ),
                helper.make_node("Transpose", [f"{key}_c"], [f"{key}_t"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{key}_t", f"{key}_shape"], [f"{key}_r"]),
                helper.make_node("Sigmoid" if kind == "score" else "Identity", [f"{key}_r"], [key]),
            ]
    for kind, width in kinds:
        for stride in (8, 16, 32):
            outputs.append((f"{kind}_{stride}", [2 * (640 // stride) ** 2, width]))
    return _save(path, nodes, constants, ("input.1", [1, 3, "?", "?"]), outputs)


def caffe_network(folder: Path, name: str, weights: Floats, bias: Floats) -> tuple[Path, Path]:
    """`{name}_deploy.prototxt` and `{name}_net.caffemodel`: the mean colour, linear, softmax.

    `weights` are (classes, 3), as Caffe stores them.
    """
    classes = len(bias)
    description = folder / f"{name}_deploy.prototxt"
    description.write_text(
        f"""name: "CaffeNet"
input: "data"
input_dim: 1
input_dim: 3
input_dim: 227
input_dim: 227
layers {{
  name: "pool"
  type: POOLING
  bottom: "data"
  top: "pool"
  pooling_param {{ pool: AVE kernel_size: 227 stride: 227 }}
}}
layers {{
  name: "fc8"
  type: INNER_PRODUCT
  bottom: "pool"
  top: "fc8"
  inner_product_param {{ num_output: {classes} }}
}}
layers {{
  name: "prob"
  type: SOFTMAX
  bottom: "fc8"
  top: "prob"
}}
"""
    )
    arrays = (weights.reshape(1, 1, classes, 3), bias.reshape(1, 1, 1, classes))
    # caffe.proto's V1LayerParameter: name 4, type 5 (INNER_PRODUCT is 14), blobs 6; NetParameter: layers 2.
    layer = _text(4, "fc8") + _number(5, 14) + b"".join(_bytes(6, _blob(array)) for array in arrays)
    model = folder / f"{name}_net.caffemodel"
    model.write_bytes(_text(1, "CaffeNet") + _bytes(2, layer))
    return description, model


def _blob(array: Floats) -> bytes:
    # caffe.proto's BlobProto: num, channels, height, width 1–4, data 5 (packed).
    shape = b"".join(_number(index, size) for index, size in enumerate(array.shape, 1))
    return shape + _bytes(5, struct.pack(f"<{array.size}f", *array.ravel().tolist()))


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
