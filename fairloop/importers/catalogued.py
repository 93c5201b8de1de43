"""Which published set an import is of: its terms, and its name in the manifest for lineage and policies."""

from __future__ import annotations

from typing import Any

from fairloop.errors import InvalidInput
from fairloop.manifest import Terms
from fairloop.provenance import published


def terms_of(*names: str) -> tuple[Terms, ...]:
    """The terms of sets of the catalogue."""
    return tuple(published.entry(name).terms for name in names)


def details_of(*names: str, **more: Any) -> dict[str, Any]:
    """What a manifest says of an import of these sets."""
    return {"published": list(names), **more} if names else dict(more)


def told(name: str) -> tuple[str, ...]:
    """The option `published` of a container that may hold any set: a name of the catalogue, or nothing."""
    if not name:
        return ()
    if name not in published.catalogue():
        known = ", ".join(published.catalogue())
        raise InvalidInput("published", f"{name!r} is not in the catalogue; it has {known}")
    return (name,)


PUBLISHED_HELP = "Which published set it is, by its name in the catalogue, such as lfw; its terms are kept."
