"""The recogniser without its server: training, resuming, embedding, and dlib's network."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dlib
import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fairloop.errors import InvalidInput, NotFound
from fairloop.models import fetch
from fairloop.registry import publish
from fairloop.store import ObjectStore
from services.recognizer import align, fit, residual
from services.recognizer.dlib_embedder import (
    DISTANCE_THRESHOLD,
    DlibEmbedder,
    DlibPool,
    Embeddings,
    cosine_at,
    distance,
)
from services.recognizer.fit import Config
from services.recognizer.recognisers import LOADED, DlibRecogniser, load_recogniser, publish_base
from tests.support.rendered_subjects import rendered_subjects, tmr

TINY = Config(
    epochs=3,
    batch_size=8,
    size=16,
    widths=(4, 4, 6, 8),
    embedding=8,
    learning_rate=0.05,
    checkpoint_every=4,
    threads=1,
)


def patterns(classes: int = 6, images: int = 8) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noisy copies of one random 16×16 pattern a class."""
    rng = np.random.default_rng(5)
    own = rng.integers(60, 196, (classes, 1, 16, 16, 3))
    noisy = own + rng.integers(-60, 60, (classes, images, 16, 16, 3))
    return noisy.reshape(-1, 16, 16, 3).astype(np.uint8), np.repeat(np.arange(classes), images)


IMAGES, LABELS = patterns()
TOTAL = 18  # 3 epochs of 48 / 8 steps


def same_bits(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, optimiser="adamw", learning_rate=1e-3),
        replace(TINY, schedule="polynomial", momentum=0.0, threads=2),
    ],
    ids=["sgd", "adamw", "plain_sgd_on_two_threads"],
)
@pytest.mark.parametrize("stop_at", [9, 12, 17])
def test_a_stopped_and_resumed_training_ends_in_the_same_bits(config: Config, stop_at: int) -> None:
    whole = fit.fit(IMAGES, LABELS, config)

    asked = iter(range(1000))
    saved: dict[int, bytes] = {}
    half = fit.fit(
        IMAGES,
        LABELS,
        config,
        on_checkpoint=saved.__setitem__,
        should_stop=lambda: next(asked) == stop_at,
    )
    assert (half.step, half.total, half.stopped) == (stop_at, TOTAL, True)
    assert sorted(saved) == sorted({*range(4, stop_at + 1, 4), stop_at})
    assert not same_bits(half.net, whole.net)

    went_on = fit.fit(IMAGES, LABELS, config, checkpoint=saved[stop_at])
    assert (went_on.step, went_on.stopped) == (TOTAL, False)
    assert same_bits(went_on.net, whole.net)
    assert np.array_equal(went_on.losses, whole.losses)


def test_a_training_is_the_same_whatever_drew_random_numbers_before_it() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    one = fit.fit(IMAGES, LABELS, TINY)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = fit.fit(IMAGES, LABELS, TINY)
    assert same_bits(one.net, two.net)
    assert torch.equal(before, torch.get_rng_state())
    assert not same_bits(one.net, fit.fit(IMAGES, LABELS, replace(TINY, seed=1)).net)


