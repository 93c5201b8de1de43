"""Networks of classifiers: the published architectures and file formats, and files that are none of them."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import resnet34

from fairloop.errors import InvalidInput, NotFound
from services.annotator import classifier_network
from services.annotator.classifier_network import ARCHITECTURES, Classifier, Meaning, Shape
from services.annotator.classifier_published import read_base

TINY_VGG = Shape("vgg", 64, (2, 3, 4, 5, 6), (1, 2, 1, 1, 2), dense=8, outputs=7)
TINY = Shape("resnet", 32, (4, 6, 8, 10), (1, 1, 1, 1), outputs=3)
GENDER = Meaning("gender", ("female", "male"))


def keras_layers(seed: int = 0) -> list[tuple[str, Any, Any]]:
    """Name, kernel and bias of each convolution of the tiny VGG-Face, as Keras has them."""
    rng = np.random.default_rng(seed)
    shapes = [
        (3, 3, 3, 2),
        (3, 3, 2, 3),
        (3, 3, 3, 3),
        (3, 3, 3, 4),
        (3, 3, 4, 5),
        (3, 3, 5, 6),
        (3, 3, 6, 6),
    ]
    shapes += [(2, 2, 6, 8), (1, 1, 8, 8), (1, 1, 8, 7)]
    return [
        (
            f"conv2d_{number}",
            rng.normal(0, 0.5, shape).astype(np.float32),
            rng.normal(0, 0.1, shape[3]).astype(np.float32),
        )
        for number, shape in enumerate(shapes, 1)
    ]


def keras_file(path: Path, layers: list[tuple[str, Any, Any]]) -> Path:
    """The layout of Keras's `save_weights`: layers without weights stand among the others."""
    with h5py.File(path, "w") as file:
        names = []
        for number, (name, kernel, bias) in enumerate(layers, 1):
            names += [f"zero_padding2d_{number}", name]
            file.create_group(names[-2]).attrs["weight_names"] = []
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            group.create_dataset(f"{name}/kernel:0", data=kernel)
            group.create_dataset(f"{name}/bias:0", data=bias)
        file.attrs["layer_names"] = [name.encode() for name in names]
    return path


def convolved(x: Any, kernel: Any, bias: Any, padding: int) -> Any:
    """A convolution in NumPy, channels last: the sum over the kernel's places, as Keras defines it."""
    height, width = kernel.shape[:2]
    padded = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (0, 1))
    return np.einsum("hwcij,ijco->hwo", windows, kernel) + bias


