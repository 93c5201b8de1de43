"""All looks, one after another, and how they are printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from fairloop.client import SERVICES, Client
from fairloop.commands.surroundings import printable, surroundings
from fairloop.doctor import machine, object_store, services, software, weights
from fairloop.doctor.finding import Finding
from fairloop.errors import FairloopError

SCHEMA = "fairloop.doctor/1"
COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def examine(state_folder: Path, addresses: Sequence[str], required: bool, as_json: bool) -> None:
    """Prints what was found; exits with 1 when something is broken."""
    if not as_json:
        click.echo("looking at this machine, the store and the services (some seconds)", err=True)
    found = []
    with surroundings(state_folder, addresses) as written:
        for finding in findings(state_folder, required, bool(written) or bool(addresses)):
            found.append(finding)
            if not as_json:
                _say(finding)
    worst = next((o for o in ("fail", "warn") if any(f.outcome == o for f in found)), "ok")
    if as_json:
        report = {"schema": SCHEMA, "outcome": worst, "findings": [f.to_json() for f in found]}
        click.echo(json.dumps(report, ensure_ascii=False, indent=1))
    else:
        counts = {o: sum(f.outcome == o for f in found) for o in ("ok", "warn", "fail")}
        click.echo(", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count))
    if worst == "fail":
        sys.exit(1)


def findings(state: Path, required: bool, named: bool) -> Iterator[Finding]:
    """Every finding as soon as it is known. `named`: somebody said where the stack is."""
    yield software.python()
    yield software.packages()
    yield machine.processor_and_memory()
    yield machine.disk("state disk", state, "give the stack another --state")
    cache = Path(os.environ.get("FAIRLOOP_CACHE") or Path.home() / ".cache" / "fairloop")
    yield machine.disk("cache disk", cache, "set FAIRLOOP_CACHE to a folder with room")
    yield weights.weights()
    yield from _stack(required, named)


def _stack(required: bool, named: bool) -> Iterator[Finding]:
    """Store and services; one line when none of them is there and nobody said they were."""
    with Client.from_environment() as client:
        with ThreadPoolExecutor(len(SERVICES) + 1) as pool:
            asked = [pool.submit(services.service, client, name, required) for name in SERVICES]
            stored = object_store.store(required)
            found = [future.result() for future in asked]
        up = [finding for finding in found if "health_seconds" in finding.facts]
        variables = [key for key in os.environ if key.startswith("FAIRLOOP_") and key.endswith("_ADDRESS")]
        if not up and stored.outcome == "warn" and not (required or named or variables):
            detail = "no stack runs here (neither a store nor a service answers)"
            yield Finding("stack", "warn", detail, "fine for evaluate, stats and audit; otherwise: make up")
            return
        yield stored
        if stored.outcome == "ok" and (clock := object_store.clock()) is not None:
            yield clock
        yield from found
        if any(finding.name == "annotator" and "models" in finding.facts for finding in up):
            try:
                yield services.test_image(client)
            except FairloopError as error:
                yield Finding("test image", "fail", str(error), "look at the annotator's log")


def _say(finding: Finding) -> None:
    word = click.style(f"{finding.outcome:<4}", fg=COLOURS[finding.outcome])
    click.echo(f"{word}  {finding.name:<11} {printable(finding.detail)}")
    if finding.advice:
        click.echo(f"      {'':<11} → {printable(finding.advice)}")
