"""All benchmarks one after another, in one table: `make bench`.

    python -m benchmarks [NAME ...] [--small] [--to FILE]

Each runs in a process of its own, and its section of `benchmarks/results.md` is written when it is done.
Ends with exit code 1 when a goal is missed or a benchmark fails.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.table import Goal, Row, from_json, markdown
from fairloop.scratch import scratch_folder

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.md"
STUDIES = {"coverage"}
"""Not about speed: hours, and a table of another kind."""
VERSIONED = (
    "numpy",
    "scipy",
    "torch",
    "onnxruntime",
    "dlib-bin",
    "grpcio",
    "scikit-learn",
    "fairlearn",
    "webdataset",
)
"""What the figures depend on."""


def benchmarks() -> dict[str, bool]:
    """The modules here that define `main`, and whether they define `rows`. Imports none of them."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        defined = {node.name for node in body if isinstance(node, ast.FunctionDef)}
        if "main" in defined and path.stem not in STUDIES | {"__main__"}:
            found[path.stem] = "rows" in defined
    return found


def measured(name: str, gives_rows: bool, small: bool) -> list[Row]:
    """The rows of one benchmark; one that does not end well is a row that says so."""
    with scratch_folder("benchmark") as folder:
        file = folder / "rows.json"
        options = [*(["--small"] if small else []), "--rows", str(file)] if gives_rows else []
        code = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *options], cwd=HERE.parent
        ).returncode
        if file.exists():
            return from_json(json.loads(file.read_text()))
    return [Row(f"{name} (its own table, above)", "exit code", code, goal=Goal("ours", "≤", 0))]


def machine() -> str:
    """Processor, cores and memory."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model
        )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    threads = os.environ.get("OMP_NUM_THREADS")
    limit = f", OMP_NUM_THREADS={threads}" if threads else ""
    return f"{model}, {cores} cores, {memory:.0f} GB of memory, {platform.system()}{limit}"


def versions() -> str:
    """Python and the packages that the figures depend on, where installed."""
    found = [f"Python {platform.python_version()}"]
    for name in VERSIONED:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def commit() -> str:
    """The commit, and whether anything differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=HERE, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + (" with uncommitted changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown (no git here)"


def section(name: str, rows: list[Row], took: float) -> str:
    """What `results.md` says of one benchmark, below a heading of its name."""
    facts = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}, {took:.0f} s"
    return f"## {name}\n\n{facts}; {machine()}.\n\n{markdown(rows)}\n"


def kept(path: Path) -> dict[str, str]:
    """The sections of a `results.md` by the benchmark that they are of; none where there is no such file."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {part.partition("\n")[0]: f"## {part.strip()}\n" for part in text.split("\n## ")[1:]}


def document(sections: dict[str, str]) -> str:
    """`results.md`."""
    head = (
        "# Benchmarks\n\nWritten by `make bench`, a section for each, when it was last measured. Ours and "
        "its peer run on the same machine in the same run; ratios mean something on other machines, seconds "
        f"do not.\n\nVersions at the last of them: {versions()}.\n"
    )
    return "\n".join([head, *(sections[name] for name in sorted(sections))])


def main() -> int:
    there = benchmarks()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(there)} [all]")
    parser.add_argument(
        "--small",
        action="store_true",
        help="sizes that only show that they work (of those that have rows); no goals",
    )
    parser.add_argument(
        "--to", type=Path, default=RESULTS, help=f"file to write [{RESULTS.name}]; none if --small"
    )
    asked = parser.parse_args()
    for name in asked.names:
        if name not in there:
            parser.error(f"{name!r} is no benchmark; there are {', '.join(there)}")
    chosen = asked.names or [name for name, gives_rows in there.items() if gives_rows or not asked.small]
    rows: list[Row] = []
    for number, name in enumerate(chosen, 1):
        print(f"\n{name} ({number} of {len(chosen)})", flush=True)
        started = time.monotonic()
        found = measured(name, there[name], asked.small)
        rows += found
        if not asked.small:
            sections = {known: text for known, text in kept(asked.to).items() if known in there}
            sections[name] = section(name, found, time.monotonic() - started)
            asked.to.write_text(document(sections), encoding="utf-8")
    print(f"\n{markdown(rows)}")
    wrong = [row.what for row in rows if row.wrong or (row.met is False and not asked.small)]
    if asked.small:
        print("small sizes: goals are not judged")
    print(f"not met: {'; '.join(wrong)}" if wrong else "all well")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
