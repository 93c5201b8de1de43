"""Diffusion models of the store: a diffusers folder or a LoRA in, a model version out, and back again.

A model of kind `diffusion` has the files of the folder as its parts, each under
its flattened path (`unet--config.json`). One of kind `diffusion_lora` has one
file, and `details.base` names the model that it changes. Files are hashed and
sent as streams: nothing is held in memory whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairloop import manifest, names, registry
from fairloop.diffusers_folder import (
    LORA_FILE,
    DiffusersFolder,
    flat_name,
    look_through,
    lora_ranks,
    unflat_name,
)
from fairloop.errors import DataLoss, InvalidInput
from fairloop.manifest import Clock, Manifest, Part, Terms, utc_now
from fairloop.safetensors_header import read_header
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore

KIND = "diffusion"
LORA_KIND = "diffusion_lora"


def publish_folder(
    store: ObjectStore,
    folder: DiffusersFolder,
    name: str,
    *,
    description: str,
    parents: Sequence[str] = (),
    terms: Sequence[Terms] = (),
    details: Mapping[str, Any] | None = None,
    libraries: Sequence[str] = (),
    clock: Clock = utc_now,
    beside: Iterable[tuple[str, bytes]] = (),
) -> Manifest:
    """Stores a folder as a version of `models/{name}`; the same files give the same version.

    `beside` are parts that tell of the training, each under a path with a folder;
    they are no part of the version.
    """
    facts = {
        "kind": KIND,
        "image_size": folder.image_size,
        "prediction_type": folder.prediction_type,
        "scheduler": folder.scheduler,
        "safety_checker": folder.has_safety_checker,
    }
    files = {flat_name(path): file for path, file in sorted(folder.files.items())}
    return _publish(
        store,
        name,
        files,
        {**(details or {}), **facts, "description": description},
        parents,
        terms,
        libraries,
        clock,
        beside=beside,
    )


def publish_lora(
    store: ObjectStore,
    file: Path,
    base: str,
    name: str,
    *,
    description: str,
    parents: Sequence[str] = (),
    terms: Sequence[Terms] = (),
    details: Mapping[str, Any] | None = None,
    libraries: Sequence[str] = (),
    clock: Clock = utc_now,
    beside: Iterable[tuple[str, bytes]] = (),
) -> Manifest:
    """Stores a LoRA of `base`, a model of kind `diffusion`; the base's terms come with it.

    `InvalidInput` when the base is of another kind, or the file does not fit it.
    """
    under = open_base(store, base)
    ranks = lora_ranks(file, shapes(store, under))
    facts = {
        "kind": LORA_KIND,
        "base": under.name,
        "image_size": under.details["image_size"],
        "rank": max(ranks.values()),
        "scheduler": under.details["scheduler"],
        "safety_checker": under.details["safety_checker"],
    }
    return _publish(
        store,
        name,
        {LORA_FILE: file},
        {**(details or {}), **facts, "description": description},
        [under.name, *(parent for parent in parents if parent != under.name)],
        manifest.inherited_terms([under], terms),
        libraries,
        clock,
        salt=under.name,
        beside=beside,
    )


def open_base(store: ObjectStore, name: str) -> Manifest:
    """The manifest of a whole diffusion model; `InvalidInput` on `base` for another kind."""
    under = registry.open_model(store, name, "generator", "base")
    if under.details["kind"] != KIND:
        raise InvalidInput(
            "base", f"{name} is a {under.details['kind']}; a LoRA changes a model of kind {KIND}"
        )
    return under


def download_folder(store: ObjectStore, model: Manifest, into: Path) -> DiffusersFolder:
    """The files of a model of kind `diffusion` as a folder, sha256 checked, looked through again.

    Whoever can write to the store could have put a manifest there: paths are those
    of the format, and nothing is read that `look_through` refuses.
    """
    for part in own_parts(model):
        _download(store, part, into / unflat_name(part.key.rsplit("/", 1)[1]))
    return look_through(into)


def download_lora(store: ObjectStore, model: Manifest, into: Path) -> Path:
    """The one file of a model of kind `diffusion_lora`, sha256 checked."""
    path = into / LORA_FILE
    _download(store, model.part(LORA_FILE), path)
    return path


def shapes(store: ObjectStore, model: Manifest) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of the weights of `unet` and `text_encoder` by name, read from the headers of their files."""

    found: dict[str, dict[str, tuple[int, ...]]] = {}
    with scratch_folder("header") as folder:
        for part in own_parts(model):
            path = unflat_name(part.key.rsplit("/", 1)[1])
            component = path.partition("/")[0]
            if component not in ("unet", "text_encoder") or not path.endswith(".safetensors"):
                continue
            place = folder / "weights.safetensors"
            _download(store, part, place)
            found.setdefault(component, {}).update(
                {name: tensor.shape for name, tensor in read_header(place, path).items()}
            )
    return found


def own_parts(model: Manifest) -> Iterator[Part]:
    """The parts that make the model, without those in folders beside them."""
    return (part for part in model.parts if "/" not in part.key.removeprefix(f"{model.name}/"))


def _download(store: ObjectStore, part: Part, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if store.size(part.key) != part.size:
        raise DataLoss(f"{part.key} has another size than its manifest says", object=part.key)
    store.get_file(part.key, place)
    if (found := _sha256(place)) != part.sha256:
        raise DataLoss(
            f"{part.key} has sha256 {found[:16]}…; its manifest says {part.sha256[:16]}…", object=part.key
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _publish(
    store: ObjectStore,
    name: str,
    files: Mapping[str, Path],
    details: Mapping[str, Any],
    parents: Sequence[str],
    terms: Sequence[Terms],
    libraries: Sequence[str],
    clock: Clock,
    salt: str = "",
    beside: Iterable[tuple[str, bytes]] = (),
) -> Manifest:
    names.check("model", name, "target_model")
    hashes = {file: _sha256(path) for file, path in files.items()}
    # One LoRA fits several bases, and makes another model of each.
    listed = "".join(hashes.values()) + salt
    resource = f"{name}/versions/{hashlib.sha256(listed.encode()).hexdigest()[:16]}"
    parts = []
    for file, path in files.items():
        store.put_file(f"{resource}/{file}", path)
        parts.append(Part(f"{resource}/{file}", hashes[file], path.stat().st_size))
    parts += [manifest.put_part(store, f"{resource}/{path}", data) for path, data in beside]
    return manifest.commit(
        store,
        Manifest(
            schema=registry.SCHEMA,
            name=resource,
            parts=tuple(parts),
            parents=tuple(parents),
            terms=tuple(terms),
            details={"service": "generator", **details},
            producer=manifest.producer(*libraries),
        ),
        clock,
    )
