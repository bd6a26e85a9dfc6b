"""One seed of a run, and from it an unrelated one for every purpose."""

from __future__ import annotations

import hashlib


def derive(*parts: object) -> int:
    """A 63-bit integer from a seed and the names of what it is for, the same on every machine.

    Purposes get unrelated streams because the parts are hashed; with sums such as `seed + 1` the second
    purpose of one run would be the first of the next.
    """
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
