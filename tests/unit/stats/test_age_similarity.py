"""Similarity over the years: hand examples, pandas-like deviations, and the second reference system's log."""

import math

import numpy as np
import pytest

from fairloop.errors import InvalidInput
from fairloop.stats.age_bands import Band
from fairloop.stats.age_similarity import GROUPS, Bands, age_similarity
from fairloop.stats.age_sweep import age_sweep


def at(degrees):
    """A vector of length 2 at an angle: cosines of two are those of the difference."""
    return [2 * math.cos(math.radians(degrees)), 2 * math.sin(math.radians(degrees))]


# Two people. a: 10 (0°), 12 (60°), 15 (90°), 22 (0°), 30 (60°), 55 (90°); b: 14 (0°), 25 (90°), 28 (180°).
ANGLES = (0, 60, 90, 0, 60, 90, 0, 90, 180)
AGES = (10, 12, 15, 22, 30, 55, 14, 25, 28)
PEOPLE = (*"aaaaaa", *"bbb")


def two_people(**options):
    return age_similarity(np.array([at(angle) for angle in ANGLES]), PEOPLE, AGES, **options)


def means(found):
    return {(one.subject, one.group): one.mean for one in found.identities}


def test_two_people_have_the_means_worked_out_by_hand():
    found = means(two_people())
    # Young: (10, 12) at 60° and (12, 15) at 30°. Middle: 60°. Young against old: 90° and 30°.
    assert found["a", "mated young"] == pytest.approx((0.5 + math.sqrt(3) / 2) / 2, abs=1e-12)
    assert found["a", "mated middle"] == pytest.approx(0.5, abs=1e-12)
    assert found["a", "YoungvsOld"] == pytest.approx((0 + math.sqrt(3) / 2) / 2, abs=1e-12)
    assert found["b", "mated middle"] == pytest.approx(0.0, abs=1e-12)
    # 0° and 60° against 90° and 180°: 0, −1, √3/2 and −½, the same for both people.
    other = (0 - 1 + math.sqrt(3) / 2 - 0.5) / 4
    assert found["a", "non-mated"] == pytest.approx(other, abs=1e-12)
    assert found["b", "non-mated"] == pytest.approx(other, abs=1e-12)


def test_people_without_a_pair_are_left_out_and_counted():
    found = two_people()
    assert [group.group for group in found.groups] == list(GROUPS)
    counts = {group.group: (group.identities, group.left_out) for group in found.groups}
    assert counts["mated old"] == (0, 2)
    assert counts["mated young"] == (1, 1)
    assert means(found)["b", "mated old"] is None
    assert next(group for group in found.groups if group.group == "mated old").mean is None


def test_all_pairs_are_every_two_images():
    # 60°, 90° and 30°.
    found = means(two_people(pairs="all"))
    assert found["a", "mated young"] == pytest.approx((0.5 + 0 + math.sqrt(3) / 2) / 3, abs=1e-12)


def test_images_are_neighbours_by_age_in_whatever_order_they_come():
    order = np.random.default_rng(0).permutation(len(AGES))
    vectors = np.array([at(angle) for angle in ANGLES])
    shuffled = age_similarity(vectors[order], [PEOPLE[k] for k in order], [AGES[k] for k in order])
    assert means(shuffled) == pytest.approx(means(two_people()))
    # The dump names places in what was given.
    pair = next(one for one in shuffled.scores if one.group == "mated middle" and one.subject == "b")
    assert (AGES[order[pair.first]], AGES[order[pair.second]]) == (25, 28)


def test_bands_are_those_that_were_asked_for():
    found = means(two_people(bands=Bands(old=Band.parse("30-55"))))
    assert found["a", "mated old"] == pytest.approx(math.sqrt(3) / 2, abs=1e-12)
    for text in ("20-5", "x-3", "-1-4", "0-200"):
        with pytest.raises(InvalidInput, match="young"):
            Band.parse(text, "young")


def test_an_age_outside_every_band_changes_no_number():
    # Between and beyond 10–15, 20–40 and 45–65 (50–70 for the older side); c has no other photograph.
    angles, people, ages = (*ANGLES, 45, 120, 10, 75), (*PEOPLE, *"abac"), (*AGES, 3, 17, 80, 18)
    found = age_similarity(np.array([at(angle) for angle in angles]), people, ages)
    theirs = means(two_people())
    assert {key: mean for key, mean in means(found).items() if key[0] != "c"} == pytest.approx(theirs)
    assert {mean for key, mean in means(found).items() if key[0] == "c"} == {None}
    for with_c, without in zip(found.groups, two_people().groups, strict=True):
        assert (with_c.mean, with_c.identities, with_c.comparisons) == (
            pytest.approx(without.mean),
            without.identities,
            without.comparisons,
        )
        assert with_c.left_out == without.left_out + 1


def test_one_person_has_nobody_to_be_taken_for():
    found = age_similarity(np.array([at(angle) for angle in ANGLES[:6]]), PEOPLE[:6], AGES[:6])
    other = next(group for group in found.groups if group.group == "non-mated")
    assert (other.mean, other.std, other.identities, other.left_out) == (None, None, 0, 1)
    young = next(group for group in found.groups if group.group == "mated young")
    assert young.mean == pytest.approx((0.5 + math.sqrt(3) / 2) / 2, abs=1e-12)
    assert young.std is None


