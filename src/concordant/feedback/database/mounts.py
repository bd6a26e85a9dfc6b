"""On which file system a path lies, as Linux tells; elsewhere nobody is asked."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/mounts")
# Several machines see these, and SQLite's log is shared through memory, which they do not share; locks may not hold.
_NETWORK = re.compile(
    r"^(nfs\d*|cifs|smb\w*|afs|ncpfs|ceph|lustre|gpfs|beegfs|glusterfs|"
    r"fuse\.(sshfs|ceph|glusterfs|rclone|s3fs|gcsfuse|smbnetfs|curlftpfs|davfs2?)|davfs2?)$"
)


def network_file_system(path: Path) -> str | None:
    """The kind of network file system on which `path` lies or would lie; None where it is none, or nobody knows."""
    kind = file_system(path)
    return kind if kind is not None and _NETWORK.match(kind) else None


def file_system(path: Path) -> str | None:
    """The kind of the mount with the longest name that leads to `path`, links followed; the last of equal ones."""
    try:
        lines = MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    place, found, longest = path.absolute().resolve(), None, -1
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        mount = Path(_unescaped(point))
        depth = len(mount.parts)
        if (place == mount or mount in place.parents) and depth >= longest:
            found, longest = kind, depth
    return found


def _unescaped(point: str) -> str:
    r"""Blanks and the like stand as \040 in a line that is separated by blanks."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point)
