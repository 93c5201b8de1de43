"""Marks inside image files: a generated image says in its own bytes what it is.

The mark is an XMP packet (ISO 16684-1) in a PNG's `iTXt` chunk or a JPEG's APP1
segment. It names the IPTC digital source type `trainedAlgorithmicMedia`, which
other programs read too, and in Fairloop's own namespace the model version, the
seed, the subject and the index that made it. An image's id is a hash of its
bytes and therefore cannot stand among them; these four find the row.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from PIL import Image

from fairloop.errors import InvalidInput

TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_SYNTHETIC = tuple(
    f"http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"
    for kind in ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia")
)
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_OWN = "https://fairloop.org/ns/1/"
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_APP1 = b"http://ns.adobe.com/xap/1.0/\0"
_PNG = b"\x89PNG\r\n\x1a\n"
LONGEST_TEXT = 300
LARGEST_NUMBER = 2**63 - 1
LARGEST_PACKET = 65_000
"""Bytes of XMP that are looked at; a JPEG segment holds no more."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a generated image comes from; what its file does not say is None."""

    model: str | None = None
    seed: int | None = None
    index: int | None = None
    subject: str | None = None


def packet(mark: Mark) -> bytes:
    """The XMP packet of a mark."""
    own = {"model": mark.model, "seed": mark.seed, "index": mark.index, "subject": mark.subject}
    attributes = "".join(f" fairloop:{k}={quoteattr(str(v))}" for k, v in own.items() if v is not None)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_IPTC}" xmlns:fairloop="{_OWN}"'
        f' Iptc4xmpExt:DigitalSourceType="{TRAINED}"{attributes}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def put_mark(data: bytes, mark: Mark) -> bytes:
    """The same PNG or JPEG file with the mark in it; pixels and all other bytes stay.

    `InvalidInput` for another format, or for a file that holds an XMP packet already.
    """
    text = packet(mark)
    if data.startswith(_PNG):
        if _XMP_KEYWORD in data[: data.find(b"IDAT")]:
            raise InvalidInput("image", "the PNG file holds an XMP packet already")
        # Keyword, no compression, no language, no translated keyword (PNG, 11.3.3.4).
        body = b"iTXt" + _XMP_KEYWORD + b"\0\0\0\0\0" + text
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        header = len(_PNG) + 25  # IHDR is the first chunk: 13 bytes, their length, name and checksum
        return data[:header] + chunk + data[header:]
    if data.startswith(b"\xff\xd8"):
        if _APP1 in data[:LARGEST_PACKET]:
            raise InvalidInput("image", "the JPEG file holds an XMP packet already")
        body = _APP1 + text
        place = 2
        while data[place : place + 2] in (b"\xff\xe0", b"\xff\xe1"):  # JFIF and EXIF come first
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        return data[:place] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[place:]
    raise InvalidInput("image", "a mark goes into a PNG or JPEG file")


def read_mark(image: Image.Image) -> Mark | None:
    """The mark of an image that Pillow opened; None where the file does not say that it was generated.

    Any IPTC source type of generated media counts, whoever wrote it. A packet
    that is no XML, or too large, is no mark.
    """
    found = image.info.get("xmp") or image.info.get(_XMP_KEYWORD.decode())
    if not found:
        return None
    raw = found.encode() if isinstance(found, str) else bytes(found)
    if len(raw) > LARGEST_PACKET or b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        return None
    try:
        # Bounded above, and without declarations of entities there is nothing to expand.
        root = ElementTree.fromstring(raw.strip(b"\0 \r\n\t"))  # noqa: S314
    except (ElementTree.ParseError, ValueError):
        return None
    said = {**_properties(root, _IPTC), **{f"own:{k}": v for k, v in _properties(root, _OWN).items()}}
    if said.get("DigitalSourceType") not in _SYNTHETIC:
        return None
    return Mark(
        _text(said.get("own:model")),
        _number(said.get("own:seed")),
        _number(said.get("own:index")),
        _text(said.get("own:subject")),
    )


def _properties(root: ElementTree.Element, namespace: str) -> dict[str, str]:
    """Simple properties of a namespace, written as attributes or as elements; XMP allows both."""
    start = f"{{{namespace}}}"
    found: dict[str, str] = {}
    for description in root.iter(f"{{{_RDF}}}Description"):
        found |= {k.removeprefix(start): v for k, v in description.attrib.items() if k.startswith(start)}
        found |= {
            e.tag.removeprefix(start): e.get(f"{{{_RDF}}}resource") or (e.text or "").strip()
            for e in description
            if e.tag.startswith(start)
        }
    return found


def _text(text: str | None) -> str | None:
    return text if text and len(text) <= LONGEST_TEXT and text.isprintable() else None


def _number(text: str | None) -> int | None:
    if not text or not text.isascii() or not text.isdigit() or len(text) > 19:
        return None
    # An index holds 64 bits, and anybody can write a mark.
    return int(text) if int(text) <= LARGEST_NUMBER else None
