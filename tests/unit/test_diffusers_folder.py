"""What may lie in a folder of diffusers: whole and in safetensors, or a clear error before it is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fairloop.diffusers_folder import combined, flat_name, look_through, lora_ranks, unflat_name
from fairloop.errors import InvalidInput, NotFound
from fairloop.safetensors_header import read_header
from tests.support.tiny_diffusion import TinyShape, build_tiny_diffusion, build_tiny_lora


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_diffusion(tmp_path_factory.mktemp("tiny") / "model", TinyShape(safety="passes"))


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def changed(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_whole_folder_is_taken_file_by_file_and_the_rest_is_named(folder: Path) -> None:
    (folder / "README.md").write_text("hello")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04")
    found = look_through(folder)
    assert found.image_size == 64
    assert found.scheduler == "PNDMScheduler"
    assert found.prediction_type == "epsilon"
    assert found.has_safety_checker
    assert found.left_out == ("README.md", "unet/diffusion_pytorch_model.bin")
    assert len(found.files) == 15


def test_the_second_family_states_what_it_predicts(tmp_path: Path) -> None:
    found = look_through(build_tiny_diffusion(tmp_path / "two", TinyShape(family=2)))
    assert found.prediction_type == "v_prediction"
    assert not found.has_safety_checker


def test_a_safety_checker_and_a_vae_of_another_model_are_put_in(tiny: Path, tmp_path: Path) -> None:
    bare = build_tiny_diffusion(tmp_path / "bare", TinyShape(seed=9))
    (tmp_path / "into").mkdir()
    made = look_through(combined(bare, tmp_path / "into", vae=tiny / "vae", safety_checker=tiny))
    assert made.has_safety_checker
    weights = "vae/diffusion_pytorch_model.safetensors"
    assert made.files[weights].read_bytes() == (tiny / weights).read_bytes()
    unet = "unet/diffusion_pytorch_model.safetensors"
    assert made.files[unet].read_bytes() == (bare / unet).read_bytes()


def in_shards(folder: Path, **named: str) -> None:
    """The text encoder's weights in two files and an index, as large models are published.

    `named` gives tensors another file in the index: `a` the first tensor, `b` the last.
    """
    whole = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    names = sorted(tensors)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, some in files.items():
        save_file({name: tensors[name] for name in some}, whole.parent / file, {"format": "pt"})
    places = {name: file for file, some in files.items() for name in some}
    ends = {"a": names[0], "b": names[-1]}
    places.update({ends[end]: file for end, file in named.items()})
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (whole.parent / "model.safetensors.index.json").write_text(json.dumps(index))


def test_weights_in_several_files_are_taken_with_their_index(folder: Path) -> None:
    in_shards(folder)
    taken = [name for name in look_through(folder).files if name.startswith("text_encoder/model")]
    assert sorted(taken) == [
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model-00002-of-00002.safetensors",
        "text_encoder/model.safetensors.index.json",
    ]


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickles only": (
        lambda f: (f / "unet/diffusion_pytorch_model.safetensors").rename(
            f / "unet/diffusion_pytorch_model.bin"
        ),
        "is a pickle and could run code",
    ),
    "a variant only": (
        lambda f: (f / "unet/diffusion_pytorch_model.safetensors").rename(
            f / "unet/diffusion_pytorch_model.fp16.safetensors"
        ),
        "there are the variants fp16: name one",
    ),
    "a pickle named as safetensors": (
        lambda f: (f / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"\x80\x04\x95" + bytes(64)),
        "is no whole safetensors file",
    ),
    "a file that was cut": (
        lambda f: (f / "vae/diffusion_pytorch_model.safetensors").write_bytes(
            (f / "vae/diffusion_pytorch_model.safetensors").read_bytes()[:-10]
        ),
        "is no whole safetensors file",
    ),
    "a pipeline of its own": (
        lambda f: changed(f / "model_index.json", _class_name=["pipeline", "MyPipeline"]),
        "StableDiffusionPipeline is what loads",
    ),
    "a class of its own": (
        lambda f: changed(f / "model_index.json", unet=["my_code", "UNet"]),
        "UNet2DConditionModel is what loads",
    ),
    "a scheduler of its own": (
        lambda f: changed(f / "model_index.json", scheduler=["my_code", "DDIMScheduler"]),
        "scheduler is a",
    ),
    "another part": (
        lambda f: changed(f / "model_index.json", image_encoder=["transformers", "CLIPVisionModel"]),
        "names image_encoder",
    ),
    "no tokenizer": (lambda f: changed(f / "model_index.json", tokenizer=[None, None]), "lacks tokenizer"),
    "no vocabulary": (lambda f: (f / "tokenizer/vocab.json").unlink(), "tokenizer/vocab.json: is not there"),
    "a huge configuration": (
        lambda f: (f / "unet/config.json").write_text(" " * (2**20 + 1)),
        "has 1,048,577 bytes; at most 1,048,576",
    ),
    "a configuration that is a list": (
        lambda f: (f / "unet/config.json").write_text("[]"),
        "is no JSON object",
    ),
    "deep brackets": (
        lambda f: (f / "unet/config.json").write_text("[" * 100_000),
        "is no JSON that can be read",
    ),
    "a link to a file": (
        lambda f: (
            (f / "vae/config.json").rename(f.parent / "outside.json"),
            (f / "vae/config.json").symlink_to(f.parent / "outside.json"),
        ),
        "is a link",
    ),
    "a link to a folder": (
        lambda f: ((f / "vae").rename(f.parent / "outside"), (f / "vae").symlink_to(f.parent / "outside")),
        "is a link",
    ),
    "weights elsewhere on the machine": (
        lambda f: in_shards(f, a="/tmp/other/model-00001-of-00002.safetensors"),
        "which is no file of weights beside it",
    ),
    "weights in a folder above": (
        lambda f: in_shards(f, b="../unet/diffusion_pytorch_model.safetensors"),
        "which is no file of weights beside it",
    ),
    "a shard that is not there": (
        lambda f: (in_shards(f), (f / "text_encoder/model-00002-of-00002.safetensors").unlink()),
        "names 'model-00002-of-00002.safetensors'",
    ),
    "an index without a map": (
        lambda f: (
            in_shards(f),
            changed(f / "text_encoder/model.safetensors.index.json", weight_map={}),
        ),
        "has no weight_map",
    ),
    "no size": (lambda f: changed(f / "unet/config.json", sample_size=-1), "is no size"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_folder_that_is_not_right_is_refused_by_the_name_of_the_file(folder: Path, name: str) -> None:
    breaking, message = BREAKS[name]
    breaking(folder)
    with pytest.raises(InvalidInput, match=message.replace("(", r"\(")):
        look_through(folder)


def test_no_folder_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"has no model_index\.json"):
        look_through(tmp_path)


def test_a_variant_is_taken_under_the_plain_name(folder: Path) -> None:
    for path in list(folder.rglob("*.safetensors")):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    found = look_through(folder, "fp16")
    assert found.files["unet/diffusion_pytorch_model.safetensors"].name.endswith(".fp16.safetensors")


def test_names_of_parts_lead_back_to_paths_of_the_format_and_nowhere_else(folder: Path) -> None:
    for path in look_through(folder).files:
        assert "/" not in flat_name(path)
        assert unflat_name(flat_name(path)) == path
    for name in (
        "..--etc",
        "unet--..",
        "unet--code.py",
        "other--config.json",
        "config.json",
        "unet----config.json",
    ):
        with pytest.raises(InvalidInput, match="is no file of a diffusion model"):
            unflat_name(name)


def test_the_header_tells_what_the_library_loads(tiny: Path) -> None:
    path = tiny / "unet" / "diffusion_pytorch_model.safetensors"
    found = {name: tensor.shape for name, tensor in read_header(path, "model").items()}
    assert found == {name: tuple(tensor.shape) for name, tensor in load_file(path).items()}


def test_a_lora_is_told_by_its_layers_and_must_fit_its_base(tiny: Path, tmp_path: Path) -> None:
    base = {
        "unet": {
            name: tensor.shape
            for name, tensor in read_header(tiny / "unet/diffusion_pytorch_model.safetensors", "x").items()
        }
    }
    ranks = lora_ranks(build_tiny_lora(tmp_path / "a.safetensors", TinyShape(), rank=3), base)
    assert set(ranks.values()) == {3}
    assert len(ranks) == len(
        [
            name
            for name in base["unet"]
            if name.endswith(("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"))
        ]
    )
    with pytest.raises(InvalidInput, match="is of another base"):
        lora_ranks(build_tiny_lora(tmp_path / "b.safetensors", TinyShape(width=64)), base)
    save_file({"model.weight": torch.zeros(2, 2)}, tmp_path / "c.safetensors")
    with pytest.raises(InvalidInput, match="none of a LoRA's"):
        lora_ranks(tmp_path / "c.safetensors", base)
    save_file({"unet.x.lora_A.weight": torch.zeros(2, 4)}, tmp_path / "d.safetensors")
    with pytest.raises(InvalidInput, match="no pair of matrices"):
        lora_ranks(tmp_path / "d.safetensors", base)
