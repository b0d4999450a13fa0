"""Brings a study's waiting records to MLflow; what `lanewise sync` calls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lanewise import tracking
from lanewise.study import load_study
from tasks.job import Workshop, make_job


def sync_study(path: Path, overrides: Mapping[str, str]) -> tuple[int, str]:
    """Deliver the spool of a study.

    Returns:
        How many records still wait, and the outcome in words.

    Raises:
        TrackingError: There is nothing to deliver, or a run is delivering it just now.
    """
    study = load_study(path, overrides)
    shop = Workshop(make_job(path, overrides), study)
    delivered = 0
    for spool in sorted(shop.folder.glob("rows-*/spool")) or [shop.folder / "spool"]:
        found = tracking.deliver(spool, tracking.absolute_uri(study.tracking.uri))
        if found.unreachable:
            return found.pending, f"MLflow is away ({found.unreachable}); {found.pending} records wait"
        for key, reason in found.rejected.items():
            return found.pending, f"MLflow refuses {key}: {reason}; {found.pending} records wait"
        delivered += found.delivered
    return 0, f"all {delivered} records are delivered"
