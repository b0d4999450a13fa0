"""How numbers, times and metric names are written: enough digits to tell values apart, and no more.

Used by every other file of the report; knows no record. A missing value is a dash, never 0 or nan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

NOTHING = "\u2013"  # a dash
GAP = "\u00a0"  # a space at which no line breaks
MINUS = "\u2212"
MOST_DECIMALS = 6
MOST_LISTED = 12

METRIC_WORDS = {
    "roc_auc": "ROC AUC",
    "log_loss": "log loss",
    "mcc": "Matthews correlation",
    "brier": "Brier score",
    "ece": "calibration error",
    "f1": "F1",
    "rmse": "RMSE",
    "mae": "mean absolute error",
    "r2": "R²",
}
OBJECTIVE_WORDS = {"multiply_adds": "multiply-adds per row"}
CANDIDATE_WORDS = {
    "default": "default",
    "dummy": "dummy",
    "linear": "linear model",
    "gradient_boosting": "gradient boosting",
}


def finite(value: Any) -> float | None:
    """The value as a float; None where it is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def metric_words(name: str) -> str:
    """A metric's name as a reader says it."""
    return METRIC_WORDS.get(name, name if ":" in name else name.replace("_", " "))  # an import path stays one


def objective_words(name: str) -> str:
    """An objective beside the metric as a reader says it, in the plural."""
    return OBJECTIVE_WORDS.get(name, name.replace("_", " "))


def candidate_words(name: str) -> str:
    """A candidate's name as a reader says it: `trial-0042` is "trial 42"."""
    head, _, tail = name.partition("-")
    if head == "trial" and tail.isdigit():
        return f"trial {int(tail)}"
    return CANDIDATE_WORDS.get(name, name.replace("_", " "))


def decimals(low: float | None, high: float | None, *values: float | None) -> int:
    """Decimals that show an interval's half width with one digit, and never an end that is not 0 as 0.

    Args:
        low, high: ends of the interval; None where there is none.
        values: what else is printed beside it, such as the two scores of a difference.
    """
    known = [abs(v) for v in (low, high, *values) if v is not None]
    size = max(known, default=0.0)
    half = (high - low) / 2 if low is not None and high is not None else 0.0
    exponent = math.floor(math.log10(half or size)) if half or size else 0
    found = -exponent if half else 2 - exponent  # one digit of the half width, or three of the value
    found = min(max(found, 2 if size < 10 else 0), MOST_DECIMALS)
    for end in (low, high):
        extra = 0
        while end and round(end, found) == 0 and found < MOST_DECIMALS and extra < 2:
            found, extra = found + 1, extra + 1
    return found


def fixed(value: float | None, places: int) -> str:
    """The value with so many decimals; a dash for None, never "-0.00"."""
    if value is None:
        return NOTHING
    text = f"{value:.{places}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def signed(value: float | None, places: int) -> str:
    """As `fixed`, with a plus where it is above 0."""
    text = fixed(value, places)
    return (
        f"+{text}"
        if value is not None and value > 0 and any(digit in text for digit in "123456789")
        else text
    )


def short(value: Any) -> str:
    """A hyperparameter's value as a user would write it: four digits, no needless zeros."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if abs(value) < 10**15 else f"{value:.4g}"
    if isinstance(value, float):
        text = f"{value:.4g}"
        mantissa, e, exponent = text.partition("e")
        return f"{mantissa}e{int(exponent)}" if e else text
    return str(value)


def thousands(value: float | None) -> str:
    """A whole number in groups: 12 345."""
    return NOTHING if value is None else f"{round(value):,}".replace(",", GAP)


def percent(share: float | None) -> str:
    """A share as whole percent; below 1 and above 99 it does not round to 0 or 100."""
    if share is None:
        return NOTHING
    if 0 < share < 0.01:
        return f"under 1{GAP}%"
    if 0.99 < share < 1:
        return f"over 99{GAP}%"
    return f"{100 * share:.0f}{GAP}%"


def confidence_words(confidence: float | None) -> str:
    """ "95 % interval"."""
    return "interval" if confidence is None else f"{100 * confidence:g}{GAP}% interval"


def seconds(value: float | None) -> str:
    """A duration in the two units that matter."""
    if value is None:
        return NOTHING
    whole = round(value)
    if whole < 60:
        return f"{value:.1f}{GAP}s" if value < 9.95 else f"{whole}{GAP}s"
    if whole < 3600:
        return f"{whole // 60}{GAP}min {whole % 60}{GAP}s"
    return f"{whole // 3600}{GAP}h {whole % 3600 // 60}{GAP}min"


def the(name: str) -> str:
    """A candidate inside a sentence: "trial 42", "the default", "gradient boosting"."""
    words = candidate_words(name)
    return f"the {words}" if name in ("default", "dummy", "linear") else words


def counted(number: int, noun: str) -> str:
    """ "1 trial", "2 trials"."""
    return f"{thousands(number)}{GAP}{noun}{'' if number == 1 else 's'}"


def joined(parts: Iterable[str]) -> str:
    """ "a, b and c"."""
    words = list(parts)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def few(parts: Sequence[str]) -> str:
    """ "a, b, c and 8 more"."""
    more = len(parts) - MOST_LISTED
    return ", ".join(parts) if more <= 0 else f"{', '.join(parts[:MOST_LISTED])} and {more} more"


def cut(text: str, longest: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def date_words(text: str) -> str:
    """An ISO time to the minute, in UTC; other text as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    if moment.tzinfo is None:
        return f"{moment:%Y-%m-%d %H:%M}"
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
