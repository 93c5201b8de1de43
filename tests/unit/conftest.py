"""Fixtures that the unit tests share."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.packages import Catalogue, Server


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    made = Catalogue(tmp_path)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.links))
    monkeypatch.setenv("FAIRLOOP_MODELS", str(made.path))
    monkeypatch.setenv("FAIRLOOP_CACHE", str(made.cache))
    return made


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=functools.partial(made.serve_forever, poll_interval=0.02))
        thread.start()
        yield made
        made.go_on.set()
        made.shutdown()
        thread.join()
