"""Whether images show who their prompts asked for, attribute by attribute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from fairloop.prompt_audit import Share
from flows.prompt_labels import Seen


@dataclass(frozen=True)
class Obedience:
    """Of `images` images `right` show the value of the attribute that was asked for.

    `expected` is the share that would, if what is seen did not hang on what was
    asked: the sum over values of share asked × share seen. `p_value` is that of
    as many or more by chance (binomial, one-sided).
    """

    attribute: str
    right: int
    images: int
    expected: float
    p_value: float


def obedience(images: Sequence[Seen], asked: Mapping[str, Share]) -> list[Obedience]:
    """One row per attribute; `asked` says which group each prompt asks for, by its id.

    An image in which the attribute was not seen is not right.
    """
    found = []
    for place, attribute in enumerate(images[0].values if images else ()):
        pairs = [(asked[one.prompt].group[place], one.values[attribute]) for one in images]
        wanted, shown = Counter(first for first, _ in pairs), Counter(second for _, second in pairs)
        expected = sum(wanted[value] * shown[value] for value in wanted) / len(pairs) ** 2
        right = sum(first == second for first, second in pairs)
        p_value = float(binomtest(right, len(pairs), expected, alternative="greater").pvalue)
        found.append(Obedience(attribute, right, len(pairs), expected, p_value))
    return found
