"""The key of this installation, with which manifests are signed; used by the registry, imports nothing of it.

A hash finds accidents, a signature finds hands: who can change a file can also change its hash in the
manifest, but not the signature. The key never leaves its file and is in no log.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from pathlib import Path

KEY_VARIABLE = "LANEWISE_KEY_FILE"

_log = logging.getLogger("lanewise.registry")


def installation_key() -> bytes | None:
    """The key this installation signs with, made at first use; None where none can be kept."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = Path(os.environ.get(KEY_VARIABLE) or home / "lanewise" / "installation.key")
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f"{path.name}.{os.getpid()}.new")
            new.touch(0o600, exist_ok=False)
            new.write_text(secrets.token_hex(32))
            try:
                os.link(new, path)  # fails where another process was first: then its key counts
            except FileExistsError:
                pass
            finally:
                new.unlink()
        return path.read_bytes().strip()
    except OSError as error:
        _log.warning("no installation key (%s): models are not signed", error)
        return None


def key_id(key: bytes) -> str:
    """Which key it is, without giving it away."""
    return hashlib.sha256(b"lanewise installation key\n" + key).hexdigest()[:16]


def sign(key: bytes, digest: str) -> str:
    """HMAC-SHA-256 of a manifest's digest (RFC 2104)."""
    return hmac.new(key, digest.encode(), hashlib.sha256).hexdigest()
