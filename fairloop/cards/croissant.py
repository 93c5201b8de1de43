"""A dataset's card as Croissant 1.0 (JSON-LD), for machines.

The format: https://docs.mlcommons.org/croissant/docs/croissant-spec.html. Every
file is given with its sha256; `contentUrl` is its place in the bucket.
"""

from __future__ import annotations

from typing import Any

from fairloop.cards.facts import Facts
from fairloop.cards.markdown import PERCEIVED
from fairloop.errors import InvalidInput

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification gives."""

FIELDS = (
    ("image_id", "sc:Text", "First 32 hex of the sha256 of the image's bytes."),
    ("blob", "sc:Text", "sha256 of the tar that holds the image."),
    ("offset", "sc:Integer", "First byte of the image in the tar."),
    ("size", "sc:Integer", "Bytes of the image."),
    ("sha256", "sc:Text", "sha256 of the image's bytes."),
    ("width", "sc:Integer", "Pixels."),
    ("height", "sc:Integer", "Pixels."),
    ("format", "sc:Text", "What the bytes are, whatever the file is called."),
    ("subject_id", "sc:Text", "The person, or the made-up person, as namespace:id; absent where unknown."),
    ("source", "sc:Text", "real or synthetic."),
    ("model", "sc:Text", "The model that made a synthetic image."),
    ("seed", "sc:Integer", "The seed that it was made from."),
    ("requested_cell", "sc:Text", "What was asked for when it was made; not what it shows."),
)


def croissant(facts: Facts) -> dict[str, Any]:
    """The JSON-LD of a dataset; `InvalidInput` for a model: Croissant describes datasets."""
    if facts.dataset is None:
        raise InvalidInput(
            "--format", f"croissant describes datasets, and {facts.manifest.name} is a model: use markdown"
        )
    found = facts.manifest
    collection, _, version = found.name.partition("/versions/")
    licences = list(dict.fromkeys(t.licence for t in found.terms if t.licence != "unknown"))
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": collection.removeprefix("datasets/"),
        "description": _description(facts),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": licences or ["unknown"],
        "citeAs": found.name,
        "url": f"s3://{facts.bucket}/{found.name}",
        "version": f"1.0.0+{version}",
        "datePublished": found.created,
        "isLiveDataset": False,
        "distribution": [*_files(facts), _images(facts)],
        "recordSet": [_records()],
    }


def _description(facts: Facts) -> str:
    assert facts.dataset is not None
    counts = facts.manifest.counts
    sources = ", ".join(f"{share.count:,} {share.value}" for share in facts.dataset.sources)
    return (
        f"{facts.manifest.name}: {counts.get('images', 0):,} face images ({sources}) of "
        f"{counts.get('subjects', 0):,} subjects. {PERCEIVED}"
    )


def _files(facts: Facts) -> list[dict[str, Any]]:
    files = []
    for part in facts.manifest.parts:
        index = part.key.endswith(".parquet")
        files.append(
            {
                "@type": "cr:FileObject",
                "@id": _id(part.key),
                "name": part.key.rsplit("/", 1)[1],
                "description": "One row per image."
                if index
                else "WebDataset shard: each image and its labels.",
                "contentUrl": f"s3://{facts.bucket}/{part.key}",
                "contentSize": f"{part.size} B",
                "encodingFormat": "application/x-parquet" if index else "application/x-tar",
                "sha256": part.sha256,
            }
        )
    return files


def _images(facts: Facts) -> dict[str, Any]:
    member = facts.manifest.details.get("image_member", "png")
    tars = [part for part in facts.manifest.parts if part.key.endswith(".tar")]
    return {
        "@type": "cr:FileSet",
        "@id": "images-in-shards",
        "name": "images-in-shards",
        "description": "The images; all are called by one extension, and the index says each one's format.",
        "containedIn": [{"@id": _id(part.key)} for part in tars],
        "encodingFormat": "image/*",
        "includes": f"*.{member}",
    }


def _records() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": "The index: one record per image, in the dataset's order.",
        "key": {"@id": "images/image_id"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"images/{name}",
                "name": f"images/{name}",
                "description": description,
                "dataType": kind,
                "source": {"fileObject": {"@id": "index.parquet"}, "extract": {"column": name}},
            }
            for name, kind, description in FIELDS
        ],
    }


def _id(key: str) -> str:
    return key.rsplit("/", 1)[1]
