"""The faces of a dataset as the demo's base is taught on them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fairloop.dataset import Dataset
from fairloop.errors import PreconditionFailed

if TYPE_CHECKING:
    from torch import Tensor


def captioned(dataset: Dataset, size: int) -> tuple[Tensor, list[str]]:
    """float32 (N, 3, size, size) in [−1, 1], and the prompt of each image.

    `PreconditionFailed` names an image without a prompt.
    """
    import torch

    found, captions = [], []
    for row, data in dataset.images():
        if not row["prompt"]:
            raise PreconditionFailed(f"{dataset.name}/images/{row['image_id']} has no prompt")
        captions.append(str(row["prompt"]))
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            fitted = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
            found.append(np.asarray(fitted, np.uint8))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 127.5 - 1, captions
