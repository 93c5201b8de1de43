"""A diffusion model in the folder format of diffusers: what may lie in one, and what it is.

    model_index.json
    unet/  vae/  text_encoder/  safety_checker/     config.json and *.safetensors
    tokenizer/                                      vocab.json, merges.txt, …
    scheduler/                                      scheduler_config.json
    feature_extractor/                              preprocessor_config.json

Only these files are read. Weights are safetensors; a component that has nothing
but a pickle is refused. Classes are looked up in the lists below, so a folder
cannot name code of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairloop.errors import InvalidInput, NotFound
from fairloop.safetensors_header import read_header

INDEX = "model_index.json"
PIPELINE = "StableDiffusionPipeline"

WEIGHTED: Mapping[str, tuple[tuple[str, str], str]] = {
    "unet": (("diffusers", "UNet2DConditionModel"), "diffusion_pytorch_model"),
    "vae": (("diffusers", "AutoencoderKL"), "diffusion_pytorch_model"),
    "text_encoder": (("transformers", "CLIPTextModel"), "model"),
    "safety_checker": (("stable_diffusion", "StableDiffusionSafetyChecker"), "model"),
}
"""Components with weights: their class in the index, and what their files are called."""

PLAIN: Mapping[str, tuple[frozenset[str], frozenset[str], frozenset[str]]] = {
    "tokenizer": (
        frozenset({"CLIPTokenizer", "CLIPTokenizerFast"}),
        frozenset({"vocab.json", "merges.txt"}),
        frozenset(
            {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"}
        ),
    ),
    "scheduler": (
        frozenset(
            {
                "DDIMScheduler",
                "DDPMScheduler",
                "DPMSolverMultistepScheduler",
                "EulerAncestralDiscreteScheduler",
                "EulerDiscreteScheduler",
                "HeunDiscreteScheduler",
                "LMSDiscreteScheduler",
                "PNDMScheduler",
                "UniPCMultistepScheduler",
            }
        ),
        frozenset({"scheduler_config.json"}),
        frozenset(),
    ),
    "feature_extractor": (
        frozenset({"CLIPImageProcessor", "CLIPFeatureExtractor", "CLIPImageProcessorFast"}),
        frozenset({"preprocessor_config.json"}),
        frozenset(),
    ),
}
"""Components without weights: classes that may stand in the index, files they need, files they may have."""

OPTIONAL = frozenset({"safety_checker", "feature_extractor"})
LARGEST_CONFIG = 2**20
LARGEST_VOCABULARY = 16 * 2**20
LARGEST_FOLDER = 64 * 2**30
"""Bytes."""

LORA_FILE = "pytorch_lora_weights.safetensors"
_LORA = re.compile(r"(unet|text_encoder)\.(.+)\.(lora_A|lora_B|lora\.down|lora\.up|alpha)(\.weight)?")
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


@dataclass(frozen=True)
class DiffusersFolder:
    """A folder that was looked through.

    `files` are the files to take, by their path in the published format;
    `image_size` is the side of the images that the model was made for, in pixels;
    `scheduler` is the class of its own;
    `left_out` names what else lies there.
    """

    path: Path
    files: Mapping[str, Path]
    image_size: int
    prediction_type: str
    scheduler: str
    has_safety_checker: bool
    left_out: tuple[str, ...] = field(default=())


def look_through(path: Path, variant: str = "") -> DiffusersFolder:
    """What lies in a folder, checked without loading any of it.

    `variant` (`fp16`) takes weights published under that infix. `NotFound` when it
    is no folder with a `model_index.json`; `InvalidInput` that names the file when
    a component is missing, of another class, a link, too large, or there as a
    pickle only.
    """
    if not (path / INDEX).is_file():
        raise NotFound(f"{path} has no {INDEX}; it is no model in the folder format of diffusers")
    files = {INDEX: _plain_file(path, INDEX)}
    index = read_config(files[INDEX], INDEX)
    if index.get("_class_name") != PIPELINE:
        raise InvalidInput(INDEX, f"_class_name is {index.get('_class_name')!r}; {PIPELINE} is what loads")
    present = [name for name in (*WEIGHTED, *PLAIN) if _class_of(index, name) is not None]
    extra = [
        name
        for name, entry in index.items()
        if isinstance(entry, list) and entry != [None, None] and name not in (*WEIGHTED, *PLAIN)
    ]
    if extra:
        raise InvalidInput(INDEX, f"names {', '.join(sorted(extra))}, which is no part of Stable Diffusion")
    if missing := {*WEIGHTED, *PLAIN} - OPTIONAL - set(present):
        raise InvalidInput(INDEX, f"lacks {', '.join(sorted(missing))}")
    if "safety_checker" in present and "feature_extractor" not in present:
        raise InvalidInput(INDEX, "has a safety_checker and no feature_extractor, which it needs")
    for name in present:
        files.update(_weighted(path, name, index, variant) if name in WEIGHTED else _plain(path, name, index))
    if (total := sum(file.stat().st_size for file in files.values())) > LARGEST_FOLDER:
        raise InvalidInput(str(path), f"has {total:,} bytes to load; at most {LARGEST_FOLDER:,}")
    taken = set(files.values())
    left = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file() and p not in taken)
    scheduler = read_config(files["scheduler/scheduler_config.json"], "scheduler_config.json")
    return DiffusersFolder(
        path,
        files,
        _image_size(files),
        str(scheduler.get("prediction_type", "epsilon")),
        index["scheduler"][1],
        "safety_checker" in present,
        tuple(left),
    )


def read_config(path: Path, name: str, largest: int = LARGEST_CONFIG) -> dict[str, Any]:
    """A JSON object from outside; `InvalidInput` on its name when it is too large or no such."""
    try:
        if path.stat().st_size > largest:
            raise InvalidInput(name, f"has {path.stat().st_size:,} bytes; at most {largest:,}")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(name, f"is no JSON that can be read ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise InvalidInput(name, "is no JSON object")
    return found


def lora_ranks(path: Path, base: Mapping[str, Mapping[str, tuple[int, ...]]]) -> dict[str, int]:
    """The rank of each layer of a LoRA, by `{component}.{layer}`; its shapes checked against its base.

    `base` gives the shapes of each component's weights by name: `{"unet": {…}}`.
    `InvalidInput` on `lora` when the file is no LoRA of diffusers, or changes a
    layer that the base does not have or has in another shape.
    """
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, tensor in read_header(path, "lora").items():
        found = _LORA.fullmatch(name)
        if found is None:
            raise InvalidInput("lora", f"{path.name} has a tensor {name!r}, which is none of a LoRA's")
        side = {"lora_A": "down", "lora.down": "down", "lora_B": "up", "lora.up": "up"}.get(found[3], "")
        if side:
            pairs.setdefault(f"{found[1]}.{found[2]}", {})[side] = tensor.shape
    if not pairs:
        raise InvalidInput(
            "lora", f"{path.name} has no layer; a LoRA of diffusers has pairs lora_A and lora_B"
        )
    for layer, pair in pairs.items():
        component, _, name = layer.partition(".")
        shape = _shape_of(base.get(component, {}), name)
        if len(pair) != 2 or pair["down"][0] != pair["up"][1]:
            raise InvalidInput("lora", f"{layer} is no pair of matrices of one rank")
        wants = (pair["up"][0], pair["down"][1])
        if shape is None or shape[:2] != wants:
            has = "no such layer" if shape is None else f"{shape[0]}×{shape[1]} there"
            raise InvalidInput(
                "lora", f"is of another base: {layer} changes {wants[0]}×{wants[1]}, and this one has {has}"
            )
    return {layer: pair["down"][0] for layer, pair in pairs.items()}


def _shape_of(shapes: Mapping[str, tuple[int, ...]], layer: str) -> tuple[int, ...] | None:
    """A layer's shape under the name that a LoRA gives it; `to_out.0` was once written `to_out`."""
    # transformers 5 saves a text encoder without the prefix that earlier releases wrote.
    for name in (layer, layer.removeprefix("text_model."), f"text_model.{layer}", f"{layer}.0"):
        if (shape := shapes.get(f"{name}.weight")) is not None:
            return shape
    return None


