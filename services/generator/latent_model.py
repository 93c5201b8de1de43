"""What the latents say about a face: linear scores, and the class probabilities that follow.

For latents z ~ N(0, I) an attribute is modelled by scores A z + b and by the
probability of each class given the scores:

- *ordered*, when there is a continuous value behind the labels (lightness, the
  log-odds of a probability): value = score + N(0, σ²), and a class is an
  interval of the value;
- *categorical*, when there are labels only: multinomial logistic regression,
  the first class as reference.

Scores are calibrated on predictions for images that were not fitted on: with a
few hundred images and 100 dimensions the raw fit promises more than it keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, ndtr, softmax

from fairloop.errors import InvalidInput

FOLDS = 5
LEAST_PER_CLASS = 10
"""Fewer labels of a class than this say nothing about where it lies."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measured:
    """What an annotator says of one attribute in N images.

    `labels` int64 (N,) are indices into `classes`, −1 where there is no face or
    no certain label. `values` float64 (N,), NaN where absent, is the continuous
    quantity behind the labels: it must rise or fall with the order of `classes`.
    None when there is none.
    """

    attribute: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    values: Array | None = None


@dataclass(frozen=True, eq=False)
class AttributeModel:
    """Scores of one attribute: `weights` (R, 100), `offset` (R,).

    Ordered: R = 1, `edges` are the C − 1 bounds between classes on the score's
    scale, rising, and `sigma` is the standard deviation of the value about the
    score. Categorical: R = C − 1, no edges. `measure` and `fit` are the
    cross-validated quality: r_squared or balanced_accuracy. `chance` is the
    one-sided p-value of the scores of images that were not fitted on: how
    likely such scores are where the latents say nothing of the attribute.
    """

    attribute: str
    classes: tuple[str, ...]
    weights: Array
    offset: Array
    edges: Array | None
    sigma: float
    measure: str
    fit: float
    chance: float

    def probabilities(self, scores: Array) -> Array:
        """Class probabilities (N, C) of scores (N, R)."""
        if self.edges is None:
            return np.asarray(softmax(np.pad(scores, ((0, 0), (1, 0))), axis=1))
        below = ndtr((self.edges - scores) / self.sigma)
        return np.diff(np.pad(below, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1))), axis=1)


def log_odds(probability: Array, floor: float = 1e-3) -> Array:
    """ln(p / (1 − p)) with p clipped to [floor, 1 − floor]; NaN stays NaN.

    As the value behind a two-class label it says how sure the annotator was,
    which a label does not.
    """
    p = np.clip(probability, floor, 1 - floor)
    return np.asarray(np.log(p / (1 - p)))


