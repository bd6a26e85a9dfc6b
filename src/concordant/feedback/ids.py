"""Identities: the same content has the same id in every run, so writing a thing twice adds nothing."""

from __future__ import annotations

import hashlib
import json
import os
import time
from base64 import b32encode
from collections.abc import Sequence
from typing import Any

from concordant.seeds import derive

# Crockford's alphabet sorts as its values do, so ids that begin with the time sort by time.
_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def now_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


def _text(data: bytes) -> str:
    """16 bytes as 26 letters and digits."""
    return b32encode(data).rstrip(b"=").translate(_CROCKFORD).decode()


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: one text for one value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def content_id(*parts: Any) -> str:
    """26 characters from a 128-bit hash of JSON-able `parts`."""
    return _text(hashlib.blake2b(canonical(parts).encode(), digest_size=16).digest())


def new_id(now: int) -> str:
    """26 characters that sort by time: 48 bits of `now` (ms), then 80 random bits."""
    return _text(now.to_bytes(6, "big") + os.urandom(10))


def order_shown(salt: str, task: str, labeler: str, completions: Sequence[str]) -> tuple[str, ...]:
    """The order in which this labeler sees these completions: uniformly random, the same on every reload."""
    return tuple(sorted(completions, key=lambda completion: derive(salt, task, labeler, completion)))
