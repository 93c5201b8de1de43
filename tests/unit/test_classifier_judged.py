"""How a classifier is judged: confusion matrices with their axes, and accuracy on worse pictures."""

from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix

from fairloop.errors import InvalidInput
from fairloop.reporting.figures import classifier as drawn
from fairloop.spool import Spool
from fairloop.stats.confusion import confusion_tables
from services.annotator import classifier_changes, classifier_evaluation, classifier_options


def patterns(count: int, side: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Noise of two brightnesses, and which of the two each image is."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, count)
    images = rng.integers(0, 120, (count, side, side, 3)) + 100 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


CLASSES = ("white", "black", "asian")


def judged() -> classifier_evaluation.Judged:
    """Three classes whose canonical order is not that of the alphabet, in four intersections."""
    rng = np.random.default_rng(11)
    truth = [CLASSES[place] for place in rng.integers(0, 3, 120)]
    shares = rng.random((120, 3)) + 0.6 * np.eye(3)[[CLASSES.index(name) for name in truth]]
    groups = {
        "gender": [("female", "male")[n % 2] for n in range(120)],
        "skin_tone_band": [("light", "dark", None)[n % 3] for n in range(120)],
    }
    return classifier_evaluation.Judged(
        "race4", CLASSES, truth, shares / shares.sum(1, keepdims=True), [None] * 120, groups, seed=1
    )


def test_confusion_matrices_have_the_axes_that_they_name() -> None:
    world = judged()
    found = classifier_evaluation.evaluation(world)
    assert found["axes"] == {"rows": "true", "columns": "predicted"}
    assert found["classes"] == list(CLASSES)
    tables = {(table["grouping"], table["group"]): table for table in found["tables"]}
    gender, band = (world.groups[name] for name in ("gender", "skin_tone_band"))
    expected: dict[tuple[str, str], list[bool]] = {("", "(all)"): [True] * 120}
    for value in ("female", "male"):
        expected["gender", value] = [label == value for label in gender]
        for tone in ("light", "dark"):
            expected["skin_tone_band", tone] = [label == tone for label in band]
            expected["gender × skin_tone_band", f"gender={value},skin_tone_band={tone}"] = [
                (one, other) == (value, tone) for one, other in zip(gender, band, strict=True)
            ]
    assert set(tables) == set(expected)
    for key, mask in expected.items():
        truth = [name for name, chosen in zip(world.truth, mask, strict=True) if chosen]
        predicted = [name for name, chosen in zip(world.predicted, mask, strict=True) if chosen]
        matrix = confusion_matrix(truth, predicted, labels=list(CLASSES))
        assert tables[key]["confusion"] == matrix.tolist()
        assert tables[key]["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
        assert tables[key]["recall"]["black"] == pytest.approx(matrix[1, 1] / matrix[1].sum())
        assert tables[key]["called"] == dict(zip(CLASSES, matrix.sum(axis=0).tolist(), strict=True))
        low, high = tables[key]["accuracy_interval"]
        assert low < tables[key]["accuracy"] < high
    assert set(found["fairness"]) == {"gender", "skin_tone_band", "gender × skin_tone_band"}


def test_a_class_outside_the_axes_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidInput, match="predicted: 'green' at position 1 is none of white, black"):
        confusion_tables(["white", "black"], ["white", "green"], ["white", "black"])
    with pytest.raises(InvalidInput, match="there are no images"):
        confusion_tables([], [], ["white"])


def test_changes_keep_size_and_type_and_draw_the_same_for_the_same_seed() -> None:
    images, _ = patterns(3, 40)
    assert tuple(classifier_changes.CHANGES) == classifier_options.CHANGES
    for name, change in classifier_changes.CHANGES.items():
        for level in change.levels:
            made = classifier_changes.changed(images, name, level, seed=1, first=0)
            assert made.shape == images.shape
            assert made.dtype == np.uint8
            assert not np.array_equal(made, images)
            np.testing.assert_array_equal(made, classifier_changes.changed(images, name, level, 1, 0))
            # What an image becomes does not depend on the batch that it is in.
            np.testing.assert_array_equal(made[2:], classifier_changes.changed(images[2:], name, level, 1, 2))
    other = classifier_changes.changed(images, "crop", 0.65, seed=2, first=0)
    assert not np.array_equal(other, classifier_changes.changed(images, "crop", 0.65, seed=1, first=0))


def test_a_crop_is_a_window_of_the_image_and_a_turned_hue_leaves_greys() -> None:
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], (100, 1, 3))
    made = classifier_changes.cropped(ramp, 0.5, seed=3)
    # Half of the ramp's 100 columns are left, so it rises half as far.
    assert int(made[50, -4, 0]) - int(made[50, 3, 0]) == pytest.approx(100 * 92 / 99, abs=4)
    np.testing.assert_array_equal(classifier_changes.hue_turned(ramp, 120), ramp)
    red = np.full((4, 4, 3), [250, 0, 0], np.uint8)
    green = classifier_changes.hue_turned(red, 120)[0, 0]
    assert green[1] == 250
    assert max(green[0], green[2]) < 10  # Pillow's hue has 256 steps


