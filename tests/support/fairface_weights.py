"""A cache of weights with a network of FairFace's architecture in it, as a person puts it in place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision.models import resnet34

from fairloop.models import entry, fetch, local_path, put


def fairface_cache(folder: Path) -> tuple[dict[str, str], Path]:
    """The variable of a cache below the folder with `fairface-7` and dlib's landmarks; the former's file."""
    variables = {"FAIRLOOP_CACHE": str(folder / "cache")}
    landmarks = fetch("dlib-landmarks-5")
    weights = folder / "net.pt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAIRLOOP_CACHE", variables["FAIRLOOP_CACHE"])
        path = local_path(entry("dlib-landmarks-5"))
        path.parent.mkdir(parents=True)
        path.symlink_to(landmarks)
        torch.manual_seed(7)
        torch.save(resnet34(weights=None, num_classes=18).state_dict(), weights)
        put("fairface-7", weights)
    return variables, weights
