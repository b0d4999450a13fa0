"""Which names and texts may leave a study; used by study, tracking and registry, imports errors only.

A name ends up as a folder, an experiment and a registered model, a text in a log that others read. So
every name passes `check_name`, every path built from names passes `path_inside`, and no text that looks
like a password or a key gets in.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from lanewise.errors import StudyError

NAME_PATTERN = r"^[A-Za-z0-9_](?!.*\.\.)[A-Za-z0-9._-]{0,99}$"
NAME_RULE = "1 to 100 characters of A-Z a-z 0-9 . _ -, the first a letter, digit or _, and no .. inside"

_NAME = re.compile(NAME_PATTERN)
_SECRETS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("an AWS access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{12,}"),
        ("a GitHub token", r"\b(?:gh[opsur]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{20,})"),
        ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{16,}"),
        ("a Slack token", r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
        ("a Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}"),
        ("an API key", r"\bsk-(?:[a-z]{2,10}-)?[A-Za-z0-9_]{24,}"),
        ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY"),
        (
            "a password",
            r"(?i)\b(?:password|passwd|pwd|secret|api_?key|access_?key|auth_?token)\s*[=:]\s*(?!\$\{)\S",
        ),
        ("a password in an address", r"://[^/\s:@]*:(?!\$\{)[^/\s@]+@"),
    )
)
_PASSWORD_IN_QUERY = re.compile(r"(?i)(password=)[^&]*")
_SECRET_KEYS = frozenset(
    ["password", "passwd", "pwd", "secret", "api_key", "apikey", "access_key", "secret_key", "auth_token"]
)


_OTHER_WORDS = {  # what Optuna, Keras, scikit-learn and others call it -> our name
    "sampler": "strategy",
    "n_trials": "trials",
    "num_trials": "trials",
    "timeout": "seconds",
    "random_state": "seed",
    "max_epochs": "epochs",
    "learning_rate": "lr",
    "n_splits": "folds",
    "scheduler": "schedule",
    "optimiser": "optimizer",
    "objective": "metric",
}


def is_name(text: str) -> bool:
    """Whether `text` may name a study, a model or a folder."""
    return _NAME.fullmatch(text) is not None


def check_name(text: str, *, where: object = None, what: str = "name") -> str:
    """Return `text` when it may name a study, a model or a folder.

    Raises:
        StudyError: It holds other characters, is too long or could leave its folder.
    """
    if not is_name(text):
        shown = text if len(text) <= 120 else text[:100] + f"... ({len(text)} characters)"
        raise StudyError(
            f"this {what} cannot be used",
            where=where,
            given=repr(shown),
            rule=NAME_RULE,
            remedy="choose a name of letters, digits, dots, dashes and underscores",
        )
    return text


def path_inside(root: Path | str, *names: str) -> Path:
    """Return `root/names[0]/...`, absolute, and certainly below `root` even through symbolic links.

    Raises:
        StudyError: A name is not a legal name, or the path leaves `root`.
    """
    base = Path(root).resolve()
    path = base.joinpath(*(check_name(name, what="part of a path") for name in names)).resolve()
    if not path.is_relative_to(base):
        raise StudyError(
            "a path leaves its folder",
            given=str(path),
            rule=f"it must lie below {base}",
            remedy="remove the symbolic link that leads out",
        )
    return path


def secret_kind(text: str, key: str | None = None) -> str | None:
    """Say what secret `text` looks like, or None. `key` is the name it is stored under, if any.

    A study, its tags and its parameters are logged and shown to others, so secrets are refused early. A
    `${NAME}` in the place of a password is none.
    """
    if key is not None and text and key.lower() in _SECRET_KEYS:
        return f"a secret, by its name `{key}`"
    return next((kind for kind, pattern in _SECRETS if pattern.search(text)), None)


def redacted(address: str) -> str:
    """An address without user and password, for logs and errors."""
    parts = urlsplit(address)
    if "@" not in parts.netloc and "password=" not in parts.query.lower():
        return address
    host = "***@" + parts.netloc.rsplit("@", 1)[1] if "@" in parts.netloc else parts.netloc
    return urlunsplit(parts._replace(netloc=host, query=_PASSWORD_IN_QUERY.sub(r"\1***", parts.query)))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`, or whose name in another tool is; None where none is near."""
    names, wanted = list(known), name[:200].lower()
    ours = {
        **{other: word for other, word in _OTHER_WORDS.items() if word in names and _told_apart(other, wanted, names)},
        **{n.lower(): n for n in names},
    }
    found = difflib.get_close_matches(wanted, ours, n=1, cutoff=0.6)
    return ours[found[0]] if found else None


def _told_apart(other: str, wanted: str, names: list[str]) -> bool:
    """Whether another tool's word may be meant: as it is, or misspelt where no name of ours is spelt like it."""
    return other == wanted or not difflib.get_close_matches(other, names, n=1, cutoff=0.9)
