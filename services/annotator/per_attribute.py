"""Annotators that have one network for each of their attributes."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any, Self


class PerAttribute:
    """What such annotators share: `_sessions` holds the network of each of `attributes`."""

    attributes: tuple[str, ...]
    _sessions: dict[str, Any]

    def part(self, attributes: Collection[str]) -> Self:
        """This annotator with the networks of these attributes alone, which it shares; nothing is loaded."""
        made = copy.copy(self)
        made.attributes = tuple(attribute for attribute in self.attributes if attribute in attributes)
        made._sessions = {attribute: self._sessions[attribute] for attribute in made.attributes}
        return made
