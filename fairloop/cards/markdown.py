"""A card as Markdown, for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fairloop import models
from fairloop.cards.facts import Composition, DatasetFacts, Facts, Labelling, Share
from fairloop.provenance import lineage_text

PERCEIVED = (
    "Attributes called perceived are impressions: of a model or of a person who looked at a picture. They "
    "say how somebody looks to them, not who anybody is, and must not be used to decide about a person."
)
SYNTHETIC = "Synthetic images show nobody; a likeness to a person is not intended and cannot be excluded."
NOT_TOLD = "not stated"


def markdown(facts: Facts) -> str:
    """The card. Sections without a fact say so rather than being left out."""
    found = facts.manifest
    lines = [f"# {found.name}", "", *_summary(facts), ""]
    if facts.dataset is not None:
        lines += _dataset(facts, facts.dataset)
    else:
        lines += _model(facts)
    lines += ["## Intended use", ""]
    lines += [f"- {_text(purpose)}" for purpose in facts.purposes] or [NOT_TOLD]
    lines += ["", PERCEIVED, "", *_terms(facts), *_erasures(facts)]
    lines += ["## Provenance", "", "```", *lineage_text.tree(facts.lineage), "```", ""]
    lines += _made_with(facts)
    return "\n".join(lines).rstrip() + "\n"


def _summary(facts: Facts) -> list[str]:
    found = facts.manifest
    rows: list[tuple[str, Any]] = [
        ("made", found.created),
        ("parts", f"{len(found.parts)} files, {facts.size / 1e6:.1f} MB"),
        *((what, f"{count:,}") for what, count in found.counts.items()),
    ]
    if facts.dataset is None:
        for key in ("kind", "service", "description", "dimension", "image_size"):
            if found.details.get(key) not in (None, ""):
                rows.append((key.replace("_", " "), found.details[key]))
    return _table(("fact", "value"), rows)


def _dataset(facts: Facts, data: DatasetFacts) -> Iterator[str]:
    yield from ("## Images", "")
    yield from _shares_table("source", data.sources)
    yield ""
    if data.makers:
        yield from _shares_table("made by", data.makers)
        yield ""
        yield SYNTHETIC
        yield ""
    yield from _shares_table("format", data.formats)
    yield ""
    rows = [("bytes", data.bytes), ("width, pixels", data.widths), ("height, pixels", data.heights)]
    if data.images_per_subject:
        rows.append(("images of a subject", data.images_per_subject))
    yield from _table(
        ("", "smallest", "median", "95 %", "largest"), [(name, *values) for name, values in rows if values]
    )
    yield ""
    if data.without_subject:
        yield f"{data.without_subject:,} images belong to no known subject."
        yield ""
    yield from ("## Composition", "")
    yield "Shares of all images with 95 % intervals (Wilson)."
    yield ""
    if not data.compositions:
        yield "No labels came with the images."
        yield ""
    for composition in data.compositions:
        yield from _composition(composition)
    for note in facts.warnings:
        yield from (f"Note: {_text(note)}.", "")
    yield from ("## Annotators", "")
    if not data.labellings:
        yield "No annotation table was made of it."
        yield ""
    for labelling in data.labellings:
        yield from _labelling(labelling)


def _labelling(labelling: Labelling) -> Iterator[str]:
    yield f"### {labelling.name}"
    yield ""
    yield from _table(("annotator", "version"), list(labelling.annotators.items()))
    yield ""
    yield from _shares_table("outcome", labelling.statuses)
    yield ""
    for composition in labelling.compositions:
        yield from _composition(composition)
    if labelling.uncertain:
        yield from _shares_table("label flips when the picture is changed", labelling.uncertain)
        yield ""
    yield "Their errors on these images were not measured; shares are not corrected for them."
    yield from ("", *(f"- {_text(note)}" for note in labelling.notes), "")


def _composition(composition: Composition) -> Iterator[str]:
    yield f"**{_text(composition.attribute)}**, {composition.how}: {_text(composition.source)}"
    yield ""
    yield from _shares_table("value", composition.shares)
    if composition.more_values:
        yield f"\n{composition.more_values} rarer values are not listed."
    yield ""


def _model(facts: Facts) -> Iterator[str]:
    yield from ("## Made from", "")
    if not facts.trained_on:
        yield "No training data is recorded."
    yield from (f"- {name}  {title}".rstrip() for name, title in facts.trained_on)
    yield ""
    settings = facts.manifest.details.get("settings")
    if settings:
        yield from _table(("setting", "value"), sorted(settings.items()))
        yield ""
    yield from ("## Weights", "")
    catalogued = {entry.sha256: entry for entry in models.catalogue().values()}
    for part in facts.manifest.parts:
        entry = catalogued.get(part.sha256)
        origin = f"; catalogue entry {entry.name}, from {entry.origin}" if entry else ""
        yield f"- `{part.key.rsplit('/', 1)[1]}`, {part.size:,} bytes, sha256 `{part.sha256}`{origin}"
        if entry and entry.terms.note:
            yield f"  - {_text(entry.terms.note)}"
    yield from ("", "## Reports about it", "")
    if not facts.reports:
        yield "None is stored."
    yield from (f"- {name} ({kind})" for name, kind in facts.reports)
    yield ""


def _terms(facts: Facts) -> Iterator[str]:
    yield from ("## Terms", "")
    stated = [terms for terms in facts.manifest.terms if terms.licence != "unknown"]
    rows = [
        (t.licence, t.commercial, t.derivatives, t.redistribution, t.consent) for t in dict.fromkeys(stated)
    ]
    if rows:
        yield from _table(("licence", "commercial", "derivatives", "redistribution", "consent"), rows)
    else:
        yield "No licence is recorded."
    yield ""
    for policy, objections in facts.against.items():
        yield f"- **{policy}**: " + (
            "nothing stands against it" if not objections else "only if acknowledged:"
        )
        yield from (f"  - {_text(objection)}" for objection in objections)
    use = facts.manifest.details.get("use")
    if use and use.get("acknowledged"):
        yield ""
        yield f"Made under the policy {use['policy']}, acknowledged: {_text(use['acknowledged'])}"
    yield ""


def _erasures(facts: Facts) -> Iterator[str]:
    yield from ("## Erasures", "")
    details = facts.manifest.details
    erasures = details.get("erasures") or ()
    if details.get("contains_erased"):
        yield "**Made with data that were erased since**: the weights cannot forget them; train it anew."
    elif not erasures:
        yield "None."
    if erasures:
        yield f"{len(erasures)} recorded: what was erased is gone from the files, and the name stays."
    yield ""


def _made_with(facts: Facts) -> list[str]:
    producer = ", ".join(f"{name} {version}" for name, version in sorted(facts.manifest.producer.items()))
    return [f"Made with {producer}. This card was written from stored facts of s3://{facts.bucket}."]


def _shares_table(heading: str, shares: Sequence[Share]) -> list[str]:
    rows = []
    for share in shares:
        low, high = share.interval
        rows.append((share.value, f"{share.count:,}", f"{share.share:.1%}", f"{low:.1%} to {high:.1%}"))
    return _table((heading, "images", "share", "95 % interval"), rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    return [*lines, *(f"| {' | '.join(_text(str(cell)) for cell in row)} |" for row in rows)]


def _text(text: str) -> str:
    """Text from outside on one line, without what Markdown or HTML would take for markup."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    for mark in ("\\", "|", "<", "`", "*", "["):
        plain = plain.replace(mark, f"\\{mark}" if mark != "<" else "&lt;")
    return plain
