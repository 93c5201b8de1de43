"""Which images a model is fine-tuned on, so that no prompt shows one group more than another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairloop.errors import PreconditionFailed
from fairloop.prompt_audit import FAILED, Share
from flows.prompt_labels import Seen


@dataclass(frozen=True)
class Chosen:
    """Places of the images to train on: position to the prompt that they are shown under."""

    new: Mapping[int, str]
    audited: Mapping[int, str]
    per_group: Mapping[tuple[str, tuple[str, ...]], int]
    """How many of each prompt and group, both kinds together."""


def choose(new: Sequence[Seen], asked: Mapping[str, Share], audited: Sequence[Seen]) -> Chosen:
    """New images that show the group they were asked for, and as many of each group that was not missing.

    `asked` says for the id of each new prompt which group of which prompt it asks
    for. A new image goes under the prompt that had missed the group. Images of the
    audit are taken in its order, at most as many of a group as the most frequent of
    the missing ones has, so that the training does not turn the bias round. Raises
    `PreconditionFailed` when no new image shows what it was asked for.
    """
    kept = {
        place: asked[one.prompt].prompt
        for place, one in enumerate(new)
        if tuple(one.values.values()) == asked[one.prompt].group
    }
    if not kept:
        words = sorted({word for share in asked.values() for word in share.group})
        raise PreconditionFailed(
            f"none of {len(new)} new images shows the group that its prompt asked for: the model does not "
            f"follow {', '.join(words)}"
        )
    counted = Counter((prompt, tuple(new[place].values.values())) for place, prompt in kept.items())
    most = max(counted.values())
    missed = {(share.prompt, share.group) for share in asked.values()}
    taken: dict[int, str] = {}
    for place, one in enumerate(audited):
        key = one.prompt, tuple(one.values.values())
        if FAILED not in key[1] and key not in missed and counted[key] < most:
            counted[key] += 1
            taken[place] = one.prompt
    return Chosen(kept, taken, dict(sorted(counted.items())))
