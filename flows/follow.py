"""Starting the served deployment, following its log, fetching its report.

Prefect reads its settings when it is first imported: set PREFECT_API_URL before
this module is.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.sorting import LogSort
from prefect.deployments import run_deployment
from rich.console import Console

from fairloop import manifest
from fairloop.store import ObjectStore

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
    manifest.download(store, found, folder)
    return folder / "index.html"