def test_robustness_is_what_judging_changed_images_by_hand_gives() -> None:
    images, labels = patterns(60, 32)
    classes = ("female", "male")

    def answers(chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        bright = chips.reshape(len(chips), -1).mean(axis=1) / 255
        return np.stack([0.4 - bright, bright - 0.4], axis=1).astype(np.float32)

    world = classifier_evaluation.Judged(
        "gender",
        classes,
        [classes[label] for label in labels],
        np.eye(2)[labels],
        [None] * 60,
        {"skin_tone_band": [("light", "dark")[n % 2] for n in range(60)]},
        seed=9,
    )
    with ExitStack() as files:
        spool = files.enter_context(Spool(32))
        for image in images:
            spool.add(image)
        spool.finish()
        found = classifier_evaluation.robustness(world, spool, answers, ["brightness", "crop"])
        again = classifier_evaluation.robustness(world, spool, answers, ["crop", "brightness"])
    assert found == again
    assert [(step["change"], step["level"]) for step in found[:2]] == [("", None), ("brightness", 0.5)]
    assert len(found) == 9
    for step in (found[0], found[1], found[4]):
        # Linear light: sRGB's curve of IEC 61966-2-1, whatever `fairloop.degraded` does.
        value = images / 255
        linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
        linear = linear * (step["level"] or 1.0)
        back = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
        right = (np.rint(255 * back).mean(axis=(1, 2, 3)) / 255 > 0.4) == labels
        (everybody, bands) = step["groupings"]
        assert everybody["groups"][0]["accuracy"] == pytest.approx(right.mean())
        shares = {"light": right[::2].mean(), "dark": right[1::2].mean()}
        assert {one["group"]: one["accuracy"] for one in bands["groups"]} == pytest.approx(shares)
        assert bands["gap"] == pytest.approx(abs(shares["light"] - shares["dark"]))


def test_figures_show_the_counts_under_the_names_that_they_are_counted_by() -> None:
    world = judged()
    found = classifier_evaluation.evaluation(world)
    matrices = drawn.confusion_canvas(found, "gender").axes
    assert len(matrices) == 2
    for ax, group in zip(matrices, ("female", "male"), strict=True):
        (table,) = [one for one in found["tables"] if one["group"] == group]
        assert ax.get_title(loc="left").startswith(group)
        assert (ax.get_ylabel(), ax.get_xlabel()) == ("true", "predicted")
        for axis in (ax.get_xticklabels(), ax.get_yticklabels()):
            assert [label.get_text() for label in axis] == list(CLASSES)
        # An image's rows run downwards, as its y axis does.
        cells = {
            (round(t.get_position()[1]), round(t.get_position()[0])): int(t.get_text()) for t in ax.texts
        }
        assert cells == {
            (row, column): count
            for row, line in enumerate(table["confusion"])
            for column, count in enumerate(line)
        }
    (bars,) = drawn.called_canvas(found).axes
    heights = [bar.get_height() for bar in bars.patches]
    assert heights[:3] == [world.truth.count(name) for name in CLASSES]
    assert heights[3:] == [world.predicted.count(name) for name in CLASSES]
    epochs = pa.table(
        {"epoch": [1, 2], "train_loss": [1.0, 0.5], "validation_loss": [0.7, 0.9], "best": [True, False]}
    )
    (ax,) = drawn.curve_canvas(epochs, "models/x").axes
    assert [list(line.get_ydata()) for line in ax.lines] == [[1.0, 0.5], [0.7, 0.9], [0.7]]
    assert drawn.png(drawn.curve_canvas(epochs, "x")) == drawn.png(drawn.curve_canvas(epochs, "x"))
