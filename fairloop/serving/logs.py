"""JSON lines on standard error, with the ids of request and flow run and never a secret."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from fairloop.serving import tracing
from fairloop.serving.context import CURRENT


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, service, event, ids of request, flow run and trace, fields."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
        }
        context = CURRENT.get(None)
        if context is not None:
            line["request_id"] = context.request_id
            if context.flow_run:
                line["flow_run_id"] = context.flow_run
        trace = tracing.trace_id()
        if trace:
            line["trace_id"] = trace
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(service: str, level: int = logging.INFO) -> None:
    """Sends everything that is logged to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def log(logger: logging.Logger, event: str, **fields: Any) -> None:
    """Logs an event with fields."""
    logger.info(event, extra={"fields": fields})
