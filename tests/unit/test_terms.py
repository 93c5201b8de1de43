"""Policies over an ancestry: what stops, by which chain, what an acknowledgement does, what is only noted."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from fairloop.cli import main
from fairloop.dataset import DatasetWriter, Image
from fairloop.errors import InvalidInput, PreconditionFailed
from fairloop.manifest import Terms
from fairloop.provenance import lineage, terms
from fairloop.store import ObjectStore
from tests.support.manifests import dataset, model, put, table
from tests.support.metrics_world import png

FREE = Terms("CC0-1.0", "yes", "yes", "yes", "yes")


def against(store: ObjectStore, name: str, policy: str, *, derives: bool = True) -> list[str]:
    return [str(o) for o in terms.judge(lineage.ancestry(store, [name]), policy, derives=derives)]


@pytest.mark.parametrize(
    ("question", "answer", "stopped"),
    [
        # The table of docs/provenance-and-terms.md, row by row.
        ("commercial", "no", {"internal", "commercial"}),
        ("commercial", "unknown", {"internal", "commercial"}),
        ("derivatives", "no", {"research", "internal", "commercial", "publish"}),
        ("derivatives", "unknown", {"commercial", "publish"}),
        ("redistribution", "no", {"publish"}),
        ("redistribution", "unknown", {"publish"}),
        ("consent", "no", {"internal", "commercial", "publish"}),
        ("consent", "unknown", {"commercial", "publish"}),
        ("consent", "not_needed", set()),
        ("consent", "yes", set()),
    ],
)
def test_each_policy_asks_its_questions(
    store: ObjectStore, question: str, answer: str, stopped: set[str]
) -> None:
    put(store, dataset(1), [], [Terms(**{**FREE.__dict__, question: answer})])
    assert {policy for policy in terms.POLICIES if against(store, dataset(1), policy)} == stopped


def test_the_chain_leads_from_what_was_asked_about_to_what_forbids_it(store: ObjectStore) -> None:
    nd = Terms("CC BY-NC-ND 4.0", "no", "no", "no", "yes")
    put(store, dataset(1), [], [nd])
    put(store, model(2), [dataset(1)], [nd])
    put(store, dataset(3), [model(2)], [nd, FREE])
    with pytest.raises(PreconditionFailed) as raised:
        terms.check(store, [dataset(3)], "research")
    chain = f"{dataset(3)} → {model(2)} → {dataset(1)}"
    assert f"{chain}: licence CC BY-NC-ND 4.0 forbids derivatives" in str(raised.value)
    assert "the policy research does not allow this" in str(raised.value)
    # Numbers about it are no derivative.
    assert terms.check(store, [dataset(3)], "research", derives=False).objections == ()


def test_where_nothing_is_stated_nothing_is_allowed_but_research(store: ObjectStore) -> None:
    put(store, dataset(1))
    put(store, dataset(2), [], [Terms(purpose="a test")])
    for name in (dataset(1), dataset(2)):
        assert against(store, name, "research") == []
        assert f"{name}: nothing is stated about the licence, so commercial use may be forbidden" in against(
            store, name, "commercial"
        )


def test_a_purpose_that_was_added_on_the_way_is_no_licence_of_its_own(store: ObjectStore) -> None:
    put(store, model(1), [], [FREE])
    put(store, dataset(2), [model(1)], [FREE, Terms(purpose="training a recogniser")])
    assert against(store, dataset(2), "commercial") == []


def test_terms_of_weights_and_of_what_they_were_trained_on_count(store: ObjectStore) -> None:
    put(store, table("annotations", 1), [], [], {"weights": ["dlib-recognizer-128"]})
    way = f"{table('annotations', 1)} → weights/dlib-recognizer-128"
    found = against(store, table("annotations", 1), "commercial")
    assert f"{way}: the people in the pictures were not asked" in found
    assert f"{way} → published/facescrub: licence CC BY-NC-ND 3.0 forbids commercial use" in found
    # The weights do not hold the pictures: that set's word on derivatives is about those.
    assert against(store, table("annotations", 1), "research") == []


def test_weights_that_no_catalogue_knows_allow_no_more_than_what_is_unknown(store: ObjectStore) -> None:
    put(store, dataset(1), [], [FREE], {"weights": ["no-such-weights"]})
    assert against(store, dataset(1), "research") == []
    assert any("weights/no-such-weights" in text for text in against(store, dataset(1), "internal"))


def test_a_withdrawn_set_always_needs_a_reason(store: ObjectStore) -> None:
    put(store, dataset(1), [], [FREE], {"published": ["ms1mv3"]})
    put(store, model(2), [], [FREE], {"trained_on": ["ms1mv3"]})
    for name in (dataset(1), model(2)):
        for policy in terms.POLICIES:
            assert any(
                f"{name} → published/ms1mv3: MS1MV3 (MS1M-RetinaFace) is withdrawn" in text
                for text in against(store, name, policy, derives=False)
            )
    use = terms.check(store, [model(2)], "research", "a published baseline, numbers only", derives=False)
    assert use.acknowledged == "a published baseline, numbers only"
    assert len(use.objections) == 1


def test_a_recogniser_that_may_have_seen_the_people_it_is_evaluated_on_needs_a_reason(
    store: ObjectStore,
) -> None:
    put(store, dataset(1), [], [FREE], {"published": ["rfw"]})
    put(store, dataset(2), [dataset(1)], [FREE])  # selected from it
    put(store, model(3), [], [FREE], {"trained_on": ["casia-webface"]})
    put(store, model(4), [model(3)], [FREE], {"trained_on": ["glint360k"]})
    put(store, table("embeddings", 5), [dataset(2), model(4)], [FREE])
    put(store, table("embeddings", 6), [dataset(2), model(3)], [FREE])

    def overlaps(*names: str) -> list[str]:
        graph = lineage.ancestry(store, names)
        return [
            o.reason for o in terms.judge(graph, "research", derives=False) if "may have seen" in o.reason
        ]

    expected = (
        "Glint360K and Racial Faces in-the-Wild, which "
        f"{dataset(2)} is of, share MS-Celeb-1M: the recogniser may have seen these people, "
        "so the result says little"
    )
    assert overlaps(table("embeddings", 5)) == [expected]
    assert overlaps(dataset(2), model(4)) == [expected], "asked before anything is embedded"
    assert overlaps(table("embeddings", 6)) == []


def test_a_set_split_by_its_user_is_no_overlap(store: ObjectStore) -> None:
    put(store, dataset(1), [], [FREE], {"published": ["fairface"]})
    put(store, dataset(2), [], [FREE], {"published": ["fairface"]})
    put(store, model(3), [dataset(1)], [FREE])
    graph = lineage.ancestry(store, [dataset(2), model(3)])
    assert not [o for o in terms.judge(graph, "research", derives=False) if "may have seen" in o.reason]


def test_subjects_of_rfw_under_two_races_are_named_and_do_not_stop(store: ObjectStore) -> None:
    writer = DatasetWriter(store, "datasets/rfw", terms=[FREE])
    for k, (subject, race) in enumerate([("m.023915", "indian"), ("m.1", "black"), ("m.2", "white")]):
        writer.add(Image(png(k), 8, 8, "png", f"rfw:{subject}", labels={"race": race}))
    name = writer.finish({"published": ["rfw"]}).name
    use = terms.check(store, [name], "research", derives=False)
    assert use.objections == ()
    assert len(use.warnings) == 1
    assert use.warnings[0].startswith(f"{name}: 1 subjects stand under two races")
    assert use.warnings[0].endswith("rfw:m.023915")


def test_what_was_inherited_from_a_parent_that_is_gone_still_counts(store: ObjectStore) -> None:
    nc = Terms("CC BY-NC 4.0", "no", "yes", "yes", "yes")
    put(store, model(2), [dataset(1)], [nc])
    assert against(store, model(2), "commercial") == [
        f"{model(2)}: licence CC BY-NC 4.0 forbids commercial use"
    ]


def test_what_is_made_under_a_use_records_it_and_nothing_afterwards_does(store: ObjectStore) -> None:
    use = terms.check(store, ["published/ms1mv3"], "research", "an audit of old weights")

    def made(k: int) -> dict[str, object]:
        writer = DatasetWriter(store, "datasets/copy", terms=[FREE])
        writer.add(Image(png(k), 8, 8, "png"))
        return dict(writer.finish().manifest.details)

    with terms.under(use):
        assert made(1)["use"] == use.to_json()
    assert "use" not in made(2)
    assert use.objections[0].startswith("published/ms1mv3: MS1MV3 (MS1M-RetinaFace) is withdrawn")


def test_a_wrong_policy_or_reason_is_refused_with_what_is_allowed(store: ObjectStore) -> None:
    with pytest.raises(InvalidInput, match=r"use\.policy: 'fun' is not one of research, internal"):
        terms.check(store, [], "fun")
    with pytest.raises(InvalidInput, match=r"use\.acknowledge: has 501 characters"):
        terms.check(store, [], "research", "x" * 501)
    with pytest.raises(InvalidInput, match=r"use\.acknowledge.*one printable line"):
        terms.check(store, [], "research", "two\nlines")


def test_a_long_chain_and_many_objections_stay_readable(store: ObjectStore) -> None:
    for k in range(1, 30):
        put(store, dataset(k), [dataset(k + 1)], [Terms(f"licence {j}", "no") for j in range(k, 31)])
    put(store, dataset(30), [], [Terms("licence 30", "no")])
    with pytest.raises(PreconditionFailed) as raised:
        terms.check(store, [dataset(1)], "commercial")
    assert "and 87 more" in str(raised.value), "30 licences, three answers each, less the three that are said"
    assert len(str(raised.value)) < 1_000


def test_the_command_says_what_stands_against_each_policy(
    store: ObjectStore, store_environment: dict[str, str]
) -> None:
    put(store, dataset(1), [], [Terms("CC BY-NC 4.0", "no", "yes", "yes", "yes")])
    run = CliRunner(env=store_environment)
    done = run.invoke(main, ["terms", "datasets/d1"])
    assert done.exit_code == 0, done.output
    assert "research: nothing stands against it" in done.stdout
    assert f"{dataset(1)}: licence CC BY-NC 4.0 forbids commercial use" in done.stdout
    assert run.invoke(main, ["terms", "datasets/d1", "--policy", "commercial"]).exit_code == 1
    assert run.invoke(main, ["terms", "datasets/d1", "--policy", "publish"]).exit_code == 0
