"""insightface's own network and verification, run beside ours on the same weights and embeddings.

Its code is not in this tree and in no package. `FAIRLOOP_ARCFACE_TORCH` names the folder
`recognition/arcface_torch` of a checkout of it; without one these tests are skipped, and the quick tests'
second construction of either stands alone.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy import interpolate
from torch import nn
from torch.nn import functional

from fairloop.stats.lfw_grid import lfw_grid_accuracy
from services.recognizer import published
from tests.unit.stats.test_lfw_grid import published_pairs

THEIRS = os.environ.get("FAIRLOOP_ARCFACE_TORCH", "")

pytestmark = [
    pytest.mark.recognizer,
    pytest.mark.skipif(not THEIRS, reason="FAIRLOOP_ARCFACE_TORCH names no checkout of arcface_torch"),
]


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Their folder, importable; mxnet, which only their reader of `.bin` files takes, is left empty."""
    known = set(sys.modules)
    mxnet = ModuleType("mxnet")
    mxnet.ndarray = ModuleType("mxnet.ndarray")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mxnet", mxnet)
    monkeypatch.setitem(sys.modules, "mxnet.ndarray", mxnet.ndarray)  # type: ignore[attr-defined]
    # Before whatever else is called `eval` or `backbones`.
    monkeypatch.syspath_prepend(THEIRS)
    yield Path(THEIRS)
    for name in set(sys.modules) - known:
        if name.split(".")[0] in ("backbones", "eval"):
            del sys.modules[name]


def drawn(net: nn.Module) -> nn.Module:
    """Weights at which activations neither vanish nor grow, and statistics that are not 0 and 1."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return net.eval()


@pytest.mark.parametrize("name", ["iresnet18", "iresnet34", "iresnet50", "iresnet100"])
def test_a_state_dictionary_of_theirs_loads_strictly_both_ways_and_embeds_as_theirs(
    theirs: Path, tmp_path: Path, name: str
) -> None:
    torch.manual_seed(1)
    net = drawn(getattr(importlib.import_module("backbones.iresnet"), name)(False))
    torch.save(net.state_dict(), tmp_path / "backbone.pth")
    ours = published.read_backbone(tmp_path / "backbone.pth", name)
    images = torch.rand(2, 3, 112, 112) * 2 - 1
    with torch.inference_mode():
        expected, found = functional.normalize(net(images)), functional.normalize(ours(images))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    net.load_state_dict(ours.state_dict(), strict=True)


@pytest.mark.parametrize("components", [0, 8])
@pytest.mark.parametrize("seed", range(3))
def test_accuracy_and_val_are_those_of_verification_py(theirs: Path, seed: int, components: int) -> None:
    module: Any = importlib.import_module("eval.verification")

    class Linear:
        """scipy refuses repeated x for `slinear` by now; the line between neighbours is the same."""

        @staticmethod
        def interp1d(x: Any, y: Any, kind: str) -> Any:
            assert kind == "slinear"
            return interpolate.interp1d(x, y, kind="linear")

    module.interpolate = Linear
    first, second, same = published_pairs(seed, each=60)
    rows = np.empty((2 * len(first), first.shape[1]))
    rows[0::2], rows[1::2] = first, second
    _, _, accuracies, val, val_std, far = module.evaluate(rows, same, pca=components)
    found = lfw_grid_accuracy(first, second, same, far=1e-3, components=components)
    assert found.accuracies == pytest.approx(accuracies, abs=1e-9)
    assert found.accuracy_std == pytest.approx(np.std(accuracies), abs=1e-9)
    assert (found.val, found.val_std, found.far) == pytest.approx((val, val_std, far), abs=1e-9)
    assert 0.8 < found.accuracy < 1
