"""Marks that say in the bytes of an image that it was generated."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fairloop.errors import InvalidInput
from fairloop.provenance.marks import LARGEST_PACKET, TRAINED, Mark, packet, put_mark, read_mark
from tests.support.trees import image_bytes

MARK = Mark("models/dcgan/versions/0123456789abcdef", 2**63 - 1, 41, "0123456789abcdef:7:<3>")


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_marked_file_says_what_made_it_and_keeps_its_pixels(suffix: str) -> None:
    data = image_bytes(1, suffix)
    marked = put_mark(data, MARK)
    assert read_mark(opened(marked)) == MARK
    assert np.array_equal(np.asarray(opened(marked)), np.asarray(opened(data)))
    assert TRAINED.encode() in marked


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_file_without_a_mark_has_none(suffix: str) -> None:
    assert read_mark(opened(image_bytes(1, suffix))) is None


def test_a_jpeg_keeps_its_exif_before_the_mark() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    sink = io.BytesIO()
    opened(image_bytes(2)).save(sink, "JPEG", exif=exif)
    marked = opened(put_mark(sink.getvalue(), MARK))
    assert marked.getexif()[0x0112] == 6
    assert read_mark(marked) == MARK


def test_pillow_writes_the_packet_where_we_read_it() -> None:
    """Another writer's place for XMP is ours."""
    sink = io.BytesIO()
    opened(image_bytes(3)).save(sink, "JPEG", xmp=packet(MARK))
    assert read_mark(opened(sink.getvalue())) == MARK


def test_a_mark_as_other_programs_write_it_is_read() -> None:
    """IPTC's own example writes the property as an element with a resource."""
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<Iptc4xmpExt:DigitalSourceType>{TRAINED}</Iptc4xmpExt:DigitalSourceType>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()
    sink = io.BytesIO()
    opened(image_bytes(3)).save(sink, "JPEG", xmp=xmp)
    assert read_mark(opened(sink.getvalue())) == Mark()


@pytest.mark.parametrize(
    "xmp",
    [
        b"<not xml",
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + packet(MARK),
        packet(MARK).replace(b"trainedAlgorithmicMedia", b"digitalCapture"),
        packet(MARK) + b" " * LARGEST_PACKET,
    ],
    ids=["no XML", "entities", "a camera", "too large"],
)
def test_what_is_no_mark_of_generated_media_is_none(xmp: bytes) -> None:
    image = opened(image_bytes(3))
    image.info["xmp"] = xmp
    assert read_mark(image) is None


def test_a_mark_goes_in_once_and_into_two_formats() -> None:
    with pytest.raises(InvalidInput, match="holds an XMP packet already"):
        put_mark(put_mark(image_bytes(1, ".png"), MARK), MARK)
    with pytest.raises(InvalidInput, match="PNG or JPEG"):
        put_mark(image_bytes(1, ".bmp"), MARK)


def test_a_number_that_no_index_can_hold_is_left_out() -> None:
    marked = put_mark(image_bytes(1, ".png"), Mark("somebody's", 2**63, 2**63 - 1))
    assert read_mark(opened(marked)) == Mark("somebody's", None, 2**63 - 1)