def flat_name(path: str) -> str:
    """`unet/config.json` as one segment of a key: `unet--config.json`."""
    return path.replace("/", "--")


def unflat_name(name: str) -> str:
    """The path in a folder that a part's name stands for; `InvalidInput` when it is none of the format."""
    path = name.replace("--", "/")
    component, slash, file = path.partition("/")
    weights = WEIGHTED.get(component)
    known = (
        name == INDEX
        or (slash and component in PLAIN and file in PLAIN[component][1] | PLAIN[component][2])
        or (slash and weights is not None and (file == "config.json" or _is_weights(file, weights[1])))
    )
    if not known:
        raise InvalidInput("model", f"{name!r} is no file of a diffusion model")
    return path


def _is_weights(file: str, stem: str) -> bool:
    pattern = rf"{re.escape(stem)}(-\d{{5}}-of-\d{{5}})?\.safetensors(\.index\.json)?"
    return re.fullmatch(pattern, file) is not None


def _class_of(index: Mapping[str, Any], name: str) -> tuple[str, str] | None:
    """(library, class) of a component as the index has it; None where there is none."""
    entry = index.get(name)
    if entry is None or entry == [None, None]:
        return None
    if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(part, str) for part in entry):
        raise InvalidInput(INDEX, f"{name} is {entry!r}, not a library and a class")
    return entry[0], entry[1]