def random_people(seed=3, people=12, images=9):
    rng = np.random.default_rng(seed)
    own = np.repeat(rng.standard_normal((people, 16)), images, axis=0)
    vectors = own + rng.standard_normal(own.shape)
    return vectors, [f"p{k:02}" for k in range(people) for _ in range(images)], rng.integers(0, 70, len(own))


def test_group_means_and_deviations_are_those_of_the_listed_pairs():
    vectors, who, ages = random_people()
    found = age_similarity(vectors, who, ages, pairs="all")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    table = unit @ unit.T
    who_ = np.array(who)
    for group in found.groups[:4]:
        listed: dict[str, list[float]] = {}
        for one in found.scores:
            if one.group == group.group:
                assert who[one.first] == who[one.second] == one.subject
                assert one.score == pytest.approx(table[one.first, one.second], abs=1e-12)
                listed.setdefault(one.subject, []).append(one.score)
        people = [np.mean(values) for values in listed.values()]
        assert group.mean == pytest.approx(np.mean(people), abs=1e-12)
        assert group.std == pytest.approx(np.std(people, ddof=1), abs=1e-12)
        assert group.comparisons == sum(map(len, listed.values()))
    inside = (ages >= 20) & (ages <= 30)
    people = []
    for name in sorted(set(who)):
        mine = inside & (who_ == name)
        if mine.any():
            people.append(table[np.ix_(mine, inside & (who_ != name))].mean())
    assert found.groups[4].mean == pytest.approx(np.mean(people), abs=1e-12)
    assert found.groups[4].std == pytest.approx(np.std(people, ddof=1), abs=1e-12)


def test_images_without_an_age_a_subject_or_an_embedding_are_counted():
    vectors, who, ages = random_people()
    years = [None if k == 0 else float(age) for k, age in enumerate(ages)]
    names = [None if k == 1 else name for k, name in enumerate(who)]
    vectors[2] = np.nan
    found = age_similarity(vectors, names, years, failures=np.arange(len(who)) == 2)
    assert found.images_left_out == 3
    with pytest.raises(InvalidInput, match="row 2"):
        age_similarity(vectors, names, years)
    with pytest.raises(InvalidInput, match="ages"):
        age_similarity(vectors, names, [*years[:-1], 300.0])


def published_world():
    """82 people who look all alike: how many have which photographs follows from the published counts.

    At a threshold that every score passes, the log's FMR of 81/82 and 13/82 and
    FNMR of 4/82 and 74/82 are who has young photographs (81; 78 two of them) and
    who has old ones (13; 8 two of them).
    """
    who, ages = [], []
    for person in range(82):
        young = 0 if person == 81 else 1 if person >= 78 else 2
        old = 2 if person < 8 else 1 if person < 13 else 0
        who += [f"{person + 1:03}"] * (young + old + 1)
        ages += [*range(10, 10 + young), *range(50, 50 + old), 30]
    return np.ones((len(who), 4)), who, ages


def test_the_compatible_switch_gives_the_published_garbe_where_missing_people_are_errors():
    found = age_sweep(*published_world(), missing="non_match")
    young, old = found.groups
    assert young.fmr[0] == pytest.approx(0.9878048780487805, abs=1e-15)
    assert old.fmr[0] == pytest.approx(0.15853658536585366, abs=1e-15)
    assert young.fnmr[0] == pytest.approx(0.04878048780487809, abs=1e-15)
    assert old.fnmr[0] == pytest.approx(0.9024390243902439, abs=1e-15)
    assert found.garbe[0] == pytest.approx(0.8104200763775231, abs=1e-13)


def test_people_without_old_photographs_are_no_errors():
    found = age_sweep(*published_world())
    young, old = found.groups
    assert (old.fnmr[0], young.fnmr[0], found.garbe[0]) == (0.0, 0.0, 0.0)
    assert (old.without_mated, old.without_non_mated) == (74, 69)
    assert "people_without_mated:old:74 of 82" in found.flags
    # GARBE of equal rates is 0; that of the defect above is 0.81.
    assert len(found.garbe) == 40
    assert found.thresholds[-1] == pytest.approx(0.975)


def test_rates_are_of_people_at_every_threshold():
    vectors, who, ages = random_people(people=20)
    groups = {"young": Band(0, 30), "old": Band(31, 70)}
    found = age_sweep(vectors, who, ages, groups=groups, pairs="all")
    for group in found.groups:
        for level, fmr, fnmr in zip(found.thresholds, group.fmr, group.fnmr, strict=True):
            assert fmr == pytest.approx(np.mean(np.array(group.non_mated) >= level))
            assert fnmr == pytest.approx(np.mean(np.array(group.mated) < level))
    at_half = found.thresholds.index(0.5)
    first, second = (group.fnmr[at_half] for group in found.groups)
    # The Gini of two rates is |a − b| / (a + b); no impostor mean is as high as 0.5 here.
    assert all(group.fmr[at_half] == 0 for group in found.groups)
    assert found.garbe[at_half] == pytest.approx(0.5 * abs(first - second) / (first + second))


def test_a_band_that_nobody_is_in_has_no_rate_and_no_garbe():
    vectors, who, ages = random_people()
    found = age_sweep(vectors, who, ages, groups={"young": Band(0, 60), "none": Band(100, 110)})
    assert set(found.garbe) == {None}
    assert set(found.groups[1].fnmr) == {None}
    for wrong in ({"groups": {"one": Band(0, 9)}}, {"missing": "zero"}, {"pairs": "some"}, {"alpha": 2.0}):
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            age_sweep(vectors, who, ages, **wrong)
