"""Nuisances: what a scene has that should not move with an attribute, and how far it does.

Background, exposure, sharpness and pose are measured in the images; each that
the latents explain has a direction in latent space, and the attributes'
directions are used without their part in the span of these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.generator.latent_model import FOLDS, Array, folds, held_out_r2, ridge

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class NuisanceShift:
    """How far a nuisance moves with an attribute, on images that were not fitted on.

    `naive` is per standard deviation along the fitted direction, `used` along the
    direction without the nuisances; both in standard deviations of the nuisance,
    with a standard error of about `error`. `r_squared` says how well the latents
    explain the nuisance (cross-validated), `projected` whether that was enough to
    take its direction out.
    """

    direction: str
    nuisance: str
    naive: float
    used: float
    error: float
    r_squared: float
    projected: bool


def r_squared(z: Array, scene: Mapping[str, Array], penalty: float) -> dict[str, float]:
    """Cross-validated R² of each nuisance (N,) in latents (N, 100), images where it is NaN left out."""
    return {name: held_out_r2(z[known], y[known], penalty) for name, y, known in _known(scene)}


def span(z: Array, scene: Mapping[str, Array], penalty: float) -> Array:
    """Orthonormal basis (M, 100) of the nuisances' ridge directions; (0, 100) without nuisances."""
    rows = [ridge(z[known], y[known], penalty)[0] for _, y, known in _known(scene)]
    if not rows:
        return np.empty((0, z.shape[1]))
    return np.asarray(np.linalg.qr(np.stack(rows).T)[0].T)


def without(rows: Array, basis: Array) -> Array:
    """Rows (D, 100) with their part in the span of an orthonormal basis (M, 100) taken out."""
    return np.asarray(rows - rows @ basis.T @ basis)


def unit(rows: Array) -> Array:
    """Rows divided by their lengths."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def shifts(
    z: Array,
    fit_rows: Callable[[Indices], Array],
    names: tuple[str, ...],
    scene: Mapping[str, Array],
    explained: Mapping[str, float],
    projected: tuple[str, ...],
    penalty: float,
) -> tuple[NuisanceShift, ...]:
    """One NuisanceShift per direction and nuisance, directions running slowest.

    `fit_rows` fits the rows (D, 100) of `names` on some images. Every fold's
    slopes are measured on images that had no part in its directions: on those of
    the fit the used ones would be 0 by construction.
    """
    naive, used = np.zeros((len(names), len(scene))), np.zeros((len(names), len(scene)))
    for train, test in folds(len(z)):
        rows = fit_rows(train)
        basis = span(z[train], {name: scene[name][train] for name in projected}, penalty)
        for j, y in enumerate(scene.values()):
            known = test[np.isfinite(y[test])]
            scaled = (y[known] - np.nanmean(y)) / np.nanstd(y)
            naive[:, j] += _slopes(z[known] @ unit(rows).T, scaled) / FOLDS
            used[:, j] += _slopes(z[known] @ unit(without(rows, basis)).T, scaled) / FOLDS
    return tuple(
        NuisanceShift(
            direction=direction,
            nuisance=nuisance,
            naive=round(float(naive[i, j]), 6),
            used=round(float(used[i, j]), 6),
            error=round(float(np.isfinite(scene[nuisance]).sum() ** -0.5), 6),
            r_squared=round(explained[nuisance], 6),
            projected=nuisance in projected,
        )
        for i, direction in enumerate(names)
        for j, nuisance in enumerate(scene)
    )


def _slopes(x: Array, y: Array) -> Array:
    """Least-squares slopes (D,) of y (n,) on each column of x (n, D) alone."""
    centred = x - x.mean(0)
    return np.asarray((centred.T @ y) / (centred**2).sum(0))


def _known(scene: Mapping[str, Array]) -> list[tuple[str, Array, NDArray[np.bool_]]]:
    return [(name, y, np.isfinite(y)) for name, y in scene.items()]
