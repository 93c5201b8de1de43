"""The four services as processes over one bucket, restartable by name."""

from __future__ import annotations

from pathlib import Path

from fairloop.client import AnnotatorClient, GeneratorClient, MetricsClient, RecognizerClient
from tests.support.processes import Process, free_port, start_service

QUICK = {
    "FAIRLOOP_HEARTBEAT_SECONDS": "0.3",
    "FAIRLOOP_SILENT_SECONDS": "2",
    "FAIRLOOP_SWEEP_SECONDS": "0.5",
}


class Services:
    """Starts services on free ports; a killed one comes back on its own port."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self._environment = {**environment, **QUICK}
        self._ports: dict[str, int] = {}
        self.processes: dict[str, list[Process]] = {}

    def start(self, name: str) -> None:
        """Starts a service; again after `kill`."""
        port = self._ports.setdefault(name, free_port())
        if name == "annotator":
            self._environment["FAIRLOOP_ANNOTATOR_ADDRESS"] = f"127.0.0.1:{port}"
        started = self.processes.setdefault(name, [])
        process, _ = start_service(
            f"services.{name}", self._folder, self._environment, port=port, name=f"{name}-{len(started)}"
        )
        started.append(process)

    def kill(self, name: str) -> None:
        """kill -9 of the service's process."""
        self.processes[name][-1].kill()

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self._ports[name]}"

    def shards(self, name: str) -> list[tuple[str, int]]:
        """(operation, index) of every shard that any process of this service began to compute."""
        return [
            (str(event["operation"]), int(str(event["shard"])))
            for process in self.processes[name]
            for event in process.events("shard started")
        ]

    @property
    def generator(self) -> GeneratorClient:
        return GeneratorClient("generator", self.address("generator"))

    @property
    def annotator(self) -> AnnotatorClient:
        return AnnotatorClient("annotator", self.address("annotator"))

    @property
    def recognizer(self) -> RecognizerClient:
        return RecognizerClient("recognizer", self.address("recognizer"))

    @property
    def metrics(self) -> MetricsClient:
        return MetricsClient("metrics", self.address("metrics"))

    def stop(self) -> None:
        for started in self.processes.values():
            for process in started:
                process.stop()
