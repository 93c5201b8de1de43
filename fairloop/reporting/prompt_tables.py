"""An audit of prompts as files: the third reference system's CSVs by their names, and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fairloop.prompt_audit import Target
from fairloop.prompt_comparison import ChangeRow, FaceRow, PromptComparison, ShareRow
from fairloop.reporting.parquet import records
from fairloop.reporting.prompted import SetQuality

SCHEMA = "fairloop.prompt-audit/1"
TO_GENERATE, NEW_PROMPTS, QUALITY = "prompts_to_generate.csv", "new_prompts.csv", "quality.csv"


def prompt_body(
    found: PromptComparison,
    facts: Mapping[str, Any],
    targets: Sequence[Target],
    quality: Sequence[SetQuality],
    conventions: Mapping[str, str],
) -> dict[str, Any]:
    """What report.json holds."""
    return {
        "schema": SCHEMA,
        "models": list(found.models),
        "attributes": list(found.attributes),
        "paired": found.paired,
        "rule": found.rule,
        "shares": [asdict(row) for row in found.shares],
        "changes": [asdict(row) for row in found.changes],
        "faces": [asdict(row) for row in found.faces],
        "missing": {model: [asdict(share) for share in shares] for model, shares in found.missing.items()},
        "variation": {model: asdict(moved) for model, moved in found.variation.items()},
        "targets": [{**asdict(target.share), "text": target.text} for target in targets],
        "quality": [row.model_dump() for row in quality],
        "conventions": dict(conventions),
        **facts,
    }


def prompt_tables(
    found: PromptComparison, targets: Sequence[Target], quality: Sequence[SetQuality]
) -> dict[str, bytes]:
    """`results_*.csv`, `prompts_to_generate.csv`, and the rows of the report as Parquet."""
    files = {name: as_csv(header, rows) for name, (header, rows) in found.tables.items()}
    if targets:
        files[TO_GENERATE] = as_csv(
            ("prompt", *found.attributes, "perc"),
            ((t.share.prompt, *t.share.group, t.share.share) for t in targets),
        )
    if quality:
        names = [name for name in SetQuality.model_fields if name not in ("kid", "similarity")]
        ends = ("value", "low", "high")
        files[QUALITY] = as_csv(
            (*names, *(f"{which}_{end}" for which in ("kid", "similarity") for end in ends)),
            (
                (
                    *(getattr(row, name) for name in names),
                    *(getattr(one, end) for one in (row.kid, row.similarity) for end in ends),
                )
                for row in quality
            ),
        )
    files["shares.parquet"] = records(SCHEMA, "shares", ShareRow, found.shares)
    files["faces.parquet"] = records(SCHEMA, "faces", FaceRow, found.faces)
    if found.changes:
        files["changes.parquet"] = records(SCHEMA, "changes", ChangeRow, found.changes)
    return files


def as_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A CSV with a header; lines end as everywhere but on Windows."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()
