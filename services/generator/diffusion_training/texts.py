"""What a training gives its text encoder, looked through before a weight of it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fairloop import prompt_safety
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Manifest
from fairloop.store import ObjectStore
from fairloop.v1 import generator_pb2
from services.generator.diffusion.loading import load_tokenizer
from services.generator.diffusion_training.source import Source

AT_A_TIME = 1_000
"""Captions that are counted together."""


def drawn(request: generator_pb2.FineTuneGeneratorRequest) -> Iterator[tuple[str, str]]:
    """(field, prompt) of what a training draws images of: validation prompts and the class prompt."""
    recipe = str(request.WhichOneof("recipe"))
    if recipe == "dreambooth" and request.dreambooth.class_prompt:
        yield "dreambooth.class_prompt", request.dreambooth.class_prompt
    for number, prompt in enumerate(getattr(request, recipe).training.validation_prompts):
        yield f"{recipe}.training.validation_prompts[{number}]", prompt


def said(request: generator_pb2.FineTuneGeneratorRequest) -> Iterator[tuple[str, str]]:
    """(field, text) of everything that the request itself has the text encoder read."""
    yield from drawn(request)
    if request.WhichOneof("recipe") == "dreambooth" and request.dreambooth.instance_prompt:
        yield "dreambooth.instance_prompt", request.dreambooth.instance_prompt


def check_pairings(request: generator_pb2.FineTuneGeneratorRequest) -> None:
    """`InvalidInput` for a text of the request that pairs minors with sexual content."""
    for field, text in said(request):
        prompt_safety.check_prompt(text, field=field)


def check(store: ObjectStore, source: Source, request: generator_pb2.FineTuneGeneratorRequest) -> None:
    """Asks the base whether it may draw what is to be drawn, and whether it takes all texts whole.

    `InvalidInput` for a prompt of people under 20 when the base has no safety
    checker, and for a text of the request of more tokens than the text encoder
    takes; `PreconditionFailed` for such a caption. With `truncate` none is too long.
    """
    _check_minors(source.base, request)
    if source.training.truncate:
        return
    tokenizer = load_tokenizer(store, source.base.name)
    for field, text in said(request):
        if wrong := _too_long(tokenizer, [text]):
            raise InvalidInput(field, wrong[1])
    # One caption stands for all images that have it.
    names = {picture.caption: picture.name for picture in source.chosen.pictures.values()}
    captions = list(names)
    for start in range(0, len(captions), AT_A_TIME):
        if wrong := _too_long(tokenizer, captions[start : start + AT_A_TIME]):
            raise PreconditionFailed(f"the caption of {names[wrong[0]]} {wrong[1]}")


def _check_minors(base: Manifest, request: generator_pb2.FineTuneGeneratorRequest) -> None:
    if base.details["safety_checker"]:
        return
    for field, prompt in drawn(request):
        if prompt_safety.names_minor(prompt):
            raise InvalidInput(
                field,
                f"is of people under 20, who are drawn with a safety checker only, and {base.name} has none; "
                "publish it with one (fairloop models put-diffusion --safety-checker FOLDER)",
            )


def _too_long(tokenizer: Any, texts: Sequence[str]) -> tuple[str, str] | None:
    """The first text that the encoder would not take whole, and what is wrong with it."""
    most = tokenizer.model_max_length
    for text, ids in zip(texts, tokenizer(list(texts)).input_ids, strict=True):
        if len(ids) > most:
            return text, (
                f"has {len(ids)} tokens; the text encoder takes {most}, first and last included: "
                f"shorten it, or set truncate: {text[:200]!r}"
            )
    return None
