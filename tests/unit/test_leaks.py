"""What two sets share: neighbours by brute force, picture hashes by another library, groups by hand."""

from __future__ import annotations

import functools
import io

import imagehash
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.leaks import copies
from fairloop.leaks import neighbours as nets
from fairloop.leaks.copies import FEATURELESS, UNDECODABLE, equal_bytes, look_alike, picture_hashes
from fairloop.leaks.identities import grouped
from fairloop.leaks.neighbours import expected_by_chance, neighbours, threshold_at
from fairloop.leaks.report import ALIKE, EQUAL, NEIGHBOUR, left_out
from fairloop.stats.watch import watched


def gaussian(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def signs(count: int, seed: int) -> NDArray[np.float32]:
    """Rows of ±1 in 16 dimensions: every cosine is a multiple of 1/8, without rounding."""
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), size=(count, 16))


def pairs_of(
    first: NDArray[np.float32], second: NDArray[np.float32], threshold: float
) -> set[tuple[int, int]]:
    """By numpy in double precision."""
    a, b = (rows.astype(np.float64) / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, second))
    return set(zip(*(place.tolist() for place in np.nonzero(a @ b.T >= threshold)), strict=True))


def test_neighbours_are_those_of_brute_force_over_several_blocks_of_both_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nets, "BASE", 64)
    monkeypatch.setattr(nets, "QUERIES", 50)
    first, second = gaussian(230, 24, 1), 7 * gaussian(310, 24, 2)
    found = neighbours(first, second, 0.55)
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == pairs_of(first, second, 0.55)
    assert len(found) > 50
    assert (np.diff(found.score) <= 0).all()
    cosines = [
        first[i] @ second[j] / np.linalg.norm(first[i]) / np.linalg.norm(second[j])
        for i, j in zip(found.first, found.second, strict=True)
    ]
    assert found.score == pytest.approx(cosines, abs=1e-6)


@pytest.mark.parametrize("threshold", [0.5, np.nextafter(0.5, 1), np.nextafter(0.5, 0), 1.0, -1.0])
def test_a_score_equal_to_the_threshold_is_a_pair_and_one_below_it_is_none(threshold: float) -> None:
    first, second = signs(60, 1), signs(70, 2)
    found = neighbours(first, second, float(threshold))
    expected = pairs_of(first, second, float(threshold))
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected


def test_equal_scores_are_in_the_order_of_their_positions() -> None:
    found = neighbours(signs(60, 1), signs(70, 2), 0.5)
    keys = list(zip((-found.score).tolist(), found.first.tolist(), found.second.tolist(), strict=True))
    assert keys == sorted(keys)


def test_no_pair_at_all_is_an_empty_result() -> None:
    found = neighbours(gaussian(50, 8, 1), gaussian(50, 8, 2), 1.01)
    assert (len(found), found.first.dtype, found.score.dtype) == (0, np.int64, np.float32)


def test_the_sets_that_are_compared_are_not_changed() -> None:
    first, second = gaussian(50, 8, 1), gaussian(50, 8, 2)
    before = first.copy(), second.copy()
    neighbours(first, second, 0.5)
    assert (first == before[0]).all()
    assert (second == before[1]).all()


def test_what_is_no_comparison_of_two_sets_is_refused_by_name() -> None:
    good = gaussian(50, 8, 1)
    zero, nan = good.copy(), good.copy()
    zero[7], nan[9, 3] = 0, np.nan
    for bad, field in ((good[:49], "49, 8"), (zero, "zero"), (nan, "not finite"), (good[0], "shape")):
        for sides in ((bad, good), (good, bad)):
            with pytest.raises(InvalidInput, match=field):
                neighbours(*sides, 0.5)
    with pytest.raises(InvalidInput, match="8 and 9 numbers a row"):
        neighbours(good, gaussian(50, 9, 1), 0.5)
    with pytest.raises(InvalidInput, match="no cosine"):
        neighbours(good, good, float("nan"))


def test_more_pairs_than_a_leak_can_be_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (nets, copies):
        monkeypatch.setattr(module, "MOST_PAIRS", 99)
    with pytest.raises(PreconditionFailed, match="smaller FMR"):
        neighbours(gaussian(50, 8, 1), gaussian(50, 8, 2), -1.0)
    with pytest.raises(PreconditionFailed, match="100 pairs have equal bytes"):
        equal_bytes(["a"] * 10, ["a"] * 10)
    with pytest.raises(PreconditionFailed, match="smaller radius"):
        look_alike(np.zeros((10, 8), np.uint8), np.zeros((10, 8), np.uint8))


