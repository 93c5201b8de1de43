"""Neighbours of two sets of embeddings against bare FAISS on the same index.

    python -m benchmarks.leaks [--images 100000] [--dimension 128] [--repeat 1]

Both sides find every pair with a cosine at or above one threshold, at which about one pair of strangers in a
million is found: the peer with one `IndexFlatIP.range_search` of rows that are normalised already, ours with
`fairloop.leaks.neighbours.neighbours`, which normalises, goes block by block, numbers the pairs and sorts
them. Each side runs in a process of its own with the same threads, so that the peak is its own; medians of
`--repeat`, sides alternating. Memory is the peak less what the process held with both sets loaded. Ends with
exit code 1 when a goal is missed or the sides find different pairs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.table import Goal, Row, parser, run

RATE = 1e-6
GOAL_RATIO = 1.5
GOAL_EXTRA_MB = 250
"""Beyond the two sets: a block of each side, faiss's product and its lists of pairs, the pairs."""


def world(images: int, dimension: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Two sets of strangers as float32 rows of length 1, and a threshold that lies between two scores."""
    rng = np.random.default_rng(0)
    sets = []
    for _ in range(2):
        rows = rng.standard_normal((images, dimension), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        sets.append(rows)
    scores = np.sort((sets[0][:1_000] @ sets[1][:2_000].T).ravel())
    at = max(int(scores.size * (1 - RATE)), 0) - 1
    return sets[0], sets[1], float((scores[at].astype(np.float64) + scores[at + 1]) / 2)


def measure(what: str, images: int, dimension: int) -> dict[str, Any]:
    """Seconds, the growth of the peak beyond both sets, and what was found."""
    import faiss

    from fairloop.leaks.neighbours import neighbours

    first, second, threshold = world(images, dimension)
    small = np.ascontiguousarray(first[:200])
    neighbours(small, small, 0.9)
    # Not the peak so far, which making the sets may have raised above all that follows.
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024
    started = time.perf_counter()
    if what == "faiss":
        index = faiss.IndexFlatIP(dimension)
        index.add(second)
        limits, _, places = index.range_search(first, threshold)
        seconds = time.perf_counter() - started
        rows = np.repeat(np.arange(images), np.diff(limits.astype(np.int64)))
    else:
        found = neighbours(first, second, threshold)
        seconds = time.perf_counter() - started
        rows, places = found.first, found.second
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pairs = np.sort(rows.astype(np.int64) * images + places)
    digest = hashlib.sha256(pairs.tobytes()).hexdigest()
    return {"seconds": seconds, "grown_mb": (peak - before) / 1024, "pairs": len(pairs), "digest": digest}


def side(what: str, images: int, dimension: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.leaks", "--side", what]
    command += ["--images", str(images), "--dimension", str(dimension)]
    found: dict[str, Any] = json.loads(subprocess.check_output(command))
    return found


def rows(options: argparse.Namespace) -> list[Row]:
    images, repeat = (5_000, 1) if options.small else (options.images, options.repeat)
    runs = []
    for _ in range(repeat):
        peer, ours = (side(what, images, options.dimension) for what in ("faiss", "ours"))
        runs.append((peer, ours))
        print(
            f"{images:>7,} × {images:,} of {options.dimension}: faiss {peer['seconds']:.2f} s, "
            f"ours {ours['seconds']:.2f} s, {ours['pairs']:,} pairs, {ours['grown_mb']:.0f} MB more",
            flush=True,
        )
    different = [(p["pairs"], o["pairs"]) for p, o in runs if p["digest"] != o["digest"]]
    what = f"neighbours, {images:,} × {images:,} embeddings of {options.dimension}"
    return [
        Row(
            what,
            "s",
            statistics.median(o["seconds"] for _, o in runs),
            statistics.median(p["seconds"] for p, _ in runs),
            "faiss IndexFlatIP.range_search",
            Goal("ours / peer", "≤", GOAL_RATIO),
            ratio=statistics.median(o["seconds"] / p["seconds"] for p, o in runs),
            wrong=f"faiss and ours find different pairs: {different}" if different else "",
        ),
        Row(
            f"{what}: peak beyond both sets",
            "MB",
            max(o["grown_mb"] for _, o in runs),
            max(p["grown_mb"] for p, _ in runs),
            "faiss IndexFlatIP.range_search",
            goal=Goal("ours", "≤", GOAL_EXTRA_MB),
        ),
    ]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=100_000, help="of each side")
    options.add_argument("--dimension", type=int, default=128)
    options.add_argument("--repeat", type=int, default=1)
    options.add_argument("--side", choices=["faiss", "ours"], help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.side:
        print(json.dumps(measure(asked.side, asked.images, asked.dimension)))
        return 0
    return run(rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
