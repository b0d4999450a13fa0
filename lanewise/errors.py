"""Every error a user can meet; imported by all rooms, imports none.

A user's mistake ends in one message that says where it is, what was given, what must hold and what to
do. The command line prints that message and leaves with the class's exit code; it shows no traceback.
"""

from __future__ import annotations


class LanewiseError(Exception):
    """An error with a place, a value, a rule and a remedy.

    Args:
        what: One sentence that says what is wrong.
        where: File, line and column, or the name of the part it happened in.
        given: What was found there.
        rule: What must hold.
        remedy: What the user can do.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        given: object = None,
        rule: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.what, self.where, self.given, self.rule, self.remedy = what, where, given, rule, remedy
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where is not None else self.what]
        for label, value in (("given", self.given), ("rule", self.rule), ("do", self.remedy)):
            if value is not None:
                lines.append(f"  {label + ':':7}{value}")
        return "\n".join(lines)


class StudyError(LanewiseError):
    """The study file or the command line is wrong."""

    exit_code = 2


class DataError(LanewiseError):
    """The data cannot be used as they are."""

    exit_code = 3


class ModelError(LanewiseError):
    """The network, or code the user brought, does not fit or fails."""

    exit_code = 4


class TrackingError(LanewiseError):
    """Storage or the tracking server is away or refuses."""

    exit_code = 5


class SearchError(LanewiseError):
    """The search ended with too many failed trials, or with none to use."""

    exit_code = 6


class StudyHeldError(LanewiseError):
    """Another run holds the study."""

    exit_code = 75
