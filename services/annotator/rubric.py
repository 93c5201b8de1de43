"""Rubrics: which phrases stand for which value of an attribute, read from TOML files.

    schema = "fairloop.rubric/1"
    name = "general"
    view = "face"                      # or "image": the whole picture
    [[attributes]]
    attribute = "gender"
    labels = [{ value = "female", prompts = ["a photo of a woman"] }, …]

Every canonical value of an attribute stands in it once, in any order: the order
is kept, for the files of the system that a rubric came from.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fairloop.errors import InvalidInput, NotFound
from fairloop.taxonomy import ATTRIBUTES

SHIPPED = Path(__file__).resolve().parent / "rubrics"
SCHEMA = "fairloop.rubric/1"
LARGEST_FILE = 1 << 20

Prompt = Annotated[str, Field(min_length=1, max_length=300)]


class Label(BaseModel):
    """One value and the phrases whose features are averaged for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: str
    prompts: Annotated[tuple[Prompt, ...], Field(min_length=1, max_length=100)]


class Question(BaseModel):
    """The labels of one attribute."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attribute: str
    labels: tuple[Label, ...]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        allowed = ATTRIBUTES.get(self.attribute)
        if allowed is None:
            raise ValueError(f"attribute {self.attribute!r} is not known; there are {', '.join(ATTRIBUTES)}")
        found = [label.value for label in self.labels]
        if sorted(found) != sorted(allowed):
            raise ValueError(
                f"{self.attribute} has the values {', '.join(found) or 'none'}; "
                f"each of {', '.join(allowed)} stands in it once"
            )
        return self


class Rubric(BaseModel):
    """A rubric. `view`: whether the network looks at the face or at the whole picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    view: Literal["face", "image"]
    attributes: Annotated[tuple[Question, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _once(self) -> Self:
        named = [question.attribute for question in self.attributes]
        if len(set(named)) < len(named):
            raise ValueError(f"an attribute stands twice in {', '.join(named)}")
        return self


def read_rubric(path: Path) -> Rubric:
    """The rubric of a file.

    Raises `NotFound` when there is none and `InvalidInput` naming the file and
    the field that is wrong.
    """
    if not path.is_file():
        raise NotFound(f"there is no rubric {path}")
    if path.stat().st_size > LARGEST_FILE:
        raise InvalidInput(str(path), f"has more than {LARGEST_FILE >> 10} KiB; a rubric is a page of text")
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(str(path), f"is not TOML: {error}") from error
    if document.pop("schema", None) != SCHEMA:
        raise InvalidInput(f"{path}: schema", f"this version reads {SCHEMA}")
    try:
        return Rubric.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{path}: {where}", first["msg"]) from error


def shipped(name: str) -> Rubric:
    """A rubric of this package: `general` or `s1`."""
    return read_rubric(SHIPPED / f"{name}.toml")
