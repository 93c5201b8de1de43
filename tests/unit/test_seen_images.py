"""The list of images seen: what a dict would say, on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fairloop.errors import Exhausted
from fairloop.seen_images import SeenImages


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def test_it_counts_and_keeps_the_first_subject_as_a_dict_would() -> None:
    seen, times = SeenImages(), Counter[bytes]()
    first: dict[bytes, str | None] = {}
    for number in np.random.default_rng(0).integers(0, 400, 2_000).tolist():
        key, subject = digest(number), None if number % 3 == 0 else f"set:{number % 7}"
        times[key] += 1
        first.setdefault(key, subject)
        assert seen.add(key, subject if times[key] == 1 else "another") == times[key]
    assert dict(seen) == first
    assert len(seen) == len(first)
    assert digest(-1) not in seen
    with pytest.raises(KeyError):
        seen[digest(-1)]


def test_its_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = SeenImages()
    seen.add(digest(0))
    assert list(tmp_path.iterdir()) == []
    held = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that this listing itself was read through
            held.append(os.readlink(f"/proc/self/fd/{name}"))
    assert any(place.startswith(str(tmp_path)) for place in held)


def test_a_place_without_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = SeenImages()

    def fill() -> None:
        for number in range(400_000):
            seen.add(digest(number))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, before[1]))
    try:
        with pytest.raises(Exhausted, match=r"no room for the list of images .*TMPDIR"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
