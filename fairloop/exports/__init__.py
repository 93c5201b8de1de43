"""Datasets leave the store in the layouts that other programs read.

Each format is one file with one `FORMAT`, and one line in `MODULES`; formats
have the names of the importer's kinds that read them back. Original bytes are
kept, so whatever an image file says of itself (that it was generated, by which
model) goes with it; terms and card lie beside the images.

    from fairloop import exports
    exports.export_dataset(store, "datasets/mine/versions/…", "folder", "mine", policy="research")
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fairloop import cards
from fairloop.dataset import Dataset
from fairloop.errors import InvalidInput
from fairloop.exports.destination import check_destination, made_whole
from fairloop.exports.format import Format, Progress, Source
from fairloop.exports.journal import Journal
from fairloop.exports.terms_text import CARD_FILE, TERMS_FILE, terms_text
from fairloop.manifest import producer
from fairloop.provenance import terms
from fairloop.selection import Selection
from fairloop.store import ObjectStore

__all__ = ["MODULES", "Exported", "Format", "Source", "export_dataset", "format_named"]

MODULES: Mapping[str, str] = {
    "folder": "folder",
    "identity-folders": "identity_folders",
    "fairface": "fairface",
    "webdataset": "webdataset",
    "hf-dataset": "hf_dataset",
}
"""Format → module of this package, in the order in which the help lists them."""


@dataclass(frozen=True)
class Exported:
    """Where the images are now, how many, for which use, and what the format has to say.

    `resumed` of the images were whole from an earlier try that was killed.
    """

    folder: Path
    images: int
    use: terms.Use
    notes: tuple[str, ...]
    resumed: int = 0


def format_named(name: str) -> Format:
    """A format by its name; `InvalidInput` listing all for an unknown one."""
    if name not in MODULES:
        raise InvalidInput("FORMAT", f"{name!r} is not known; there are {', '.join(MODULES)}")
    found: Format = importlib.import_module(f"{__name__}.{MODULES[name]}").FORMAT
    return found


def export_dataset(
    store: ObjectStore,
    name: str,
    format_name: str,
    target: Path | str,
    *,
    selection: Selection | None = None,
    policy: str = "publish",
    acknowledge: str = "",
    progress: Progress = lambda stage, done, total: None,
    **options: Any,
) -> Exported:
    """Writes a dataset version, or a selection of it, as the new folder `target`.

    The folder is there as a whole or not at all, and nothing is written over. What a
    killed export of the same images left beside it is checked and taken up.
    What leaves the store can go anywhere: the policy is `publish` unless the
    caller says that it stays inside. `options` are those of the format. Memory:
    about two shards and the index.

    Raises `InvalidInput` for the format, an option, or a target that exists;
    `PreconditionFailed` naming the chain that forbids the export, or when no
    image fits the selection or the layout has no place for what there is.
    """
    chosen = format_named(format_name)
    known = [field.name for field in fields(chosen.options)]
    for option in options:
        if option not in known:
            raise InvalidInput(option, f"is no option of {format_name}; it has {', '.join(known) or 'none'}")
    values = chosen.options(**options)
    folder = check_destination(Path(target))
    use = terms.check(store, [name], policy, acknowledge)
    dataset = Dataset.open(store, name)
    rows = selection.rows(dataset.index) if selection else None
    facts = cards.gather(store, name)
    # After an erasure the manifest names other parts: nothing of the erased is taken up.
    request = {
        "format": [format_name, asdict(values)],
        "dataset": [name, [part.sha256 for part in dataset.manifest.parts]],
        "rows": "all" if rows is None else hashlib.sha256(rows.tobytes()).hexdigest(),
        "producer": producer("pyarrow"),
    }
    with made_whole(folder) as partial, contextlib.closing(Journal(partial, request, progress)) as journal:
        source, resumed = Source(dataset, journal, rows, progress), journal.done
        notes = tuple(chosen.write(source, partial, values))
        said = terms_text(facts, use, selection or Selection(), len(source), notes)
        (partial / TERMS_FILE).write_text(said, encoding="utf-8")
        (partial / CARD_FILE).write_text(cards.markdown(facts), encoding="utf-8")
        journal.end()
    return Exported(folder, len(source), use, notes, resumed)
