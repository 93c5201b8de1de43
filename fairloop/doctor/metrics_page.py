"""A server's `/metrics`: its version and the time that stages took."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import urllib3

TIMEOUT_SECONDS = 5.0

_SAMPLE = re.compile(r"^(fairloop_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"\\]*)"')


@dataclass(frozen=True)
class MetricsPage:
    """`version` of the server; per stage how many pieces of work there were and their seconds in all."""

    version: str
    stages: Mapping[str, tuple[float, float]]

    def since(self, before: MetricsPage) -> dict[str, float]:
        """Mean seconds of a piece of work by stage since another reading, where there was any."""
        means = {}
        for stage, (count, seconds) in self.stages.items():
            earlier_count, earlier_seconds = before.stages.get(stage, (0.0, 0.0))
            if count > earlier_count:
                means[stage] = (seconds - earlier_seconds) / (count - earlier_count)
        return means


def read(service: str) -> MetricsPage | None:
    """The page at `FAIRLOOP_{SERVICE}_METRICS_ADDRESS`; None where that is not set or nothing answers."""
    address = os.environ.get(f"FAIRLOOP_{service.upper()}_METRICS_ADDRESS")
    if not address:
        return None
    pool = urllib3.PoolManager(timeout=TIMEOUT_SECONDS, retries=False)
    try:
        reply = pool.request("GET", f"http://{address}/metrics")
    except urllib3.exceptions.HTTPError:
        return None
    return parse(reply.data.decode(errors="replace")) if reply.status == 200 else None


def parse(text: str) -> MetricsPage:
    """A page in Prometheus' text format; what is not Fairloop's is passed over."""
    version = ""
    stages: dict[str, tuple[float, float]] = {}
    for name, labels, value in _SAMPLE.findall(text):
        found = dict(_LABEL.findall(labels))
        if name == "fairloop_build_info":
            version = found.get("version", "")
        elif name.startswith("fairloop_stage_seconds_") and "stage" in found:
            count, seconds = stages.get(found["stage"], (0.0, 0.0))
            if name.endswith("_count"):
                stages[found["stage"]] = (float(value), seconds)
            elif name.endswith("_sum"):
                stages[found["stage"]] = (count, float(value))
    return MetricsPage(version, stages)
