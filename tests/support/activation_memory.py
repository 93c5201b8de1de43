"""A process that writes an activation table of 512 units, reads it by unit, and says what memory it took.

    python -m tests.support.activation_memory ROWS

prints the units that it read, their mean, the bytes of the largest group of
rows, and by how many bytes its memory grew since it had done the same with 4,000
rows, after which all that is loaded lazily is there.
"""

from __future__ import annotations

import resource
import sys

import numpy as np
import pyarrow as pa

from fairloop.activations import LayerColumn, activation_schema, unit_blocks
from fairloop.table_file import TableFile
from services.annotator.activations import shard_images

LAYER = LayerColumn("avgpool", "AdaptiveAvgPool2d", (512, 1, 1), 512, "none")
BLOCK = 8 * 2**20


def worked(rows: int) -> tuple[int, float, int]:
    """Units read, the mean of all answers, bytes of the largest group of rows."""
    schema = activation_schema([LAYER], (), masked=False, embedding=True)
    file = TableFile(schema)
    random = np.random.default_rng(1)
    step = shard_images([LAYER])
    for start in range(0, rows, step):
        count = min(step, rows - start)
        columns = [
            pa.array([f"{k:032x}" for k in range(start, start + count)]),
            pa.array([None] * count, pa.string()),
            pa.array(["ok"] * count),
            pa.FixedSizeListArray.from_arrays(pa.array(random.random(count * 512, np.float32)), 512),
        ]
        file.add(pa.Table.from_arrays(columns, schema=schema))
    file.close()
    largest = max(group.nbytes for group in file.groups())
    units, mean = 0, 0.0
    for _, block in unit_blocks(file.groups, LAYER, rows, most=BLOCK):
        units += block.shape[1]
        mean += float(block.sum(dtype=np.float64)) / (rows * 512)
    return units, mean, largest


def grown() -> int:
    """The most memory that this process had so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    worked(4_000)
    before = grown()
    print(*worked(int(sys.argv[1])), grown() - before)
