"""A model hub on this machine: the few endpoints by which huggingface_hub fetches a file."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Hub:
    """`repositories` maps `owner/name` to a folder; `gated` ones want the token; `asked` has every GET."""

    repositories: dict[str, Path]
    gated: set[str] = field(default_factory=set)
    token: str = "let-me-in"
    address: str = ""
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serves the hub on a free port for as long as the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Says nothing: tests look at `asked`."""

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            hub.asked.append(self.path)
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            owner, name, verb, revision, *rest = self.path.partition("?")[0].strip("/").split("/")
            repo = f"{owner}/{name}"
            file = hub.repositories.get(repo, Path("/nowhere")) / "/".join(rest)
            if verb != "resolve" or repo not in hub.repositories:
                return self._refuse(404, "RepoNotFound")
            if repo in hub.gated and self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self._refuse(401, "GatedRepo")
            if not file.is_file():
                return self._refuse(404, "EntryNotFound")
            data = file.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", revision)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)
            return None

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
