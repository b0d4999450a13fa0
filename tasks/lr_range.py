"""The learning-rate range test of a run: after prepare, before search, whose range of `lr` it narrows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lanewise.lr_range import LRCurve
from lanewise.report import Records, picture_png
from lanewise.space import Space
from tasks.artifacts import show_picture
from tasks.job import PIPELINE, Job, Workshop, pretrained_digest, workshop
from tasks.own_process import range_test
from tasks.prepare import same_rows
from tasks.progress import Event, interruptible, say
from tasks.stage_task import Made, stage_task
from tasks.stages import StageResult

PLOT = "lr_range.png"


@stage_task("lr_range", reads=("model", "space", "train", "lr_range"), extra=pretrained_digest)
def ramp(job: Job, prepared: StageResult) -> Made:
    """Ramp the learning rate in several short trainings and read off where the loss falls."""
    shop = workshop(job)
    if not shop.study.lr_range.enabled:
        return Made({"curve": None}, "off; the declared range of lr is used")
    if "lr" not in shop.space.searched():
        return Made({"curve": None}, "not needed: lr is not searched")
    same_rows(job, prepared.result["ref"])
    shop.smoke()
    key = "lr-range"
    told = shop.tracker.told(key, shop.context)
    if not told:
        shop.tracker.start_run(key, stage="lr_range", parent=PIPELINE, tags=shop.tags(), content=shop.context)
    with interruptible():
        curve, notes = range_test(shop)
    for text in [*curve.warnings, *notes]:
        say(Event("lr_range", "note", text))
    files = {}
    picture = picture_png("lr_range", Records(lr_curve=asdict(curve)))
    if picture is not None:
        files[PLOT] = picture
        show_picture("lr-range", picture, "Loss over learning rate")
    if not told:
        _track(shop, key, curve)
    if curve.interval is None:
        return Made(
            {"curve": asdict(curve)}, "no usable interval found; the declared range of lr is used", files
        )
    low, high = curve.interval
    return Made({"curve": asdict(curve)}, f"lr between {low:.1e} and {high:.1e}", files)


def searched_space(shop: Workshop, ranged: StageResult) -> Space:
    """The space of the search: `lr` narrowed to the interval, where one was found and `lr` has a range.

    A grid is tried as it was declared.
    """
    curve = ranged.result["curve"]
    interval = LRCurve.from_json(curve).interval if curve else None
    as_declared = shop.study.search.strategy == "grid" or shop.space.wide("lr").listed
    return shop.space.narrow("lr", *interval) if interval and not as_declared else shop.space


def findings(ranged: StageResult) -> dict[str, Any]:
    """What `lanewise lr-range` shows."""
    curve = ranged.result["curve"] or {"families": {}}
    picture = ranged.path(PLOT)
    return {
        "says": ranged.read()["says"],
        "reasons": [f"{name}: {family['reason']}" for name, family in curve["families"].items()],
        "picture": str(picture) if picture.is_file() else None,
    }


def _track(shop: Workshop, key: str, curve: LRCurve) -> None:
    with shop.tracker.tick():
        for family, found in curve.families.items():
            for step, loss in enumerate(found.median):
                shop.tracker.log(key, step, {f"{family}/lr": found.rates[step], f"{family}/loss": loss})
        bounds = {"low": curve.interval[0], "high": curve.interval[1]} if curve.interval else {}
        shop.tracker.end(
            key, "complete", tags={f"lanewise.lr_{name}": value for name, value in bounds.items()}
        )
