"""Small seeded populations of embeddings whose true rates are known or whose scores are exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class World:
    embeddings: NDArray[np.float32]
    subjects: list[str]
    groups: list[str]


def signs(
    subjects: int, images: int, groups: int, seed: int, flip: float = 0.25, dimension: int = 64
) -> World:
    """Rows of ±1: every score is an exact multiple of 2/64, so all kernels agree, and many scores tie."""
    rng = np.random.default_rng(seed)
    centre = rng.choice([-1.0, 1.0], size=(subjects, dimension))
    rows = np.repeat(centre, images, axis=0)
    rows[rng.random(rows.shape) < flip] *= -1
    who = np.repeat(np.arange(subjects), images)
    return World(rows.astype(np.float32), [f"s{i:03d}" for i in who], [f"g{i % groups}" for i in who])


@dataclass(frozen=True)
class Population:
    """People whose images scatter around them, near a group's common direction.

    `reach` is how strongly subjects share that direction; it is lognormal over
    subjects with `spread`, so some of them collect several times the average of
    false matches.
    `noise` is the scatter of a subject's images, lognormal over subjects too.
    `kinship` is how strongly people of one group share a direction of their own,
    which makes them more alike than people of different groups. `extra` scatters
    every image by that much more: another recogniser's view of the same people.
    """

    reach: float = 0.15
    noise: float = 0.8
    dimension: int = 24
    spread: float = 0.6
    kinship: float = 0.0
    extra: float = 0.0

    def draw(
        self, subjects: int, images: int, rng: np.random.Generator, group: int = 0
    ) -> NDArray[np.float64]:
        direction = np.zeros(self.dimension)
        direction[0] = np.sqrt(self.dimension)
        pull = self.reach * np.exp(self.spread * rng.standard_normal(subjects) - self.spread**2 / 2)
        centre = rng.standard_normal((subjects, self.dimension)) + pull[:, None] * direction
        # One axis per group: the first is everybody's.
        centre[:, 1 + group] += self.kinship * np.sqrt(self.dimension)
        scatter = self.noise * np.exp(0.35 * rng.standard_normal(subjects))
        noise = rng.standard_normal((subjects * images, self.dimension))
        rows = np.repeat(centre, images, axis=0) + np.repeat(scatter, images)[:, None] * noise
        if self.extra:
            rows += self.extra * rng.standard_normal(rows.shape)
        return rows

    def scores(self, subjects: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sorted genuine and impostor scores of a population large enough to be the truth."""
        rng = np.random.default_rng(seed)
        rows = self.draw(20 * subjects, 2, rng)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        genuine = np.einsum("nd,nd->n", rows[0::2], rows[1::2])
        some = rows[0::2][:subjects]
        impostor = (some @ some.T)[np.triu_indices(subjects, 1)]
        return np.sort(genuine), np.sort(impostor)


def sample(populations: list[Population], subjects: list[int], images: int, seed: int) -> World:
    rng = np.random.default_rng(seed)
    rows = [p.draw(n, images, rng, g) for g, (p, n) in enumerate(zip(populations, subjects, strict=True))]
    names = [f"{g}-{i}" for g, n in enumerate(subjects) for i in range(n) for _ in range(images)]
    groups = [f"g{g}" for g, n in enumerate(subjects) for _ in range(n * images)]
    return World(np.concatenate(rows).astype(np.float32), names, groups)
