"""Images of a dataset as the trained part of a network takes them: on disk, computed once.

What the frozen part makes of an image never changes, so it is computed once for
each image and not in every epoch. Memory does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fairloop.dataset import Dataset
from fairloop.errors import PreconditionFailed
from fairloop.spool import Spool
from services.annotator import classifier_chips
from services.annotator.classifier_fit import Loader
from services.annotator.classifier_network import PARTS, Classifier, Shape, pixels, size_of
from services.annotator.classifier_samples import Sample
from services.annotator.detectors import FaceDetector
from services.annotator.images import UnreadableImage, decode

BATCH = 16
"""Images of one pass through the frozen part."""
TOLD = 100
"""Images between words of progress."""


@dataclass
class Read:
    """Images of one part of the data; `samples` are those in whose images a face was found, in order.

    `chips` holds what the network is shown of them, where that was asked for.
    """

    inputs: Loader
    samples: list[Sample] = field(default_factory=list)
    without_face: int = 0
    chips: Spool | None = None


class Reader:
    """Fills files with what the trained part of `net` takes; they go when `files` is closed."""

    def __init__(
        self,
        net: Classifier,
        trained: str,
        alignment: str,
        detector: FaceDetector | None,
        files: ExitStack,
    ) -> None:
        """`trained` is head, top or all; `detector` is needed where faces are aligned."""
        self._shape: Shape = net.shape
        self._frozen, _ = parted(net, trained)
        self._first = "body" if trained == "all" else trained
        self._alignment, self._detector, self._files = alignment, detector, files

    def read(
        self,
        dataset: Dataset,
        parts: Mapping[str, Sequence[Sample]],
        *,
        keep_chips: Sequence[str] = (),
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Read]:
        """Reads the images of each part, in one pass; `tell(done, total)` comes every 100 of them.

        The chips of the parts in `keep_chips` are kept, too. Raises
        PreconditionFailed for an image that cannot be read, and where a part
        has no face.
        """
        whole = self._first == "body"
        places = {sample.position: (part, sample) for part, chosen in parts.items() for sample in chosen}
        spools = {part: self._spool(whole) for part in parts}
        chips = {part: spools[part] if whole else self._spool(True) for part in keep_chips if part in parts}
        found = {
            part: Read(self._loader(spool, whole), chips=chips.get(part)) for part, spool in spools.items()
        }
        waiting: dict[str, list[NDArray[np.uint8]]] = {part: [] for part in parts}
        done = 0
        for position, (row, data) in enumerate(dataset.images()):
            if position not in places:
                continue
            part, sample = places[position]
            chip = self._chip(data, f"{row['image_id']} of {dataset.name}")
            if chip is None:
                found[part].without_face += 1
            else:
                found[part].samples.append(sample)
                waiting[part].append(chip)
                if len(waiting[part]) == BATCH:
                    self._flush(waiting[part], spools[part], chips.get(part))
            done += 1
            if done % TOLD == 0 or done == len(places):
                tell(done, len(places))
        for part, spool in spools.items():
            self._flush(waiting[part], spool, chips.get(part))
            if not found[part].samples:
                raise PreconditionFailed(f"no face was found in the {part} images of {dataset.name}")
        for spool in {id(one): one for one in (*spools.values(), *chips.values())}.values():
            spool.finish()
        return found

    def _spool(self, whole: bool) -> Spool:
        size = self._shape.size if whole else size_of(self._shape, self._first)
        return self._files.enter_context(Spool(size, np.uint8 if whole else np.float32))

    def _loader(self, spool: Spool, whole: bool) -> Loader:
        if whole:
            return lambda chosen: pixels(spool(chosen), self._shape)
        return lambda chosen: torch.from_numpy(spool(chosen))

    def _chip(self, data: bytes, name: str) -> NDArray[np.uint8] | None:
        try:
            decoded = decode(data)
        except UnreadableImage as error:
            raise PreconditionFailed(f"{name} cannot be read: {error}") from error
        return classifier_chips.of_image(decoded, self._alignment, self._shape.size, self._detector)

    def _flush(self, waiting: list[NDArray[np.uint8]], spool: Spool, chips: Spool | None) -> None:
        if not waiting:
            return
        batch = np.stack(waiting)
        waiting.clear()
        if self._first == "body":
            values: NDArray[np.float32] | NDArray[np.uint8] = batch
        else:
            values = through(self._frozen, pixels(batch, self._shape))
        for one in values:
            spool.add(one)
        if chips is not None and chips is not spool:
            for chip in batch:
                chips.add(chip)


def parted(net: Classifier, trained: str) -> tuple[nn.Sequential, nn.Sequential]:
    """The frozen and the trained part; they share the network's weights.

    `trained`: head | top | all. The frozen part is set to have no gradients.
    """
    first = PARTS.index("body" if trained == "all" else trained)
    frozen = nn.Sequential(*(getattr(net, part) for part in PARTS[:first]))
    frozen.eval().requires_grad_(False)
    return frozen, nn.Sequential(*(getattr(net, part) for part in PARTS[first:]))


def through(module: nn.Module, x: torch.Tensor) -> NDArray[np.float32]:
    """What a module in evaluation mode makes of a batch, float32, on the module's device."""
    parameter = next(module.parameters(), None)
    with torch.inference_mode():
        answers: torch.Tensor = module(x if parameter is None else x.to(parameter.device))
    found: NDArray[np.float32] = answers.float().cpu().numpy()
    return found


def probabilities(answers: NDArray[np.float32]) -> NDArray[np.float64]:
    """The softmax of a network's answers (N, classes), float64."""
    found: NDArray[np.float64] = torch.from_numpy(answers).double().softmax(dim=1).numpy()
    return found
