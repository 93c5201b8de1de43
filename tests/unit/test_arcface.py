"""ArcFace against its formula, in closed form and in float64."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from fairloop.errors import InvalidInput
from services.recognizer.arcface import with_margin
from services.recognizer.margins import MarginLoss, Margins


def arcface(classes: int, embedding: int, *, scale: float = 64.0, margin: float = 0.5) -> MarginLoss:
    return MarginLoss(classes, embedding, Margins(angle=margin), scale=scale)


def loss_at(degrees: float, *, scale: float, margin: float) -> float:
    """The loss of one embedding `degrees` away from its class and 90 − `degrees` from the other."""
    loss = arcface(2, 2, scale=scale, margin=margin)
    with torch.no_grad():
        loss.centres.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))
    angle = math.radians(degrees)
    return loss(torch.tensor([[5 * math.cos(angle), 5 * math.sin(angle)]]), torch.tensor([0])).item()


def test_two_classes_give_the_value_computed_by_hand() -> None:
    # θ₀ = 60°, θ₁ = 30°: cos(60° + 0.5) = 0.023597, cos 30° = 0.866025, so
    # L = log(1 + e^{2·0.842429}) = log(1 + 5.391683) = 1.854998.
    assert loss_at(60, scale=2, margin=0.5) == pytest.approx(1.854998, abs=1e-6)


def test_the_published_settings_agree_with_the_formula_in_float64() -> None:
    rng = np.random.default_rng(7)
    embeddings, centres = rng.normal(size=(40, 16)), rng.normal(size=(9, 16))
    labels = rng.integers(0, 9, 40)
    cosine = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)) @ (
        centres / np.linalg.norm(centres, axis=1, keepdims=True)
    ).T
    rows = np.arange(40)
    cosine[rows, labels] = np.cos(np.arccos(cosine[rows, labels]) + 0.5)
    logits = 64 * cosine
    expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[rows, labels])

    loss = arcface(9, 16)
    with torch.no_grad():
        loss.centres.copy_(torch.from_numpy(centres))
    found = loss(torch.from_numpy(embeddings).float(), torch.from_numpy(labels)).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_without_margin_and_scale_it_is_the_cross_entropy_of_the_cosines() -> None:
    generator = torch.Generator().manual_seed(1)
    loss = arcface(5, 8, scale=1.0, margin=0.0)
    embeddings = torch.randn(20, 8, generator=generator)
    labels = torch.randint(0, 5, (20,), generator=generator)
    cosine = functional.cosine_similarity(embeddings[:, None], loss.centres[None], dim=2)
    assert loss(embeddings, labels).item() == pytest.approx(
        functional.cross_entropy(cosine, labels).item(), rel=1e-6
    )


@pytest.mark.parametrize("cosine", [1.0, -1.0, 1.0 + 1e-7, -1.0 - 1e-7, 0.0])
@pytest.mark.parametrize("margin", [0.0, 0.5, 1.5])
def test_the_gradient_is_finite_where_the_angle_is_zero_or_straight(cosine: float, margin: float) -> None:
    row = torch.tensor([[cosine, 0.3]], requires_grad=True)
    (64 * with_margin(row, torch.tensor([0]), margin)).logsumexp(1).sum().backward()
    assert row.grad is not None
    assert torch.isfinite(row.grad).all()


def test_an_embedding_on_its_centre_or_opposite_trains_on() -> None:
    loss = arcface(2, 2)
    with torch.no_grad():
        loss.centres.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    embeddings = torch.tensor([[2.0, 0.0], [-2.0, 0.0]], requires_grad=True)
    loss(embeddings, torch.tensor([0, 0])).backward()
    assert embeddings.grad is not None
    assert loss.centres.grad is not None
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(loss.centres.grad).all()


def test_the_gradient_is_that_of_the_formula() -> None:
    angles = torch.linspace(0.2, math.pi - 0.7, 30, dtype=torch.float64)
    ours = angles.cos()[:, None].requires_grad_()
    with_margin(ours, torch.zeros(30, dtype=torch.int64), 0.5).sum().backward()
    theirs = angles.cos()[:, None].requires_grad_()
    (theirs.acos() + 0.5).cos().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_wider_angle_never_scores_higher() -> None:
    cosine = torch.linspace(0, math.pi, 2001, dtype=torch.float64).cos()[:, None]
    moved = with_margin(cosine, torch.zeros(2001, dtype=torch.int64), 0.5).flatten()
    assert (moved.diff() < 0).all()


def test_the_margin_moves_only_the_own_class() -> None:
    cosine = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    moved = with_margin(cosine, torch.tensor([2, 0]), 0.5)
    expected = cosine.clone()
    expected[0, 2] = math.cos(math.acos(0.3) + 0.5)
    expected[1, 0] = math.cos(math.acos(0.4) + 0.5)
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 1}, "classes: 1 is not 2 or more"),
        ({"scale": 0.0}, "scale: 0.0 is outside"),
        ({"scale": math.nan}, "scale: nan is outside"),
        ({"margin": -0.1}, "margin: -0.1 radians"),
        ({"margin": 28.6}, "margin: 28.6 radians"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        arcface(**{"classes": 2, "embedding": 4, **arguments})
