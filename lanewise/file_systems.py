"""On what kind of file system a path lies; for databases, whose locks need a local one."""

from __future__ import annotations

from pathlib import Path

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs", "9p", "ceph", "lustre"})


def network_file_system(path: Path, mounts: str = "/proc/mounts") -> str | None:
    """The kind of network file system a path lies on; None on a local one, or where nobody can say.

    Args:
        path: Absolute; it need not be there.
        mounts: A list of mounts, one a line: device, mount point, type, ...
    """
    try:
        rows = [line.split()[1:3] for line in Path(mounts).read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None  # not Linux
    points = [(point, kind) for point, kind in rows if path.is_relative_to(point)]
    kind = max(points, key=lambda row: len(row[0]))[1] if points else ""
    return kind if kind in NETWORK else None
