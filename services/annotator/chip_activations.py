"""What the units of one layer answer to each chip of a list, as Fairface-Activations writes it.

`fairface_activations.csv` has an unnamed index, `image_paths` (the chip), and a
column for each unit. The shape of the layer's answer stands beside it, in
`fairface_activations.shapes.json`: maps are flattened in its order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa

from fairloop.activations import texts
from fairloop.errors import PreconditionFailed
from services.annotator.fairface import FairFace
from services.annotator.fairface_network import network_input
from services.annotator.layers import Floats, check_layers, find_layers, recorded
from services.annotator.resumable_csv import ResumableCsv

FILE = "fairface_activations.csv"
INDEX, PATHS = "", "image_paths"


class ChipActivations:
    """The file of a folder, gone on with after a stop; a context manager.

    `chips` are the names of those that the folder has already. Raises
    `InvalidInput` for an unknown layer, which lists those there are, or a file
    of another layer, and `PreconditionFailed` when the file lacks some of
    `chips`: they were described without it.
    """

    def __init__(self, folder: Path, annotator: FairFace, layer: str, chips: Sequence[str]) -> None:
        self._network = annotator.network
        device = next(self._network.parameters()).device
        black = [np.zeros((8, 8, 3), np.uint8)] * 2
        known = find_layers(self._network, network_input(black).to(device))
        check_layers(known, [layer], annotator.name, "layer")
        self._layer = known[layer]
        units = [str(unit) for unit in range(self._layer.size)]
        self._columns = (INDEX, PATHS, *units)
        self._table = ResumableCsv(folder / FILE, self._columns, PATHS, chips)
        lacking = [name for name in chips if name not in self._table.done]
        if lacking:
            self._table.__exit__(None, None, None)
            raise PreconditionFailed(
                f"{folder} has {len(lacking):,} chips that were described without their activations, first "
                f"{lacking[0]}; name another folder"
            )
        shape = {"shape": self._layer.shape, "pooling": "none", "type": self._layer.kind}
        text = json.dumps({layer: shape}, indent=2) + "\n"
        (folder / FILE).with_suffix(".shapes.json").write_text(text, encoding="utf-8")

    @contextmanager
    def watching(self) -> Iterator[list[Floats]]:
        """Takes down what the layer answers to the chips that the annotator describes meanwhile, in order."""
        with recorded(self._network, [self._layer], "none") as taken:
            yield taken[self._layer.name]

    def add(self, chips: Sequence[str], answers: Sequence[Floats]) -> None:
        """Writes a row for each chip, of what `watching` took down."""
        rows = np.concatenate(answers)
        cells = texts(
            pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), self._layer.size), self._layer.size
        )
        for chip, row in zip(chips, cells, strict=True):
            index = str(len(self._table.done))
            self._table.add([dict(zip(self._columns, (index, chip, *row), strict=True))])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.__exit__(kind, error, trace)
