"""The demo: one round of the loop on the local stack, told line by line. `python -m flows.demo`.

Starts the served deployment like any user of the Prefect UI would, follows its
log, and ends with the result as a table and a page.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import webbrowser
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from deploy.local.stack import environment
from fairloop.store import ObjectStore
from flows.given_words import named, refusal
from flows.memory import PeakMemory
from flows.params import LoopParameters


def settings(words: list[str]) -> dict[str, Any]:
    """Parameters from NAME=VALUE words; a wrong one ends the program with what is allowed."""
    given = named(words)
    try:
        return LoopParameters.model_validate(given).model_dump(mode="json", include=set(given))
    except ValidationError as error:
        raise refusal(error, LoopParameters.model_fields) from None


def main() -> None:
    """Runs the demo on the stack that is up."""
    parser = argparse.ArgumentParser(description="One round of the loop on the local stack.")
    parser.add_argument("--state", type=Path, default=Path(".fairloop"), help="folder of the local stack")
    parser.add_argument("--fresh", action="store_true", help="do everything again, whatever is stored")
    parser.add_argument("--seed", type=int, default=20261122, help="everything random follows from it")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the flow (flows/params.py), for example epochs=3; may be repeated",
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    arguments = parser.parse_args()
    chosen = settings(arguments.set)
    running = environment(arguments.state)
    if not running:
        raise SystemExit(f"no stack runs in {arguments.state}; `make up` starts it")
    os.environ.update(running | {"DO_NOT_TRACK": "1"})
    # Only now: Prefect reads its settings when it is first imported, and without them it would start
    # a server of its own in this process.
    from flows import summary
    from flows.follow import demo, save_report

    console = Console(width=min(Console().width, 160) if sys.stdout.isatty() else 140)
    store = ObjectStore.from_environment()
    with PeakMemory(arguments.state) as memory:
        report, seconds = asyncio.run(
            demo({"name": "demo", "seed": arguments.seed, "fresh": arguments.fresh, **chosen}, console)
        )
    page = save_report(store, report, arguments.state / "demo")
    console.print(f"report: {report}")
    summary.show(console, store.get_json(f"{report}/report.json"), memory.peak_bytes, seconds["flow"])
    console.print(f"\nThe page: {page.resolve().as_uri()}", soft_wrap=True)
    console.print("Next: `make audit FOLDER=…` audits your own images; `make down` stops the stack.")
    if arguments.open:
        webbrowser.open(page.resolve().as_uri())


if __name__ == "__main__":
    main()
