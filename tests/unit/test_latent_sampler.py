"""The recipe `latent_sampler` in linear worlds whose directions are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression, Ridge

from fairloop.errors import InvalidInput
from services.generator import latent_model
from services.generator.latent_model import AttributeModel, Measured, log_odds
from services.generator.latent_sampler import Options, fit
from services.generator.latents import LATENT_SIZE, subject_centres
from services.generator.sampler import Sampler, draw_cell, draw_centres

GENDERS, BANDS = ("female", "male"), ("light", "medium", "dark")
TONE, GENDER, BACKGROUND, FACE = (np.eye(LATENT_SIZE)[i] for i in range(4))
TONE_BOTH = 0.8 * TONE + 0.6 * BACKGROUND
"""The tone's direction in the world: 53° of it is its own, the rest is the background's."""


@dataclass(frozen=True)
class World:
    """Labels as linear functions of the latent plus noise; tone rises with TONE_BOTH."""

    latents: NDArray[np.float32]
    face: NDArray[np.bool_]
    tone: NDArray[np.float64]
    gender: NDArray[np.float64]
    background: NDArray[np.float64]

    @property
    def bands(self) -> NDArray[np.int64]:
        """Light above 62, dark below 54: 7 %, 24 % and 69 % of the prior."""
        return np.where(self.tone > 62, 0, np.where(self.tone > 54, 1, 2))

    def attributes(self) -> list[Measured]:
        hidden = ~self.face
        probability = 1 / (1 + np.exp(-self.gender))
        return [
            Measured(
                "skin_tone_band", BANDS, np.where(hidden, -1, self.bands), np.where(hidden, np.nan, self.tone)
            ),
            Measured(
                "gender",
                GENDERS,
                np.where(hidden, -1, self.gender < 0).astype(np.int64),
                np.where(hidden, np.nan, log_odds(probability)),
            ),
        ]

    def scene(self) -> Mapping[str, NDArray[np.float64]]:
        return {"background_lightness": np.where(self.face, self.background, np.nan)}

    def shares(self) -> NDArray[np.float64]:
        """Share of each cell among the faces, cells in canonical order."""
        cell = (self.gender < 0) * 3 + self.bands
        return np.bincount(cell[self.face], minlength=6) / self.face.sum()


def observe(latents: NDArray[np.float32], seed: int) -> World:
    rng = np.random.default_rng(seed)
    z, noise = latents.astype(np.float64), rng.standard_normal((4, len(latents)))
    return World(
        latents=latents,
        face=z @ FACE + 0.6 * noise[0] > -1,
        tone=50 + 7 * z @ TONE_BOTH + 4 * noise[1],
        gender=1.5 * z @ GENDER - 0.5 + 1.5 * noise[2],
        background=40 + 15 * z @ BACKGROUND + 10 * noise[3],
    )


@pytest.fixture(scope="module")
def world() -> World:
    return observe(subject_centres(1, range(1600)), 1)


@pytest.fixture(scope="module")
def fitted(world: World) -> Sampler:
    return fit(world.latents, world.face, world.attributes(), world.scene())


def direction(sampler: Sampler, name: str) -> NDArray[np.float32]:
    return sampler.directions[[found.direction for found in sampler.fits].index(name)]


def test_known_directions_are_found(fitted: Sampler) -> None:
    # Towards the last class: male is where the log-odds of female fall, dark where tone falls.
    assert direction(fitted, "gender") @ -GENDER > 0.95
    assert direction(fitted, "skin_tone_band") @ -TONE > 0.95
    assert [found.towards for found in fitted.fits] == ["male", "dark"]
    np.testing.assert_allclose(np.linalg.norm(fitted.directions, axis=1), 1, atol=1e-3)


def test_fits_say_what_the_world_explains(fitted: Sampler) -> None:
    values = {found.direction: found.value for found in fitted.fits}
    assert values["skin_tone_band"] == pytest.approx(7**2 / (7**2 + 4**2), abs=0.05)
    assert {found.measure for found in fitted.fits} == {"r_squared"}
    # The tone's direction is 0.8 its own; the rest is the background's.
    assert fitted.fits[1].kept == pytest.approx(0.8, abs=0.05)


def test_a_nuisance_that_comes_with_an_attribute_is_projected_out(fitted: Sampler) -> None:
    shifts = {(shift.direction, shift.nuisance): shift for shift in fitted.nuisances}
    shift = shifts["skin_tone_band", "background_lightness"]
    # Background = 15·z + N(0, 10²): along tone, 0.6 of it is 0.6·15/√(15² + 10²) of its standard deviations.
    assert shift.naive == pytest.approx(-0.6 * 15 / np.hypot(15, 10), abs=4 * shift.error)
    assert abs(shift.used) < 4 * shift.error
    assert shift.projected
    assert shift.r_squared == pytest.approx(15**2 / (15**2 + 10**2), abs=0.06)


def test_the_nuisance_stays_when_the_cells_are_drawn(fitted: Sampler, world: World) -> None:
    for cell in fitted.cells:
        drawn = observe(draw_cell(fitted, cell, 2, range(1500)), 2)
        assert abs(drawn.background.mean() - world.background.mean()) < 0.15 * world.background.std()


def test_what_the_latents_do_not_explain_is_left_alone(world: World) -> None:
    rolls = np.random.default_rng(3).standard_normal(len(world.latents))
    made = fit(world.latents, world.face, world.attributes(), {"roll": rolls})
    assert not any(shift.projected for shift in made.nuisances)
    assert [found.kept for found in made.fits] == [1, 1]


def test_the_published_mixture_is_uniform_where_the_prior_was_not(fitted: Sampler, world: World) -> None:
    latents, _ = draw_centres(fitted, 4, range(4000))
    before, after = world.shares(), observe(latents, 4).shares()
    assert before.min() < 0.04
    assert np.abs(before - 1 / 6).sum() / 2 > 0.3
    assert np.abs(after - 1 / 6).sum() / 2 < 0.06
    np.testing.assert_allclose(fitted.shares, after, atol=0.04)


def test_each_cell_yields_what_was_predicted(fitted: Sampler) -> None:
    for k, cell in enumerate(fitted.cells):
        drawn = observe(draw_cell(fitted, cell, 5, range(1000)), 5)
        assert drawn.shares()[k] == pytest.approx(fitted.obtained[k, k], abs=0.08)
        assert drawn.face.mean() == pytest.approx(fitted.face_rate[k], abs=0.06)


def test_another_target_is_met(world: World) -> None:
    target = {"gender=female,skin_tone_band=dark": 0.5, "gender=male,skin_tone_band=light": 0.5}
    made = fit(world.latents, world.face, world.attributes(), world.scene(), target)
    wanted = np.array([target.get(cell, 0) for cell in made.cells])
    assert (made.target == wanted).all()
    # Cells overlap, so such a target is not reached, but it is approached.
    assert np.abs(made.shares - wanted).sum() < 0.6 * np.abs(world.shares() - wanted).sum()


def test_the_shortest_shift_that_gives_the_wanted_share_is_taken() -> None:
    # One attribute, value = 2·z + N(0, 1), female above 3: of z ~ N(t, 1) a share Φ((2t − 3)/√5) is female.
    latents = subject_centres(6, range(3000))
    value = 2 * latents.astype(np.float64) @ GENDER + np.random.default_rng(6).standard_normal(3000)
    labels = np.where(value > 3, 0, 1)
    made = fit(
        latents,
        np.ones(3000, bool),
        [Measured("gender", GENDERS, labels, value)],
        {},
        options=Options(wanted=0.6),
    )
    expected = (3 + norm.ppf(0.6) * 5**0.5) / 2
    assert np.linalg.norm(made.shifts[0]) == pytest.approx(expected, rel=0.05)
    assert np.linalg.norm(made.shifts[1]) == 0  # the prior has 91 % male as it is
    assert made.obtained[0, 0] == pytest.approx(0.6, abs=0.001)


def test_no_shift_is_longer_than_allowed(world: World) -> None:
    made = fit(
        world.latents,
        world.face,
        world.attributes(),
        world.scene(),
        options=Options(max_shift=1, wanted=0.95),
    )
    lengths = np.linalg.norm(made.shifts, axis=1)
    assert lengths.max() <= 1.01
    assert np.diag(made.obtained).max() < 0.95


def test_components_do_not_go_where_faces_are_lost() -> None:
    # Faces are lost where tone is dark, so going there costs faces unless something is done about it.
    latents = subject_centres(8, range(1600))
    seen = replace(observe(latents, 8), face=faces_seen(latents, 8))
    cell, rates = "gender=female,skin_tone_band=dark", {}
    for keep in (True, False):
        options = Options(keep_faces=keep, wanted=0.9)
        made = fit(seen.latents, seen.face, seen.attributes(), {}, options=options)
        rates[keep] = faces_seen(draw_cell(made, cell, 9, range(1500)), 9).mean()
        if keep:
            assert made.face_rate.min() >= seen.face.mean() - 0.02
    assert rates[True] > seen.face.mean() - 0.1
    assert rates[False] < rates[True] - 0.1


def faces_seen(latents: NDArray[np.float32], seed: int) -> NDArray[np.bool_]:
    noise = np.random.default_rng(seed).standard_normal(len(latents))
    return latents.astype(np.float64) @ (TONE + FACE) + 0.6 * noise > -1


def test_labels_without_values_are_enough(world: World) -> None:
    attributes = [replace(measured, values=None) for measured in world.attributes()]
    made = fit(world.latents, world.face, attributes, world.scene())
    assert [found.direction for found in made.fits] == [
        "gender",
        "skin_tone_band=medium",
        "skin_tone_band=dark",
    ]
    assert {found.measure for found in made.fits} == {"balanced_accuracy"}
    assert direction(made, "skin_tone_band=dark") @ -TONE > 0.9
    after = observe(draw_centres(made, 4, range(3000))[0], 4).shares()
    assert np.abs(after - 1 / 6).sum() / 2 < 0.1


def test_the_order_of_attributes_does_not_matter(world: World, fitted: Sampler) -> None:
    made = fit(world.latents, world.face, world.attributes()[::-1], world.scene())
    assert made.cells == fitted.cells
    assert np.array_equal(made.shifts, fitted.shifts)


def test_ridge_and_logistic_agree_with_scikit_learn(world: World) -> None:
    z = world.latents.astype(np.float64)
    weights, offset = latent_model.ridge(z, world.tone, 50)
    other = Ridge(50).fit(z, world.tone)
    np.testing.assert_allclose(weights, other.coef_, atol=1e-6)
    assert offset == pytest.approx(float(other.intercept_), abs=1e-6)
    female = (world.gender > 0).astype(np.int64)
    weights, offsets = latent_model.logistic(z, female, 2, 50)
    logistic = LogisticRegression(C=1 / 50, tol=1e-8, max_iter=1000).fit(z, female)
    np.testing.assert_allclose(weights, logistic.coef_, atol=1e-3)
    np.testing.assert_allclose(offsets, logistic.intercept_, atol=1e-3)


def test_class_probabilities_of_an_ordered_attribute_are_normal_intervals() -> None:
    model = AttributeModel(
        "skin_tone_band", BANDS, np.zeros((1, 100)), np.zeros(1), np.array([-1.0, 2.0]), 2.0, "", 0, 0
    )
    found = model.probabilities(np.array([[0.0], [1.0]]))
    for row, score in zip(found, (0, 1), strict=True):
        below = norm(score, 2).cdf([-1, 2])
        np.testing.assert_allclose(row, [below[0], below[1] - below[0], 1 - below[1]])


def test_log_odds_are_clipped_and_keep_what_is_absent() -> None:
    found = log_odds(np.array([0, 0.5, 0.75, 1, np.nan]), floor=0.01)
    np.testing.assert_allclose(found, [-np.log(99), 0, np.log(3), np.log(99), np.nan])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"latents": np.zeros(1600, np.float32)}, "latents"),
        ({"face": np.zeros(1600, bool)}, "face"),
        ({"attributes": []}, "attributes"),
        ({"target": {"gender=female": 1.0}}, "target"),
        ({"target": {"gender=female,skin_tone_band=dark": 0.9}}, "target"),
        ({"options": Options(max_shift=9)}, "max_shift"),
        ({"options": Options(wanted=1)}, "wanted"),
        ({"options": Options(penalty=0)}, "penalty"),
        ({"options": Options(chance=0)}, "chance"),
        ({"scene": {"yaw": np.zeros(3)}}, "yaw"),
        ({"scene": {"yaw": np.full(1600, np.nan)}}, "yaw"),
        ({"scene": {"yaw": np.ones(1600)}}, "yaw"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(
    world: World, change: dict[str, object], field: str
) -> None:
    arguments: dict[str, object] = {
        "latents": world.latents,
        "face": world.face,
        "attributes": world.attributes(),
        "scene": world.scene(),
    }
    with pytest.raises(InvalidInput) as caught:
        fit(**{**arguments, **change})  # type: ignore[arg-type]
    assert caught.value.violations[0].field == field


def test_a_class_nobody_carries_is_refused_with_its_count(world: World) -> None:
    tone, gender = world.attributes()
    none_light = replace(tone, labels=np.where(tone.labels == 0, 1, tone.labels))
    with pytest.raises(InvalidInput, match="skin_tone_band: 0 images are labelled light"):
        fit(world.latents, world.face, [none_light, gender], {})
    shuffled = replace(tone, values=np.abs(tone.values - 58))
    with pytest.raises(InvalidInput, match="neither rise nor fall"):
        fit(world.latents, world.face, [shuffled, gender], {})


@pytest.mark.parametrize(("with_values", "mixes"), [(True, 10), (False, 3)])
def test_labels_of_other_images_are_refused_however_they_were_mixed(
    world: World, with_values: bool, mixes: int
) -> None:
    tone = world.attributes()[0]
    for seed in range(mixes):
        other = np.random.default_rng(seed).permutation(len(tone.labels))
        values = np.where(world.face, world.tone, np.nan)[other] if with_values else None
        mixed = replace(tone, labels=tone.labels[other], values=values)
        with pytest.raises(InvalidInput, match="skin_tone_band: the latents do not tell it") as caught:
            fit(world.latents, world.face, [mixed], world.scene())
        assert "annotate more than these" in str(caught.value)


def test_chance_is_as_often_under_a_twentieth_as_it_says_where_latents_tell_nothing() -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(150):
        z, value = rng.standard_normal((200, LATENT_SIZE)), rng.standard_normal(200)
        measured = Measured("skin_tone_band", BANDS, np.digitize(value, (-0.5, 0.5)), value)
        found.append(latent_model.fit_attribute(z, measured, 50).chance)
    # Of 150 draws of a twentieth 17 or more come once in a thousand times.
    assert sum(chance < 0.05 for chance in found) < 17
    assert max(found) > 0.9


def test_the_fewest_faces_are_enough_for_a_tone_that_latents_explain_by_three_quarters(world: World) -> None:
    faces = world.face.nonzero()[0][:200]
    few = replace(world.attributes()[0], labels=world.bands[faces], values=world.tone[faces])
    assert latent_model.fit_attribute(world.latents[faces].astype(np.float64), few, 50).chance < 1e-6


def test_faces_are_predicted_as_often_as_they_are_found(world: World) -> None:
    # Found where z + 0.6·N(0, 1) > −1: of all latents in Φ(1/√1.36).
    model = latent_model.fit_face(world.latents.astype(np.float64), world.face, 50)
    fresh = subject_centres(12, range(4000)).astype(np.float64)
    predicted = model.probabilities(fresh @ model.weights.T + model.offset)[:, 1].mean()
    rate = norm.cdf(1 / 1.36**0.5)
    assert predicted == pytest.approx(rate, abs=3 * np.sqrt(rate * (1 - rate) / 1600))


def test_a_nuisance_that_is_the_attribute_itself_is_refused(world: World) -> None:
    with pytest.raises(InvalidInput, match="leave out the nuisance"):
        fit(world.latents, world.face, world.attributes(), {"exposure": world.tone})
