"""JSON documents of the store as dataclasses: what is not of their form is an error that names the object."""

from __future__ import annotations

import functools
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fairloop.errors import DataLoss

T = TypeVar("T")


def read_document(kind: type[T], raw: Any, where: str) -> T:
    """The dataclass that a parsed JSON document describes; fields that it does not know are left out.

    Raises `DataLoss` that names the object and the field when one is missing or of another type.
    """
    try:
        found: T = _adapter(kind).validate_python(raw)  # type: ignore[arg-type]  # a type is hashable
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "document"
        raise DataLoss(f"{where}: {field} is wrong ({first['msg']})", object=where) from None
    return found


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


__all__ = ["read_document"]
