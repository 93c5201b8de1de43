"""ONNX networks that begin alike, computed once: what they share, and then each network's own end.

Networks that were fine-tuned from one base with its first layers frozen hold the
same layers in each of their files. Nodes are alike when they are the same
operation with the same attributes on the same weights and on alike inputs; what
they compute is then equal, whatever it is fed with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from fairloop.errors import InvalidInput


@dataclass(frozen=True)
class Split:
    """Serialised networks: the trunk, and by name the heads, which take what the trunk gives."""

    trunk: bytes
    heads: Mapping[str, bytes]


def split(paths: Mapping[str, Path]) -> Split | None:
    """The networks in these files with their common beginning apart; None when they have none.

    Each network has one input. One file at a time is in memory. Raises
    `InvalidInput` naming a file that is no ONNX network.
    """
    signed = [_signatures(_load(path)) for path in paths.values()]
    shared = 0
    for row in zip(*signed, strict=False):
        if len(set(row)) > 1:
            break
        shared += 1
    if len(paths) < 2:
        return None
    trunk = b""
    heads = {}
    for name, path in paths.items():
        model = _load(path)
        place = _narrow(model, shared)
        if place is None or not _weighs(model, place[0]):
            return None
        count, value = place
        if not trunk:
            trunk = _part(model, model.graph.node[:count], model.graph.input[0].name, value)
        heads[name] = _part(model, model.graph.node[count:], value, model.graph.output[0].name)
    return Split(trunk, heads)


def _load(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's and onnx's errors share no base
        raise InvalidInput("weights", f"{path.name} is no ONNX network ({error})") from error


def _signatures(model: onnx.ModelProto) -> list[str]:
    """Of each node, in order, what it computes: equal texts compute equal values."""
    keys = {model.graph.input[0].name: "input", "": ""}
    for stored in model.graph.initializer:
        unnamed = onnx.TensorProto()
        unnamed.CopyFrom(stored)
        unnamed.name = ""
        keys[stored.name] = hashlib.sha256(unnamed.SerializeToString(deterministic=True)).hexdigest()
    found = []
    for node in model.graph.node:
        attributes = sorted(one.SerializeToString(deterministic=True) for one in node.attribute)
        inputs = [keys.get(name, f"unknown {name}") for name in node.input]
        text = repr((node.domain, node.op_type, attributes, inputs, len(node.output)))
        found.append(hashlib.sha256(text.encode()).hexdigest())
        keys.update({name: f"{found[-1]}:{index}" for index, name in enumerate(node.output)})
    return found


def _narrow(model: onnx.ModelProto, most: int) -> tuple[int, str] | None:
    """The last place within the first `most` nodes where one value goes on: number of nodes, the value."""
    nodes = model.graph.node
    stored = {one.name for one in model.graph.initializer}
    wanted = {one.name for one in model.graph.output}
    for node in reversed(nodes[most:]):
        wanted.update(node.input)
    for count in range(most, 0, -1):
        made = {name for node in nodes[:count] for name in node.output}
        crossing = (wanted & made) - stored
        if len(crossing) == 1 and model.graph.input[0].name not in wanted:
            return count, crossing.pop()
        wanted.update(nodes[count - 1].input)
    return None


def _weighs(model: onnx.ModelProto, count: int) -> bool:
    """Whether the first nodes have weights: without, there is nothing worth sharing."""
    stored = {one.name for one in model.graph.initializer}
    return any(stored & set(node.input) for node in model.graph.node[:count])


def _part(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], start: str, end: str) -> bytes:
    """The nodes with their weights as a network of its own; shapes are left for the runtime to find."""
    used = {name for node in nodes for name in node.input}
    first = _info(model, start)
    graph = helper.make_graph(
        list(nodes),
        model.graph.name,
        [first],
        [_info(model, end)],
        [stored for stored in model.graph.initializer if stored.name in used],
    )
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    data: bytes = part.SerializeToString()
    return data


def _info(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    for one in (*model.graph.input, *model.graph.output):
        if one.name == name:
            return one
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
