"""Margin losses against their formulas, in closed form and against plain softmax."""

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch.nn import functional

from fairloop.errors import InvalidInput
from services.recognizer.margins import MarginLoss, Margins, conditional_value_at_risk, harder

FIRST = torch.tensor([0])


def loss_at(degrees: float, margins: Margins, *, scale: float = 2.0, **options: Any) -> float:
    """The loss of one embedding `degrees` away from its class and 90 − `degrees` from the other."""
    loss = MarginLoss(2, 2, margins, scale=scale, **options)
    with torch.no_grad():
        loss.centres.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))
    angle = math.radians(degrees)
    return loss(torch.tensor([[5 * math.cos(angle), 5 * math.sin(angle)]]), FIRST).item()


def plain(centres: torch.Tensor, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    cosine = functional.cosine_similarity(embeddings[:, None], centres[None], dim=2)
    return functional.cross_entropy(cosine, labels)


@pytest.mark.parametrize(
    ("margins", "by_hand"),
    [
        # θ₀ = 60°, θ₁ = 30°, s = 2: L = log(1 + e^{2·(cos 30° − t)}), t the own class's logit.
        (Margins(angle=0.0, cosine=0.4), math.log1p(math.exp(2 * (0.8660254 - (0.5 - 0.4))))),
        (Margins(angle=0.5, cosine=0.2), math.log1p(math.exp(2 * (0.8660254 - (0.0235970 - 0.2))))),
        (
            Margins(1.2, 0.3, 0.1),
            math.log1p(math.exp(2 * (0.8660254 - (math.cos(1.2 * math.pi / 3 + 0.3) - 0.1)))),
        ),
    ],
    ids=["cosface", "angle_and_cosine", "all_three"],
)
def test_two_classes_give_the_value_computed_by_hand(margins: Margins, by_hand: float) -> None:
    assert loss_at(60, margins) == pytest.approx(by_hand, abs=2e-6)


@pytest.mark.parametrize(
    ("of", "margins", "by_hand"),
    [
        # As above, with the margin of the own class: 0.2 radians, or 0.2 of the cosine, and not the other's.
        ("angle", Margins(angle=0.5), math.log1p(math.exp(2 * (0.8660254 - 0.3179806)))),
        ("angle", Margins(1.2, 0.5, 0.1), math.log1p(math.exp(2 * (0.8660254 - (0.1139115 - 0.1))))),
        ("cosine", Margins(angle=0.0, cosine=0.4), math.log1p(math.exp(2 * (0.8660254 - (0.5 - 0.2))))),
    ],
    ids=["arcface", "combined", "cosface"],
)
def test_a_group_has_the_value_of_its_own_margin_computed_by_hand(
    of: Literal["angle", "cosine"], margins: Margins, by_hand: float
) -> None:
    # cos(π/3 + 0.2) = 0.3179806; cos(1.2·π/3 + 0.2) = 0.1139115 (θ₀ = 60°).
    own = torch.tensor([0.2, 0.9])
    found = loss_at(60, margins, class_margins=own, class_margins_of=of)
    assert found == pytest.approx(by_hand, abs=2e-6)


@pytest.mark.parametrize("margins", [Margins(angle=0.0), Margins(1.0, 0.0, 0.0)])
def test_without_margins_and_scale_it_is_the_cross_entropy_of_the_cosines(margins: Margins) -> None:
    generator = torch.Generator().manual_seed(1)
    loss = MarginLoss(5, 8, margins, scale=1.0)
    embeddings = torch.randn(20, 8, generator=generator)
    labels = torch.randint(0, 5, (20,), generator=generator)
    assert loss(embeddings, labels).item() == pytest.approx(
        plain(loss.centres, embeddings, labels).item(), rel=1e-6
    )


@pytest.mark.parametrize("cosine", [1.0, -1.0, 1.0 + 1e-7, -1.0 - 1e-7, 0.0])
@pytest.mark.parametrize(
    ("multiplier", "angle", "taken"),
    [(1.0, 0.0, 0.4), (1.0, 0.5, 0.2), (1.35, 0.0, 0.0), (2.0, 0.5, 0.35), (4.0, 1.5, 1.0)],
)
def test_the_gradient_is_finite_where_the_angle_is_zero_or_straight(
    cosine: float, multiplier: float, angle: float, taken: float
) -> None:
    for each in (False, True):
        row = torch.tensor([[cosine, 0.3]], requires_grad=True)
        moved = harder(
            row,
            FIRST,
            multiplier,
            torch.tensor([angle]) if each else angle,
            torch.tensor([taken]) if each else taken,
        )
        (64 * moved).logsumexp(1).sum().backward()
        assert row.grad is not None
        assert torch.isfinite(row.grad).all()


@pytest.mark.parametrize(("multiplier", "angle"), [(1.0, 0.5), (1.35, 0.2), (2.0, 0.5), (4.0, 1.0)])
def test_a_wider_angle_never_scores_higher(multiplier: float, angle: float) -> None:
    # In float64, but for the floor of float32 within 0.03° of both ends.
    cosine = torch.linspace(0.001, math.pi - 0.001, 2001, dtype=torch.float64).cos()[:, None]
    moved = harder(cosine, torch.zeros(2001, dtype=torch.int64), multiplier, angle, 0.1).flatten()
    assert (moved.diff() < 0).all()


def test_margins_of_classes_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(3)
    embeddings = torch.from_numpy(rng.normal(size=(12, 6))).float()
    labels = torch.from_numpy(rng.integers(0, 3, 12))
    own = torch.tensor([0.2, 0.5, 0.35])
    together = MarginLoss(3, 6, Margins(angle=0.5), class_margins=own)
    logits, _ = together.logits(embeddings, labels, None)
    for label, margin in enumerate(own.tolist()):
        alone = MarginLoss(3, 6, Margins(angle=margin))
        alone.load_state_dict(together.state_dict())
        rows = labels == label
        torch.testing.assert_close(logits[rows], alone.logits(embeddings, labels, None)[0][rows])
    cosface = MarginLoss(3, 6, Margins(angle=0.0, cosine=0.4), class_margins=own, class_margins_of="cosine")
    cosface.load_state_dict(together.state_dict())
    cosine = functional.normalize(embeddings) @ functional.normalize(together.centres).T
    expected = cosine.clone()
    expected[torch.arange(12), labels] -= own[labels]
    torch.testing.assert_close(cosface.logits(embeddings, labels, None)[0], 64 * expected)


def test_cosines_of_other_classes_beyond_the_filter_count_as_zero() -> None:
    # Two labels of one person: cos θ₁ = 0.96 is filtered, cos θ₂ = 0.28 stays.
    loss = MarginLoss(3, 2, Margins(angle=0.0), scale=1.0, interclass_filter=0.4)
    with torch.no_grad():
        loss.centres.copy_(torch.tensor([[1.0, 0.0], [0.96, 0.28], [0.28, 0.96]]))
    logits, _ = loss.logits(torch.tensor([[1.0, 0.0]]), FIRST, None)
    torch.testing.assert_close(logits, torch.tensor([[1.0, 0.0, 0.28]]))


def test_a_partial_step_holds_the_classes_of_its_batch_and_others_to_the_asked_share() -> None:
    loss = MarginLoss(40, 8, Margins(angle=0.5), sample_rate=0.25)
    embeddings = torch.randn(4, 8, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([7, 7, 31, 0])
    logits, own = loss.logits(embeddings, labels, 5)
    assert logits.shape == (4, 10)
    whole, _ = loss.logits(embeddings, labels, None)
    assert whole.shape == (4, 40)
    # The own class's logit is the same among ten classes as among forty.
    torch.testing.assert_close(logits.gather(1, own[:, None]), whole.gather(1, labels[:, None]))
    assert torch.equal(loss.logits(embeddings, labels, 5)[0], logits)
    assert not torch.equal(loss.logits(embeddings, labels, 6)[0], logits)
    everybody = torch.arange(40)
    assert loss.logits(torch.ones(40, 8), everybody, 1)[0].shape == (40, 40)


def test_a_partial_step_trains_no_centre_that_it_does_not_see() -> None:
    loss = MarginLoss(40, 8, Margins(angle=0.5), sample_rate=0.25)
    loss(
        torch.randn(4, 8, generator=torch.Generator().manual_seed(2)), torch.tensor([7, 7, 31, 0]), 5
    ).backward()
    assert loss.centres.grad is not None
    trained = loss.centres.grad.abs().sum(dim=1) > 0
    assert int(trained.sum()) == 10
    assert trained[[0, 7, 31]].all()


@pytest.mark.parametrize(
    ("losses", "share", "by_hand"),
    [
        ([1.0, 2.0, 3.0, 4.0], 0.5, 3.5),  # the mean of the worse half
        ([1.0, 2.0, 3.0, 4.0], 1.0, 2.5),
        ([1.0, 2.0, 3.0, 4.0], 0.25, 4.0),
        ([1.0, 2.0, 3.0, 4.0], 0.1, 4.0),
        ([4.0, 1.0, 3.0], 0.5, (4 * 2 / 3 + 3 * 1 / 3)),  # one group and half of the next
        ([2.0], 0.3, 2.0),
    ],
)
def test_the_worst_share_is_the_value_computed_by_hand(
    losses: list[float], share: float, by_hand: float
) -> None:
    assert conditional_value_at_risk(torch.tensor(losses), share).item() == pytest.approx(by_hand)


def test_the_worst_share_is_the_minimum_over_lambda() -> None:
    losses = torch.from_numpy(np.random.default_rng(4).exponential(size=7))
    for share in (0.2, 0.37, 0.8):
        # The objective is piecewise linear in λ with corners at the losses.
        objective = min(float(at + (losses - at).clamp_min(0).mean() / share) for at in losses)
        assert conditional_value_at_risk(losses, share).item() == pytest.approx(objective)


def test_the_loss_over_groups_is_that_of_the_worst_group_and_leaves_absent_groups_out() -> None:
    generator = torch.Generator().manual_seed(8)
    groups = torch.tensor([0, 0, 1, 2])  # nobody of group 2 is in the batch
    loss = MarginLoss(4, 5, Margins(), scale=8.0, class_groups=groups, worst_share=0.5)
    embeddings, labels = torch.randn(9, 5, generator=generator), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 0])
    logits, own = loss.logits(embeddings, labels, None)
    each = functional.cross_entropy(logits, own, reduction="none")
    means = [each[groups[labels] == group].mean().item() for group in (0, 1)]
    assert loss(embeddings, labels).item() == pytest.approx(max(means), rel=1e-6)
    assert loss.whole(embeddings, labels).item() == pytest.approx(each.mean().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"multiplier": 0.9}, "margin_multiplier: 0.9 is outside 1–4"),
        ({"cosine": 1.1}, "cosine_margin: 1.1 is outside 0–1"),
        ({"angle": -0.1}, "margin: -0.1 radians"),
        ({"cosine": math.nan}, "cosine_margin: nan"),
    ],
)
def test_margins_out_of_range_are_refused_by_name(values: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Margins(**values)
