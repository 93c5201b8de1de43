"""How much processor time `import fairloop` takes, with its command and its client.

    python -m benchmarks.start_up [--repeat 7]

In a new interpreter each time; the median. Ends with exit code 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

from benchmarks.table import Goal, Row, parser, run

MODULES = ("fairloop", "fairloop.cli", "fairloop.client", "fairloop.dataset")
GOAL_SECONDS = 1.0


def seconds() -> float:
    """Seconds of processor that the imports take in an interpreter of their own, without its start."""
    code = (
        f"import time; started = time.process_time(); import {', '.join(MODULES)};"
        "print(time.process_time() - started)"
    )
    return float(subprocess.check_output([sys.executable, "-c", code]))


def rows(options: argparse.Namespace) -> list[Row]:
    seconds()  # compiles what changed
    took = [seconds() for _ in range(1 if options.small else options.repeat)]
    what = f"import {', '.join(MODULES)}"
    return [Row(what, "s", statistics.median(took), goal=Goal("ours", "≤", GOAL_SECONDS))]


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--repeat", type=int, default=7)
    return run(rows, options)


if __name__ == "__main__":
    raise SystemExit(main())