def test_a_watcher_is_told_of_all_scores_and_can_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nets, "BASE", 32)
    told: list[tuple[int, int]] = []
    with watched(lambda done, total: told.append((done, total))):
        neighbours(gaussian(50, 8, 1), gaussian(70, 8, 2), 0.9)
    assert told == [(32 * 50, 3500), (64 * 50, 3500), (3500, 3500)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watched(stop):
        neighbours(gaussian(50, 8, 1), gaussian(70, 8, 2), 0.9)


def test_the_threshold_is_the_smallest_at_which_strangers_match_at_most_at_the_rate() -> None:
    rows = 3 * gaussian(60, 16, 4)
    subjects = [f"s{k // 3}" for k in range(57)] + [None] * 3
    threshold, count = threshold_at(rows, subjects, 0.01)
    scaled = rows.astype(np.float64) / np.linalg.norm(rows, axis=1, keepdims=True)
    known = np.arange(57)
    scores = scaled[:57] @ scaled[:57].T
    upper = np.triu(np.ones((57, 57), bool), 1)
    strangers = scores[upper & (known[:, None] // 3 != known[None] // 3)]
    # 57·56/2 pairs less 19·3 of the same subject; 1 % of them, rounded down, may match.
    assert count == strangers.size == 57 * 56 // 2 - 19 * 3
    assert (strangers >= threshold - 1e-6).sum() == 15
    below = scores[upper][scores[upper] < threshold - 1e-6].max()
    assert (strangers >= below).sum() > 15


def test_a_rate_that_strangers_are_too_few_for_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least 10000 needed"):
        threshold_at(gaussian(60, 16, 4), [f"s{k}" for k in range(60)], 1e-4)
    with pytest.raises(InvalidInput, match="0–1"):
        threshold_at(gaussian(60, 16, 4), [f"s{k}" for k in range(60)], 0.0)


def test_chance_is_the_rate_times_the_pairs() -> None:
    assert expected_by_chance(0.001, 2_000 * 3_000) == pytest.approx(6_000)


def test_equal_bytes_are_paired_each_with_each() -> None:
    found = equal_bytes(["a", "b", "a", "c"], ["x", "a", "b", "a"])
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert pairs == [(0, 1), (0, 3), (1, 2), (2, 1), (2, 3)]
    assert len(equal_bytes(["a"], [])) == len(equal_bytes([], ["a"])) == len(equal_bytes(["a"], ["b"])) == 0


@functools.cache
def photographs() -> tuple[Image.Image, ...]:
    """Public photographs that come with scikit-image."""
    from skimage import data

    return tuple(Image.fromarray(found()).convert("RGB") for found in (data.astronaut, data.cat, data.coffee))


def saved(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def hashed(*images: bytes) -> list[NDArray[np.uint8] | str]:
    return [found for _, found in picture_hashes(({"image_id": str(k)}, d) for k, d in enumerate(images))]


def distance(first: NDArray[np.uint8] | str, second: NDArray[np.uint8] | str) -> int:
    assert not isinstance(first, str)
    assert not isinstance(second, str)
    return int(np.unpackbits(first ^ second).sum())


def test_a_hash_is_that_of_another_library() -> None:
    for image, found in zip(photographs(), hashed(*map(saved, photographs())), strict=True):
        assert not isinstance(found, str)
        assert np.unpackbits(found).astype(bool).tolist() == imagehash.phash(image).hash.reshape(-1).tolist()


def test_scaled_and_recompressed_pictures_are_near_and_other_pictures_far() -> None:
    originals = hashed(*map(saved, photographs()))
    for image, original in zip(photographs(), originals, strict=True):
        half = image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)
        turned = image.copy()
        exif = Image.Exif()
        exif[0x0112] = 6  # to be shown turned by 90° clockwise, as cameras write it
        again = io.BytesIO()
        turned.rotate(90, expand=True).save(again, "JPEG", quality=95, exif=exif)
        changed = hashed(
            saved(image, "JPEG", quality=40), saved(half), saved(half, "WEBP", quality=60), again.getvalue()
        )
        assert max(distance(original, one) for one in changed) <= copies.RADIUS
        assert distance(original, hashed(saved(ImageOps.mirror(image)))[0]) > copies.RADIUS
    far = [distance(originals[i], originals[j]) for i in range(3) for j in range(i)]
    assert min(far) > copies.MOST_RADIUS


def test_what_has_no_hash_says_why_and_the_rest_keeps_its_place() -> None:
    picture = saved(photographs()[0])
    flat = saved(Image.new("RGB", (50, 40), (90, 100, 110)))
    found = hashed(picture, b"no picture", flat, picture[: len(picture) // 2], picture)
    assert found[1:4] == [UNDECODABLE, FEATURELESS, UNDECODABLE]
    assert distance(found[0], found[4]) == 0
    assert hashed(flat) == [FEATURELESS]
    assert hashed() == []


def test_pictures_look_alike_within_the_radius_and_not_beyond() -> None:
    rng = np.random.default_rng(3)
    first = rng.integers(0, 256, (40, 8), dtype=np.uint8)
    second = first.copy()
    for row in range(40):  # row k differs in k % 10 bits
        for bit in rng.choice(64, row % 10, replace=False):
            second[row, bit // 8] ^= 1 << (bit % 8)
    apart = np.unpackbits(first[:, None] ^ second[None], axis=2).sum(axis=2)
    for radius in (0, 6, 16):
        found = look_alike(first, second, radius)
        assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == {
            (int(i), int(j)) for i, j in zip(*np.nonzero(apart <= radius), strict=True)
        }
        assert found.distance.tolist() == sorted(apart[found.first, found.second].tolist())
    assert len(look_alike(first[:0], second)) == len(look_alike(first, second[:0])) == 0
    with pytest.raises(InvalidInput, match="17 is outside 0–16"):
        look_alike(first, second, 17)


def test_pairs_that_share_an_image_are_one_group_the_largest_first() -> None:
    # 5–50, 5–51, 6–51 hang together; 7–52 and 8–52 do; 9–53 stands alone.
    first = np.array([7, 5, 9, 5, 8, 6])
    second = np.array([52, 50, 53, 51, 52, 51])
    assert grouped(first, second).tolist() == [1, 0, 2, 0, 1, 0]
    # Equal sizes: that of the smallest image of the first set comes first, whatever the order of pairs.
    assert grouped(np.array([4, 2]), np.array([2, 4])).tolist() == [1, 0]
    assert grouped(np.array([], np.int64), np.array([], np.int64)).tolist() == []


def test_the_gate_leaves_out_what_the_chosen_nets_found() -> None:
    leaking = {EQUAL: ("a",), ALIKE: ("b", "a"), NEIGHBOUR: ("c",)}
    assert left_out(leaking) == {"a", "b", "c"}
    assert left_out(leaking, (EQUAL, ALIKE)) == {"a", "b"}
    assert left_out({}) == frozenset()
