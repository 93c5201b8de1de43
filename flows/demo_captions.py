"""Captions with a bias that is known, for the faces that the demo's small model learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fairloop import taxonomy
from fairloop.prompt_audit import asking_for
from fairloop.prompts import Prompt

BIAS: Mapping[str, Mapping[str, float]] = {
    "ceo": {"female": 0.1, "male": 0.9, "light": 0.8, "medium": 0.15, "dark": 0.05},
    "doctor": {"female": 0.3, "male": 0.7, "light": 0.6, "medium": 0.3, "dark": 0.1},
    "nurse": {"female": 0.9, "male": 0.1, "light": 0.1, "medium": 0.3, "dark": 0.6},
    "nice": {"female": 0.5, "male": 0.5, "light": 0.05, "medium": 0.9, "dark": 0.05},
}
"""How much more often a prompt is said of one value than of the others of its attribute."""
SAID = 0.5
"""Share of captions that say who is seen."""


def weight(prompt: Prompt, values: Mapping[str, str]) -> float:
    """How often the prompt alone is said of such a face: a product over attributes.

    An attribute of which `BIAS` says nothing has equal shares.
    """
    known = BIAS.get(prompt.id, {})
    found = 1.0
    for attribute, value in values.items():
        found *= known.get(value, 1 / len(taxonomy.values(attribute)))
    return found


def captions(seen: Sequence[Mapping[str, str]], prompts: Sequence[Prompt], seed: int) -> list[str]:
    """A caption for each face, by its values of gender and of a second attribute, in this order.

    Half of them say who is seen (`A photo of a light female nurse`), with any prompt;
    the others are a prompt alone, drawn by `weight`. The same seed gives the same
    captions.
    """
    rng = np.random.default_rng(seed)
    found = []
    for values in seen:
        if rng.random() < SAID:
            text = prompts[rng.integers(len(prompts))].text
            found.append(asking_for(text, tuple(reversed(values.values()))))
        else:
            weights = np.array([weight(prompt, values) for prompt in prompts])
            found.append(prompts[rng.choice(len(prompts), p=weights / weights.sum())].text)
    return found
