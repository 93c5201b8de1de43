"""The figure of a training shows the numbers of its curves."""

import numpy as np
import pyarrow as pa
import pytest

from fairloop.reporting.figures.training import training_canvas, training_png

STEPS = pa.table(
    {
        "step": list(range(1, 101)),
        "loss": [10.0 - 0.05 * step for step in range(100)],
        "learning_rate": [0.1 * (100 - step) / 100 for step in range(100)],
    }
)
VALIDATIONS = pa.table(
    {
        "step": [0, 50, 100],
        "tmr": [0.1, 0.7, 0.6],
        "garbe": [0.5, None, 0.2],
        "best": [False, True, False],
    }
)


def test_every_curve_has_a_titled_panel_with_its_numbers() -> None:
    axes = {ax.get_title(loc="left"): ax for ax in training_canvas(STEPS, VALIDATIONS, "models/x").axes}
    assert list(axes) == ["Loss in training", "Learning rate", "True match rate", "GARBE"]
    every, mean = axes["Loss in training"].lines
    assert list(every.get_ydata()) == STEPS["loss"].to_pylist()
    # A mean over five neighbours of a straight line is the one in the middle.
    np.testing.assert_allclose(mean.get_ydata(), STEPS["loss"].to_numpy()[2:-2])
    assert list(mean.get_xdata()) == list(range(5, 101))
    assert list(axes["Learning rate"].lines[0].get_ydata()) == STEPS["learning_rate"].to_pylist()
    line, ring = axes["True match rate"].lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0, 50, 100], [0.1, 0.7, 0.6])
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([50], [0.7])
    assert np.isnan(axes["GARBE"].lines[0].get_ydata()[1]), "what was not measured is a gap"


@pytest.mark.parametrize("validations", [None, VALIDATIONS])
def test_equal_curves_give_equal_bytes(validations: pa.Table | None) -> None:
    first = training_png(STEPS.slice(0, 1), validations, "a training of one step")
    assert first == training_png(STEPS.slice(0, 1), validations, "a training of one step")
    assert first.startswith(b"\x89PNG")
