"""What a person reads who names an annotator whose weights nobody has fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairloop.errors import NotFound
from services.annotator import registry

pytestmark = pytest.mark.annotator


@pytest.mark.parametrize("name", [name for name in registry.ANNOTATORS if name not in registry.DEFAULT])
def test_an_annotator_without_its_weights_says_which_command_puts_them_in_place(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path))
    with pytest.raises(NotFound, match=r"fairloop models put \S+ \S+"):
        registry.load([name])
