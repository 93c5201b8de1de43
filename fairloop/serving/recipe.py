"""What the rows of a shard follow from besides the request and the images, as one text.

A server that was upgraded goes on with the operations that its predecessor left
unfinished. Rows by two versions of a network, or with other columns, in one table
would all be told of as the newer one's: such shards are computed again.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from fairloop.manifest import producer
from fairloop.tables import content_id


def recipe(schema: pa.Schema, made_from: Sequence[str]) -> str:
    """16 hex, equal for equal columns, networks with their versions (`made_from`) and release."""
    return content_id(
        {
            "columns": [[column.name, str(column.type)] for column in schema],
            "made_from": list(made_from),
            "release": producer()["fairloop"],
        }
    )
