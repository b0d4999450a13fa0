"""The part of the report about the data, how to use the model, and what to repeat the run from.

Fills `document.py` from the facts.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

from lanewise.report.document import Block, Code, Links, Section, Text, section, table
from lanewise.report.facts import Facts
from lanewise.report.replays import replayed
from lanewise.report.wording import counted, few, finite, joined, metric_words, percent, thousands

HARMLESS = ("http", "https", "file")


def use(facts: Facts) -> Section | None:
    """Two lines that load the model, and how it predicts."""
    if not address(facts):
        return None
    own = ":" in str((facts.study.get("model") or {}).get("name") or "")
    extra = ', search_path=["."]' if own else ""
    lines = f"import lanewise\nmodel = lanewise.load({json.dumps(address(facts))}{extra})"
    after = "model.predict(frame) then predicts the rows of a pandas table with the training columns. "
    if facts.dataset.get("kind") == "image":
        short = address(facts).removeprefix("models:/")
        after += f"A folder of images needs no table: lanewise predict {short} FOLDER -o told.csv. "
    after += "Load it where the study ran, or set MLFLOW_TRACKING_URI to the study's tracking address."
    after += " search_path names the folder that holds the network's class." if own else ""
    return section("use", "Use the model", [Code(lines), Text(after)])


def address(facts: Facts) -> str:
    """Where `lanewise.load` finds the registered model; empty if nothing was registered."""
    name, alias, version = (facts.version.get(key) for key in ("name", "alias", "version"))
    if not name or not (alias or version):
        return ""
    return f"models:/{name}@{alias}" if alias else f"models:/{name}/{version}"


def data(facts: Facts) -> Section | None:
    """What the study worked on: rows, target, columns, objective."""
    record = facts.dataset
    rows = record.get("rows") or {}
    parts = [
        f"{thousands(n)} {part}"
        for part in ("train", "valid", "test")
        if (n := finite(rows.get(part))) is not None
    ]
    kinds = Counter(str(kind) for kind in (record.get("columns") or {}).values())
    missing = [name for name, count in (record.get("missing") or {}).items() if count]
    dropped = [str(name) for name in record.get("dropped") or {}]
    cells = [
        ("source", str(record.get("source") or (facts.study.get("data") or {}).get("source") or "")),
        (
            "rows",
            ", ".join(parts) + (f" (split: {record['split']})" if parts and record.get("split") else ""),
        ),
        ("target", _target(facts)),
        (
            "columns used",
            joined(counted(n, kind) for kind, n in kinds.items()).replace("categorys", "categories"),
        ),
        ("input", _input(record)),
        ("with missing values", few(missing)),
        ("not used", few(dropped)),
        (
            "objective",
            f"{metric_words(facts.metric)}{_reason(record.get('metric_reason'))}" if facts.metric else "",
        ),
    ]
    return section("data", "The data", [table([], [c for c in cells if c[1]], wordy=[1])])


def provenance(facts: Facts) -> Section | None:
    """Fingerprints, versions, seed and addresses."""
    rows = [
        ("study", facts.name),
        ("model", _model(facts)),
        ("data fingerprint", facts.dataset.get("fingerprint")),
        ("split fingerprint", facts.dataset.get("split_fingerprint")),
        ("seed", facts.seed),
        ("seal opened at", facts.test.get("opened_at")),
        ("frozen model", facts.test.get("frozen")),
        ("registered as", _registered(facts)),
        ("tracking run", facts.version.get("run_id")),
        ("replays", replayed(facts)),
        *facts.environment.items(),
    ]
    cells = [[name, str(value)] for name, value in rows if value not in (None, "")]
    blocks: list[Block | None] = [table([], cells, wordy=[1])]
    safe = tuple((label, address) for label, address in facts.links.items() if harmless(address))
    blocks.append(Links(safe) if safe else None)
    blocks += [Text(f"{label}: {address}") for label, address in facts.links.items() if not harmless(address)]
    blocks.append(
        Code(json.dumps(facts.winning_config, indent=2, ensure_ascii=False)) if facts.winning_config else None
    )
    return section("provenance", "Where it comes from", blocks)


def harmless(address: str) -> bool:
    """Whether a browser may open the address: no script, no data."""
    try:
        return urlsplit(address).scheme.lower() in HARMLESS
    except ValueError:  # such as a broken IPv6 address
        return False


def _model(facts: Facts) -> str:
    model: dict[str, Any] = facts.study.get("model") or {}
    args = model.get("args") or {}
    return f"{model.get('name') or ''}{' ' + json.dumps(args, ensure_ascii=False) if args else ''}"


def _input(record: dict[str, Any]) -> str:
    """The shape of one row, where the data are no table."""
    axes = {"image": "channels x height x width", "series": "channels x length", "text": "tokens"}
    kind, shape = str(record.get("kind") or ""), record.get("shape") or []
    if kind not in axes or not shape:
        return ""
    codes = f", {thousands(n)} codes" if (n := finite(record.get("tokens"))) else ""
    return f"{' x '.join(str(side) for side in shape)} ({axes[kind]}){codes}"


def _target(facts: Facts) -> str:
    if not facts.class_counts:
        return facts.target
    total = sum(facts.class_counts.values())
    shares = [
        f"{name} ({percent(count / total)})" if total else name for name, count in facts.class_counts.items()
    ]
    return f"{facts.target}, {len(shares)} classes: {few(shares)}"


def _reason(reason: object) -> str:
    return f" ({reason})" if reason else ""


def _registered(facts: Facts) -> str:
    name, version, uri = (facts.version.get(key) for key in ("name", "version", "uri"))
    return f"{name} version {version or '?'}{f' ({uri})' if uri else ''}" if name else ""
