"""Which recogniser a command without server and store is about: its file, and how it takes images."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from fairloop import models
from fairloop.errors import InvalidInput
from services.recognizer import iresnet, network, published
from services.recognizer.onnx_network import OnnxNetwork
from services.recognizer.recognisers import CropRecogniser

PUBLISHED = {f"iresnet{depth}": f"arcface-ms1mv3-r{depth}" for depth in (18, 34, 50, 100)}
"""The catalogue's state dictionary of each architecture: ArcFace on MS1MV3."""

model = click.option(
    "--model",
    required=True,
    help="A .pth, .safetensors or .onnx file, or the name of such an entry of the catalogue.",
)
architecture = click.option(
    "--architecture",
    type=click.Choice(sorted(iresnet.DEPTHS, key=len)),
    default="iresnet50",
    show_default=True,
    help="Of a state dictionary, which does not say it.",
)
alignment = click.option(
    "--alignment", type=click.Choice(["none", "five_points"]), default="none", show_default=True
)


def located(named: str) -> Path:
    """The file of a catalogue entry called so, else the path `named`, whether there is a file or not.

    Raises NotFound, saying where people get it, for an entry whose file is not on this machine.
    """
    return models.fetch(named) if named in models.catalogue() else Path(named)


def label(named: str) -> str:
    """What tables and figures call it: an entry by its name, a file without its folder and ending."""
    return named if named in models.catalogue() else Path(named).stem


def base_path(named: str | None, architecture: str) -> Path | None:
    """The file that a training goes on from: the one `named`, else the catalogue's of this architecture.

    None for `none`: fresh weights. Raises as `located`, and InvalidInput where the catalogue has no such
    architecture.
    """
    if named == "none":
        return None
    if named is None and architecture not in PUBLISHED:
        raise InvalidInput(
            "--base", f"the catalogue has no {architecture}; name a file, or none for fresh weights"
        )
    return located(named or PUBLISHED[architecture])


def read(path: Path, architecture: str, *, alignment: str, flip: bool) -> CropRecogniser:
    """The network of a .pth, .pt, .safetensors or .onnx file; InvalidInput, NotFound."""
    published.check_file(path)
    if path.suffix == ".onnx":
        graph = OnnxNetwork(path, 1)
        return CropRecogniser(graph.embed, graph.layout.size, graph.layout.dimension, alignment, flip)
    net = published.read_network(path, architecture)

    def embed(images: NDArray[np.uint8], flip: bool) -> NDArray[np.float32]:
        return network.embed(net, images, flip=flip)

    return CropRecogniser(embed, net.shape.size, net.shape.embedding, alignment, flip)
