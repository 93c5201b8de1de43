"""Images in a folder and its subfolders; a subfolder may be a person or a value of a label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fairloop import taxonomy
from fairloop.errors import InvalidInput
from fairloop.importers.record import HOW, Kind, Label, Layout, Record
from fairloop.importers.source import SUFFIXES, Folder


@dataclass(frozen=True)
class Options:
    """What the subfolders mean."""

    subjects: str = field(
        default="unknown",
        metadata={
            "help": "Whom the images show: `unknown`, `folder` (each folder that holds images is a person), "
            "or `image` (each image another person)."
        },
    )
    folders: str = field(
        default="", metadata={"help": "An attribute whose value the first subfolder names, such as gender."}
    )
    how: str = field(
        default="unknown", metadata={"help": f"How that attribute came to be: {', '.join(HOW)}."}
    )


def open_folder(folder: Folder, options: Options) -> Layout:
    """All images below the folder, sorted; an empty one is an `InvalidInput`."""
    if options.subjects not in ("unknown", "folder", "image"):
        raise InvalidInput("subjects", f"{options.subjects!r} is not one of unknown, folder, image")
    if options.how not in HOW:
        raise InvalidInput("how", f"{options.how!r} is not one of {', '.join(HOW)}")
    if options.folders:
        taxonomy.values(options.folders)
    if next(folder.files(), None) is None:
        raise InvalidInput("PATH", f"{folder} has no image ({', '.join(SUFFIXES)})")

    def records() -> Iterator[Record]:
        for path in folder.files():
            parent = path.rpartition("/")[0]
            subject = {"unknown": None, "folder": parent or None, "image": path}[options.subjects]
            labels = {}
            if options.folders:
                labels[options.folders] = path.partition("/")[0] if parent else ""
            yield Record(path, subject=subject, labels=labels)

    known = {options.folders: Label(options.how, "folder names")} if options.folders else {}
    return Layout(records, labels=known)


KIND = Kind("folder", "images in a folder and its subfolders", Options, open_folder)
