"""A latent sampler: a mixture of shifted priors, one component per cell.

The network stays as it is; what is published is where to draw its latents. A
component draws z = shift + ε with ε standard normal, the mixture first draws
the component by its weight. The recipe `latent_sampler`
makes one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.optimize import nnls

from fairloop.errors import InvalidInput
from fairloop.taxonomy import parse_cell
from services.generator.latents import LARGEST_LATENT, LATENT_SIZE, subject_centres, uniform
from services.generator.nuisances import NuisanceShift

SCHEMA = "fairloop.latent_sampler/1"
MAX_CELLS = 256
MAX_BYTES = 4 * 2**20
EVENNESS = 0.01
"""Weight of even use of the components against nearness to the target.

Cells overlap, so many mixtures do nearly as well, and without it two or three of
six components carry everything. With it all are in use, and on the DCGAN the
predicted shares still lie within half a point of the target.
"""

PRIOR_DRAWS = 30.0
"""What a prediction weighs against a pilot: as much as so many drawn images."""


@dataclass(frozen=True)
class Fit:
    """How well one attribute is told from the latents, cross-validated.

    `direction` names the row of `Sampler.directions`, towards `towards`; `kept`
    is the share of the naive direction's length that is left once the nuisances
    are projected out. `measure` is r_squared or balanced_accuracy.
    """

    direction: str
    towards: str
    measure: str
    value: float
    kept: float


@dataclass(frozen=True, eq=False)
class Sampler:
    """Where each of K cells lies, and how often to draw there.

    `cells` are texts in canonical order; `shifts` float32 (K, Z) in standard
    deviations of the prior; `weights` float64 (K,), which sum to 1; `target`
    float64 (K,), the shares that the weights aim at. `obtained[c, o]`, float64
    (K, K), is the share of cell o among the labelled faces of component c and
    `face_rate` (K,) the share of its images that are labelled faces: predicted by
    the fit, or measured once `reweigh` was used. `directions` float32 (D, Z)
    are the unit directions of `fits`, nuisances projected out. `conventions`
    states every option of the recipe and the counts it had.
    """

    cells: tuple[str, ...]
    shifts: NDArray[np.float32]
    weights: NDArray[np.float64]
    target: NDArray[np.float64]
    obtained: NDArray[np.float64]
    face_rate: NDArray[np.float64]
    directions: NDArray[np.float32]
    fits: tuple[Fit, ...]
    nuisances: tuple[NuisanceShift, ...]
    conventions: Mapping[str, float | int | str]

    @property
    def latent(self) -> int:
        """Length Z of the network's latent."""
        return int(self.shifts.shape[-1])

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of each cell among the labelled faces of the whole mixture, float64 (K,)."""
        mass = (self.weights * self.face_rate) @ self.obtained
        return np.asarray(mass / mass.sum())


def draw_cell(sampler: Sampler, cell: str, seed: int, subjects: Sequence[int]) -> NDArray[np.float32]:
    """Centres of subjects drawn from one component, float32 (S, Z), in the order asked for.

    The same subject asked for in two cells has the same noise: number them
    apart. InvalidInput on `cell` when the sampler has no such cell.
    """
    shift = sampler.shifts[component(sampler, cell)]
    return np.asarray(subject_centres(seed, subjects, sampler.latent) + shift)


def draw_centres(
    sampler: Sampler, seed: int, subjects: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Centres of subjects drawn from the mixture, and the components they came from.

    Returns float32 (S, Z) and int64 (S,), indices into `sampler.cells`. The
    other images of a subject are `subject_latents(…, shift=sampler.shifts[component])`.
    """
    chosen = components(sampler, seed, subjects)
    return subject_centres(seed, subjects, sampler.latent) + sampler.shifts[chosen], chosen


def components(sampler: Sampler, seed: int, subjects: Sequence[int]) -> NDArray[np.int64]:
    """The component of each subject, int64 (S,), drawn by the weights; it hangs on seed and subject alone."""
    # The last bound may fall short of 1 by rounding; a point above it belongs to the last weight over 0.
    last = int(np.flatnonzero(sampler.weights)[-1])
    points = [uniform(seed, "component", subject) for subject in subjects]
    found = np.searchsorted(np.cumsum(sampler.weights), points, side="right")
    return np.minimum(found, last).astype(np.int64)


def component(sampler: Sampler, cell: str) -> int:
    """Index of a cell; InvalidInput on `cell` names the cells that there are."""
    if cell not in sampler.cells:
        raise InvalidInput("cell", f"{cell!r} is not in this sampler; it has {'; '.join(sampler.cells)}")
    return sampler.cells.index(cell)


