"""Cards: what is stored about a dataset or a model, for a person (Markdown) and for machines (Croissant)."""

from fairloop.cards.croissant import croissant
from fairloop.cards.facts import Composition, DatasetFacts, Facts, Labelling, Share, gather
from fairloop.cards.markdown import markdown

__all__ = [
    "Composition",
    "DatasetFacts",
    "Facts",
    "Labelling",
    "Share",
    "croissant",
    "gather",
    "markdown",
]
