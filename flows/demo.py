"""The demo: one round of the loop on the local stack, told line by line. `python -m flows.demo`.

Starts the served deployment like any user of the Prefect UI would, follows its
log, and ends with the result as a table and a page.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
import webbrowser
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import LogSort
from prefect.deployments import run_deployment
from pydantic import ValidationError
from rich.console import Console

from deploy.local.stack import environment
from fairloop import manifest
from fairloop.store import ObjectStore
from flows import summary
from flows.memory import PeakMemory
from flows.params import LoopParameters

DEPLOYMENT = "fairness-loop/local"
POLL_SECONDS = 1.0
PREFECTS_OWN = ("Finished in state", "Beginning", "Created task")
REPORT_SCHEMA = "fairloop.report/1"


async def follow(client: PrefectClient, run: UUID, console: Console) -> Any:
    """Prints the run's log lines as they come; returns its final state."""
    shown = 0
    pattern = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    while True:
        state = (await client.read_flow_run(run)).state
        while lines := await client.read_logs(pattern, limit=200, offset=shown, sort=LogSort.TIMESTAMP_ASC):
            for line in lines:
                ours = line.name.startswith(("prefect.flow_runs", "prefect.task_runs"))
                if ours and not line.message.startswith(PREFECTS_OWN):
                    console.print(line.message, markup=False, highlight=False)
            shown += len(lines)
        if state is not None and state.is_final():
            return state
        await asyncio.sleep(POLL_SECONDS)


async def demo(parameters: dict[str, Any], console: Console) -> tuple[str, dict[str, float]]:
    """Runs the deployment; the name of its report, and what it took."""
    began = time.monotonic()
    async with get_client() as client:
        started = await run_deployment(DEPLOYMENT, parameters={"parameters": parameters}, timeout=0)
        page = os.environ["PREFECT_API_URL"].removesuffix("/api") + f"/runs/flow-run/{started.id}"
        console.print(f"flow run {started.name}; watch it at {page}", soft_wrap=True)
        state = await follow(client, started.id, console)
    if not state.is_completed():
        raise SystemExit(
            f"the flow ended as {state.name}: {state.message}; run it again and it goes on from there"
        )
    report = await latest_report(started.id)
    return report, {"flow": time.monotonic() - began}


async def latest_report(run: UUID) -> str:
    """The name of the report that the run left as an artifact."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey

    async with get_client() as client:
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[run]), key=ArtifactFilterKey(any_=["report-name"])
            )
        )
    if not found:
        raise SystemExit("the flow run left no report; its log in the Prefect UI says why")
    # The server keeps a text artifact as JSON.
    return str(json.loads(str(found[0].data)))


def save_report(store: ObjectStore, report: str, folder: Path) -> Path:
    """Copies a report's files out of the store; the path of its page."""
    folder.mkdir(parents=True, exist_ok=True)
    found = manifest.load(store, report, REPORT_SCHEMA)
    for part in found.parts:
        path = folder / part.key.removeprefix(f"{report}/").replace("/", "-")
        path.write_bytes(manifest.read_part(store, part))
    return folder / "index.html"


def settings(words: list[str]) -> dict[str, Any]:
    """Parameters from NAME=VALUE words; a wrong one ends the program with what is allowed."""
    named = dict(word.partition("=")[::2] for word in words)
    try:
        return LoopParameters.model_validate(named).model_dump(mode="json", include=set(named))
    except ValidationError as error:
        first = error.errors()[0]
        raise SystemExit(f"--set {first['loc'][0]}: {first['msg']} (it is {first['input']!r})") from None


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
    os.environ.update(running)
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
