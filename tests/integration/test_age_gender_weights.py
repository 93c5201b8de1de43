"""What loading does to the weights of the age and gender networks."""

from __future__ import annotations

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest

from fairloop.models import fetch
from services.annotator.age_gender import CHIP_SIZES, network_input, without_tiny_weights
from services.generator import dcgan


@pytest.mark.parametrize("attribute", ["age", "gender"])
def test_weights_without_effect_become_zero_and_no_bit_of_any_answer_changes(attribute: str) -> None:
    random = np.random.default_rng(5)
    latents = random.standard_normal((150, 100)).astype(np.float32)
    size = CHIP_SIZES[attribute]
    step = 64 // size
    chips = np.concatenate(
        [
            dcgan.render(dcgan.load(fetch("dcgan-faces")), latents)[:, ::step, ::step],
            random.integers(0, 256, (50, size, size, 3)),
            np.broadcast_to(random.integers(0, 256, (100, 1, 1, 3)), (100, size, size, 3)),
        ]
    ).astype(np.uint8)
    published = fetch(f"{attribute}-onnx").read_bytes()
    loaded = without_tiny_weights(published)
    assert loaded != published
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    expected, found = (
        onnxruntime.InferenceSession(network, options).run(None, {"images": network_input(chips)})[0]
        for network in (published, loaded)
    )
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))
