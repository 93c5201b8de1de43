"""Labels as codes: what agreement, consensus and classification count with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairloop.errors import InvalidInput
from fairloop.stats.roster import Labels, intersection, known
from fairloop.stats.scoring import Ints

Values = Sequence[Any] | NDArray[Any]
"""Class labels: texts or numbers, unknown ones None, NaN or ""."""

WIDEST_RANGE = 1 << 20
"""Whole numbers that span less than this are counted instead of sorted."""


class Coded(NamedTuple):
    """`codes` index `names`; −1 where the label is unknown."""

    names: tuple[str, ...]
    codes: Ints


def class_name(label: object) -> str:
    """The name of a class: 1, 1.0, True and "1" are one class, as they are in scikit-learn."""
    if isinstance(label, (bool, np.bool_)):
        return str(int(label))
    if isinstance(label, (float, np.floating)) and float(label).is_integer():
        return str(int(label))
    return str(label)


def numeric(name: str) -> float | None:
    """The number that a name spells, None for other names."""
    try:
        value = float(name)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def in_order(names: Sequence[str]) -> list[str]:
    """Names by number when all are numbers, else by text."""
    numbers = {name: numeric(name) for name in names}
    if None in numbers.values():
        return sorted(names)
    return sorted(names, key=lambda name: (numbers[name] or 0.0, name))


def coded(
    labels: Values,
    field: str,
    names: Sequence[Any] | None = None,
    *,
    spelling: Callable[[object], str] = class_name,
    order: Callable[[Sequence[str]], list[str]] | None = None,
) -> Coded:
    """Codes of one label per item. `names` are the allowed labels in order; None takes those that occur,
    by number when all are numbers, else by text, or in the `order` given.

    Raises InvalidInput for a label that is not among `names`, with its position.
    """
    array = np.asarray(labels) if isinstance(labels, np.ndarray) else None
    if array is not None and array.ndim != 1:
        raise InvalidInput(field, f"shape {array.shape}; one label per item is needed")
    given = None if names is None else _distinct([spelling(name) for name in names], field)
    if array is not None and array.dtype.kind in "iub":
        present, inverse = _whole_numbers(array.astype(np.int64))
        spelled = [spelling(bool(v) if array.dtype.kind == "b" else v) for v in present.tolist()]
        return _numbered(spelled, inverse, field, given, order or in_order)
    items: list[Any] = list(labels) if array is None else array.tolist()
    number = {label: code for code, label in enumerate(dict.fromkeys(items))}
    spelled_or_none = [spelling(label) if known(label) else None for label in number]
    inverse = np.fromiter(map(number.__getitem__, items), dtype=np.int64, count=len(items))
    return _numbered(spelled_or_none, inverse, field, given, order or in_order)


def joint(
    first: Values, second: Values, fields: tuple[str, str], names: Sequence[Any] | None
) -> tuple[tuple[str, ...], Ints, Ints]:
    """Codes of two labels per item over the names that occur in either (or over `names`)."""
    if len(first) != len(second):
        raise InvalidInput(fields[1], f"{len(second)} labels, {fields[0]} has {len(first)}")
    one, other = coded(first, fields[0], names), coded(second, fields[1], names)
    if names is not None:
        return one.names, one.codes, other.codes
    every = in_order(list(dict.fromkeys(one.names + other.names)))
    number = {name: code for code, name in enumerate(every)}
    # The last entry is what the code −1 picks.
    tables = [np.array([*(number[name] for name in found.names), -1]) for found in (one, other)]
    return tuple(every), tables[0][one.codes], tables[1][other.codes]


def group_codes(groups: Labels | Mapping[str, Labels], items: int) -> Coded:
    """Codes of one group per item, or of the intersection of several attributes."""
    labels = intersection(groups) if isinstance(groups, Mapping) else groups
    if len(labels) != items:
        raise InvalidInput("groups", f"{len(labels)} values for {items} images")
    # By text, as `roster` orders them.
    found = coded(labels, "groups", spelling=str, order=sorted)
    if not found.names:
        raise InvalidInput("groups", "no image has a known group")
    return found


def _distinct(names: list[str], field: str) -> list[str]:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput("labels", f"{twice!r} is named twice in the labels of {field}")
    return names


def _whole_numbers(array: Ints) -> tuple[Ints, Ints]:
    """Distinct values ascending, and the index of each element among them."""
    if array.size == 0:
        return array, array
    low = int(array.min())
    span = int(array.max()) - low + 1
    if span > WIDEST_RANGE:
        present, inverse = np.unique(array, return_inverse=True)
        return present, inverse.astype(np.int64)
    shifted = array - low
    seen = np.bincount(shifted, minlength=span) > 0
    return np.flatnonzero(seen) + low, (np.cumsum(seen) - 1)[shifted]


def _numbered(
    spelled: Sequence[str | None],
    inverse: Ints,
    field: str,
    names: Sequence[str] | None,
    order: Callable[[Sequence[str]], list[str]],
) -> Coded:
    occurring = [name for name in dict.fromkeys(spelled) if name is not None]
    chosen = order(occurring) if names is None else list(names)
    number: dict[str | None, int] = {name: code for code, name in enumerate(chosen)}
    number[None] = -1
    for k, name in enumerate(spelled):
        if name not in number:
            at = int(np.argmax(inverse == k))
            raise InvalidInput(field, f"{name!r} at position {at} is none of {', '.join(chosen)}")
    table = np.array([number[name] for name in spelled], dtype=np.int64)
    return Coded(tuple(chosen), table[inverse] if table.size else inverse)
