"""What the rows of an annotator's shard follow from besides the request and the images, as one text."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from fairloop.serving import recipe as shared
from services.annotator.core import Facts


def recipe(schema: pa.Schema, made_from: Sequence[str], detector: Facts) -> str:
    """16 hex, equal for equal columns, annotators or networks with their versions, detector and release."""
    return shared.recipe(schema, [*made_from, f"detector {detector.name}@{detector.version}"])
