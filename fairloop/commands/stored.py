"""What the commands on stored resources share: the store, names without their version, lines of progress."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fairloop import names
from fairloop.commands.surroundings import STATE, advised, surroundings
from fairloop.errors import FairloopError, InvalidInput, NotFound

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from fairloop.operation import Operation
    from fairloop.store import ObjectStore

R = TypeVar("R", bound="Message")

LINE_SECONDS = 2.0
"""Between lines of progress."""


def state_dir(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option that says where a local stack wrote where its store is."""
    return click.option(
        "--state-dir",
        "state_folder",
        type=click.Path(path_type=Path, file_okay=False),
        default=STATE,
        show_default=True,
        help="Folder of a local stack; FAIRLOOP_S3_* variables come first.",
    )(command)


@contextlib.contextmanager
def opened(state_folder: Path) -> Iterator[ObjectStore]:
    """The store that FAIRLOOP_S3_* name, else that of the local stack."""
    from fairloop.store import ObjectStore

    with surroundings(state_folder):
        yield ObjectStore.from_environment()


def resolved(store: ObjectStore, name: str, allowed: tuple[str, ...] = ()) -> str:
    """The full name; a dataset's or model's name without version means its only one.

    `allowed` are collections of the catalogues (`weights/`, `published/`) that pass
    as they are. Raises `InvalidInput` for what is no name, or has several versions
    (it lists them), and `NotFound`.
    """
    if names.kind_of(name) is not None or name.startswith(allowed or "\0"):
        return name
    for kind in ("dataset", "model"):
        if name.startswith(f"{kind}s/"):
            names.check(kind, name, "NAME")
            keys = store.list(f"{name}/versions/", recursive=True)
            found = sorted(
                key.removesuffix("/manifest.json") for key in keys if key.endswith("/manifest.json")
            )
            if not found:
                raise NotFound(f"{name} has no version in s3://{store.bucket}", resource=name)
            if len(found) > 1:
                raise InvalidInput("NAME", f"{name} has several versions; name one of {', '.join(found)}")
            return found[0]
    raise InvalidInput(
        "NAME",
        f"{name!r} is not a name such as datasets/…/versions/…, models/…/versions/…, annotations/…, "
        "embeddings/…, predictions/…, activations/…, reports/… or calibrations/…",
    )


def teller(stream: Callable[[str], None] = lambda text: click.echo(text, err=True)) -> Callable[[Any], None]:
    """Tells progress in lines on standard error, at most one in two seconds."""
    told = time.monotonic()

    def tell(progress: Any) -> None:
        nonlocal told
        if time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            stream(str(progress))

    return tell


def ended(start: Callable[[], Operation[R]], service: str, doing: str) -> R:
    """The result of an operation of a service, waited for; its name, what it is `doing` and how far are told.

    Errors leave with what to do about them.
    """
    try:
        operation = start()
        click.echo(f"{operation.name}: {doing}", err=True)
        return operation.result(on_progress=teller())
    except FairloopError as error:
        raise advised(error, service) from error
