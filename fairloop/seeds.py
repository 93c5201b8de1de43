"""Seeds: every draw has one of its own, derived from the seed of the run.

A draw does not depend on what was drawn before it, so work can be cut into
shards, started again and put back in order without changing an image.
"""

from __future__ import annotations

import hashlib
import re

from fairloop.errors import InvalidInput

SEED_LIMIT = 2**63
"""Seeds are 0 … 2⁶³−1, which fits an int64 of a message or a Parquet column."""

_PURPOSE = re.compile(r"[a-z][a-z0-9_]*")


def check_seed(seed: int, field: str = "seed") -> int:
    """The seed itself, or InvalidInput on `field` when it is no whole number in 0 … 2⁶³−1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEED_LIMIT:
        raise InvalidInput(field, f"{seed!r} is not a whole number in 0–{SEED_LIMIT - 1}")
    return seed


def child_seed(seed: int, purpose: str, index: int) -> int:
    """The seed of one draw: the first 8 bytes of sha256(seed, purpose, index).

    What is hashed is the ASCII text `{seed}/{purpose}/{index}`, numbers in
    decimal without sign or leading zeros. The 8 bytes are read big-endian and
    the top bit is dropped, so that a child is a seed itself and can have
    children. In a shell: `printf 7/subject/3 | sha256sum | head -c 16`.

    `seed` and `index` are 0 … 2⁶³−1; `purpose` is a word of lower-case letters,
    digits and underscores. Anything else raises InvalidInput.
    """
    check_seed(seed)
    check_seed(index, "index")
    if not _PURPOSE.fullmatch(purpose):
        raise InvalidInput("purpose", f"{purpose!r} is not a word of a–z, 0–9 and underscores")
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode("ascii")).digest()
    return int.from_bytes(digest[:8], "big") % SEED_LIMIT
