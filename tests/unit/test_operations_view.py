"""How operations are shown, and where the commands look for their servers."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.longrunning import operations_pb2
from google.rpc import code_pb2

from fairloop import client
from fairloop.commands.operation_view import details, duration, view
from fairloop.commands.surroundings import SERVICES, advised, parse_addresses, surroundings
from fairloop.errors import InvalidInput, Unavailable
from fairloop.v1 import common_pb2, metrics_pb2

NAME = "operations/metrics-" + "a" * 26
STARTED = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def operation(state: str, **fields: object) -> operations_pb2.Operation:
    metadata = common_pb2.OperationMetadata(
        method="MetricsService.RenderReport", state=f"OPERATION_STATE_{state}", attempt=2, owner="metrics-1"
    )
    for field, value in fields.items():
        setattr(metadata, field, value)
    metadata.create_time.FromDatetime(STARTED)
    made = operations_pb2.Operation(name=NAME, done=state in ("SUCCEEDED", "FAILED", "CANCELLED"))
    made.metadata.Pack(metadata)
    return made


def test_a_running_operation_shows_rate_and_estimate() -> None:
    running = operation("RUNNING", stage="rendering", done=5, total=20, unit="pages", rate=2.5, eta_seconds=6)
    found = view(running, STARTED.replace(minute=3))
    assert found.how_far() == "rendering: 5/20 pages (25%), 2.5 pages/s, about 6 s left"
    assert (found.service, found.age_seconds, found.create_time) == ("metrics", 180.0, "2026-05-04T12:00:00Z")
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["attempt"] == 2
    assert plain["progress"] == {
        "stage": "rendering",
        "done": 5,
        "total": 20,
        "unit": "pages",
        "rate": 2.5,
        "eta_seconds": 6.0,
        "measures": {},
    }
    assert plain["error"] is None
    assert plain["result"] is None


def test_what_has_ended_has_nothing_left_to_wait_for() -> None:
    fields = {"stage": "rendering", "done": 5, "total": 20, "unit": "pages", "rate": 2.5, "eta_seconds": 6}
    ended = operation("CANCELLED", **fields)
    assert dict(details(view(ended)))["progress"] == "rendering: 5/20 pages (25%)"


def test_a_result_is_shown_by_its_fields_and_a_long_one_is_cut() -> None:
    done = operation("SUCCEEDED")
    done.response.Pack(metrics_pb2.ReportResult(report="reports/0123456789abcdef", summary_json="x" * 5000))
    shown = dict(details(view(done)))
    assert shown["report"] == "reports/0123456789abcdef"
    assert shown["summary_json"] == "x" * 300 + " … (5000 characters; --json has all)"
    assert view(done).to_json()["result"]["summary_json"] == "x" * 5000


def test_what_would_move_the_cursor_is_not_printed() -> None:
    failed = operation("FAILED", stage="\x1b[2J")
    failed.error.code = code_pb2.INTERNAL
    failed.error.message = "bad\x1b[31m\nnews"
    assert view(failed).how_far() == "bad\ufffd[31m news"
    assert dict(details(view(failed)))["error"] == "INTERNAL: bad\ufffd[31m news"
    assert all("\x1b" not in text for _, text in details(view(failed)))


def test_a_clock_that_is_behind_the_server_gives_no_negative_age() -> None:
    assert view(operation("PENDING"), STARTED.replace(hour=11)).age_seconds == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (90, "2 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_services_are_those_of_the_client() -> None:
    assert client.SERVICES == SERVICES


def test_options_come_before_the_environment_and_that_before_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "environment").write_text(
        "# a comment\nFAIRLOOP_METRICS_ADDRESS=stack:1\nFAIRLOOP_GENERATOR_ADDRESS=stack:2\n"
        "FAIRLOOP_ANNOTATOR_ADDRESS=stack:3\nPREFECT_API_URL='http://stack:4/api'\n"
    )
    monkeypatch.setenv("FAIRLOOP_METRICS_ADDRESS", "environment:1")
    monkeypatch.setenv("FAIRLOOP_GENERATOR_ADDRESS", "environment:2")
    monkeypatch.delenv("FAIRLOOP_ANNOTATOR_ADDRESS", raising=False)
    before = dict(os.environ)
    with surroundings(tmp_path, ["metrics=option:1"]):
        found = {name: os.environ[f"FAIRLOOP_{name.upper()}_ADDRESS"] for name in ("metrics", "generator")}
        assert found == {"metrics": "option:1", "generator": "environment:2"}
        assert os.environ["FAIRLOOP_ANNOTATOR_ADDRESS"] == "stack:3"
        assert os.environ.get("PREFECT_API_URL") == before.get("PREFECT_API_URL")
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    "text", ["metrics", "x=h:1", "metrics=h", "metrics=h:0", "metrics=h:70000", "metrics=h:x"]
)
def test_a_wrong_address_is_named_with_what_is_allowed(text: str) -> None:
    with pytest.raises(InvalidInput, match="SERVICE=HOST:PORT with SERVICE one of generator") as caught:
        parse_addresses([text])
    assert repr(text) in str(caught.value)


def test_errors_say_what_to_do() -> None:
    noisy = Unavailable(
        "the metrics at h:1 does not answer: connections to all backends failing; last error: UNKNOWN: "
        "ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused"
    )
    said = str(advised(noisy, "metrics"))
    assert said.startswith("the metrics at h:1 does not answer (Connection refused); start it with `make up`")
    assert "python -m services.metrics" in said
