"""ONNX recognisers in the layout of InsightFace's packs, against insightface's own ArcFaceONNX."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from onnx import TensorProto, helper, numpy_helper

from fairloop.errors import InvalidInput, PreconditionFailed
from services.recognizer.onnx_network import OnnxNetwork, layout

SIZE, DIMENSION = 112, 32


def graph(*, raw: bool = False, size: int = SIZE, outputs: int = 1) -> onnx.ModelProto:
    """A small recogniser with the inputs and outputs of w600k_r50.onnx."""
    rng = np.random.default_rng(6)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((rng.normal(size=shape) * 0.3).astype(np.float32), name)

    weights = [
        weight("kernel", 8, 3, 3, 3),
        weight("slope", 8, 1, 1),
        weight("linear", 8 * 4, DIMENSION),
        weight("bias", DIMENSION),
    ]
    nodes = []
    first = "input.1"
    if raw:
        weights += [
            numpy_helper.from_array(np.array(127.5, np.float32), "mean"),
            numpy_helper.from_array(np.array(1 / 127.5, np.float32), "scale"),
        ]
        nodes += [
            helper.make_node("Sub", [first, "mean"], ["centred"], name="Sub_0"),
            helper.make_node("Mul", ["centred", "scale"], ["scaled"], name="Mul_1"),
        ]
        first = "scaled"
    nodes += [
        helper.make_node("Conv", [first, "kernel"], ["c"], name="Conv_0", strides=[8, 8]),
        helper.make_node("PRelu", ["c", "slope"], ["p"], name="PRelu_1"),
        helper.make_node("AveragePool", ["p"], ["a"], name="Pool_2", kernel_shape=[7, 7], strides=[7, 7]),
        helper.make_node("Flatten", ["a"], ["f"], name="Flatten_3"),
        helper.make_node("Gemm", ["f", "linear", "bias"], ["683"], name="Gemm_4"),
    ]
    made = helper.make_graph(
        nodes,
        "torch-jit-export",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["None", 3, size, size])],
        [helper.make_tensor_value_info("683", TensorProto.FLOAT, [1, DIMENSION])] * outputs,
        weights,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("raw", [False, True], ids=["normalised_outside", "normalised_inside"])
def test_embeddings_are_those_of_insightface(tmp_path: Path, raw: bool) -> None:
    path = tmp_path / "w600k_r50.onnx"
    onnx.save(graph(raw=raw), path)
    pixels = np.random.default_rng(2).integers(0, 256, (5, SIZE, SIZE, 3)).astype(np.uint8)
    reference = ArcFaceONNX(str(path))
    # insightface takes OpenCV's BGR.
    theirs = np.concatenate([reference.get_feat(cv2.cvtColor(image, cv2.COLOR_RGB2BGR)) for image in pixels])
    ours = OnnxNetwork(path, 1)
    assert ours.layout.raw == raw
    unit = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    np.testing.assert_allclose(ours.embed(pixels, False), unit, atol=1e-6)
    flipped = np.concatenate(
        [reference.get_feat(cv2.cvtColor(image[:, ::-1].copy(), cv2.COLOR_RGB2BGR)) for image in pixels]
    )
    both = theirs + flipped
    np.testing.assert_allclose(
        ours.embed(pixels, True), both / np.linalg.norm(both, axis=1, keepdims=True), atol=1e-6
    )
    assert ours.embed(pixels[:0], False).shape == (0, DIMENSION)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="onnxruntime has CUDA here"
)
def test_cuda_that_is_asked_for_is_never_silently_the_cpu(tmp_path: Path) -> None:
    path = tmp_path / "w600k_r50.onnx"
    onnx.save(graph(), path)
    OnnxNetwork(path, 1, device="auto")
    with pytest.raises(PreconditionFailed, match=r"w600k_r50\.onnx is asked to run on CUDA"):
        OnnxNetwork(path, 1, device="cuda")


def external() -> onnx.ModelProto:
    """A model that says its weights lie in a file beside it."""
    model = graph()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return model


def external_constant() -> onnx.ModelProto:
    """A model one of whose nodes, not its list of weights, points to a file."""
    model, tensor = graph(), external().graph.initializer[0]
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=tensor))
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"no model", "is not a readable ONNX file"),
        (external().SerializeToString(), "keeps weights in files beside it"),
        (external_constant().SerializeToString(), "keeps weights in files beside it"),
        (graph(size=8).SerializeToString(), r"its input is \[0, 3, 8, 8\]"),
        (graph(outputs=2).SerializeToString(), "has 1 inputs and 2 outputs"),
    ],
    ids=["text", "external_weights", "external_constant", "too_small", "two_outputs"],
)
def test_files_that_are_no_recogniser_are_refused(model: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        layout(model, "model x.onnx")
