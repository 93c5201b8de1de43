"""A recogniser's file (`services.network_file`): its metadata's one entry is its shape as JSON.

The file may come from anybody: the shape is checked before anything is allocated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch import nn

from fairloop.errors import InvalidInput
from services import network_file

LARGEST = 200_000_000
"""Parameters that a shape may ask for: three times a ResNet-100."""

S = TypeVar("S")
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Format(Generic[S, N]):
    """What the files of one kind of network are: `name` is the metadata's entry and the schema's."""

    name: str
    shape: type[S]
    network: Callable[[S], N]

    @property
    def schema(self) -> str:
        """The schema that this version writes and reads."""
        return f"{self.name}/1"

    def save(self, net: nn.Module, shape: S, path: Path) -> None:
        """Writes weights and shape; the same network gives the same bytes."""
        network_file.write(net, path, self.name, {"schema": self.schema, **asdict(shape)})  # type: ignore[call-overload]

    def load(self, path: Path) -> N:
        """The network in a file that `save` wrote, in evaluation mode; raises as `network_file.read`."""
        field = f"model {path.name}"
        net, _ = network_file.read(path, self.name, lambda text: self._shape(field, text), self.network)
        return net

    def shape_of(self, values: dict[str, Any]) -> S:
        """The shape that `dataclasses.asdict`, through JSON, described; InvalidInput names a wrong field."""
        names = {field.name for field in fields(self.shape)}  # type: ignore[arg-type]
        if set(values) != names:
            raise InvalidInput("shape", f"has the fields {sorted(values)}; expected {sorted(names)}")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return self.shape(**plain)

    def _shape(self, field: str, text: str | None) -> S:
        if text is None:
            raise InvalidInput(
                field, f"has no metadata entry {self.name}: it was not written by this program"
            )
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(field, f"its metadata entry {self.name} is not JSON") from error
        if not isinstance(values, dict):
            raise InvalidInput(field, f"its metadata entry {self.name} is not an object")
        self._check_schema(field, values.pop("schema", None))
        try:
            return self.shape_of(values)
        except InvalidInput as error:
            raise InvalidInput(field, str(error)) from error

    def _check_schema(self, field: str, found: object) -> None:
        pattern = rf"{re.escape(self.name)}/([0-9]{{1,6}})"
        match = re.fullmatch(pattern, found) if isinstance(found, str) else None
        if match is None or int(match[1]) != 1:
            raise InvalidInput(field, f"its schema is {found!r}; this version reads {self.schema}")


class Staged(Protocol):
    """The shape of a network of four stages."""

    @property
    def size(self) -> int: ...
    @property
    def embedding(self) -> int: ...
    @property
    def widths(self) -> tuple[int, int, int, int]: ...
    @property
    def depths(self) -> tuple[int, int, int, int]: ...


def check_staged(shape: Staged, first_depth: int, most_blocks: int, parameters: Callable[[], int]) -> None:
    """InvalidInput that names the field of a shape that is not allowed.

    The first stage has `first_depth` blocks or more, the others 1 or more; none
    has more than `most_blocks`. `parameters` is asked when everything else is right.
    """
    whole("size", shape.size, 16, 512)
    if shape.size % 16:
        raise InvalidInput("size", f"{shape.size} is not a multiple of 16")
    whole("embedding", shape.embedding, 2, 4096)
    for name, first, most in (("widths", 1, 2048), ("depths", first_depth, most_blocks)):
        values = getattr(shape, name)
        if not isinstance(values, tuple) or len(values) != 4:
            raise InvalidInput(name, f"{values!r} are not four whole numbers")
        for index, value in enumerate(values):
            whole(f"{name}[{index}]", value, 1 if index else first, most)
    count = parameters()
    if count > LARGEST:
        raise InvalidInput("widths", f"this shape has {count:,} parameters; at most {LARGEST:,} are allowed")


def whole(field: str, value: object, least: int, most: int) -> None:
    """InvalidInput unless the value is a whole number in this range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(field, f"{value!r} is not a whole number in {least}–{most}")
