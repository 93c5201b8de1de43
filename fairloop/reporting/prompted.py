"""Parts of the report document about prompts: who is seen, who is missing, what changed. Rates 0–1."""

from __future__ import annotations

from fairloop.reporting.measured import Estimate, Part


class PromptFaces(Part):
    """One prompt's images by one model: in how many no face was seen; `dropped` says why it is left out."""

    model: str
    prompt: str
    text: str = ""
    images: int
    no_face_count: int
    no_face: Estimate
    dropped: str = ""


class PromptShare(Part):
    """One group's share among one prompt's images: of all, and of those in which everything was seen."""

    model: str
    prompt: str
    group: str
    count: int
    share: Estimate
    of_seen: Estimate


class PromptChange(Part):
    """A group's share before and after, of all images, and the difference."""

    model: str
    prompt: str
    group: str
    before: float
    after: float
    change: Estimate


class MissingGroup(Part):
    """An under-represented group of the baseline, and the prompt that asks for it."""

    prompt: str
    group: str
    share: float
    text: str = ""


class PromptDistance(Part):
    """How far a model's shares are from the target: mean over prompts of the total variation."""

    model: str
    before: Estimate
    after: Estimate
    change: Estimate
    missing_before: int
    missing_after: int
    groups: int
    """Groups of all prompts that the rule looks at."""


class SetQuality(Part):
    """How like a reference one group's images are, and how like each other; None where there are too few."""

    model: str
    group: str
    images: int
    fid: float | None = None
    fid_floor: float | None = None
    kid: Estimate = Estimate()
    similarity: Estimate = Estimate()
    near_duplicates: int = 0


class Prompted(Part):
    """An audit of prompts by one or several models; the first is the baseline."""

    label_source: str
    attributes: tuple[str, ...]
    models: tuple[str, ...]
    paired: bool
    rule: str
    faces: tuple[PromptFaces, ...]
    shares: tuple[PromptShare, ...]
    missing: tuple[MissingGroup, ...] = ()
    missing_source: str = ""
    """Who labelled for the list of missing groups, where that is not the source of the shares."""
    changes: tuple[PromptChange, ...] = ()
    distances: tuple[PromptDistance, ...] = ()
    quality: tuple[SetQuality, ...] = ()
    quality_features: str = ""
    """What the likeness was measured with, and against which reference."""
    conventions: tuple[str, ...] = ()
