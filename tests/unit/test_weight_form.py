"""Files that can be what a loader reads are told from those that cannot, by their frame."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from fairloop import weight_form
from fairloop.errors import InvalidInput
from tests.support.tiny_annotators import caffe_network, genderage_network

PAGE = b"\n<!DOCTYPE html><html><title>Sign in</title></html>"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """A file of each form, written by the library that owns it, and its loader."""
    folder = tmp_path_factory.mktemp("published")
    genderage_network(folder / "net.onnx", 1)
    weights, bias = np.ones((2, 3), np.float32), np.zeros(2, np.float32)
    description, model = caffe_network(folder, "gender", weights, bias)
    save_file({"w": np.ones(3, np.float32)}, folder / "w.safetensors")
    for version in ("earliest", "latest"):
        with h5py.File(folder / f"{version}.h5", "w", libver=version) as file:
            file["w"] = np.ones(1_000)
    torch.save({"w": torch.ones(3)}, folder / "new.pt")
    torch.save({"w": torch.ones(3)}, folder / "old.pt", _use_new_zipfile_serialization=False)
    return [
        (folder / "net.onnx", "onnx"),
        (description, "caffe"),
        (model, "caffe"),
        (folder / "w.safetensors", "safetensors"),
        (folder / "earliest.h5", "keras_hdf5"),
        (folder / "latest.h5", "keras_hdf5"),
        (folder / "new.pt", "torch_weights_only"),
        (folder / "old.pt", "torch_weights_only"),
    ]


def test_what_the_libraries_write_has_the_form(published: list[tuple[Path, str]]) -> None:
    for path, loader in published:
        weight_form.check(path, loader)


def test_a_download_that_broke_off_is_refused(published: list[tuple[Path, str]], tmp_path: Path) -> None:
    for path, loader in published:
        if path.name in ("old.pt", "gender_deploy.prototxt"):
            continue  # a pickle and a text say nowhere how long they are
        cut = tmp_path / path.name
        cut.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(InvalidInput, match=f"{path.name} is no whole"):
            weight_form.check(cut, loader)


def test_a_web_page_and_an_empty_file_are_refused_for_every_loader(tmp_path: Path) -> None:
    for name, loader in (
        ("net.onnx", "onnx"),
        ("net.caffemodel", "caffe"),
        ("net.prototxt", "caffe"),
        ("net.safetensors", "safetensors"),
        ("net.pt", "torch_weights_only"),
        ("net.h5", "keras_hdf5"),
    ):
        file = tmp_path / name
        file.write_bytes(PAGE)
        with pytest.raises(InvalidInput, match=r"is no whole safetensors|is a web page"):
            weight_form.check(file, loader)
        file.write_bytes(b"")
        with pytest.raises(InvalidInput, match=f"{name} is no whole"):
            weight_form.check(file, loader)


def test_the_file_of_one_loader_is_not_taken_for_another(published: list[tuple[Path, str]]) -> None:
    for path, loader in published:
        for other in {"onnx", "safetensors", "torch_weights_only", "keras_hdf5"} - {loader}:
            with pytest.raises(InvalidInput):
                weight_form.check(path, other)