def test_a_vgg_face_that_keras_saved_gives_what_its_layers_give_computed_by_hand(tmp_path: Path) -> None:
    layers = keras_layers()
    net = read_base(keras_file(tmp_path / "vgg.h5", layers), "vgg_face", TINY_VGG)
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    x = image / 255
    pools = {1, 3, 4, 5, 7}
    for number, (_, kernel, bias) in enumerate(layers[:7], 1):
        x = np.maximum(convolved(x, kernel, bias, 1), 0)
        if number in pools:
            side = len(x) // 2
            x = x.reshape(side, 2, side, 2, -1).max(axis=(1, 3))
    for _, kernel, bias in layers[7:9]:
        x = np.maximum(convolved(x, kernel, bias, 0), 0)
    expected = convolved(x, *layers[9][1:], 0).ravel()
    with torch.inference_mode():
        found = net(classifier_network.pixels(image[None], TINY_VGG)).numpy()[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_published_vgg_face_has_16_layers_and_145_million_parameters() -> None:
    with torch.device("meta"):
        net = Classifier(ARCHITECTURES["vgg_face"])
    shapes = [tuple(p.shape) for name, p in net.named_parameters() if name.endswith("weight")]
    # Parkhi et al. 2015, table 3: configuration A.
    assert len(shapes) == 16
    assert shapes[0] == (64, 3, 3, 3)
    assert shapes[12] == (512, 512, 3, 3)
    assert shapes[13:] == [(4096, 512, 7, 7), (4096, 4096, 1, 1), (2622, 4096)]
    assert sum(p.numel() for p in net.parameters()) == 145_002_878


def test_a_state_dictionary_of_torchvision_s_resnet34_gives_torchvision_s_answers(tmp_path: Path) -> None:
    torch.manual_seed(3)
    published = resnet34(num_classes=18).eval()
    for module in published.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(published.state_dict(), tmp_path / "resnet.pt")
    shape = replace(ARCHITECTURES["resnet34"], size=64)
    net = read_base(tmp_path / "resnet.pt", "resnet34", shape)
    assert net.shape.outputs == 18
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(net(x), published(x), rtol=1e-4, atol=1e-4)


def test_images_are_fed_as_each_family_was_trained() -> None:
    image = np.full((1, 64, 64, 3), [255, 0, 51], np.uint8)
    assert classifier_network.pixels(image, TINY_VGG)[0, :, 0, 0].tolist() == pytest.approx([1, 0, 0.2])
    resnet = replace(TINY, size=64)
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    assert classifier_network.pixels(image, resnet)[0, :, 5, 5].tolist() == pytest.approx(expected)
    with pytest.raises(InvalidInput, match=r"uint8 \(1, 64, 64, 3\) is not uint8 \(N, 32, 32, 3\)"):
        classifier_network.pixels(image, TINY)


@pytest.mark.parametrize("trick", ["external link", "soft link", "external storage", "virtual"])
def test_an_hdf5_file_that_leads_elsewhere_is_refused(tmp_path: Path, trick: str) -> None:
    path = keras_file(tmp_path / "vgg.h5", keras_layers())
    other = keras_file(tmp_path / "other.h5", keras_layers())
    kernel = keras_layers()[0][1]
    with h5py.File(path, "a") as file:
        place = "conv2d_1/conv2d_1/kernel:0"
        del file[place]
        if trick == "external link":
            file[place] = h5py.ExternalLink(str(other), place)
        elif trick == "soft link":
            file[place] = h5py.SoftLink("/conv2d_2/conv2d_2/kernel:0")
        elif trick == "external storage":
            raw = tmp_path / "raw"
            raw.write_bytes(kernel.tobytes())
            file.create_dataset(place, kernel.shape, "f4", external=[(str(raw), 0, kernel.nbytes)])
        else:
            layout = h5py.VirtualLayout(kernel.shape, "f4")
            layout[:] = h5py.VirtualSource(str(other), place, kernel.shape)
            file.create_virtual_dataset(place, layout)
    with pytest.raises(InvalidInput, match=r"not in the file itself|lies in another file"):
        read_base(path, "vgg_face", TINY_VGG)


def test_a_file_that_is_no_published_network_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        read_base(tmp_path / "absent.h5", "vgg_face")
    plain = tmp_path / "plain.h5"
    plain.write_bytes(b"<html>" * 100)
    with pytest.raises(InvalidInput, match=r"plain\.h5: is not a whole HDF5 file"):
        read_base(plain, "vgg_face")
    with pytest.raises(InvalidInput, match=r"plain\.h5: is no file of tensors"):
        read_base(plain, "resnet34")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with pytest.raises(InvalidInput, match="has no attribute layer_names"):
        read_base(tmp_path / "empty.h5", "vgg_face")
    layers = keras_layers()
    with pytest.raises(InvalidInput, match="has 9 layers with weights; VGG-Face of this shape has 10"):
        read_base(keras_file(tmp_path / "short.h5", layers[:-1]), "vgg_face", TINY_VGG)
    turned = [*layers[:3], (layers[3][0], layers[3][1].transpose(0, 1, 3, 2), layers[3][2]), *layers[4:]]
    with pytest.raises(InvalidInput, match=r"layer conv2d_4 has a kernel \(3, 3, 4, 3\)"):
        read_base(keras_file(tmp_path / "turned.h5", turned), "vgg_face", TINY_VGG)
    torch.save({"fc.weight": torch.zeros(2, 512), "more": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(InvalidInput, match=r"lacks tensor bn1\.bias"):
        read_base(tmp_path / "other.pt", "resnet34")
    with pytest.raises(InvalidInput, match="'alexnet' is not one of vgg_face, resnet34"):
        read_base(plain, "alexnet")


def test_a_saved_classifier_comes_back_as_the_same_bytes_and_answers(tmp_path: Path) -> None:
    net = classifier_network.with_head(classifier_network.fresh(TINY, 1), 2, seed=4)
    path, again = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    classifier_network.save(net, GENDER, path)
    loaded, meaning = classifier_network.load(path)
    assert meaning == GENDER
    assert not loaded.training
    classifier_network.save(loaded, meaning, again)
    assert path.read_bytes() == again.read_bytes()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(x), net.eval()(x))


def test_a_classifier_s_file_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    net = classifier_network.fresh(replace(TINY, outputs=2), 1)
    path = tmp_path / "classifier.safetensors"
    classifier_network.save(net, GENDER, path)
    tensors = load_file(path)
    good = {"schema": "fairloop.classifier/1", "shape": asdict(net.shape), **asdict(GENDER)}

    def refused(match: str, values: Any = good, **changed: torch.Tensor) -> None:
        text = values if isinstance(values, str) else json.dumps(values)
        save_file({**tensors, **changed}, path, {classifier_network.METADATA: text})
        with pytest.raises(InvalidInput, match=match):
            classifier_network.load(path)

    refused("has the unknown tensor extra", extra=torch.zeros(1))
    refused("head.fc.weight is", **{"head.fc.weight": torch.zeros(2, 11)})
    refused("not finite", **{"head.fc.bias": torch.tensor([float("nan"), 0.0])})
    refused("is not JSON", "{")
    refused("no object of schema", {**good, "schema": "fairloop.classifier/2"})
    refused("has 2 outputs and 1 classes", {**good, "classes": ["male"]})
    refused("canonical order", {**good, "classes": ["male", "female"]})
    refused("'size'|size", {**good, "shape": {**asdict(net.shape), "size": 40}})
    huge = {**asdict(net.shape), "widths": [4096] * 4, "depths": [64] * 4}
    refused("parameters; at most 200,000,000", {**good, "shape": huge})


def test_a_new_head_leaves_the_base_as_it_was() -> None:
    base = classifier_network.fresh(TINY, 1)
    made = classifier_network.with_head(base, 5, seed=9)
    own, theirs = made.state_dict(), base.state_dict()
    assert own["head.fc.weight"].shape == (5, 10)
    assert all(torch.equal(own[name], theirs[name]) for name in theirs if not name.startswith("head."))
    assert torch.equal(own["head.fc.weight"], classifier_network.with_head(base, 5, 9).head.fc.weight)
