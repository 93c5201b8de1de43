"""Base models of diffusion in the catalogue (`[diffusion.*]` of `models.toml`), and how they are fetched.

Such a model is a repository of many files. Its sources are tried in order:

    hf://owner/repository@revision              the whole repository at that commit
    hf://owner/repository@revision/folder       one folder of it

They are fetched by huggingface_hub, which honours HF_TOKEN, HF_ENDPOINT, HF_HOME
and HF_HUB_OFFLINE. What cannot be had ends in one message that says which files
are wanted, with what sha256, where people get them and what to run then.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fairloop import models
from fairloop.errors import DataLoss, InvalidInput, NotFound, PreconditionFailed

_SOURCE = re.compile(
    r"hf://(?P<repo>[A-Za-z0-9._-]+/[A-Za-z0-9._-]+)@(?P<revision>[0-9a-f]{40})(?:/(?P<folder>[A-Za-z0-9_]+))?"
)
_FILE = re.compile(r"(?:[A-Za-z0-9_]+/)?[A-Za-z0-9_.-]+\.(?:json|txt|safetensors)")


@dataclass(frozen=True)
class Source:
    """A repository at a commit, or a folder of it."""

    repo: str
    revision: str
    folder: str


class Base(BaseModel):
    """One model, or with `component` one part of a model.

    `files` has the sha256 of each file, empty where its publisher states none that can be cited.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    files: Annotated[dict[str, str], Field(min_length=1)]
    megabytes: Annotated[int, Field(gt=0)]
    obtain: str
    terms: models.Terms
    origin: str
    component: str = ""

    @field_validator("sources")
    @classmethod
    def _readable(cls, sources: tuple[str, ...]) -> tuple[str, ...]:
        for source in sources:
            parse(source)
        return sources

    @field_validator("files")
    @classmethod
    def _plain(cls, files: dict[str, str]) -> dict[str, str]:
        for name, digest in files.items():
            if not _FILE.fullmatch(name) or (digest and not re.fullmatch("[0-9a-f]{64}", digest)):
                raise ValueError(f"{name!r} = {digest!r} is no file of a model with its sha256, or none")
        return files


def parse(text: str) -> Source:
    """Reads a source; ValueError for what is none: a branch's name is no commit, for one."""
    found = _SOURCE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is not hf://owner/repository@commit, or with /folder behind")
    return Source(found["repo"], found["revision"], found["folder"] or "")


def bases() -> dict[str, Base]:
    """All base models by name; `InvalidInput` names the entry and the field that cannot be read."""
    path = models.catalogue_path()
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    found = {}
    for name, fields in document.get("diffusion", {}).items():
        try:
            found[name] = Base.model_validate({"name": name, **fields})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"{path}: diffusion.{name}.{where}", first["msg"]) from error
    return found


def base(name: str) -> Base:
    """The entry called `name`; `NotFound` names the ones there are."""
    known = bases()
    if name not in known:
        raise NotFound(
            f"{name} is no base model of the catalogue; it has {', '.join(sorted(known))}", model=name
        )
    return known[name]


def fetch(wanted: Base, into: Path) -> Path:
    """Its files in a folder, from the first source that has them; their sha256 compared where it is known.

    Raises `NotFound` with the one message when no source has them, `DataLoss` for
    another file than the catalogue names, and `PreconditionFailed` without
    huggingface_hub.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    except ModuleNotFoundError as error:
        raise PreconditionFailed(
            "fetching from a hub needs huggingface_hub: pip install 'fairloop[diffusion]'"
        ) from error
    failures: list[str] = []
    for text in wanted.sources:
        source = parse(text)
        try:
            for name in wanted.files:
                hf_hub_download(
                    source.repo,
                    name,
                    subfolder=source.folder or None,
                    revision=source.revision,
                    local_dir=into,
                )
        except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError, ValueError) as error:
            failures.append(f"{text}: {_why(error)}")
            continue
        place = into / source.folder if source.folder else into
        verify(wanted, place)
        return place
    raise NotFound(absence(wanted, failures), model=wanted.name)


def verify(wanted: Base, folder: Path) -> None:
    """`DataLoss` when a file of the folder is another than the catalogue names; `NotFound` when one lacks."""
    for name, expected in wanted.files.items():
        path = folder / name
        if not path.is_file():
            raise NotFound(absence(wanted, [f"{folder} has no {name}"]), model=wanted.name)
        if expected:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected:
                raise DataLoss(
                    f"{wanted.name}: {path} has sha256 {found}, expected {expected}",
                    model=wanted.name,
                    expected=expected,
                    found=found,
                )


def absence(wanted: Base, failures: list[str]) -> str:
    """The one message: what failed, which files, where people get them, and what to run then."""
    files = ", ".join(f"{name} (sha256 {digest or 'not stated'})" for name, digest in wanted.files.items())
    where = f"MODEL_FOLDER --{wanted.component.replace('_', '-')} FOLDER" if wanted.component else "FOLDER"
    return (
        f"{wanted.name} could not be fetched ({'; '.join(failures)}). Wanted are {files}; {wanted.obtain}; "
        f"put them into a folder and run `fairloop models put-diffusion {where} --name NAME "
        f"--terms {wanted.name}`"
    )


def _why(error: Exception) -> str:
    """The first line of an error of the hub; a refusal says that a token may help."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    response = getattr(error, "response", None)
    if response is not None and response.status_code in (401, 403):
        return (
            f"refused ({response.status_code}): accept its terms on its page and set HF_TOKEN, if it is there"
        )
    return text[:300]
