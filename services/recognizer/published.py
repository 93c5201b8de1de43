"""Published recognisers become models of the store: `fairloop models put-recogniser FILE`.

What is taken: state dictionaries of arcface_torch (`backbone.pth`; tensors only,
`weights_only`), our own safetensors files, and ONNX files of InsightFace packs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from fairloop import models, registry
from fairloop.commands.stored import opened, state_dir
from fairloop.errors import FairloopError, InvalidInput, NotFound
from fairloop.manifest import Manifest, Terms
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore
from services import network_file
from services.recognizer import iresnet, network, onnx_network, residual

LARGEST_FILE = 2 * 2**30
"""Bytes: four times an iresnet200 in float32."""


@dataclass(frozen=True)
class Weights:
    """A recogniser that was read: what the store keeps of it."""

    kind: str
    file: str
    data: bytes
    size: int
    dimension: int
    description: str


def read_backbone(path: Path, architecture: str) -> iresnet.IResNet:
    """The network in a state dictionary of arcface_torch, in evaluation mode.

    Names and shapes must be the architecture's, all of them; float16 tensors
    become float32. Runs no code of the file. Raises InvalidInput, which names
    the file and the tensor.
    """
    field = f"model {path.name}"
    if architecture not in iresnet.DEPTHS:
        raise InvalidInput("architecture", f"{architecture!r} is not one of {', '.join(iresnet.DEPTHS)}")
    found = network_file.state_dictionary(field, path)
    with torch.device("meta"):
        net = iresnet.IResNet(iresnet.Shape(iresnet.DEPTHS[architecture]))
    expected = net.state_dict()
    network_file.check_names(field, set(expected), set(found))
    state: dict[str, torch.Tensor] = {}
    for name, wanted in expected.items():
        state[name] = network_file.fitting(field, name, found[name], wanted)
        kinds = (torch.int64,) if wanted.dtype == torch.int64 else (torch.float32, torch.float16)
        if found[name].dtype not in kinds:
            allowed = " or ".join(map(str, kinds))
            raise InvalidInput(field, f"{name} is {found[name].dtype}; it has to be {allowed}")
    net = network_file.filled(field, net, state)
    net.features.weight.requires_grad_(False)
    return net


def read_own(path: Path) -> network.Network:
    """The network in a safetensors file of ours, whichever kind it is; InvalidInput for another file."""
    try:
        return iresnet.load(path)
    except InvalidInput as other:
        if "has no metadata entry" not in str(other):
            raise
    return residual.load(path)


def read_network(path: Path, architecture: str) -> network.Network:
    """The network in a file of ours or of arcface_torch; InvalidInput, NotFound."""
    check_file(path)
    if path.suffix == ".safetensors":
        return read_own(path)
    if not architecture:
        raise InvalidInput("architecture", f"{path.name} does not say which: {', '.join(iresnet.DEPTHS)}")
    return read_backbone(path, architecture)


def check_file(path: Path) -> None:
    """NotFound or InvalidInput unless this is a file of a size that a recogniser has."""
    if not path.is_file():
        raise NotFound(f"{path}: there is no such file")
    if path.stat().st_size > LARGEST_FILE:
        raise InvalidInput(f"model {path.name}", f"{path.stat().st_size:,} bytes; at most {LARGEST_FILE:,}")


def read(path: Path, architecture: str) -> Weights:
    """What a file holds, as the store keeps it."""
    check_file(path)
    if path.suffix == ".onnx":
        data = path.read_bytes()
        found = onnx_network.layout(data, f"model {path.name}")
        text = f"ONNX recogniser {path.name}, embedding only"
        return Weights("onnx", "recogniser.onnx", data, found.size, found.dimension, text)
    net = read_network(path, architecture)
    kind = "residual" if isinstance(net, residual.Residual) else "iresnet"
    with scratch_folder("model") as folder:
        file = folder / "recogniser.safetensors"
        network.save(net, file)
        data = file.read_bytes()
    text = f"{architecture or kind} from {path.name}"
    return Weights(kind, "recogniser.safetensors", data, net.shape.size, net.shape.embedding, text)


def put(
    store: ObjectStore, found: Weights, name: str, *, alignment: str, terms: Sequence[Terms] = (Terms(),)
) -> Manifest:
    """Makes it a model version `models/{name}/versions/{version}`; the same weights give the same name."""
    return registry.publish(
        store,
        f"models/{name.removeprefix('models/')}",
        {found.file: found.data},
        service="recognizer",
        kind=found.kind,
        description=found.description,
        terms=terms,
        details={"dimension": found.dimension, "size": found.size, "alignment": alignment},
        libraries=["torch"],
    )


@click.command("put-recogniser")
@click.argument("file")
@click.option("--name", required=True, help="Name of the model in the store.")
@click.option(
    "--architecture",
    type=click.Choice(sorted(iresnet.DEPTHS, key=len)),
    default=None,
    help="Of a state dictionary, which does not say it.",
)
@click.option(
    "--alignment",
    type=click.Choice(["five_points", "none"]),
    default="five_points",
    show_default=True,
    help="Find each face and move it to ArcFace's template, or take whole images that are aligned already.",
)
@click.option("--licence", default="unknown", help="Licence of the weights in a FILE that is no entry.")
@state_dir
def put_recogniser(
    file: str, name: str, architecture: str | None, alignment: str, licence: str, state_folder: Path
) -> None:
    """Make a published recogniser a model of the store.

    FILE is a state dictionary of arcface_torch (.pth, .pt), an ONNX recogniser
    of an InsightFace pack (.onnx), or a network of our own (.safetensors); or
    the name of such an entry of the catalogue, whose terms come along. No code
    of the file is run.
    """
    try:
        catalogued = file in models.catalogue()
        path = models.fetch(file) if catalogued else Path(file)
        terms = registry.weights_terms([file]) if catalogued else [Terms(licence=licence)]
        click.echo(f"reading {path}")
        found = read(path, architecture or "")
        with opened(state_folder) as store:
            made = put(store, found, name, alignment=alignment, terms=terms)
    except FairloopError as error:
        raise click.ClickException(str(error)) from error
    details: dict[str, Any] = dict(made.details)
    click.echo(f"{made.name}: {details['kind']}, {details['size']} pixels to {details['dimension']} numbers")
    click.echo(f"Next: fairloop lineage {made.name}, or EmbedImages and Embed with this name")
