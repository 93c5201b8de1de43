"""Groups of subjects as numbers, for what a training does by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairloop.errors import InvalidInput
from services.recognizer.config import Config


class Cells:
    """Cells as numbers: of images, and of classes (the cell that most images of the class carry)."""

    def __init__(
        self, labels: NDArray[np.int64], classes: int, cells: Sequence[str] | None, config: Config
    ) -> None:
        self.names: list[str] = []
        self.of_images: NDArray[np.int64] | None = None
        self.of_classes: NDArray[np.int64] | None = None
        needed = [
            what
            for what, wanted in (
                ("sampling", config.sampling == "balanced"),
                ("worst_share", config.worst_share > 0),
                ("group_margins", bool(config.group_margins)),
            )
            if wanted
        ]
        if cells is None:
            if needed:
                raise InvalidInput(needed[0], "needs the cell of every image, and no attribute is named")
            return
        if len(cells) != len(labels):
            raise InvalidInput("cells", f"{len(cells)} for {len(labels)} images")
        self.names = sorted(set(cells))
        places = {name: place for place, name in enumerate(self.names)}
        self.of_images = np.array([places[cell] for cell in cells], np.int64)
        counts = [Counter[int]() for _ in range(classes)]
        for label, place in zip(labels.tolist(), self.of_images.tolist(), strict=True):
            counts[label][place] += 1
        # Equal counts go to the first by name.
        self.of_classes = np.array([min(c, key=lambda p: (-c[p], p)) for c in counts], np.int64)

    def margins(self, config: Config) -> Tensor | None:
        """The margin of every class, where groups have margins of their own."""
        if not config.group_margins:
            return None
        assert self.of_classes is not None
        own = dict(config.group_margins)
        for cell in own:
            if cell not in self.names:
                raise InvalidInput(
                    "group_margins", f"{cell} has no image; there are {', '.join(filter(None, self.names))}"
                )
        usual = config.cosine_margin if config.loss == "cosface" else config.margin
        values = [own.get(name, usual) for name in self.names]
        return torch.tensor([values[place] for place in self.of_classes.tolist()])