def _weighted(path: Path, name: str, index: Mapping[str, Any], variant: str) -> dict[str, Path]:
    expected, stem = WEIGHTED[name]
    if (found := _class_of(index, name)) != expected:
        raise InvalidInput(INDEX, f"{name} is a {found}; {expected[1]} is what loads")
    config = _plain_file(path, f"{name}/config.json")
    read_config(config, f"{name}/config.json")
    files = {f"{name}/config.json": config}
    infix = f".{variant}" if variant else ""
    whole = f"{name}/{stem}{infix}.safetensors"
    if (path / whole).exists():
        files[f"{name}/{stem}.safetensors"] = _plain_file(path, whole)
    elif not variant and (path / f"{name}/{stem}.safetensors.index.json").exists():
        for file in sorted((path / name).iterdir()):
            if _is_weights(file.name, stem):
                files[f"{name}/{file.name}"] = _plain_file(path, f"{name}/{file.name}")
        _check_shards(f"{name}/{stem}.safetensors.index.json", files)
    else:
        _refuse_without_weights(path, name, whole)
    for wanted, file in files.items():
        if wanted.endswith(".safetensors"):
            read_header(file, wanted)
    return files


def _check_shards(index: str, files: Mapping[str, Path]) -> None:
    """The files that an index of weights names are those beside it: a path of its own would be followed."""
    named = read_config(files[index], index, LARGEST_VOCABULARY).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise InvalidInput(index, "has no weight_map, which says what lies in which file")
    folder = index.partition("/")[0]
    for file in named.values():
        if not isinstance(file, str) or f"{folder}/{file}" not in files or file.endswith(".json"):
            raise InvalidInput(index, f"names {str(file)[:80]!r}, which is no file of weights beside it")


def _refuse_without_weights(path: Path, name: str, whole: str) -> None:
    there = sorted(file.name for file in (path / name).iterdir())
    pickles = [file for file in there if file.endswith(_PICKLES)]
    variants = sorted({file.split(".")[-2] for file in there if file.endswith(".safetensors")})
    if variants:
        raise InvalidInput(whole, f"is not there; there are the variants {', '.join(variants)}: name one")
    if pickles:
        raise InvalidInput(
            whole,
            f"is not there, only {pickles[0]}, which is a pickle and could run code: take the safetensors "
            "file of the same repository, or convert it where you trust it",
        )
    raise InvalidInput(whole, "is not there")


def _plain(path: Path, name: str, index: Mapping[str, Any]) -> dict[str, Path]:
    classes, needed, possible = PLAIN[name]
    found = _class_of(index, name)
    if found is None or found[1] not in classes or found[0] not in ("diffusers", "transformers"):
        raise InvalidInput(INDEX, f"{name} is a {found}; it may be {', '.join(sorted(classes))}")
    files = {}
    for file in sorted(needed | {file for file in possible if (path / name / file).exists()}):
        place = _plain_file(path, f"{name}/{file}")
        largest = LARGEST_VOCABULARY if name == "tokenizer" else LARGEST_CONFIG
        if file.endswith(".json"):
            read_config(place, f"{name}/{file}", largest)
        elif place.stat().st_size > largest:
            raise InvalidInput(f"{name}/{file}", f"has {place.stat().st_size:,} bytes; at most {largest:,}")
        files[f"{name}/{file}"] = place
    return files


def _plain_file(path: Path, name: str) -> Path:
    """The file, when it is a real one inside the folder: no link, on no level."""
    place = path / name
    for step in (place, *list(place.parents)[: name.count("/")]):
        if step.is_symlink():
            raise InvalidInput(
                name, "is a link; copy the folder with its files (hf download REPO --local-dir FOLDER)"
            )
    if not place.is_file():
        raise InvalidInput(name, "is not there")
    return place


def _image_size(files: Mapping[str, Path]) -> int:
    unet = read_config(files["unet/config.json"], "unet/config.json")
    vae = read_config(files["vae/config.json"], "vae/config.json")
    side, blocks = unet.get("sample_size"), vae.get("block_out_channels")
    if (
        type(side) is not int
        or not isinstance(blocks, list)
        or not 1 <= side <= 512
        or not 1 <= len(blocks) <= 8
    ):
        raise InvalidInput("unet/config.json", f"sample_size {side!r} with {blocks!r} of the VAE is no size")
    return int(side * 2 ** (len(blocks) - 1))


def combined(
    path: Path, into: Path, vae: Path | None = None, safety_checker: Path | None = None, variant: str = ""
) -> Path:
    """A folder made of one with another VAE, or with a safety checker, or both; `into` is empty.

    `vae` holds `config.json` and the weights; `safety_checker` holds the folders
    `safety_checker` and `feature_extractor`, as Stable Diffusion 1.x has them.
    Files are linked where the system can, else copied.
    """
    found = look_through(path, variant)
    index = read_config(found.files[INDEX], INDEX)
    files = {name: file for name, file in found.files.items() if name != INDEX}
    if vae is not None:
        files = {name: file for name, file in files.items() if not name.startswith("vae/")}
        for name in ("config.json", "diffusion_pytorch_model.safetensors"):
            files[f"vae/{name}"] = _plain_file(vae, name)
    if safety_checker is not None:
        index["safety_checker"] = list(WEIGHTED["safety_checker"][0])
        index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
        for name in (
            "safety_checker/config.json",
            "safety_checker/model.safetensors",
            "feature_extractor/preprocessor_config.json",
        ):
            files[name] = _plain_file(safety_checker, name)
    for name, file in files.items():
        place = into / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, place)
        except OSError:
            shutil.copyfile(file, place)
    (into / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return into