def folds(n: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Indices to fit on and held out, `FOLDS` times. Latents are drawn independently: no shuffling."""
    index = np.arange(n)
    for fold in range(FOLDS):
        yield index[index % FOLDS != fold], index[index % FOLDS == fold]


def ridge(z: Array, y: Array, penalty: float) -> tuple[Array, float]:
    """Weights (100,) and offset b of min |y − zw − b|² + penalty·|w|² (Hoerl & Kennard 1970)."""
    centre, mean = z.mean(0), y.mean()
    x = z - centre
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - mean))
    return weights, float(mean - centre @ weights)


def logistic(z: Array, labels: NDArray[np.int64], classes: int, penalty: float) -> tuple[Array, Array]:
    """Weights (C − 1, 100) and offsets (C − 1,) of multinomial logistic regression against class 0.

    Minimises the log-loss plus penalty/2·|W|², by L-BFGS on the exact gradient.
    """
    onehot = np.eye(classes)[labels]
    x = np.pad(z, ((0, 0), (0, 1)), constant_values=1)

    def loss(flat: Array) -> tuple[float, Array]:
        w = flat.reshape(classes - 1, -1)
        logp = log_softmax(np.pad(x @ w.T, ((0, 0), (1, 0))), axis=1)
        gradient = (np.exp(logp) - onehot)[:, 1:].T @ x
        gradient[:, :-1] += penalty * w[:, :-1]
        return -(logp * onehot).sum() + penalty / 2 * (w[:, :-1] ** 2).sum(), gradient.ravel()

    start = np.zeros((classes - 1) * x.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-12}).x
    found = found.reshape(classes - 1, -1)
    return found[:, :-1], found[:, -1]


def held_out_r2(z: Array, y: Array, penalty: float) -> float:
    """Cross-validated R² of ridge regression: 1 − Σ(y − ŷ)² / Σ(y − ȳ)², ŷ from the other folds."""
    return _r2(y, _held_out(z, y, penalty))


def fit_attribute(z: Array, measured: Measured, penalty: float) -> AttributeModel:
    """The model of one attribute from latents (N, 100), images without a label left out.

    InvalidInput on the attribute's name when a class has under 10 labels, or
    when the values do not rise or fall with the classes.
    """
    labels = measured.labels
    if measured.values is not None:
        labels = labels[np.isfinite(measured.values)]
    for index, value in enumerate(measured.classes):
        count = int((labels == index).sum())
        if count < LEAST_PER_CLASS:
            raise InvalidInput(
                measured.attribute,
                f"{count} images are labelled {value}, and a fit needs {LEAST_PER_CLASS}: annotate more",
            )
    if measured.values is None:
        return _categorical(z, measured, penalty)
    return _ordered(z, measured, measured.values, penalty)


def fit_face(z: Array, face: NDArray[np.bool_], penalty: float) -> AttributeModel:
    """The model of whether a face is found, from all latents (N, 100).

    With under 10 images on one side it is the same rate everywhere, (n + 1)/(N + 2).
    """
    found = int(face.sum())
    if min(found, len(face) - found) >= LEAST_PER_CLASS:
        return _categorical(z, Measured("face", ("absent", "found"), face.astype(np.int64)), penalty)
    return AttributeModel(
        attribute="face",
        classes=("absent", "found"),
        weights=np.zeros((1, z.shape[1])),
        offset=np.log([(found + 1) / (len(face) - found + 1)]),
        edges=None,
        sigma=0.0,
        measure="balanced_accuracy",
        fit=0.5,
        chance=1.0,
    )


def rows(z: Array, measured: Measured, penalty: float) -> Array:
    """Uncalibrated weights (R, 100) of one attribute, towards its later classes."""
    if measured.values is None:
        known = measured.labels >= 0
        return logistic(z[known], measured.labels[known], len(measured.classes), penalty)[0]
    known = np.isfinite(measured.values)
    return _sign(measured) * ridge(z[known], measured.values[known], penalty)[0][None]


def _sign(measured: Measured) -> int:
    """1 when values rise with the classes, −1 when they fall."""
    assert measured.values is not None
    known = np.isfinite(measured.values)
    means = [measured.values[known & (measured.labels == c)].mean() for c in range(len(measured.classes))]
    steps = np.diff(means)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise InvalidInput(
            measured.attribute,
            f"values neither rise nor fall with {', '.join(measured.classes)}: means {np.round(means, 3)}",
        )
    return 1 if steps[0] > 0 else -1


def _ordered(z: Array, measured: Measured, values: Array, penalty: float) -> AttributeModel:
    known = np.isfinite(values)
    # Scores rise with the classes, so an attribute's direction always points to its last class.
    x, y, labels = z[known], _sign(measured) * values[known], measured.labels[known]
    labelled = labels >= 0
    edges = [_edge(y[labelled], int((labels[labelled] <= c).sum())) for c in range(len(measured.classes) - 1)]
    weights, _ = ridge(x, y, penalty)
    guess = _held_out(x, y, penalty)
    slope = float(np.cov(y, guess)[0, 1] / guess.var(ddof=1))
    weights = slope * weights
    residual = y - y.mean() - slope * (guess - guess.mean())
    return AttributeModel(
        attribute=measured.attribute,
        classes=measured.classes,
        weights=weights[None],
        offset=np.array([y.mean() - x.mean(0) @ weights]),
        edges=np.array(edges),
        sigma=float(residual.std()),
        measure="r_squared",
        fit=_r2(y, guess),
        chance=_chance_of_correlation(y, guess),
    )


def _categorical(z: Array, measured: Measured, penalty: float) -> AttributeModel:
    known = measured.labels >= 0
    x, labels, classes = z[known], measured.labels[known], len(measured.classes)
    scores, guess = np.empty((len(x), classes - 1)), np.empty(len(x), np.int64)
    for train, test in folds(len(x)):
        w, b = logistic(x[train], labels[train], classes, penalty)
        scores[test] = x[test] @ w.T
        guess[test] = np.pad(scores[test] + b, ((0, 0), (1, 0))).argmax(1)
    scale, chance = _scale(scores, labels)
    weights = scale * logistic(x, labels, classes, penalty)[0]
    return AttributeModel(
        attribute=measured.attribute,
        classes=measured.classes,
        weights=weights,
        offset=_scaled(x @ weights.T, labels, (1.0, 1.0))[1],
        edges=None,
        sigma=0.0,
        measure="balanced_accuracy",
        fit=float(np.mean([(guess[labels == c] == c).mean() for c in range(classes)])),
        chance=chance,
    )


def _scale(scores: Array, labels: NDArray[np.int64]) -> tuple[float, float]:
    """By what factor, 0–2, held-out scores (N, C − 1) are right, and the one-sided p-value of that factor.

    The p-value is that of the likelihood ratio against 0, below which the factor
    may not be (Self & Liang 1987).
    """
    scale, _, loss = _scaled(scores, labels, (0.0, 2.0))
    none = _scaled(scores, labels, (0.0, 0.0))[2]
    return scale, _one_sided(float(np.sqrt(2 * max(none - loss, 0.0))))


def _scaled(
    scores: Array, labels: NDArray[np.int64], bounds: tuple[float, float]
) -> tuple[float, Array, float]:
    """The likeliest factor of scores (N, C − 1) within bounds, offsets (C − 1,) with it, and the log-loss.

    With these offsets every class is predicted as often as it is there.
    """
    padded = np.pad(scores, ((0, 0), (1, 0)))
    rows = np.arange(len(labels))
    onehot = np.eye(padded.shape[1])[labels]

    def loss(free: Array) -> tuple[float, Array]:
        logp = log_softmax(free[0] * padded + np.pad(free[1:], (1, 0)), axis=1)
        error = np.exp(logp) - onehot
        return -float(logp[rows, labels].sum()), np.append((error * padded).sum(), error.sum(0)[1:])

    shares = onehot.mean(0)
    start = np.append(bounds[0], np.log(shares[1:] / shares[0]))
    limits = [bounds, *[(None, None)] * (len(start) - 1)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits)
    return float(found.x[0]), found.x[1:], float(found.fun)


def _chance_of_correlation(y: Array, guess: Array) -> float:
    """One-sided p-value of the correlation of (N,) values with their held-out guesses (Fisher 1921)."""
    r = float(np.corrcoef(y, guess)[0, 1])
    return _one_sided(float(np.arctanh(min(r, 1 - 1e-12)) * np.sqrt(len(y) - 3)))


def _one_sided(deviation: float) -> float:
    """p-value of a deviation that would be standard normal if the guesses had come from other images.

    Over all folds any two images are met twice, once with either as the one that
    teaches the other: the two terms are nearly equal, so the variance is twice that.
    """
    return float(ndtr(-deviation / np.sqrt(2)))


def _edge(values: Array, below: int) -> float:
    """The bound with so many values below it.

    Where labels are a function of the value this is the annotator's own
    threshold; where they are not quite, shares of labels stay what they are.
    """
    ordered = np.sort(values)
    return float((ordered[below - 1] + ordered[below]) / 2)


def _held_out(z: Array, y: Array, penalty: float) -> Array:
    guess = np.empty(len(y))
    for train, test in folds(len(y)):
        w, b = ridge(z[train], y[train], penalty)
        guess[test] = z[test] @ w + b
    return guess


def _r2(y: Array, guess: Array) -> float:
    return float(1 - ((y - guess) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def expected_shares(
    models: Sequence[AttributeModel], face: AttributeModel, noise: Array, shift: Array
) -> tuple[Array, float]:
    """What a component at `shift` (100,) is predicted to give: cell shares (K,) and face rate.


    Cells are all combinations of the models' classes, the last model's class
    running fastest. `noise` (J, R + 1) are standard normal points in the space
    of all scores, the face model's last; shares are among images with a face.
    Attributes are taken as independent given the latent.
    """
    weights = np.concatenate([model.weights for model in models] + [face.weights])
    offset = np.concatenate([model.offset for model in models] + [face.offset])
    # Scores of a normal latent are normal: a point needs only as many numbers as there are scores.
    covariance = weights @ weights.T
    root = np.linalg.cholesky(covariance + 1e-9 * (1 + np.trace(covariance)) * np.eye(len(weights)))
    scores = noise @ root.T + weights @ shift + offset
    found = face.probabilities(scores[:, -1:])[:, 1]
    cells, start = np.ones((len(noise), 1)), 0
    for model in models:
        rows = len(model.weights)
        classes = model.probabilities(scores[:, start : start + rows])
        cells = (cells[:, :, None] * classes[:, None, :]).reshape(len(noise), -1)
        start += rows
    rate = float(found.mean())
    return (found @ cells) / found.sum(), rate