def solve_weights(rates: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (K,) on the simplex whose mixture comes nearest to the target.

    `rates[c, o]` is the share of *all* images of component c that are obtained as
    cell o; rows may sum to less than 1. Shares are taken over what is obtained,
    so the scale is free: min over v ≥ 0 of |ratesᵀv − target|² + `EVENNESS`·|v −
    target|², then v / Σv (non-negative least squares, Lawson & Hanson 1974). The
    second term keeps every component in use where several mixtures do as well.
    """
    scale = rates.sum(1).mean()
    pull = np.sqrt(EVENNESS) * np.eye(len(target))
    v, _ = nnls(np.concatenate((rates.T / scale, pull)), np.concatenate((target, pull @ target)))
    return np.asarray(v / v.sum())


def reweigh(sampler: Sampler, counts: NDArray[np.int64], drawn: NDArray[np.int64]) -> Sampler:
    """The sampler with its weights solved anew from what a pilot run obtained.

    `counts[c, o]` (K, K) is how many unrejected images of component c were labelled
    as cell o, `drawn` (K,) how many were drawn from it, those without a face or a
    certain label included. The fit's predictions count as `PRIOR_DRAWS` further
    images of each component, so a component with few or no pilot images keeps its
    prediction. InvalidInput on `counts` when there is more obtained than drawn.
    """
    k = len(sampler.cells)
    if counts.shape != (k, k) or drawn.shape != (k,):
        raise InvalidInput("counts", f"shapes {counts.shape} and {drawn.shape} are not ({k}, {k}) and ({k},)")
    if (counts < 0).any() or (counts.sum(1) > drawn).any():
        raise InvalidInput(
            "counts", "a component has negative counts or more labelled images than were drawn"
        )
    predicted = sampler.obtained * sampler.face_rate[:, None]
    rates = (counts + PRIOR_DRAWS * predicted) / (drawn[:, None] + PRIOR_DRAWS)
    return replace(
        sampler,
        weights=solve_weights(rates, sampler.target),
        obtained=rates / rates.sum(1, keepdims=True),
        face_rate=rates.sum(1),
        conventions={
            **sampler.conventions,
            "pilot_images": int(drawn.sum()),
            "pilot_prior_draws": PRIOR_DRAWS,
        },
    )


_ARRAYS = {
    "shifts": np.float32,
    "weights": np.float64,
    "target": np.float64,
    "obtained": np.float64,
    "face_rate": np.float64,
    "directions": np.float32,
}


def save(sampler: Sampler, path: Path) -> None:
    """Writes the sampler as one safetensors file; equal samplers give equal bytes."""
    check(sampler)
    record = {
        "schema": SCHEMA,
        "cells": list(sampler.cells),
        "fits": [vars(fit) for fit in sampler.fits],
        "nuisances": [vars(shift) for shift in sampler.nuisances],
        "conventions": dict(sampler.conventions),
    }
    arrays = {name: np.ascontiguousarray(getattr(sampler, name), kind) for name, kind in _ARRAYS.items()}
    save_file(arrays, path, {"sampler": json.dumps(record, sort_keys=True, allow_nan=False)})


def load(path: Path) -> Sampler:
    """The sampler of a file that `save` wrote.

    InvalidInput on `model` when the file is no such file, is larger than 4 MiB,
    was written by a newer release, or holds arrays of other shapes, values that
    are not finite, or weights and shares that do not sum to 1.
    """
    if path.stat().st_size > MAX_BYTES:
        raise _broken(path, f"has {path.stat().st_size} bytes; a sampler has at most {MAX_BYTES}")
    try:
        with safe_open(path, framework="numpy") as file:
            record = json.loads((file.metadata() or {})["sampler"])
            if record["schema"] != SCHEMA:
                raise _broken(path, f"has schema {record['schema']!r}; this release reads {SCHEMA!r}")
            arrays: dict[str, Any] = {name: file.get_tensor(name) for name in _ARRAYS}
        sampler = Sampler(
            cells=tuple(record["cells"]),
            fits=tuple(Fit(**fit) for fit in record["fits"]),
            nuisances=tuple(NuisanceShift(**shift) for shift in record["nuisances"]),
            conventions=dict(record["conventions"]),
            **arrays,
        )
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(path, f"is no latent sampler ({type(error).__name__})") from error
    try:
        check(sampler)
    except InvalidInput as error:
        raise _broken(path, str(error)) from error
    return sampler


def check(sampler: Sampler) -> None:
    """InvalidInput on the field that breaks what `Sampler` promises."""
    k, d = len(sampler.cells), len(sampler.fits)
    if not 1 <= k <= MAX_CELLS or len(set(sampler.cells)) != k:
        raise InvalidInput("cells", f"there are {k}; a sampler has 1–{MAX_CELLS}, all different")
    for cell in sampler.cells:
        if not isinstance(cell, str):
            raise InvalidInput("cells", f"{cell!r} is not a text")
        parse_cell(cell, "cells")
    latent = min(max(sampler.latent, 1), LARGEST_LATENT) if sampler.shifts.ndim == 2 else LATENT_SIZE
    shapes = {
        "shifts": (k, latent),
        "weights": (k,),
        "target": (k,),
        "obtained": (k, k),
        "face_rate": (k,),
        "directions": (d, latent),
    }
    for name, shape in shapes.items():
        array = getattr(sampler, name)
        if array.shape != shape or array.dtype != _ARRAYS[name]:
            raise InvalidInput(name, f"{array.dtype} {array.shape} is not {np.dtype(_ARRAYS[name])} {shape}")
        if not np.isfinite(array).all():
            raise InvalidInput(name, "holds values that are not finite")
    for name in ("weights", "target", "obtained"):
        array = getattr(sampler, name)
        if (array < 0).any() or not np.allclose(array.sum(-1), 1, atol=1e-6):
            raise InvalidInput(name, "are not shares: they must be 0 or above and sum to 1")
    if (sampler.face_rate <= 0).any() or (sampler.face_rate > 1 + 1e-9).any():
        raise InvalidInput("face_rate", "holds rates outside 0–1, or 0")

    for name, records in (("fits", sampler.fits), ("nuisances", sampler.nuisances)):
        for record in records:
            _check_record(name, record)


def _check_record(name: str, record: Fit | NuisanceShift) -> None:
    kinds = {"str": str, "float": float, "bool": bool}
    for field in fields(record):
        value = getattr(record, field.name)
        if not isinstance(value, kinds[str(field.type)]) or value != value:
            raise InvalidInput(name, f"{field.name} {value!r} is no {field.type}")


def _broken(path: Path, what: str) -> InvalidInput:
    return InvalidInput("model", f"{path.name} {what}")