def test_a_loader_gives_the_same_training_and_holds_one_batch() -> None:
    asked: list[int] = []

    def loader(chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        asked.append(len(chosen))
        return IMAGES[chosen]

    assert same_bits(fit.fit(loader, LABELS, TINY).net, fit.fit(IMAGES, LABELS, TINY).net)
    assert asked == [8] * TOTAL


def test_a_loader_that_gives_too_few_images_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the loader gave 7 images where 8 were asked for"):
        fit.fit(lambda chosen: IMAGES[chosen[1:]], LABELS, TINY)


def test_only_the_distinctness_of_labels_counts() -> None:
    assert same_bits(fit.fit(IMAGES, LABELS * 1000 - 7, TINY).net, fit.fit(IMAGES, LABELS, TINY).net)


def test_progress_and_stop_are_asked_at_every_step() -> None:
    seen: list[tuple[int, int, float]] = []
    asked = 0

    def never() -> bool:
        nonlocal asked
        asked += 1
        return False

    result = fit.fit(IMAGES, LABELS, TINY, on_progress=lambda *step: seen.append(step), should_stop=never)
    assert [(step, total) for step, total, _ in seen] == [(step, TOTAL) for step in range(1, TOTAL + 1)]
    assert asked == TOTAL
    assert np.array_equal(np.array([loss for *_, loss in seen], np.float32), result.losses)


def test_the_thread_count_is_put_back() -> None:
    before = torch.get_num_threads()
    seen: set[int] = set()
    config = replace(TINY, threads=2)
    fit.fit(IMAGES, LABELS, config, on_progress=lambda *_: seen.add(torch.get_num_threads()))
    assert seen == {2}
    assert torch.get_num_threads() == before


def test_a_training_that_diverges_names_the_step() -> None:
    # A decay of 1 at a rate of 10 multiplies the weights by −9 every step: float32 ends after about 40.
    config = replace(TINY, epochs=20, learning_rate=10.0, weight_decay=1.0, schedule="constant", warmup=0.0)
    done: list[int] = []
    with pytest.raises(InvalidInput, match="training diverged at step") as caught:
        fit.fit(IMAGES, LABELS, config, on_progress=lambda step, *_: done.append(step))
    assert caught.value.violations[0].field == "learning_rate"
    assert caught.value.metadata["step"] == str(done[-1] + 1)
    assert f"step {done[-1] + 1} of 120" in str(caught.value)


def test_frozen_parts_keep_their_weights_and_running_statistics() -> None:
    base = fit.fit(IMAGES, LABELS, TINY).net
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    tuned = fit.fit(IMAGES, LABELS, replace(TINY, frozen=("stem", "stage2"), seed=4), base=base).net
    for name, tensor in tuned.state_dict().items():
        frozen = name.split(".")[0] in ("stem", "stage2")
        assert torch.equal(tensor, before[name]) == frozen, name
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())


def test_a_base_of_another_shape_is_refused() -> None:
    with pytest.raises(InvalidInput, match="base: has the shape"):
        fit.fit(IMAGES, LABELS, TINY, base=residual.Residual(residual.Shape()))


@pytest.fixture(scope="module")
def checkpoint() -> bytes:
    saved: dict[int, bytes] = {}
    fit.fit(IMAGES, LABELS, TINY, on_checkpoint=saved.__setitem__)
    return saved[8]


@pytest.mark.parametrize(
    ("config", "labels", "message"),
    [
        (replace(TINY, margin=0.3), LABELS, "made with margin 0.5, this training has 0.3"),
        (replace(TINY, seed=9), LABELS, "made with seed 0, this training has 9"),
        (replace(TINY, widths=(4, 4, 6, 9)), LABELS, r"made with widths \[4, 4, 6, 8\]"),
        (TINY, LABELS[::-1], "made with labels_sha256"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    checkpoint: bytes, config: Config, labels: NDArray[np.int64], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        fit.fit(IMAGES, labels, config, checkpoint=checkpoint)


def test_checkpoints_that_are_none_are_refused_and_run_no_code(checkpoint: bytes, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"schema": fit.SCHEMA, "settings": Hostile()}, tmp_path / "hostile")
    torch.save({"schema": "fairloop.checkpoint/2"}, tmp_path / "newer")
    for content, message in (
        (checkpoint[:-200], "is not one of this training"),
        (b"", "is not one of this training"),
        ((tmp_path / "hostile").read_bytes(), "is not one of this training"),
        ((tmp_path / "newer").read_bytes(), "this version reads fairloop.checkpoint/1"),
    ):
        with pytest.raises(InvalidInput, match=message):
            fit.fit(IMAGES, LABELS, TINY, checkpoint=content)
    assert not (tmp_path / "ran").exists()


def test_the_rate_rises_and_then_follows_its_schedule() -> None:
    settings = replace(TINY, learning_rate=0.2, warmup=0.2)
    rate = {
        name: [fit.learning_rate(replace(settings, schedule=name), step, 20) for step in range(20)]
        for name in fit.SCHEDULES
    }
    for values in rate.values():
        assert values[:4] == pytest.approx([0.05, 0.1, 0.15, 0.2])
        assert values[4] == pytest.approx(0.2)
    # Step 12 is half way between the end of the warm-up and the last step.
    assert [rate[name][12] for name in fit.SCHEDULES] == pytest.approx([0.2, 0.1, 0.05])
    assert rate["cosine"][8] == pytest.approx(0.2 * (1 + math.cos(math.pi / 4)) / 2)
    assert rate["polynomial"][19] == pytest.approx(0.2 / 16**2)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "0 is not a whole number in 1–10000"),
        ("epochs", 1.5, "1.5 is not a whole number"),
        ("batch_size", 1, "1 is not a whole number in 2–4096"),
        ("optimiser", "lion", "'lion' is not one of sgd, adamw"),
        ("schedule", "step", "'step' is not one of constant, cosine, polynomial"),
        ("learning_rate", 0.0, "0.0 is outside 0–10, 0 excluded"),
        ("learning_rate", math.nan, "nan is outside"),
        ("momentum", 1.0, "1.0 is outside 0–0.999"),
        ("warmup", 0.6, "0.6 is outside 0–0.5"),
        ("margin", 28.6, "28.6 radians is outside"),
        ("scale", -1.0, "-1.0 is outside"),
        ("size", 60, "60 is not a multiple of 16"),
        ("seed", -1, "-1 is not a whole number"),
        ("frozen", ("stage5",), "'stage5' is not one of stem, stage1"),
        ("frozen", residual.STAGES, "nothing is left to train"),
        ("clip", 0.0, "0.0 is outside"),
    ],
)
def test_settings_that_are_not_allowed_are_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        replace(TINY, **{field: value})
    assert caught.value.violations[0].field == field


