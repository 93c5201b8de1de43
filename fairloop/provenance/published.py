"""The catalogue of published data sets (`published.toml`): their terms and their origins.

A resource says which set it is by `details["published"]` (names of the
catalogue), a model which sets it was trained on by `details["trained_on"]`.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fairloop.errors import InvalidInput, NotFound
from fairloop.manifest import Terms

__all__ = ["PublishedSet", "catalogue", "double_labelled", "entry", "origins", "read", "shared_origin"]

SCHEMA = "fairloop.published/1"
PATH = Path(__file__).with_name("published.toml")

Permission = Literal["yes", "no", "unknown"]
Consent = Literal["yes", "no", "unknown", "not_needed"]


class PublishedSet(BaseModel):
    """One set. `derived_from` names the sets whose pictures or people it shares.

    `double_labelled` are the subjects that its publisher lists under two values
    of one attribute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    title: Annotated[str, Field(min_length=1)]
    licence: Annotated[str, Field(min_length=1)]
    commercial: Permission
    derivatives: Permission
    redistribution: Permission
    consent: Consent
    purpose: str
    url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")]
    withdrawn: bool
    note: Annotated[str, Field(min_length=1)]
    derived_from: tuple[str, ...] = ()
    double_labelled: tuple[str, ...] = ()

    @property
    def terms(self) -> Terms:
        """What may be done with it, as a manifest carries it."""
        return Terms(
            self.licence, self.commercial, self.derivatives, self.redistribution, self.consent, self.purpose
        )


def catalogue() -> Mapping[str, PublishedSet]:
    """All sets by name, in the order of the file."""
    return _installed()


def entry(name: str) -> PublishedSet:
    """The set called `name`; `NotFound` names the ones there are."""
    known = catalogue()
    if name not in known:
        raise NotFound(f"{name!r} is no published set of the catalogue; it has {', '.join(known)}")
    return known[name]


def origins(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Every set that these come from, themselves included, with the way to it: of `rfw` also
    `{"ms-celeb-1m": ("rfw", "ms-celeb-1m")}`.

    Raises `NotFound` for a name that is not in the catalogue.
    """
    found: dict[str, tuple[str, ...]] = {}
    waiting: list[tuple[str, tuple[str, ...]]] = [(name, (name,)) for name in names]
    while waiting:
        name, way = waiting.pop(0)
        if name not in found:
            found[name] = way
            waiting += [(source, (*way, source)) for source in entry(name).derived_from]
    return found


def shared_origin(one: str, other: str) -> str | None:
    """The nearest set that two *different* sets both come from; None when they share none, or are the same.

    Two parts of one set are its user's own split; two sets with one origin
    overlap without anybody having split them.
    """
    if one == other:
        return None
    ours = origins([one])
    return next((name for name in origins([other]) if name in ours), None)


def double_labelled(
    name: str, subjects: Sequence[str | None], values: Sequence[str | None]
) -> tuple[str, ...]:
    """Subjects of a copy of the set that stand under two values of an attribute, sorted.

    Those that the catalogue lists, found by the end of their id
    (`{namespace}:{id}`), and those whose own images carry two values.
    """
    listed = set(entry(name).double_labelled)
    seen: dict[str, set[str]] = {}
    for subject, value in zip(subjects, values, strict=True):
        if subject is not None:
            seen.setdefault(subject, set()).update([value] if value else [])
    return tuple(sorted(s for s, found in seen.items() if len(found) > 1 or s.rpartition(":")[2] in listed))


def read(path: Path) -> dict[str, PublishedSet]:
    """The sets of a file; `InvalidInput` names the set and the field that is wrong."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(str(path), f"is not TOML: {error}") from error
    if document.get("schema") != SCHEMA:
        raise InvalidInput(f"{path}: schema", f"is {document.get('schema')!r}; this version reads {SCHEMA}")
    found: dict[str, PublishedSet] = {}
    for name, fields in document.get("sets", {}).items():
        try:
            found[name] = PublishedSet.model_validate({"name": name, **fields})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InvalidInput(f"{path}: sets.{name}.{where}", first["msg"]) from error
    for name, one in found.items():
        unknown = [source for source in one.derived_from if source not in found]
        if unknown:
            raise InvalidInput(f"{path}: sets.{name}.derived_from", f"{unknown[0]!r} is no set of this file")
    return found


@functools.cache
def _installed() -> dict[str, PublishedSet]:
    return read(PATH)
