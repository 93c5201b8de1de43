"""`evaluate_verification` against the matrix product that it cannot do without.

    python -m benchmarks.verification [--images 20000] [--quadratic]

The peer is the full-square float32 `E @ E.T` of numpy in blocks of 2,000 with the
same threads. Ours does all of it: exact threshold, all rates and summaries,
1,000 replicates with the threshold held fixed and re-chosen, the null. Each
side runs in a process of its own, so that the peak is its own; medians of
`--repeat`. Ends with exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

from benchmarks.table import Goal, Row, parser, run

BLOCK = 2000
GOAL_RATIO = 2.5
GOAL_PEAK_MB = 500


def world(
    images: int, dimension: int, per_subject: int, groups: int
) -> tuple[np.ndarray, list[str], list[str]]:
    """Subjects of `per_subject` images in groups that differ in how far their images scatter."""
    rng = np.random.default_rng(0)
    subjects = images // per_subject
    group = np.arange(subjects) % groups
    rows = np.repeat(rng.standard_normal((subjects, dimension), dtype=np.float32), per_subject, axis=0)
    direction = rng.standard_normal((groups, dimension), dtype=np.float32)
    rows += 0.6 * np.repeat(direction[group], per_subject, axis=0)
    noise = (1.2 + 0.1 * np.repeat(group, per_subject))[:, None].astype(np.float32)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        rows[part] += noise[part] * rng.standard_normal(rows[part].shape, dtype=np.float32)
    who = np.repeat(np.arange(subjects), per_subject)
    return rows, [f"s{i}" for i in who], [f"g{group[i]}" for i in who]


def product(rows: np.ndarray) -> float:
    """A checksum of every score, in blocks."""
    total = 0.0
    for top in range(0, len(rows), BLOCK):
        for left in range(0, len(rows), BLOCK):
            total += float((rows[top : top + BLOCK] @ rows[left : left + BLOCK].T)[0, 0])
    return total


def measure(what: str, images: int, impostors: str) -> dict[str, float]:
    """Seconds and the peak's growth of one side; imports and the world itself are not counted."""
    rows, subjects, groups = world(images, 512, 10, 8)
    if what == "product":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        product(rows)
    else:
        from fairloop.stats import evaluate_verification

        evaluate_verification(rows[:400], subjects[:400], groups[:400], fmr=0.01, replicates=100)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        evaluate_verification(
            rows, subjects, groups, fmr=1e-3, impostors=impostors, threshold_in_replicates="both"
        )
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_mb": peak / 1024, "grown_mb": (peak - before) / 1024}


def side(what: str, images: int, impostors: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.verification", "--side", what]
    command += ["--images", str(images), "--impostors", impostors]
    return json.loads(subprocess.check_output(command))


def compared(images: int, repeat: int, impostors: str) -> dict[str, float]:
    # Alternating, so that what else the machine does falls on both sides.
    runs = [(side("product", images, impostors), side("ours", images, impostors)) for _ in range(repeat)]
    peer = statistics.median(p["seconds"] for p, _ in runs)
    ours = statistics.median(o["seconds"] for _, o in runs)
    ratio = statistics.median(o["seconds"] / p["seconds"] for p, o in runs)
    peak = max(o["peak_mb"] for _, o in runs)
    print(
        f"{images:>7,} images, impostors {impostors:12s}  product {peer:7.2f} s  ours {ours:7.2f} s  "
        f"ratio {ratio:5.2f}  peak {peak:5.0f} MB",
        flush=True,
    )
    return {"ratio": ratio, "peak_mb": peak, "seconds": ours, "peer": peer}


def rows(options: argparse.Namespace) -> list[Row]:
    images, repeat = (2_000, 1) if options.small else (options.images, options.repeat)
    found = compared(images, repeat, options.impostors)
    what = f"evaluate_verification, {images:,} images"
    made = [
        Row(
            what,
            "s",
            found["seconds"],
            found["peer"],
            "E @ E.T of numpy",
            Goal("ours / peer", "≤", GOAL_RATIO),
            ratio=found["ratio"],
        ),
        Row(f"{what}: peak", "MB", found["peak_mb"], goal=Goal("ours", "≤", GOAL_PEAK_MB)),
    ]
    if options.quadratic:
        sizes = {n: compared(n, 1, options.impostors)["seconds"] for n in (5_000, 10_000, 40_000)}
        quadratic = Goal("ours", "≤", 64 * 1.1)
        made.append(
            Row(
                "40,000 images over 5,000 (quadratic: 64)",
                "times",
                sizes[40_000] / sizes[5_000],
                goal=quadratic,
            )
        )
    return made


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=20_000)
    options.add_argument("--impostors", choices=["within_group", "all"], default="all")
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--quadratic", action="store_true", help="also 5,000, 10,000 and 40,000 images")
    options.add_argument("--side", choices=["product", "ours"], help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.side:
        print(json.dumps(measure(asked.side, asked.images, asked.impostors)))
        return 0
    return run(rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
