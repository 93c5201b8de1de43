"""Published networks become bases of classifiers: `fairloop models put-classifier-base FILE`.

What is taken: VGG-Face in Keras's HDF5 (`vgg_face_weights.h5`), read as arrays
and nothing else, and state dictionaries of torchvision's ResNet-34, FairFace's
among them (tensors only, `weights_only`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray

from fairloop import models, registry
from fairloop.commands.stored import opened, state_dir
from fairloop.errors import FairloopError, InvalidInput, NotFound, PreconditionFailed
from fairloop.manifest import Manifest, Terms
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore
from services.annotator import classifier
from services.annotator.classifier_network import (
    ALIGNMENTS,
    ARCHITECTURES,
    Classifier,
    Meaning,
    Shape,
    save,
)
from services.network_file import check_names, filled, fitting, state_dictionary

LARGEST_FILE = 2 * 2**30
"""Bytes: VGG-Face's file has 580 MB."""
MOST_LAYERS = 1_000
KINDS = {"kernel": 4, "bias": 1}
"""Weights of a convolution in Keras, and their numbers of dimensions."""

Floats = NDArray[np.float32]


def read_base(path: Path, architecture: str, shape: Shape | None = None) -> Classifier:
    """The network in a published file, in evaluation mode.

    `architecture` is vgg_face or resnet34, `shape` another than the published
    one. Runs no code of the file. Raises NotFound, InvalidInput, which names
    the file and the layer, and PreconditionFailed without h5py.
    """
    if not path.is_file():
        raise NotFound(f"{path}: there is no such file")
    if path.stat().st_size > LARGEST_FILE:
        raise InvalidInput(f"model {path.name}", f"{path.stat().st_size:,} bytes; at most {LARGEST_FILE:,}")
    known = ("vgg_face", "resnet34")
    if architecture not in known:
        raise InvalidInput("architecture", f"{architecture!r} is not one of {', '.join(known)}")
    wanted = shape or ARCHITECTURES[architecture]
    return _read_vgg(path, wanted) if architecture == "vgg_face" else _read_resnet(path, wanted)


def _read_vgg(path: Path, shape: Shape) -> Classifier:
    """Sixteen convolutions in order: Keras has kernels as (height, width, in, out), torch as (out, in, …)."""
    field = f"model {path.name}"
    with torch.device("meta"):
        net = Classifier(shape)
    expected = net.state_dict()
    names = [name.removesuffix(".weight") for name in expected if name.endswith(".weight")]
    layers = list(_convolutions(path))
    if len(layers) != len(names):
        raise InvalidInput(
            field, f"has {len(layers)} layers with weights; VGG-Face of this shape has {len(names)}"
        )
    state: dict[str, torch.Tensor] = {}
    for name, (layer, kernel, bias) in zip(names, layers, strict=True):
        weight = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        wanted = tuple(expected[f"{name}.weight"].shape)
        if len(wanted) == 2 and weight.shape[2:] == (1, 1):
            weight = weight[:, :, 0, 0]  # the last one is a convolution of 1×1 there
        if weight.shape != wanted or bias.shape != wanted[:1]:
            raise InvalidInput(
                field,
                f"layer {layer} has a kernel {kernel.shape} and a bias {bias.shape}; {name} is {wanted}",
            )
        state[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(weight))
        state[f"{name}.bias"] = torch.from_numpy(bias)
    return filled(field, net, state)


def _convolutions(path: Path) -> Iterator[tuple[str, Floats, Floats]]:
    """Name, kernel and bias of each layer with weights, in the order in which Keras wrote them."""
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise PreconditionFailed("HDF5 files need h5py: pip install 'fairloop[vgg-face]'") from error
    field = f"model {path.name}"
    try:
        with h5py.File(path, "r") as file:
            root = file["model_weights"] if _is_group(file, "model_weights", h5py) else file
            for layer in _texts(root, "layer_names", field):
                group = _followed(root, layer, field, h5py)
                names = _texts(group, "weight_names", field)
                if not names:
                    continue
                found = {
                    _kind(name): _array(_followed(group, name, field, h5py), name, field) for name in names
                }
                if set(found) != set(KINDS):
                    raise InvalidInput(field, f"layer {layer} has {', '.join(names)}; a kernel and a bias")
                yield layer, found["kernel"], found["bias"]
    except (OSError, KeyError, RuntimeError, UnicodeDecodeError) as error:
        raise InvalidInput(field, f"is not a whole HDF5 file of Keras weights: {error}") from error


def _is_group(file: Any, name: str, h5py: Any) -> bool:
    return (
        isinstance(file.get(name, getlink=True), h5py.HardLink)
        and file.get(name, getclass=True) is h5py.Group
    )


