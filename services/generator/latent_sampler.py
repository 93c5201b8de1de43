"""Recipe `latent_sampler`: finds where in latent space each cell lies.

From annotated, unrejected samples of a generator it fits which way each
attribute and each nuisance (background, exposure, sharpness, pose) moves with
the latents, takes the nuisances' directions out of the attributes', places one
component per cell as near to the origin as it can, and solves the mixture's
weights for a target distribution. The network itself stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import ndtri
from scipy.stats import qmc

from fairloop.errors import InvalidInput
from fairloop.taxonomy import cells as cells_of
from fairloop.taxonomy import values as classes_of
from services.generator import latent_model, nuisances
from services.generator.latent_model import Array, AttributeModel, Measured
from services.generator.sampler import Fit, Sampler, solve_weights

LEAST_FACES = 200
"""Two images for each of a hundred latent dimensions: with fewer the directions are mostly noise.

A longer latent needs more (`least_faces`).
"""

POINTS = 512
"""Quasi-random points that a component's shares are predicted with."""

Measure = Callable[[Array], float]


@dataclass(frozen=True)
class Options:
    """What the recipe may do."""

    max_shift: float = 3.0
    """Greatest length of a cell's shift in standard deviations of the prior, 0.5–5."""

    wanted: float = 0.6
    """Share of its cell that a component is moved for, 0–1; less where max_shift comes first."""

    penalty: float = 50.0
    """Ridge penalty of every regression, in images."""

    min_r_squared: float = 0.1
    """A nuisance that the latents explain better than this is projected out."""

    min_kept: float = 0.2
    """An attribute whose direction keeps less of its length than this is its nuisances."""

    chance: float = 0.01
    """An attribute that the latents may tell as well by chance, with this probability or more, is refused.

    Its direction would be noise, and a component would go as far along it as it may.
    """

    keep_faces: bool = True
    """No component may be predicted to show fewer faces than the prior; shifts may use that direction too."""


def fit(
    latents: NDArray[np.float32],
    face: NDArray[np.bool_],
    attributes: Sequence[Measured],
    scene: Mapping[str, Array],
    target: Mapping[str, float] | None = None,
    options: Options | None = None,
) -> Sampler:
    """The sampler of all cells of the attributes.

    `latents` float32 (N, Z) are draws of the prior, `face` bool (N,) tells in
    which images a face was found; the others teach only where faces are lost.
    `scene` holds the nuisances by name, float64 (N,), NaN where absent. `target`
    gives a share per cell (cells not named: 0); None is uniform.

    InvalidInput names the argument or the attribute: too few faces, a class with
    too few labels, an attribute of which the latents tell nothing or which is
    little but its nuisances, an option outside its range, a target that does not
    sum to 1.
    """
    options = options or Options()
    attributes = sorted(attributes, key=lambda measured: measured.attribute)
    _check(latents, face, attributes, scene, options)
    cells = tuple(cells_of([measured.attribute for measured in attributes]))
    aim = _target(target, cells)
    z = latents.astype(np.float64)
    faces = z[face]
    attributes = [_only(measured, face) for measured in attributes]
    scene = {name: value[face] for name, value in scene.items()}

    explained = nuisances.r_squared(faces, scene, options.penalty)
    projected = tuple(name for name, value in explained.items() if value > options.min_r_squared)
    basis = nuisances.span(faces, {name: scene[name] for name in projected}, options.penalty)
    models = [latent_model.fit_attribute(faces, measured, options.penalty) for measured in attributes]
    for model in models:
        if model.chance >= options.chance:
            raise InvalidInput(
                model.attribute,
                f"the latents do not tell it: {model.measure} {model.fit:.2f} in images that were not fitted "
                f"on, no better than chance (p = {model.chance:.2g}; below {options.chance:g} is needed): "
                f"annotate more than these {len(faces):,} faces, or with another annotator",
            )
    rows = np.concatenate([model.weights for model in models])
    used = nuisances.without(rows, basis)
    fits = _fits(models, np.linalg.norm(used, axis=1) / np.linalg.norm(rows, axis=1))
    for found in fits:
        if found.kept < options.min_kept:
            raise InvalidInput(
                found.direction,
                f"only {found.kept:.0%} of its direction is left without {', '.join(projected)}, and "
                f"{options.min_kept:.0%} must be: leave out the nuisance that is the attribute itself "
                f"(without_nuisances)",
            )
    face_model = latent_model.fit_face(z, face, options.penalty)
    shifts, obtained, face_rate = _place(models, face_model, used, basis, options)
    return Sampler(
        cells=cells,
        shifts=shifts.astype(np.float32),
        weights=_shares(solve_weights(obtained * face_rate[:, None], aim)),
        target=aim,
        obtained=_shares(obtained),
        face_rate=face_rate.round(6),
        directions=nuisances.unit(used).round(4).astype(np.float32),
        fits=fits,
        nuisances=nuisances.shifts(
            faces,
            lambda some: np.concatenate(
                [latent_model.rows(faces[some], _only(m, some), options.penalty) for m in attributes]
            ),
            tuple(found.direction for found in fits),
            scene,
            explained,
            projected,
            options.penalty,
        ),
        conventions={"recipe": "latent_sampler", "images": len(z), "faces": len(faces), **asdict(options)},
    )


