"""What may be done with a resource: the terms of its whole ancestry, weights included, against a policy.

    policy      commercial  derivatives   redistribution  consent
    research    any         yes, unknown  any             any
    internal    yes         yes, unknown  any             yes, not_needed, unknown
    commercial  yes         yes           any             yes, not_needed
    publish     any         yes           yes             yes, not_needed

`unknown` passes only where what is made stays inside and can be undone. Nothing
is asked of `derivatives` by work that measures and makes no images or weights.
The sets that weights were trained on count by `commercial`, `consent` and their
withdrawal: the weights do not hold their pictures. A withdrawn set, and an
evaluation on a set that shares its origin with what the recogniser was trained
on, stop under every policy. What stops can be acknowledged, with a reason; both
are recorded in what is made (docs/provenance-and-terms.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from fairloop.errors import DataLoss, InvalidInput, NotFound, PreconditionFailed
from fairloop.manifest import USE, Terms
from fairloop.provenance import published
from fairloop.provenance.lineage import PUBLISHED, WEIGHTS, Lineage, Node, ancestry
from fairloop.store import ObjectStore

__all__ = ["POLICIES", "Objection", "Policy", "Use", "check", "check_policy", "judge", "under", "warnings"]

YES = frozenset({"yes"})
STATED = YES | {"not_needed"}
OPEN = frozenset({"yes", "unknown"})
ANY = frozenset({"yes", "no", "unknown", "not_needed"})
LONGEST_REASON = 500
SAID = 3
"""Objections that an error spells out; it travels in a few kilobytes."""
SAID_NAMES = 6


@dataclass(frozen=True)
class Policy:
    """Which answers each question may have."""

    commercial: frozenset[str]
    derivatives: frozenset[str]
    redistribution: frozenset[str]
    consent: frozenset[str]


POLICIES: Mapping[str, Policy] = {
    "research": Policy(ANY, OPEN, ANY, ANY),
    "internal": Policy(YES, OPEN, ANY, STATED | {"unknown"}),
    "commercial": Policy(YES, YES, ANY, STATED),
    "publish": Policy(ANY, YES, YES, STATED),
}

_QUESTIONS = {
    "commercial": "commercial use",
    "derivatives": "derivatives",
    "redistribution": "redistribution",
}


@dataclass(frozen=True)
class Objection:
    """What stands against a use, and the names that lead to it, from what was asked about."""

    chain: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        names = self.chain
        if len(names) > SAID_NAMES:
            names = (*names[: SAID_NAMES // 2], "…", *names[-SAID_NAMES // 2 :])
        return f"{' → '.join(names)}: {self.reason}"


@dataclass(frozen=True)
class Use:
    """Under which policy something is done. `acknowledged` is the reason given for all `objections`."""

    policy: str
    acknowledged: str = ""
    objections: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What manifests and operation records carry."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }


def check_policy(policy: str, acknowledge: str = "", field: str = "use") -> None:
    """`InvalidInput` for a policy that is none of ours or a reason that is too long."""
    if policy not in POLICIES:
        raise InvalidInput(f"{field}.policy", f"{policy!r} is not one of {', '.join(POLICIES)}")
    if len(acknowledge) > LONGEST_REASON or not acknowledge.isprintable():
        raise InvalidInput(
            f"{field}.acknowledge",
            f"has {len(acknowledge)} characters; it is one printable line of at most {LONGEST_REASON}",
        )


def check(
    store: ObjectStore,
    names: Iterable[str],
    policy: str,
    acknowledge: str = "",
    *,
    derives: bool = True,
    weights: Iterable[str] = (),
) -> Use:
    """The use, where the terms of these resources and catalogue weights allow it or it is acknowledged.

    `derives`: whether images, labels or weights are made from them, rather than
    numbers about them. Raises `InvalidInput` for a wrong policy, and
    `PreconditionFailed` that names the chain to whatever forbids it.
    """
    check_policy(policy, acknowledge)
    lineage = ancestry(store, [*names, *(f"weights/{entry}" for entry in weights)])
    found = tuple(dict.fromkeys(judge(lineage, policy, derives=derives)))
    if found and not acknowledge:
        more = f"; and {len(found) - SAID} more" if len(found) > SAID else ""
        said = "; ".join(str(objection) for objection in found[:SAID])
        raise PreconditionFailed(
            f"the policy {policy} does not allow this: {said}{more}. "
            "`fairloop terms NAME` shows all; acknowledge it with a reason to do it all the same",
            policy=policy,
            resource=found[0].chain[0],
        )
    return Use(policy, acknowledge, tuple(map(str, found)), tuple(warnings(store, lineage)))


@contextmanager
def under(use: Use) -> Iterator[None]:
    """For the length of the block everything that is made records this use (operations do it themselves)."""
    token = USE.set(use.to_json())
    try:
        yield
    finally:
        USE.reset(token)


def judge(lineage: Lineage, policy: str, *, derives: bool = True) -> Iterator[Objection]:
    """Everything in an ancestry that stands against a policy."""
    wanted = POLICIES[policy]
    ways = lineage.ways()
    for name, way in ways.items():
        node = lineage.nodes[name]
        if node.kind != PUBLISHED:
            for terms in _stated(lineage, node):
                yield from _objections(terms, way, wanted, derives=derives, learned=False)
            for parent in node.parents:
                if lineage.nodes[parent].kind == PUBLISHED:
                    learned = node.kind in (WEIGHTS, "model version")
                    yield from _published(parent, (*way, parent), wanted, derives, learned)
        elif name in lineage.roots:
            yield from _published(name, way, wanted, derives, learned=False)
        if node.kind == "embeddings" and not derives:
            yield from overlap(lineage, way, _of(node.parents, "datasets/"), _of(node.parents, "models/"))
    if not derives:
        yield from overlap(lineage, (), _of(lineage.roots, "datasets/"), _of(lineage.roots, "models/"))


def overlap(
    lineage: Lineage, way: tuple[str, ...], datasets: Iterable[str], models: Iterable[str]
) -> Iterator[Objection]:
    """Evaluations of a recogniser on a set whose pictures or people it may have seen.

    The evaluated images count as of a set where the dataset, or one that it was
    selected or merged from, says so; the recogniser by everything behind it.
    """
    evaluated = {
        one: name for name in datasets for one in _sets_of(lineage, name, through=("dataset version",))
    }
    for model in models:
        for seen in _sets_of(lineage, model, through=None):
            for one, dataset in evaluated.items():
                shared = published.shared_origin(one, seen)
                if shared is not None:
                    yield Objection(
                        (*way, model, f"published/{seen}"),
                        f"{published.entry(seen).title} and {published.entry(one).title}, which {dataset} "
                        f"is of, share {published.entry(shared).title}: the recogniser may have seen these "
                        "people, so the result says little",
                    )


def warnings(store: ObjectStore, lineage: Lineage) -> Iterator[str]:
    """What does not stop a use and must be known: subjects that stand under two values of one attribute."""
    for node in lineage.nodes.values():
        if node.kind != "dataset version":
            continue
        for parent in node.parents:
            one = published.catalogue().get(parent.removeprefix("published/"))
            if parent.startswith("published/") and one is not None and one.double_labelled:
                yield from _double_labelled(store, node.name, one.name)


def _double_labelled(store: ObjectStore, dataset: str, name: str) -> Iterator[str]:
    from fairloop.dataset import open_dataset

    try:
        index = open_dataset(store, dataset).index
    except (NotFound, DataLoss) as error:
        yield f"{dataset}: whether subjects stand under two races is not known ({error})"
        return
    races = [dict(labels or ()).get("race") for labels in index["labels"].to_pylist()]
    found = published.double_labelled(name, index["subject_id"].to_pylist(), races)
    if found:
        yield (
            f"{dataset}: {len(found)} subjects stand under two races in {published.entry(name).title} "
            f"and belong to no group: {', '.join(found)}"
        )


def _stated(lineage: Lineage, node: Node) -> tuple[Terms, ...]:
    """The terms that begin at a node. Where nothing at all is stated at a beginning, everything is unknown.

    Terms that hold a purpose and nothing else are no licence; they go with those that are inherited.
    """
    if node.wrong:  # what a resource inherited from it stands in its own manifest; weights have none
        return (Terms(),) if node.kind == WEIGHTS else ()
    own = tuple(terms for terms in lineage.own_terms(node.name) if terms != Terms(purpose=terms.purpose))
    told = own or any(not lineage.nodes[parent].wrong for parent in node.parents)
    return own if told else (Terms(),)


def _objections(
    terms: Terms, way: tuple[str, ...], wanted: Policy, *, derives: bool, learned: bool
) -> Iterator[Objection]:
    licence = (
        "nothing is stated about the licence" if terms.licence == "unknown" else f"licence {terms.licence}"
    )
    for question, words in _QUESTIONS.items():
        if (question == "derivatives" and not derives) or (learned and question != "commercial"):
            continue
        answer = _answer(getattr(terms, question))
        if answer not in getattr(wanted, question):
            verb = "forbids" if answer == "no" else "does not say that it allows"
            text = f"{licence} {verb} {words}"
            if terms.licence == "unknown" and answer != "no":
                text = f"{licence}, so {words} may be forbidden"
            yield Objection(way, text)
    if _answer(terms.consent) not in wanted.consent:
        yield Objection(
            way,
            "the people in the pictures were not asked"
            if terms.consent == "no"
            else "whether the people in the pictures agreed is not known",
        )


def _answer(text: str) -> str:
    """A manifest's word; one that is none of ours says nothing."""
    return text if text in ANY else "unknown"


def _published(
    name: str, way: tuple[str, ...], wanted: Policy, derives: bool, learned: bool
) -> Iterator[Objection]:
    one = published.catalogue().get(name.removeprefix("published/"))
    if one is None:
        yield Objection(way, "is in no catalogue, so nothing is known of its terms")
        return
    if one.withdrawn:
        yield Objection(way, f"{one.title} is withdrawn ({one.note})")
    yield from _objections(one.terms, way, wanted, derives=derives, learned=learned)


def _sets_of(lineage: Lineage, start: str, through: tuple[str, ...] | None) -> dict[str, None]:
    """Published sets behind a node, the way leading only `through` these kinds (None: through all)."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in lineage.nodes:
            continue
        seen.add(name)
        node = lineage.nodes[name]
        if node.kind == PUBLISHED:
            if name.removeprefix("published/") in published.catalogue():
                found[name.removeprefix("published/")] = None
            continue  # what it was made of is the catalogue's to say
        if name == start or through is None or node.kind in through:
            waiting += node.parents
    return found


def _of(names: Iterable[str], collection: str) -> list[str]:
    return [name for name in names if name.startswith(collection)]
