"""Archives, a catalogue and an index made for one test, for tests of `fairloop.models`."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from pathlib import Path

WEIGHTS = bytes(range(256)) * 64
OTHER = b"other weights" * 100


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def wheel(folder: Path, filename: str, files: dict[str, bytes]) -> Path:
    path = folder / filename
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def sdist(folder: Path, top: str, files: dict[str, bytes]) -> Path:
    path = folder / f"{top}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


class Catalogue:
    """A models.toml of the test's own, with its own cache and nothing else to ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.links = folder / "links"
        self.links.mkdir()
        self.cache = folder / "cache"
        self.path = folder / "models.toml"
        self.path.write_text('schema = "fairloop.models/1"\n')

    def add(self, name: str, *sources: str, content: bytes = WEIGHTS, **changed: object) -> None:
        fields: dict[str, object] = {
            "description": "made for a test",
            "file": "weights.bin",
            "sources": list(sources),
            "sha256": sha256(content),
            "size": len(content),
            "loader": "dlib",
            "origin": "here",
            **changed,
        }
        lines = [f'[models."{name}"]', *(f"{key} = {json.dumps(value)}" for key, value in fields.items())]
        terms = (
            'terms = { licence = "CC0-1.0", commercial = "yes", derivatives = "yes", redistribution = "yes" }'
        )
        with self.path.open("a") as out:
            out.write("\n".join([*lines, terms, ""]))

    def left_over(self) -> list[Path]:
        """Files of the cache that are neither a model nor a lock."""
        known = {"models", "downloads"}
        return [
            path
            for path in self.cache.rglob("*")
            if not (
                path.name in known or path.suffix == ".lock" or path.is_relative_to(self.cache / "models")
            )
        ]


class Server(http.server.ThreadingHTTPServer):
    """Serves prepared answers; notes what was asked for, and with which authorization."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[str, bytes]] = {}
        self.asked: list[str] = []
        self.authorizations: list[str | None] = []
        self.stall: str | None = None
        self.stalled = threading.Event()
        self.go_on = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def serve_release(self, package: str, path: Path) -> None:
        """Answers as a JSON package index (PEP 691) with one file."""
        page = {"files": [{"filename": path.name, "url": f"../../files/{path.name}"}]}
        self.answers[f"/simple/{package}/"] = "application/vnd.pypi.simple.v1+json", json.dumps(page).encode()
        self.answers[f"/files/{path.name}"] = "application/octet-stream", path.read_bytes()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.replace("%2f", "/")
        self.server.asked.append(self.path)
        self.server.authorizations.append(self.headers.get("Authorization"))
        if path not in self.server.answers:
            self.send_error(404)
            return
        kind, body = self.server.answers[path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if path == self.server.stall:
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            self.server.stalled.set()
            self.server.go_on.wait()
            body = body[half:]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""
