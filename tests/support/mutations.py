"""Hostile variants of real files and messages: seeded, so that a number is enough to make one again.

Most are damaged a little: bytes flipped, cut off, spliced with another file of the corpus, an integer
made huge, a word of a format put in. Files made of chunks (PNG, JPEG, RIFF) also lose, repeat and
reorder whole ones, with checksums made right again, so that what lies behind the checksum is reached.
"""

from __future__ import annotations

import copy
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

PNG = b"\x89PNG\r\n\x1a\n"

EXTREMES = (
    0,
    1,
    127,
    128,
    255,
    256,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**63,
    2**64 - 1,
)
"""Lengths and counts that overflow, wrap around or ask for everything."""

WORDS = (
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"acTL", b"fdAT"),
    *(
        b"\xff\xd8",
        b"\xff\xd9",
        b"\xff\xc0",
        b"\xff\xc2",
        b"\xff\xc4",
        b"\xff\xda",
        b"\xff\xe1",
        b"\xff\xe2MPF\0",
    ),
    *(
        b"RIFF",
        b"WEBP",
        b"VP8 ",
        b"VP8L",
        b"VP8X",
        b"ANIM",
        b"ANMF",
        b"ALPH",
        b"BM",
        b"GIF89a",
        b"II*\0",
        b"MM\0*",
    ),
    *(
        b"PAR1",
        b"ARROW1",
        b"PK\x03\x04",
        b"PK\x01\x02",
        b"ustar\x0000",
        b"\x80\x02",
        b"\x93NUMPY",
        b"\x28\xb5\x2f\xfd",
    ),
    *(
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"10000000000",
        b"-1",
        b"[[[[[[[[",
        b'{"":',
        b'"\\ud800"',
    ),
    *(
        b"../../etc/passwd",
        b"\0",
        b"\n",
        b"\r\n",
        b"\x1b[2J",
        "\u202e".encode(),
        b"%s%n",
        b"${x}",
        b"\xff\xfe",
    ),
)
"""What parsers of these formats look for, and what texts must not be."""


def mutated(data: bytes, seed: str, others: Sequence[bytes] = ()) -> bytes:
    """A variant of `data` that depends on `seed` (and `others`, which it may be spliced with) alone.

    One to four changes, each of a kind drawn at random; at most twice as long as the longest of them.
    """
    draw = random.Random(seed)
    longest = 2 * max(len(data), *(len(other) for other in others), 64)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        data = draw.choice(_KINDS)(data, draw, others)[:longest]
    return data


def chunks(data: bytes) -> list[bytes]:
    """The pieces that a file is made of: PNG chunks, JPEG segments, RIFF chunks; else the file in one piece.

    Joined, they are the file again. What follows a damaged length is one last piece.
    """
    if data.startswith(PNG):
        return _cut(data, len(PNG), lambda at: 12 + int.from_bytes(data[at : at + 4], "big"))
    if data.startswith(b"RIFF"):
        return _cut(data, 12, lambda at: 8 + (n := int.from_bytes(data[at + 4 : at + 8], "little")) + n % 2)
    if data.startswith(b"\xff\xd8"):
        scan = data.find(b"\xff\xda")
        return _cut(
            data, 2, lambda at: 2 + int.from_bytes(data[at + 2 : at + 4], "big") if at < scan else len(data)
        )
    return [data]


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG, its checksum right."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _cut(data: bytes, start: int, length: Callable[[int], int]) -> list[bytes]:
    pieces, at = [data[:start]], start
    while at < len(data):
        end = min(at + max(length(at), 1), len(data))
        pieces.append(data[at:end])
        at = end
    return pieces