@pytest.mark.parametrize(
    ("labels", "config", "message"),
    [
        (LABELS * 0, TINY, "labels: 1 distinct; two or more subjects are needed"),
        (LABELS.astype(float), TINY, "labels: float64"),
        (LABELS[::8], TINY, r"batch_size: 8 is more than there are images \(6\)"),
        (LABELS[::2], TINY, "labels: 24 for 48 images"),
        (LABELS, replace(TINY, frozen=("stem",)), "frozen: stem: there is no base model"),
        (LABELS, replace(TINY, size=32), r"images: uint8 \(8, 16, 16, 3\) is not uint8 \(N, 32, 32, 3\)"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(
    labels: NDArray[Any], config: Config, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        fit.fit(IMAGES, labels, config)


def test_embeddings_have_unit_length_and_ignore_the_batch() -> None:
    net = fit.fit(IMAGES, LABELS, TINY).net
    rows = fit.embed(net, IMAGES)
    assert rows.dtype == np.float32
    assert rows.shape == (48, 8)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(fit.embed(net, IMAGES, batch=5), rows, atol=1e-6)
    assert fit.embed(net, IMAGES[:0]).shape == (0, 8)


def test_the_flip_sum_is_the_same_for_an_image_and_its_mirror() -> None:
    net = fit.fit(IMAGES, LABELS, TINY).net
    mirrored = IMAGES[:, :, ::-1]
    both = fit.embed(net, IMAGES, flip=True)
    np.testing.assert_allclose(fit.embed(net, mirrored, flip=True), both, atol=1e-6)
    assert np.abs(fit.embed(net, mirrored) - fit.embed(net, IMAGES)).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, atol=1e-6)


def test_a_short_training_tells_unseen_subjects_apart(tmp_path: Path) -> None:
    images, labels = rendered_subjects(11, 120, 6)
    unseen, subjects = rendered_subjects(12, 50, 6)
    config = Config(epochs=6, batch_size=32, checkpoint_every=1000)
    untrained = tmr(fit.embed(residual.Residual(config.shape()), unseen), subjects)
    net = fit.fit(images, labels, config).net
    residual.save(net, tmp_path / "net.safetensors")
    trained = tmr(fit.embed(residual.load(tmp_path / "net.safetensors"), unseen), subjects)
    assert trained > 0.7
    assert trained > untrained + 0.2


# --- dlib's network ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files() -> tuple[Path, Path]:
    return fetch("dlib-recognizer-128"), fetch("dlib-landmarks-5")


@pytest.fixture(scope="module")
def embedder(files: tuple[Path, Path]) -> DlibEmbedder:
    return DlibEmbedder(*files)


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    return np.asarray(Image.open(fetch("insightface-t1")).convert("RGB"))


@pytest.fixture(scope="module")
def faces() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return rendered_subjects(21, 8, 4)


@pytest.fixture(scope="module")
def embedded(embedder: DlibEmbedder, faces: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Embeddings:
    return embedder.embed(list(faces[0]))


@pytest.fixture(scope="module")
def pool(files: tuple[Path, Path]) -> Iterator[DlibPool]:
    with DlibPool(*files) as made:
        yield made


def test_dlib_finds_most_generated_faces_and_gives_unit_rows(embedded: Embeddings) -> None:
    found = np.array([status != "no_face" for status in embedded.statuses])
    assert found.mean() > 0.5
    assert embedded.vectors.dtype == np.float32
    assert embedded.vectors.shape == (32, 128)
    np.testing.assert_allclose(np.linalg.norm(embedded.vectors[found], axis=1), 1, atol=1e-6)
    assert np.isnan(embedded.vectors[~found]).all()
    assert np.isnan(embedded.norms[~found]).all()
    assert all(
        (count == 0) == (status == "no_face")
        for count, status in zip(embedded.faces_found, embedded.statuses, strict=True)
    )


def test_dlib_holds_a_subjects_images_together(
    embedded: Embeddings, faces: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> None:
    found = ~np.isnan(embedded.norms)
    scores = embedded.vectors[found] @ embedded.vectors[found].T
    subjects = faces[1][found]
    one, other = np.triu_indices(len(subjects), 1)
    genuine = subjects[one] == subjects[other]
    assert np.median(scores[one, other][genuine]) > cosine_at(DISTANCE_THRESHOLD)
    assert np.median(scores[one, other][~genuine]) < cosine_at(DISTANCE_THRESHOLD)


def test_the_largest_face_of_a_photograph_is_the_one_dlib_itself_describes(
    embedder: DlibEmbedder, photograph: NDArray[np.uint8], files: tuple[Path, Path]
) -> None:
    result = embedder.embed([photograph])
    assert result.statuses == ("several_faces",)
    assert result.faces_found == (6,)
    landmarks = dlib.shape_predictor(str(files[1]))
    boxes = dlib.get_frontal_face_detector()(photograph, 0)
    largest = max(boxes, key=lambda box: box.area())
    descriptor = np.asarray(
        dlib.face_recognition_model_v1(str(files[0])).compute_face_descriptor(
            photograph, landmarks(photograph, largest)
        )
    )
    np.testing.assert_allclose(result.vectors[0] * result.norms[0], descriptor, atol=1e-6)


def test_distances_and_cosines_are_converted_by_the_norms(embedded: Embeddings) -> None:
    found = np.flatnonzero(~np.isnan(embedded.norms))[:2]
    a, b = embedded.vectors[found].astype(float)
    m, n = embedded.norms[found].astype(float)
    apart = float(np.linalg.norm(a * m - b * n))
    cosine = float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))
    assert distance(cosine, m, n) == pytest.approx(apart, abs=1e-6)
    assert cosine_at(apart, m, n) == pytest.approx(cosine, abs=1e-6)
    # Unit rows: d² = 2 − 2cos.
    assert distance(0.5, 1.0) == pytest.approx(1.0)
    assert cosine_at(math.sqrt(2), 1.0) == pytest.approx(0.0)
    assert cosine_at(0.6, 1.0) == pytest.approx(0.82)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: distance(1.5), "cosine: 1.5 is outside -1–1"),
        (lambda: distance(0.5, 0.0), "norm: 0.0 and 0.0 are not both above 0"),
        (lambda: cosine_at(3.0, 1.0), "distance: 3.0 is outside 0–2"),
        (lambda: cosine_at(0.1, 1.0, 1.5), "distance: 0.1 is outside 0.5–2.5"),
    ],
)
def test_impossible_distances_are_refused(call: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        call()


def test_noise_and_flat_images_have_no_face(embedder: DlibEmbedder) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    result = embedder.embed([noise, np.full((300, 20, 3), 127, np.uint8)])
    assert result.statuses == ("no_face", "no_face")
    assert embedder.embed([]).vectors.shape == (0, 128)


@pytest.mark.parametrize(
    "image", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_an_array_that_is_no_image_is_refused(embedder: DlibEmbedder, image: NDArray[Any]) -> None:
    with pytest.raises(InvalidInput, match=r"is not uint8 \(height, width, 3\)"):
        embedder.embed([image])


def test_chips_are_the_same_from_any_thread(
    files: tuple[Path, Path], faces: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> None:
    landmarks = align.predictor(files[1])
    alone = [align.chip(image, landmarks) for image in faces[0]]
    found: dict[int, align.Chip] = {}

    def work(start: int) -> None:
        for index in range(start, len(alone), 2):
            found[index] = align.chip(faces[0][index], landmarks)

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, chip in enumerate(alone):
        assert found[index].status == chip.status
        assert np.array_equal(found[index].pixels, chip.pixels) or chip.pixels is None


def test_the_pool_gives_the_same_bits_and_does_the_work_elsewhere(
    pool: DlibPool, embedded: Embeddings, faces: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> None:
    pool.embed(list(faces[0][:1]))
    before = time.process_time()
    result = pool.embed(list(faces[0]))
    # Here it would be 1.5 s of computing, all of it with the GIL held.
    assert time.process_time() - before < 0.3
    assert np.array_equal(result.vectors, embedded.vectors, equal_nan=True)
    assert np.array_equal(result.norms, embedded.norms, equal_nan=True)
    assert result.statuses == embedded.statuses
    assert result.faces_found == embedded.faces_found
    assert pool.embed([]).vectors.shape == (0, 128)


def test_a_bad_image_in_the_pool_is_named_and_the_pool_lives_on(
    pool: DlibPool, faces: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> None:
    with pytest.raises(InvalidInput, match="image: float64"):
        pool.embed([np.zeros((64, 64, 3))])  # type: ignore[list-item]
    assert len(pool.embed(list(faces[0][:1])).statuses) == 1


def test_a_pool_without_its_files_says_which(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"landmarks\.dat: there is no such file"):
        DlibPool(files[0], tmp_path / "landmarks.dat")
    with pytest.raises(InvalidInput, match="workers: 0 is not 1 or more"):
        DlibPool(*files, workers=0)


def test_a_killed_process_of_the_pool_is_replaced_and_nobody_notices(
    files: tuple[Path, Path], faces: tuple[NDArray[np.uint8], NDArray[np.int64]], embedded: Embeddings
) -> None:
    with DlibPool(*files) as pool:
        before = set(psutil.Process().children())
        pool.embed(list(faces[0][:1]))
        worker = max(set(psutil.Process().children()) - before, key=lambda p: p.memory_info().rss)
        worker.kill()
        worker.wait(10)
        again = pool.embed(list(faces[0][:2]))
    assert np.array_equal(again.vectors, embedded.vectors[:2], equal_nan=True)
    assert again.statuses == embedded.statuses[:2]


def test_the_pools_processes_end_with_a_killed_parent(files: tuple[Path, Path]) -> None:
    program = (
        "import sys, time, numpy, psutil, pathlib\n"
        "from services.recognizer.dlib_embedder import DlibPool\n"
        "if __name__ == '__main__':\n"
        "    pool = DlibPool(*map(pathlib.Path, sys.argv[1:]))\n"
        "    pool.embed([numpy.zeros((64, 64, 3), numpy.uint8)])\n"
        "    print(*(child.pid for child in psutil.Process().children()), flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, files)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert children
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_a_recogniser_that_falls_out_of_the_cache_ends_its_processes_when_nobody_holds_it(
    store: ObjectStore, tmp_path: Path
) -> None:
    LOADED.unload()
    before = {child.pid for child in psutil.Process().children()}
    recogniser = load_recogniser(store, publish_base(store).name, 1)
    assert isinstance(recogniser, DlibRecogniser)
    grey = np.full((32, 32, 3), 128, np.uint8)
    assert recogniser.embed([grey]).statuses == ("no_face",)
    workers = [child for child in psutil.Process().children() if child.pid not in before]
    workers = [child for child in workers if "compute_process" in " ".join(child.cmdline())]
    assert workers
    files = recogniser.files
    assert all(file.is_file() for file in files)
    path = tmp_path / "recogniser.safetensors"
    for seed in range(LOADED.most):
        torch.manual_seed(seed)
        residual.save(residual.Residual(TINY.shape()), path)
        other = publish(
            store,
            "models/other",
            {path.name: path.read_bytes()},
            service="recognizer",
            kind="residual",
            description="other",
        )
        load_recogniser(store, other.name, 1)
    # Evicted, but somebody is still at work with it.
    assert recogniser.embed([grey]).statuses == ("no_face",)
    del recogniser
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    assert not any(file.exists() for file in files)