def _place(
    models: Sequence[AttributeModel], face: AttributeModel, used: Array, basis: Array, options: Options
) -> tuple[Array, Array, Array]:
    """Shifts (K, Z), predicted shares (K, K) and face rates (K,): one component per cell.

    Of all shifts in the span of the used directions that are not longer than
    allowed, the shortest that reaches the wanted share; where none does, the one
    with the greatest share.
    """
    span = used
    if options.keep_faces and face.weights.any():
        span = np.concatenate((used, nuisances.without(face.weights, basis)))
    axes = np.linalg.qr(span.T)[0].T
    noise = _points(sum(len(model.weights) for model in models) + 1)

    def predict(coordinates: Array) -> tuple[Array, float]:
        return latent_model.expected_shares(models, face, noise, coordinates @ axes)

    origin = np.zeros(len(axes))
    prior, prior_rate = predict(origin)
    bounds: list[Measure] = [lambda t: options.max_shift**2 - float(t @ t)]
    if options.keep_faces:
        bounds.append(lambda t: predict(t)[1] - prior_rate)

    def nearest(cell: int) -> Array:
        best = _minimised(lambda t: -float(np.log(predict(t)[0][cell])), origin, bounds)
        if predict(best)[0][cell] <= options.wanted:
            return best
        enough: list[Measure] = [*bounds, lambda t: float(predict(t)[0][cell]) - options.wanted]
        return _minimised(lambda t: float(t @ t), best, enough)

    # Rounded so that the last bit of a linear algebra library does not make another model of the same fit.
    shifts = np.stack([nearest(cell) @ axes for cell in range(len(prior))]).round(3)
    predicted = [latent_model.expected_shares(models, face, noise, shift) for shift in shifts]
    return shifts, np.stack([shares for shares, _ in predicted]), np.array([rate for _, rate in predicted])


def _minimised(objective: Measure, start: Array, bounds: Sequence[Measure]) -> Array:
    """The point of least objective where no bound is below 0; `start` is such a point.

    Sequential quadratic programming (SLSQP, Kraft 1988) may stop with a complaint
    where the objective is flat; its point counts when it is allowed and better.
    """
    constraints = [{"type": "ineq", "fun": bound} for bound in bounds]
    found = minimize(objective, start, method="SLSQP", constraints=constraints).x
    allowed = np.isfinite(found).all() and all(bound(found) >= -1e-3 for bound in bounds)
    return np.asarray(found if allowed and objective(found) <= objective(start) else start)


def _fits(models: Sequence[AttributeModel], kept: Array) -> tuple[Fit, ...]:
    """One Fit per row of the models; an attribute with several rows names each by its class."""
    rows = [
        (model.attribute if len(model.weights) == 1 else f"{model.attribute}={towards}", towards, model)
        for model in models
        for towards in model.classes[-len(model.weights) :]
    ]
    return tuple(
        Fit(name, towards, model.measure, round(model.fit, 6), round(float(length), 6))
        for (name, towards, model), length in zip(rows, kept, strict=True)
    )


