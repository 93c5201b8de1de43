"""Annotators that need networks against the programs they come from, on the same weights.

    python -m benchmarks.network_annotators [--faces 16]

FairFace: its `predict.py` makes two passes of the seven-race network and one of
the four-race network for each chip, one chip at a time; ours makes one pass of
each over batches. deepface: `DeepFace.analyze(detector_backend="skip")` for age,
gender and race in a loop, against ours over all faces at once, on three networks
of VGG-Face's size that share its convolutions (they were frozen when the
library's author trained them), and for comparison on three that share nothing.
Whether anything is shared is read off the weights. Weights are random; answers must
agree to 1e-4.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torchvision import transforms
from torchvision.models import resnet34

from benchmarks.table import Goal, Row, parser, run
from fairloop.scratch import scratch_folder
from fairloop.taxonomy import ATTRIBUTES, vocabulary
from services.annotator.deepface_demography import DeepFaceDemography
from services.annotator.fairface import FairFace, FairFaceRace4
from tests.support.deepface_library import deepface_library

ROUNDS = 3
AGREE = 1e-4
UNSHARED_FACES = 4
FAIRFACE_GOAL = Goal("peer / ours", "≥", 1.7)
DEEPFACE_GOAL = Goal("peer / ours", "≥", 1.4)
VGG = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")

Chips = list[NDArray[np.uint8]]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def compared(ours: Callable[[], Any], peer: Callable[[], Any]) -> tuple[float, float, float, Any, Any]:
    """Medians of seconds of both, of their ratio, and their answers; they take turns."""
    ours()
    peer()
    pairs = [(timed(ours), timed(peer)) for _ in range(ROUNDS)]
    mine, theirs = [a[0] for a, _ in pairs], [b[0] for _, b in pairs]
    ratio = statistics.median(b / a for a, b in zip(mine, theirs, strict=True))
    return statistics.median(mine), statistics.median(theirs), ratio, pairs[0][0][1], pairs[0][1][1]


def fairface(chips: Chips, folder: Path) -> Row:
    """FairFace's steps on aligned chips."""
    paths = []
    for seed in (7, 4):
        torch.manual_seed(seed)
        paths.append(folder / f"{seed}.pt")
        torch.save(resnet34(weights=None, num_classes=18).state_dict(), paths[-1])
    annotators = [FairFace(paths[0]), FairFaceRace4(paths[1])]
    networks = []
    for path in paths:
        network = resnet34(weights=None, num_classes=18)
        network.load_state_dict(torch.load(path, weights_only=True))
        networks.append(network.eval())
    prepare = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize((224, 224)),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )

    def original() -> NDArray[np.float64]:
        found = []
        with torch.no_grad():
            for chip in chips:
                seven = [networks[0](prepare(chip)[None])[0].numpy() for _ in range(2)][-1]
                four = networks[1](prepare(chip)[None])[0].numpy()
                parts = (seven[:7], seven[7:9], seven[9:18], four[:4])
                found.append(np.concatenate([np.exp(part) / np.exp(part).sum() for part in parts]))
        return np.stack(found)

    def ours() -> NDArray[np.float64]:
        first, second = (annotator.describe(chips) for annotator in annotators)
        rows = []
        for one, other in zip(first, second, strict=True):
            named = {**one, **other}
            row: list[float] = []
            for attribute in ("race", "gender", "age", "race4"):
                order = vocabulary("fairface_model", attribute).values
                by_value = dict(zip(ATTRIBUTES[attribute], named[attribute].probabilities, strict=True))
                row += [by_value[value] for value in order]
            rows.append(row)
        return np.array(rows)

    mine, theirs, ratio, found, expected = compared(ours, original)
    apart = float(np.abs(found - expected).max())
    return Row(
        f"FairFace, {len(chips)} chips",
        "s",
        mine,
        theirs,
        "two passes of race7, one of race4, batch 1",
        FAIRFACE_GOAL,
        ratio,
        f"probabilities differ by {apart:.1e}" if apart > AGREE else "",
    )


