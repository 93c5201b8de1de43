"""Feeds mutated inputs to a target in a child process: a crash or a hang is a finding and not the end.

`python -m tests.support.fuzzing TARGET START STOP FOLDER` is the child: it writes the number of the
input that it is about to try, and one JSON line for each that did what none may do. Inputs follow from
the target's name and their number. The parent looks on, and starts the next child behind a killed one.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fairloop.errors import FairloopError
from tests.support.hostile_inputs import case
from tests.support.hostile_targets import TARGETS, Target

MEMORY = 3 * 2**30
"""Address space beyond what a target takes before its first input. Forty megapixels with an alpha channel,
which are allowed, take 0.7 GB."""
SLOW_SECONDS = 10.0
"""Of the processor; forty megapixels take under two."""
HUNG_SECONDS = 60.0
START_SECONDS = 240.0


@dataclass(frozen=True)
class Finding:
    """An input that did what none may: how, and where it was saved."""

    target: str
    number: int
    what: str
    saved: Path


def fuzz(name: str, count: int, folder: Path, environment: Mapping[str, str] | None = None) -> list[Finding]:
    """What `count` inputs of a target did that none may; they are saved in the folder."""
    place = folder / name.replace(" ", "-")
    place.mkdir(parents=True)
    found: list[Finding] = []
    start = 0
    while start < count:
        stopped_at, ending = _child(name, start, count, place, {**os.environ, **(environment or {})})
        found += _told(name, place)
        if ending:
            found.append(Finding(name, stopped_at, ending, _saved(name, stopped_at, place)))
        start = stopped_at + 1 if ending else count
    return found


def _child(name: str, start: int, stop: int, place: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """The last input that a child tried, and how the child ended before its time; '' when it did not."""
    progress = place / "progress"
    progress.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.support.fuzzing", name, str(start), str(stop), str(place)]
    with (place / "output").open("ab") as output:
        child = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    last, since, hung = start - 1, time.monotonic(), ""
    while child.poll() is None and not hung:
        try:
            child.wait(1)
        except subprocess.TimeoutExpired:
            at = _number(progress, start)
            if at != last:
                last, since = at, time.monotonic()
            elif time.monotonic() - since > (HUNG_SECONDS if at >= start else START_SECONDS):
                hung = f"no answer after {time.monotonic() - since:.0f} s"
                child.kill()
                child.wait()
    last = _number(progress, start)
    if last < start:
        raise RuntimeError(f"{name} did not start:\n{(place / 'output').read_text(errors='replace')[-3000:]}")
    return last, hung or ("" if child.returncode == 0 else f"the process ended with {child.returncode}")


def _number(progress: Path, start: int) -> int:
    text = progress.read_text() if progress.exists() else ""
    return int(text) if text else start - 1


def _told(name: str, place: Path) -> list[Finding]:
    """What the child wrote down of its own accord."""
    log = place / "findings"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    log.unlink(missing_ok=True)
    return [
        Finding(name, line["number"], line["what"], _saved(name, line["number"], place)) for line in lines
    ]


def _saved(name: str, number: int, place: Path) -> Path:
    path = place / f"input-{number}"
    path.write_bytes(case(name, number))
    return path


def wrong(target: Target, data: bytes) -> str:
    """What a target does with an input that it must not do; '' when it answers, or refuses it by name.

    An error names the object or the field, in one line that a terminal can show.
    """
    began = time.process_time()
    try:
        target.call(data)
    except FairloopError as error:
        text = str(error)
        if not target.names.search(text):
            return f"the error does not name the object: {type(error).__name__}: {text[:300]!r}"
        if not text.isprintable():
            return f"the error holds control characters: {text[:300]!r}"
    except BaseException:
        return traceback.format_exc()[-1500:]
    took = time.process_time() - began
    return f"took {took:.1f} s of the processor" if took > SLOW_SECONDS else ""


def _vm_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main(name: str, start: int, stop: int, place: Path) -> None:
    """The child."""
    target = TARGETS[name]()
    limit = _vm_bytes() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    progress = os.open(place / "progress", os.O_CREAT | os.O_WRONLY, 0o600)
    for number in range(start, stop):
        os.pwrite(progress, f"{number:012d}".encode(), 0)
        what = wrong(target, case(name, number))
        if what:
            with (place / "findings").open("a") as log:
                log.write(json.dumps({"number": number, "what": what}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
