"""A trainer that says it is suspended and takes its time to end: until the pipe `go` of LINGER is written.

It writes into the pipe `arrived` there once it has said so.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from fairloop.serving.operation_store import OperationStore
from fairloop.serving.record import SUSPENDED, Record
from fairloop.store import ObjectStore

parser = argparse.ArgumentParser()
for name in ("--operation", "--owner", "--parent"):
    parser.add_argument(name)
parser.add_argument("--attempt", type=int)
given = parser.parse_args()
record = Record(given.attempt, given.owner, SUSPENDED)
OperationStore(ObjectStore.from_environment()).put_record(given.operation, record)
pipes = Path(os.environ["LINGER"])
(pipes / "arrived").write_text("suspended")
(pipes / "go").read_text()
