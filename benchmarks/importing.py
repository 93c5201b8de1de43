"""Imports against copying and hashing the same files, their memory, and the labels of a million rows.

    python -m benchmarks.importing [--images 12000] [--repeat 3]

The peer reads every file, takes its sha256, and writes it into the same S3 server through the same client,
in objects of a thousand images: one file after the other, without looking at what it is. Ours checks names,
labels and the header and end of every image as well, and makes tars and an index. How fast the same files
are copied and hashed from folder to folder, without a server, stands beside it. Ends with exit code 1 when a
goal is missed.

Twelve shards of images: reading, storing and indexing overlap, but the first shard has to fill before
anything is stored, and after the last there is nothing left to read. With four shards these two ends are a
fifth of the time; the sets that people bring have a hundred (FairFace: 98) and more.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.at_callers import high_water
from benchmarks.table import Goal, Row, parser, run
from fairloop import importers
from fairloop.importers import Choices
from fairloop.scratch import scratch_folder
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
    with scratch_folder("benchmark") as folder:
        files = plant(folder / "source", images)
        server, environment = start_store(folder)
        try:
            _, store = own_bucket(environment)
            # Loads the libraries; not counted.
            importers.import_dataset(store, "folder", folder / "source" / "000", "datasets/first")
            rounds = []
            for turn in range(repeat):
                to_disk = seconds(lambda turn=turn: copied(files, folder / f"copy{turn}"))
                shutil.rmtree(folder / f"copy{turn}")
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


def imported(folder: Path) -> None:
    """Child: imports a folder into the store that the environment names; prints peak MB."""
    importers.import_dataset(ObjectStore.from_environment(), "folder", folder, "datasets/peak")
    print(high_water(os.getpid()) / 1e6)


def of_memory(few: int, many: int) -> Row:
    """How much further images add to the peak, in processes of their own.

    Images of a few hundred bytes, so that a shard is full with a thousand of them and small: what is
    seen is what is kept of each.
    """
    peaks = []
    with scratch_folder("benchmark") as folder:
        server, environment = start_store(folder)
        try:
            environment, _ = own_bucket(environment)
            for count in (few, many):
                place = folder / str(count)
                place.mkdir()
                for number in range(count):
                    sink = io.BytesIO()
                    Image.new("RGB", (4, 4), (number % 256, number // 256 % 256, number // 65_536)).save(
                        sink, "PNG"
                    )
                    (place / f"{number}.png").write_bytes(sink.getvalue())
                command = [sys.executable, "-m", "benchmarks.importing", "--imported", str(place)]
                said = subprocess.check_output(command, env={**os.environ, **environment})
                peaks.append(float(said))
        finally:
            server.stop()
    return Row(
        f"import: peak memory for each further image ({peaks[0]:,.0f} MB with {few:,}, "
        f"{peaks[1]:,.0f} MB with {many:,})",
        "bytes",
        (peaks[1] - peaks[0]) * 1e6 / (many - few),
        goal=Goal("ours", "≤", 1_000),
    )


def labelled(count: int) -> None:
    """Child: checks the labels of so many rows; prints seconds and peak MB."""
    with scratch_folder("benchmark") as root:
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
    print(took, high_water(os.getpid()) / 1e6)


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
    if options.small:
        return [*against_copying(200, 1), of_memory(1_000, 2_000), *of_labels(10_000)]
    copying = against_copying(options.images, options.repeat)
    return [*copying, of_memory(5_000, 50_000), *of_labels(LABELLED)]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=12_000)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--imported", type=Path, help="internal: only one import, in this process")
    options.add_argument("--labelled", type=int, default=0, help="internal: only the labels, in this process")
    chosen = options.parse_args()
    if chosen.imported:
        imported(chosen.imported)
        return 0
    if chosen.labelled:
        labelled(chosen.labelled)
        return 0
    return run(rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