def _flip(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 2, 8, 64)) if data else 0):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _noise(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    start = draw.randint(0, len(data))
    size = draw.choice((1, 4, 16, 256))
    return data[:start] + draw.randbytes(size) + data[start + size :]


def _truncate(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    return data[: draw.randint(0, len(data))]


def _drop(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    start = draw.randint(0, len(data))
    return data[:start] + data[start + draw.choice((1, 2, 4, 64, 1024)) :]


def _repeat(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    start = draw.randint(0, len(data))
    piece = data[start : start + draw.choice((1, 4, 64, 1024))]
    return data[:start] + piece * draw.choice((2, 3, 100)) + data[start:]


def _splice(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    other = draw.choice(others) if others else data
    start, end = sorted((draw.randint(0, len(other)), draw.randint(0, len(other))))
    at = draw.randint(0, len(data))
    return data[:at] + other[start:end] + data[at + draw.choice((0, end - start)) :]


def _number(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """An integer of 1, 2, 4 or 8 bytes made extreme; headers lie in front, so it is often there."""
    size = draw.choice((1, 2, 4, 8))
    value = draw.choice(EXTREMES) + draw.choice((-1, 0, 0, 1))
    at = draw.randint(0, draw.choice((min(len(data), 64), len(data), len(data))))
    number = (value % 256**size).to_bytes(size, draw.choice(("big", "little")))
    return data[:at] + number + data[at + size :]


def _word(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    word, at = draw.choice(WORDS), draw.randint(0, len(data))
    return data[:at] + word + data[at + draw.choice((0, len(word))) :]


def _rearrange(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """Chunks swapped, repeated, left out, or taken from another file."""
    pieces = chunks(data)
    first, second = draw.randrange(len(pieces)), draw.randrange(len(pieces))
    what = draw.randrange(4)
    if what == 0:
        pieces[first], pieces[second] = pieces[second], pieces[first]
    elif what == 1:
        pieces.insert(first, pieces[second])
    elif what == 2:
        del pieces[first]
    elif others:
        pieces.insert(first, draw.choice(chunks(draw.choice(others))))
    return b"".join(pieces)


def _inside(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """One chunk changed; a PNG's length and checksum are made right, so that its contents are read."""
    pieces = chunks(data)
    at = draw.randrange(len(pieces))
    change = draw.choice((_flip, _noise, _truncate, _repeat, _number))
    if data.startswith(PNG) and at and len(pieces[at]) >= 12:
        body = pieces[at][8:-4]
        if draw.random() < 0.5:
            body = _inflated(body, lambda inner: change(inner, draw, others))
        else:
            body = change(body, draw, others)
        pieces[at] = png_chunk(pieces[at][4:8], body)
    else:
        pieces[at] = change(pieces[at], draw, others)
    return b"".join(pieces)


def _inflated(body: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A compressed body changed inside and compressed again; any other body changed as it is."""
    try:
        return zlib.compress(change(zlib.decompressobj().decompress(body, 2**22)))
    except zlib.error:
        return change(body)


_KINDS: tuple[Callable[[bytes, random.Random, Sequence[bytes]], bytes], ...] = (
    *(
        _flip,
        _noise,
        _truncate,
        _drop,
        _repeat,
        _splice,
        _number,
        _number,
        _word,
        _rearrange,
        _inside,
        _inside,
    ),
)

VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        0,
        -1,
        1,
        1e308,
        10**9,
        2**63,
        -(2**63) - 1,
        10**30,
        "",
        "\0",
        "\u202e\n\x1b[2J",
        "a" * 2000,
    ),
    *("../x", "0" * 64, "2026-99-99T00:00:00Z", "fairloop.dataset/9", "fairloop.dataset/²"),
    *([], {}, [None], [[]], [{}], {"": None}),
)
"""What a field of a JSON document may hold instead of what it should."""


def mutated_json(data: bytes, seed: str, others: Sequence[bytes] = ()) -> bytes:
    """A variant of a JSON document: mostly still JSON, with one to three fields left out or changed."""
    draw = random.Random(seed)
    if draw.random() < 0.2:
        return mutated(data, seed, others)
    document = json.loads(data)
    for _ in range(draw.choice((1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = draw.choice(places)
        what = draw.random()
        if what < 0.2:
            del holder[key]
        elif what < 0.3 and isinstance(holder, dict):
            holder[draw.choice(("", "extra", "schema", "a" * 500))] = holder[key]
        else:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
    return json.dumps(document).encode()


def nested(depth: int, inside: bytes = b"") -> bytes:
    """JSON lists in one another, so many deep."""
    return b"[" * depth + inside + b"]" * depth


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value below the top."""
    keys = (
        list(document)
        if isinstance(document, dict)
        else range(len(document))
        if isinstance(document, list)
        else ()
    )
    for key in keys:
        yield document, key
        yield from _places(document[key])
