"""What the rows of a shard follow from besides the request and the images, as one text.

A server that was upgraded goes on with the operations that its predecessor left
unfinished. Rows by two versions of an annotator, or with other columns, in one table
would all be told of as the newer one's: such shards are computed again.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from fairloop.manifest import producer
from fairloop.tables import content_id
from services.annotator.core import Facts


def recipe(schema: pa.Schema, made_from: Sequence[str], detector: Facts) -> str:
    """16 hex, equal for equal columns, annotators or networks with their versions, detector and release."""
    return content_id(
        {
            "columns": [[column.name, str(column.type)] for column in schema],
            "made_from": list(made_from),
            "detector": f"{detector.name}@{detector.version}",
            "release": producer()["fairloop"],
        }
    )