def _texts(group: Any, name: str, field: str) -> list[str]:
    """A list of names that Keras keeps in an attribute."""
    if name not in getattr(group, "attrs", {}):
        raise InvalidInput(field, f"has no attribute {name}: these are no weights that Keras saved")
    found = np.asarray(group.attrs[name]).ravel().tolist()
    if len(found) > MOST_LAYERS:
        raise InvalidInput(field, f"{len(found)} {name}; at most {MOST_LAYERS:,}")
    return [one.decode() if isinstance(one, bytes) else str(one) for one in found]


def _followed(group: Any, name: str, field: str, h5py: Any) -> Any:
    """What a path in the file leads to, through hard links alone: others lead to other files."""
    for step in name.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(step, getlink=True), h5py.HardLink):
            raise InvalidInput(field, f"{name!r} is not in the file itself")
        group = group[step]
    return group


def _array(found: Any, name: str, field: str) -> Floats:
    """A dataset's numbers; none that lie in another file, and no more than VGG-Face has."""
    shape = getattr(found, "shape", None)
    wanted = KINDS.get(_kind(name))
    if shape is None or len(shape) != wanted or found.dtype != np.float32:
        raise InvalidInput(field, f"{name} is not {wanted} dimensions of float32")
    if found.external or found.is_virtual:
        raise InvalidInput(field, f"{name} lies in another file")
    if found.size > LARGEST_FILE // 4:
        raise InvalidInput(field, f"{name} has {found.size:,} numbers")
    values: Floats = found[()]
    return values


def _kind(name: str) -> str:
    """kernel of `conv2d_1/kernel:0`."""
    return name.rsplit("/", 1)[-1].partition(":")[0]


def _read_resnet(path: Path, shape: Shape) -> Classifier:
    """torchvision's names: those of the last stage are in `top`, those of the last layer in `head`."""
    field = f"model {path.name}"
    found = state_dictionary(field, path)
    head = found.get("fc.weight")
    if head is None or head.ndim != 2:
        raise InvalidInput(field, "has no tensor fc.weight of two dimensions")
    with torch.device("meta"):
        net = Classifier(replace(shape, outputs=head.shape[0]))
    expected = net.state_dict()
    names = {name.split(".", 1)[1]: name for name in expected}
    check_names(field, set(names), set(found))
    state = {own: fitting(field, name, found[name], expected[own]) for name, own in names.items()}
    return filled(field, net, state)


def put(
    store: ObjectStore, net: Classifier, name: str, *, alignment: str, about: str, terms: Sequence[Terms]
) -> Manifest:
    """Makes it a model version `models/{name}/versions/{version}`; the same weights give the same name."""
    with scratch_folder("model") as folder:
        path = folder / classifier.FILE
        save(net, Meaning(alignment=alignment), path)
        data = path.read_bytes()
    return registry.publish(
        store,
        f"models/{name.removeprefix('models/')}",
        {classifier.FILE: data},
        service="annotator",
        kind=classifier.BASE_KIND,
        description=about,
        terms=terms,
        details={"size": net.shape.size, "outputs": net.shape.outputs, "alignment": alignment},
        libraries=["torch"],
    )


@click.command("put-classifier-base")
@click.argument("file")
@click.option("--name", required=True, help="Name of the model in the store.")
@click.option(
    "--architecture", type=click.Choice(["vgg_face", "resnet34"]), required=True, help="What FILE holds."
)
@click.option(
    "--alignment",
    type=click.Choice(ALIGNMENTS),
    default="none",
    show_default=True,
    help="What classifiers from it are shown unless they say otherwise: whole images, or upright faces.",
)
@click.option("--licence", default="unknown", help="Licence of the weights in a FILE that is no entry.")
@state_dir
def put_classifier_base(
    file: str, name: str, architecture: str, alignment: str, licence: str, state_folder: Path
) -> None:
    """Make a published network a base that classifiers are trained from.

    FILE is VGG-Face as Keras saved it (vgg_face_weights.h5), or a state
    dictionary of a ResNet-34 as torchvision names its tensors (.pth, .pt); or
    the name of such an entry of the catalogue, whose terms come along. No code
    of the file is run.
    """
    try:
        catalogued = file in models.catalogue()
        path = models.fetch(file) if catalogued else Path(file)
        terms = registry.weights_terms([file]) if catalogued else (Terms(licence=licence),)
        click.echo(f"reading {path}")
        net = read_base(path, architecture)
        with opened(state_folder) as store:
            made = put(
                store, net, name, alignment=alignment, about=f"{architecture} from {path.name}", terms=terms
            )
    except FairloopError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{made.name}: {architecture}, {net.shape.size} pixels to {net.shape.outputs} numbers")
    click.echo(f"Next: fairloop train-classifier DATASET ATTRIBUTE --base {made.name} --name …")
