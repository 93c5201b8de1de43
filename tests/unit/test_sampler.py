"""The mixture that a latent sampler publishes: its weights, its draws and its file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from fairloop.errors import InvalidInput
from fairloop.taxonomy import cells
from services.generator.latents import LATENT_SIZE, subject_centre
from services.generator.nuisances import NuisanceShift
from services.generator.sampler import (
    Fit,
    Sampler,
    components,
    draw_cell,
    draw_centres,
    load,
    reweigh,
    save,
    solve_weights,
)

K = 6


@pytest.fixture
def fitted() -> Sampler:
    """Six components, 70 % of each its own cell, faces in 80 % of the images."""
    return Sampler(
        cells=tuple(cells(["gender", "skin_tone_band"])),
        shifts=np.linspace(-1, 1, K * LATENT_SIZE).reshape(K, LATENT_SIZE).astype(np.float32),
        weights=np.full(K, 1 / K),
        target=np.full(K, 1 / K),
        obtained=np.full((K, K), 0.06) + 0.64 * np.eye(K),
        face_rate=np.full(K, 0.8),
        directions=np.eye(2, LATENT_SIZE, dtype=np.float32),
        fits=(
            Fit("gender", "male", "r_squared", 0.2, 1.0),
            Fit("skin_tone_band", "dark", "r_squared", 0.7, 0.9),
        ),
        nuisances=(NuisanceShift("gender", "yaw", 0.2, 0.01, 0.03, 0.6, True),),
        conventions={"recipe": "latent_sampler", "images": 1500, "max_shift": 3.0, "keep_faces": True},
    )


def test_weights_mix_the_components_to_the_target() -> None:
    # 0.8·w + 0.4·(1 − w) = 0.5 at w = 1/4; at half the faces a component needs twice the draws.
    rates, half = np.array([[0.8, 0.2], [0.4, 0.6]]), np.array([0.5, 0.5])
    np.testing.assert_allclose(solve_weights(rates, half), [0.25, 0.75], atol=0.02)
    fewer = rates * np.array([[0.5], [1]])
    np.testing.assert_allclose(solve_weights(fewer, half), [0.4, 0.6], atol=0.02)


def test_a_pilot_corrects_what_was_predicted(fitted: Sampler) -> None:
    k = len(fitted.cells)
    none = reweigh(fitted, np.zeros((k, k), np.int64), np.zeros(k, np.int64))
    np.testing.assert_allclose(none.weights, fitted.weights, atol=1e-4)
    # Every component gives its own cell, the first in one of three images the second cell.
    drawn = np.full(k, 30_000)
    counts = np.diag(drawn)
    counts[0, 0], counts[0, 1] = 20_000, 10_000
    measured = reweigh(fitted, counts, drawn)
    np.testing.assert_allclose(measured.shares, 1 / k, atol=0.01)
    np.testing.assert_allclose(measured.face_rate, 1, atol=0.01)
    assert measured.obtained[0, 1] == pytest.approx(1 / 3, abs=0.01)
    # 1/6 of the first cell takes 3/2·1/6 of the draws, which bring half of the second cell along.
    np.testing.assert_allclose(measured.weights, np.array([3, 1, 2, 2, 2, 2]) / 12, atol=0.01)


def test_a_pilot_with_more_labels_than_images_is_refused(fitted: Sampler) -> None:
    k = len(fitted.cells)
    for counts, drawn in (
        (np.ones((k, k), np.int64), np.ones(k, np.int64)),
        (-np.eye(k, dtype=np.int64), np.ones(k, np.int64)),
        (np.ones((2, 2), np.int64), np.ones(2, np.int64)),
    ):
        with pytest.raises(InvalidInput, match="counts"):
            reweigh(fitted, counts, drawn)


def test_a_subject_is_drawn_the_same_alone_in_any_order_and_among_others(fitted: Sampler) -> None:
    latents, chosen = draw_centres(fitted, 3, [11, 4, 7])
    backwards, chosen_backwards = draw_centres(fitted, 3, [7, 4, 11])
    assert np.array_equal(latents, backwards[::-1])
    assert np.array_equal(chosen, chosen_backwards[::-1])
    assert np.array_equal(draw_centres(fitted, 3, [4])[0][0], latents[1])
    assert not np.array_equal(draw_centres(fitted, 4, [11, 4, 7])[0], latents)
    assert latents.dtype == np.float32


def test_a_drawn_centre_is_the_subject_moved_by_its_component(fitted: Sampler) -> None:
    latents, chosen = draw_centres(fitted, 3, [11])
    assert np.array_equal(latents[0], subject_centre(3, 11) + fitted.shifts[chosen[0]])
    cell = fitted.cells[2]
    assert np.array_equal(draw_cell(fitted, cell, 3, [11])[0], subject_centre(3, 11) + fitted.shifts[2])


def test_components_come_as_often_as_they_weigh(fitted: Sampler) -> None:
    sampler = replace(fitted, weights=np.array([0.5, 0.2, 0.2, 0.1, 0.0, 0.0]))
    counts = np.bincount(components(sampler, 3, range(4000)), minlength=6)
    np.testing.assert_allclose(counts / 4000, sampler.weights, atol=0.03)  # 4 standard errors
    assert counts[4:].sum() == 0


def test_an_unknown_cell_is_refused_with_those_there_are(fitted: Sampler) -> None:
    with pytest.raises(InvalidInput, match="gender=female,skin_tone_band=light"):
        draw_cell(fitted, "gender=female", 3, [1])


def test_a_sampler_comes_back_as_it_was(fitted: Sampler, tmp_path: Path) -> None:
    save(fitted, tmp_path / "a.safetensors")
    save(fitted, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    back = load(tmp_path / "a.safetensors")
    for name in ("shifts", "weights", "target", "obtained", "face_rate", "directions"):
        assert np.array_equal(getattr(back, name), getattr(fitted, name))
    assert (back.cells, back.fits, back.nuisances) == (fitted.cells, fitted.fits, fitted.nuisances)
    assert back.conventions == fitted.conventions


@pytest.mark.parametrize(
    ("array", "value", "reason"),
    [
        ("weights", np.full(6, 0.2), "sum to 1"),
        ("weights", np.array([1.5, -0.5, 0, 0, 0, 0]), "sum to 1"),
        ("weights", np.full(6, 1 / 6, np.float32), "float32"),
        ("shifts", np.zeros((6, 99), np.float32), r"directions: .*\(2, 100\) is not float32 \(2, 99\)"),
        ("shifts", np.zeros((6, 2000), np.float32), r"\(6, 2000\)"),
        ("shifts", np.full((6, 100), np.inf, np.float32), "not finite"),
        ("obtained", np.eye(6) * 2, "sum to 1"),
        ("face_rate", np.full(6, 1.2), "outside"),
        ("face_rate", np.zeros(6), "outside"),
        ("directions", np.zeros((1, 100), np.float32), r"\(1, 100\)"),
        ("target", None, "no latent sampler"),
    ],
)
def test_a_file_with_a_wrong_array_is_refused(
    fitted: Sampler, tmp_path: Path, array: str, value: NDArray[np.float64] | None, reason: str
) -> None:
    path = tmp_path / "sampler.safetensors"
    save(fitted, path)
    arrays, record = load_file(path), metadata(path)
    if value is None:
        del arrays[array]
    else:
        arrays[array] = value
    save_file(arrays, path, {"sampler": json.dumps(record)})
    with pytest.raises(InvalidInput, match=reason):
        load(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "fairloop.latent_sampler/2"}, "fairloop.latent_sampler/2"),
        ({"cells": ["gender=female"] * 6}, "different"),
        ({"cells": ["a", "b", "c", "d", "e", "f"]}, "attribute=value"),
        ({"cells": [1, 2, 3, 4, 5, 6]}, "not a text"),
        ({"cells": []}, "1–256"),
        ({"fits": [{"surprise": 1}]}, "no latent sampler"),
        ({"nuisances": 3}, "no latent sampler"),
        (
            {"fits": [{"direction": "a", "towards": "b", "measure": "c", "value": "d", "kept": 1.0}] * 2},
            "'d'",
        ),
        ({"conventions": None}, "no latent sampler"),
    ],
)
def test_a_file_with_wrong_metadata_is_refused(
    fitted: Sampler, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    path = tmp_path / "sampler.safetensors"
    save(fitted, path)
    save_file(load_file(path), path, {"sampler": json.dumps({**metadata(path), **change})})
    with pytest.raises(InvalidInput, match=reason):
        load(path)


def test_files_that_are_no_sampler_are_refused(fitted: Sampler, tmp_path: Path) -> None:
    path = tmp_path / "sampler.safetensors"
    save(fitted, path)
    whole = path.read_bytes()
    for broken in (b"", b"garbage", whole[:-10], whole[:200], bytes(5 * 2**20)):
        path.write_bytes(broken)
        with pytest.raises(InvalidInput, match=r"sampler\.safetensors"):
            load(path)
    save_file({"shifts": np.zeros(3)}, path)
    with pytest.raises(InvalidInput, match="no latent sampler"):
        load(path)


def metadata(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    record: dict[str, object] = json.loads(header["__metadata__"]["sampler"])
    return record
