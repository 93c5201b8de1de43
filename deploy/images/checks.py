"""Runs what an image is for: imports, `--help`, its settings, a server, its health, a real call."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from deploy.images.building import ROOT, WITHOUT_TORCH, needed, tag
from fairloop.client import Client
from fairloop.doctor.picture import drawn_face
from fairloop.errors import PreconditionFailed
from fairloop.patience import outlasting
from fairloop.scratch import scratch_folder
from fairloop.store import ObjectStore, StoreSettings
from fairloop.v1 import annotator_pb2, generator_pb2, metrics_pb2, recognizer_pb2

SERVICES = ("generator", "annotator", "recognizer", "metrics")
START_SECONDS = 600.0
"""Limits for what hangs; torch alone takes minutes to load from a cold disk on a busy machine."""
ANSWER_SECONDS = 600.0
USER = "10001:10001"


def check(name: str, cache: Path, compute: str = "cpu") -> list[str]:
    """Runs the image's checks; what was seen, a line each.

    Raises `PreconditionFailed` at the first that fails.
    `cache` holds the weights (`fairloop models pull`) and is mounted read-only.
    """
    with _container(tag(name, compute)) as container:
        extras = _extras(container)
        seen = [*_software(container, name, extras), *_surroundings(container, name)]
        return seen + (_server(container, name, cache, extras) if name in SERVICES else [])


def _extras(container: str) -> set[str]:
    """The extras that the image says it was built with; none where it does not say."""
    label = '{{index .OCIv1.Config.Labels "fairloop.extras"}}'
    buildah = needed("buildah", "buildah")
    asked = subprocess.run(
        [buildah, "inspect", "--format", label, container], capture_output=True, text=True, check=True
    )
    return set(asked.stdout.strip().split(",")) - {""}


def _software(container: str, name: str, extras: set[str]) -> list[str]:
    """Imports, and what must not be there."""
    if name == "flows":
        _run(container, ["python3", "-c", "import flows.fairness_loop, prefect_kubernetes"])
        seen = ["imports its flow", f"prefect {_run(container, ['prefect', '--version'])}"]
    else:
        _run(container, ["python3", "-c", f"import services.{name}.servicer"])
        shown = _run(container, ["python3", "-m", f"services.{name}", "--help"])
        if "--check" not in shown:
            raise PreconditionFailed(f"{name}: --help says {shown!r}")
        seen = ["imports its servicer", "--help"]
    without = name in WITHOUT_TORCH or (name == "annotator" and extras <= {"annotator"})
    for module in ("pip", *(["torch"] if without else [])):
        there = _run(
            container, ["python3", "-c", f"import importlib.util as u; print(u.find_spec({module!r}))"]
        )
        if there != "None":
            raise PreconditionFailed(f"{name}: {module} has no place in this image")
        seen.append(f"no {module}")
    return seen


def _surroundings(container: str, name: str) -> list[str]:
    """Who it runs as, and what a wrong setting is answered with."""
    if _run(container, ["id", "-u"]) != "10001":
        raise PreconditionFailed(f"{name}: it does not run as 10001")
    if (
        _run(container, ["sh", "-c", "touch /app/written 2>/dev/null && echo written || echo refused"])
        != "refused"
    ):
        raise PreconditionFailed(f"{name}: it may write to /app")
    if name not in SERVICES:
        return ["runs as 10001"]
    check = ["python3", "-m", f"services.{name}", "--check"]
    _run(container, check)
    wrong = _attempt(container, check, {"FAIRLOOP_HOST": "0.0.0.0"})  # noqa: S104 - which is to be refused
    if wrong.returncode == 0 or "FAIRLOOP_TOKEN_FILE" not in wrong.stderr:
        raise PreconditionFailed(f"{name}: open to other machines without a token, it says {wrong.stderr!r}")
    return ["runs as 10001", "refuses to listen to other machines without a token"]


def _server(container: str, name: str, cache: Path, extras: set[str]) -> list[str]:
    """A server that answers its health command and one real call; one of a classifier where it may."""
    port, token = _free_port(), secrets.token_hex(16)
    with scratch_folder("image") as folder, _store(folder) as store:
        tokens = folder / "tokens"
        tokens.write_text(token)
        folder.chmod(0o755)
        tokens.chmod(0o644)
        settings = {
            "FAIRLOOP_HOST": "127.0.0.1",
            "FAIRLOOP_PORT": str(port),
            "FAIRLOOP_TOKEN_FILE": "/run/secrets/fairloop/tokens",
            **store,
        }
        volumes = (
            f"{folder}:/run/secrets/fairloop:ro",
            f"{cache}:/var/cache/fairloop:ro",
            f"{Path(__file__).parent}:/run/checks:ro",
        )
        begun = time.monotonic()
        command = _command(container, ["python3", "-m", f"services.{name}"], settings, volumes)
        server = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
        try:
            health = ["python3", "-m", "fairloop.serving.health", "--seconds", "2"]
            while (asked := _attempt(container, health, settings, volumes)).returncode:
                if server.poll() is not None or time.monotonic() - begun > START_SECONDS:
                    os.killpg(server.pid, signal.SIGKILL)
                    log = server.stderr.read() if server.stderr else ""
                    raise PreconditionFailed(
                        f"{name}: {asked.stderr.strip()}; its log ends with {log[-800:]}"
                    )
            seconds = time.monotonic() - begun
            with Client(dict.fromkeys(SERVICES, f"127.0.0.1:{port}"), token) as client:
                said = [CALLS[name](client)]
                if "classifier" in extras:
                    publish = ["python3", "/run/checks/tiny_classifier.py"]
                    said.append(_classified(client, _run(container, publish, settings, volumes)))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)
    return [f"healthy after {seconds:.1f} s", *said]


def _generated(client: Client) -> str:
    model = client.generator.model("models/dcgan-faces")
    request = generator_pb2.PreviewRequest(model=model, count=2, seed=1)
    images = list(client.generator.preview(request))
    if len(images) != 2:
        raise PreconditionFailed(f"Preview of two images answered {len(images)}")
    return f"Preview answered two images of {model}"


def _annotated(client: Client) -> str:
    item = annotator_pb2.ImageItem(item_id="drawn", image=drawn_face())
    reply = client.annotator.annotate_images(annotator_pb2.AnnotateImagesRequest(images=[item]))
    found = reply.images[0].face.faces_found
    if found != 1:
        raise PreconditionFailed(f"AnnotateImages found {found} faces in the drawn one")
    return "AnnotateImages found the drawn face"


def _classified(client: Client, model: str) -> str:
    """What `tiny_classifier` says of every face, as its weights have it."""
    item = annotator_pb2.ImageItem(item_id="drawn", image=drawn_face())
    request = annotator_pb2.AnnotateImagesRequest(images=[item], annotators=[model])
    found = client.annotator.annotate_images(request).images[0].face.perceived
    if [guess.label for guess in found] != ["male"] or abs(max(found[0].probabilities) - 0.75) > 1e-6:
        raise PreconditionFailed(f"{model} says {found} where its weights say male, 0.75")
    return f"{model} said what its weights say"


def _embedded(client: Client) -> str:
    model = client.recognizer.model("models/dlib-recognizer-128")
    item = annotator_pb2.ImageItem(item_id="drawn", image=drawn_face())
    request = recognizer_pb2.EmbedImagesRequest(model=model, images=[item])
    length = len(client.recognizer.embed_images(request).images[0].face.vector)
    if length != 128:
        raise PreconditionFailed(f"EmbedImages answered {length} numbers")
    return "EmbedImages answered 128 numbers"


def _summed_up(client: Client) -> str:
    rates = [metrics_pb2.GroupRates(group=g, fmr=r, fnmr=0.02) for g, r in (("a", 0.001), ("b", 0.004))]
    reply = client.metrics.compute_summary(metrics_pb2.ComputeSummaryRequest(groups=rates))
    if not reply.summaries:
        raise PreconditionFailed("ComputeSummary answered nothing")
    return f"ComputeSummary answered {len(reply.summaries)} summaries"


CALLS: Mapping[str, Callable[[Client], str]] = {
    "generator": _generated,
    "annotator": _annotated,
    "recognizer": _embedded,
    "metrics": _summed_up,
}


@contextlib.contextmanager
def _container(image: str) -> Iterator[str]:
    buildah = needed("buildah", "buildah")
    made = subprocess.run([buildah, "from", "--pull-never", image], capture_output=True, text=True)
    if made.returncode:
        raise PreconditionFailed(f"{image} is not built: {made.stderr.strip()}")
    container = made.stdout.strip()
    try:
        yield container
    finally:
        subprocess.run([buildah, "rm", container], capture_output=True, check=True)


@contextlib.contextmanager
def _store(folder: Path) -> Iterator[dict[str, str]]:
    """A store of this machine with an empty bucket; the variables that lead to it."""
    port, secret = _free_port(), secrets.token_hex(16)
    command = [sys.executable, "-m", "deploy.local.store_server", "serve", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--data-dir", str(folder / "store"), "--no-access-log"]
    keys = {"NANIO_ACCESS_KEY": "fairloop", "NANIO_SECRET_KEY": secret}
    with (folder / "store.log").open("wb") as log:
        store = subprocess.Popen(command, env={**os.environ, **keys}, cwd=ROOT, stdout=log, stderr=log)
    try:
        settings = StoreSettings(f"http://127.0.0.1:{port}", "fairloop", secret)
        with outlasting():
            ObjectStore(settings).ensure_bucket()
        yield {"FAIRLOOP_S3_ENDPOINT": settings.endpoint, "FAIRLOOP_S3_SECRET_KEY": secret}
    finally:
        store.terminate()
        store.wait(20)


def _command(
    container: str, words: Sequence[str], settings: Mapping[str, str], volumes: Sequence[str]
) -> list[str]:
    options = ["--isolation", "chroot", "--user", USER]
    for volume in volumes:
        options += ["--volume", volume]
    for key, value in settings.items():
        options += ["--env", f"{key}={value}"]
    return [needed("buildah", "buildah"), "run", *options, container, "--", *words]


def _attempt(
    container: str,
    words: Sequence[str],
    settings: Mapping[str, str] | None = None,
    volumes: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    command = _command(container, words, settings or {}, volumes)
    asked = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, complained = asked.communicate(timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        # The command runs on below buildah, which would leave it behind.
        os.killpg(asked.pid, signal.SIGKILL)
        asked.wait()
        raise PreconditionFailed(f"{' '.join(words)} does not end within {ANSWER_SECONDS:g} s") from None
    return subprocess.CompletedProcess(command, asked.returncode, said, complained)


def _run(
    container: str,
    words: Sequence[str],
    settings: Mapping[str, str] | None = None,
    volumes: Sequence[str] = (),
) -> str:
    done = _attempt(container, words, settings, volumes)
    if done.returncode:
        raise PreconditionFailed(
            f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-800:]}"
        )
    return done.stdout.strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
