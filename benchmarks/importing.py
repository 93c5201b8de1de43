"""Imports against copying and hashing the same files, and the labels of a million rows.

    python -m benchmarks.importing [--images 4000] [--repeat 3]

The peer reads every file, takes its sha256, and writes it into the same S3 server through the same client,
in objects of a thousand images: one file after the other, without looking at what it is. Ours checks names,
labels and the header and end of every image as well, and makes tars and an index. How fast the same files
are copied and hashed from folder to folder, without a server, stands beside it. Ends with exit code 1 when a
goal is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.table import Goal, Row, parser, run
from fairloop import importers
from fairloop.importers import Choices
from fairloop.store import ObjectStore
from tests.support.bucket import own_bucket
from tests.support.processes import start_store

SIDE = 300
PEOPLE = 100
SHARD = 1_000
LABELLED = 1_000_000


def plant(root: Path, images: int) -> list[Path]:
    """Photographs of noise, about 44 KB each, no two alike."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    found = []
    for number in range(images):
        turned = np.roll(np.roll(pixels, number % SIDE, axis=0), number // SIDE, axis=1)
        sink = io.BytesIO()
        Image.fromarray(turned).save(sink, "JPEG", quality=60)
        path = root / f"{number % PEOPLE:03}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sink.getvalue())
        found.append(path)
    return sorted(found)


def copied(files: list[Path], target: Path) -> None:
    """To a folder of the same disk."""
    target.mkdir()
    for number, file in enumerate(files):
        data = file.read_bytes()
        hashlib.sha256(data).hexdigest()
        (target / str(number)).write_bytes(data)


def stored(files: list[Path], store: ObjectStore, prefix: str) -> None:
    """Into the store, in objects of a thousand."""
    for number in range(0, len(files), SHARD):
        whole = io.BytesIO()
        for file in files[number : number + SHARD]:
            data = file.read_bytes()
            hashlib.sha256(data).hexdigest()
            whole.write(data)
        store.put(f"{prefix}/{number}", whole.getvalue())


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def against_copying(images: int, repeat: int) -> list[Row]:
    """Our rate beside both peers'."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = plant(folder / "source", images)
        server, environment = start_store(folder)
        try:
            _, store = own_bucket(environment)
            # Loads the libraries; not counted.
            importers.import_dataset(store, "folder", folder / "source" / "000", "datasets/first")
            rounds = []
            for turn in range(repeat):
                to_disk = seconds(lambda turn=turn: copied(files, folder / f"copy{turn}"))
                to_store = seconds(lambda turn=turn: stored(files, store, f"peer{turn}"))
                ours = seconds(
                    lambda turn=turn: importers.import_dataset(
                        store,
                        "folder",
                        folder / "source",
                        f"datasets/ours{turn}",
                        Choices(f"ours{turn}"),
                        subjects="folder",
                    )
                )
                rounds.append((images / ours, images / to_disk, images / to_store))
        finally:
            server.stop()
    ours_rates, disk, into_store = zip(*rounds, strict=True)
    return [
        Row(
            f"import of {images:,} images of 44 KB",
            "images/s",
            ours=statistics.median(ours_rates),
            peer=statistics.median(peer),
            peer_name=what,
            goal=goal,
            ratio=statistics.median(o / p for o, p in zip(ours_rates, peer, strict=True)),
        )
        for what, peer, goal in (
            ("copy and hash into the store", into_store, Goal("ours / peer", "≥", 0.8)),
            ("copy and hash on disk, no server", disk, None),
        )
    ]


def labelled(count: int) -> None:
    """Child: checks the labels of so many rows; prints seconds and peak MB."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "1.jpg").write_bytes(b"\xff\xd8 never read")
        words = itertools.cycle(("Male,White", "Female,East Asian", "Female,Black"))
        with (root / "labels.csv").open("w") as file:
            file.write("file,gender,race,who\n")
            file.writelines(f"1.jpg,{next(words)},person {row // 10}\n" for row in range(count))
        options = {
            "table": "labels.csv",
            "subject": "who",
            "label": ("gender=gender:fairface_model", "race=race:fairface_model"),
        }
        started = time.perf_counter()
        _, findings = importers.survey("table", root, options)
        took = time.perf_counter() - started
    if findings.records != count:
        raise SystemExit(f"{findings.records} records of {count}: {findings.problems[:3]}")
    print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


def of_labels(count: int) -> list[Row]:
    """Time and memory of a table's labels, in a process of its own."""
    said = subprocess.check_output([sys.executable, "-m", "benchmarks.importing", "--labelled", str(count)])
    took, peak = map(float, said.split())
    what = f"names, labels and files of {count:,} rows of CSV checked"
    return [
        Row(what, "s", took, goal=Goal("ours", "≤", 20)),
        Row(f"{what}: peak", "MB", peak, goal=Goal("ours", "≤", 1_000)),
    ]


def rows(options: argparse.Namespace) -> list[Row]:
    images, repeat, count = (200, 1, 10_000) if options.small else (options.images, options.repeat, LABELLED)
    return [*against_copying(images, repeat), *of_labels(count)]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=4_000)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--labelled", type=int, default=0, help="internal: only the labels, in this process")
    chosen = options.parse_args()
    if chosen.labelled:
        labelled(chosen.labelled)
        return 0
    return run(rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
