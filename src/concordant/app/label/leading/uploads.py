"""Files that come over the network: text of a few kinds, of a size that a server can bear, under a name that is none.

Parquet stays on the command line: a few bytes of it can stand for more than there is memory.
"""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import HTTPException, Request

from concordant.errors import UserError

MOST_BYTES = 16 * 2**20
KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")


def plain_name(given: str) -> str:
    """The name of a file without what a path or a terminal makes something of. Errors: UserError for other kinds."""
    suffix = Path(given).suffix.lower()
    if suffix not in KINDS:
        raise UserError(
            f"no file of a kind that can be sent: {given[-40:]!r}",
            where="the file",
            expected=", ".join(KINDS),
            fix="write it as JSON lines, or take `concordant feedback ask`, which reads Parquet too",
        )
    stem = re.sub(r"[^\w-]+", "_", Path(given.replace("\\", "/")).stem)[:60]
    return f"{stem or 'file'}{suffix}"


async def receive(request: Request, folder: Path, given: str) -> str:
    """Write the body of a request into a folder; the name of the file there. Errors: 413 for one that is too large."""
    name, size = plain_name(given), 0
    with (folder / name).open("wb") as out:
        async for piece in request.stream():
            size += len(piece)
            if size > MOST_BYTES:
                raise HTTPException(
                    413, f"this file is larger than {MOST_BYTES // 2**20} MB: send it in parts"
                )
            out.write(piece)
    return name