def vgg_face(path: Path, classes: int, seed: int, base: int) -> None:
    """A network of VGG-Face's layers and sizes in deepface's ONNX layout.

    `base` is the seed of its convolutions, `seed` that of its last three layers.
    """
    random = np.random.default_rng(base)
    nodes = [helper.make_node("Transpose", ["input"], ["x0"], perm=[0, 3, 1, 2])]
    weights: list[Any] = []
    channels, at = 3, 0

    def conv(out: int, kernel: int, relu: bool = True) -> None:
        nonlocal channels, at
        shape = (out, channels, kernel, kernel)
        # A million random numbers, repeated: a fifth of a second instead of five.
        scale = np.float32((2 / (channels * kernel**2)) ** 0.5)
        array = np.resize(random.standard_normal(1 << 20, dtype=np.float32) * scale, shape)
        weights.append(numpy_helper.from_array(array, f"w{at}"))
        weights.append(numpy_helper.from_array(np.zeros(out, np.float32), f"b{at}"))
        pad = [kernel // 2] * 4 if kernel == 3 else [0] * 4
        nodes.append(
            helper.make_node(
                "Conv", [f"x{at}", f"w{at}", f"b{at}"], [f"c{at}"], kernel_shape=[kernel] * 2, pads=pad
            )
        )
        nodes.append(helper.make_node("Relu" if relu else "Identity", [f"c{at}"], [f"x{at + 1}"]))
        channels, at = out, at + 1

    for layer in VGG:
        if layer == "M":
            nodes.append(
                helper.make_node("MaxPool", [f"x{at}"], [f"x{at + 1}"], kernel_shape=[2, 2], strides=[2, 2])
            )
            at += 1
        else:
            conv(int(layer), 3)
    random = np.random.default_rng(seed)
    conv(4096, 7)
    conv(4096, 1)
    conv(classes, 1, relu=False)
    nodes.append(helper.make_node("Flatten", [f"x{at}"], ["flat"]))
    nodes.append(helper.make_node("Softmax", ["flat"], ["output"], axis=1))
    graph = helper.make_graph(
        nodes,
        "vgg-face",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 224, 224, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", classes])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def unshared(chips: Chips, folder: Path) -> Row:
    """`deepface` on networks that share nothing: what batches alone are worth."""
    return deepface(chips[:UNSHARED_FACES], folder, shared=False)


def deepface(chips: Chips, folder: Path, shared: bool = True) -> Row:
    """`DeepFace.analyze` in a loop on chips as faces."""
    weights = folder / ".deepface" / "weights"
    weights.mkdir(parents=True)
    files = {
        "gender": (weights / "gender_model_weights.onnx", 2),
        "race6": (weights / "race_model_single_batch.onnx", 6),
        "age": (weights / "age_model_weights.onnx", 101),
    }
    for seed, (path, classes) in enumerate(files.values(), 2):
        vgg_face(path, classes, seed, base=1 if shared else 100 + seed)
    annotator = DeepFaceDemography({name: path for name, (path, _) in files.items()})
    labels = {name: vocabulary("deepface", name) for name in ("gender", "race6")}
    with deepface_library(folder) as library:

        def original() -> list[list[float]]:
            found = []
            for chip in chips:
                (answer,) = library.analyze(
                    np.ascontiguousarray(chip[:, :, ::-1]),
                    ["age", "gender", "race"],
                    detector_backend="skip",
                    silent=True,
                )
                row = []
                for name, key in (("gender", "gender"), ("race6", "race")):
                    named = {labels[name].by_label(word): share for word, share in answer[key].items()}
                    row += [named[value] / 100 for value in ATTRIBUTES[name]]
                found.append([*row, float(answer["age"])])
            return found

        def ours() -> list[list[float]]:
            return [
                [
                    *answer["gender"].probabilities,
                    *answer["race6"].probabilities,
                    float(int(answer["age"].value or 0)),
                ]
                for answer in annotator.describe(chips)
            ]

        mine, theirs, ratio, found, expected = compared(ours, original)
    apart = float(np.abs(np.array(found) - np.array(expected)).max())
    return Row(
        f"deepface, {len(chips)} faces, three networks of VGG-Face's size "
        + ("with its convolutions" if shared else "that share nothing"),
        "s",
        mine,
        theirs,
        "a loop of DeepFace.analyze",
        DEEPFACE_GOAL if shared else None,
        ratio,
        f"answers differ by {apart:.1e}" if apart > AGREE else "",
    )


def rows(options: argparse.Namespace) -> list[Row]:
    count = 4 if options.small else options.faces
    random = np.random.default_rng(0)
    chips = [random.integers(0, 256, (300, 300, 3), np.uint8) for _ in range(count)]
    found = []
    for measure in (fairface, deepface, unshared):
        if options.only in ("", measure.__name__):
            with scratch_folder("benchmark") as folder:
                found.append(measure(chips, folder))
    return found


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--faces", type=int, default=16)
    options.add_argument("--only", choices=["", "fairface", "deepface", "unshared"], default="")
    return run(rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