def _only(measured: Measured, where: NDArray[np.bool_] | NDArray[np.int64]) -> Measured:
    values = None if measured.values is None else measured.values[where]
    return replace(measured, labels=measured.labels[where], values=values)


def _shares(values: Array) -> Array:
    """Rounded, and still summing to 1 along the last axis."""
    rounded = values.round(6)
    return np.asarray(rounded / rounded.sum(-1, keepdims=True))


def _points(size: int) -> Array:
    """Standard normal points (POINTS, size), evenly spread (Sobol)."""
    points = qmc.Sobol(size, scramble=True, rng=0).random_base2(POINTS.bit_length() - 1)
    return np.asarray(ndtri(np.clip(points, 1e-9, 1 - 1e-9)))


def _target(target: Mapping[str, float] | None, cells: tuple[str, ...]) -> Array:
    if target is None:
        return np.full(len(cells), 1 / len(cells))
    for cell in target:
        if cell not in cells:
            raise InvalidInput("target", f"{cell!r} is no cell of these attributes: {'; '.join(cells)}")
    shares = np.array([target.get(cell, 0.0) for cell in cells])
    if not np.isfinite(shares).all() or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise InvalidInput("target", f"shares must be 0 or above and sum to 1, not {shares.sum():.6g}")
    return np.asarray(shares / shares.sum())


def least_faces(latent: int) -> int:
    """Faces that a fit in so many dimensions needs."""
    return max(LEAST_FACES, 2 * latent)


def _check(
    latents: NDArray[np.float32],
    face: NDArray[np.bool_],
    attributes: Sequence[Measured],
    scene: Mapping[str, Array],
    options: Options,
) -> None:
    n = len(latents)
    if latents.ndim != 2 or not np.isfinite(latents).all():
        raise InvalidInput("latents", f"shape {latents.shape} is not (N, Z) of finite numbers")
    least = least_faces(latents.shape[1])
    if face.shape != (n,) or face.dtype != np.bool_:
        raise InvalidInput("face", f"{face.dtype} {face.shape} is not bool ({n},)")
    if face.sum() < least:
        raise InvalidInput("face", f"{face.sum()} of {n} images have a face; a fit needs {least}")
    if not attributes:
        raise InvalidInput("attributes", "there are none; a sampler needs at least one")
    for measured in attributes:
        name = measured.attribute
        if measured.classes != classes_of(name):
            raise InvalidInput(name, f"classes {measured.classes} are not {classes_of(name)} in that order")
        if measured.labels.shape != (n,) or measured.labels.max() >= len(measured.classes):
            raise InvalidInput(name, f"labels must be ({n},) indices of its classes, −1 for none")
        if measured.values is not None and measured.values.shape != (n,):
            raise InvalidInput(name, f"values have shape {measured.values.shape}, not ({n},)")
    for name, value in scene.items():
        if value.shape != (n,) or np.isinf(value).any():
            raise InvalidInput(name, f"must be ({n},) finite numbers, NaN where absent; is {value.shape}")
        known = value[face & np.isfinite(value)]
        if len(known) < least / 2 or known.min() == known.max():
            raise InvalidInput(
                name,
                f"{len(known)} of {face.sum()} faces have it, {len(np.unique(known))} values: leave it out, "
                f"or measure it in {least // 2}",
            )
    if not 0.5 <= options.max_shift <= 5:
        raise InvalidInput("max_shift", f"{options.max_shift} is outside 0.5–5 standard deviations")
    if not 0 < options.wanted < 1:
        raise InvalidInput("wanted", f"{options.wanted} is outside 0–1")
    if not options.penalty > 0:
        raise InvalidInput("penalty", f"{options.penalty} is not above 0")
    if not 0 < options.chance <= 1:
        raise InvalidInput("chance", f"{options.chance} is outside 0–1")
