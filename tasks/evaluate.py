"""Cross-validation of the finalists, the default and the baselines: after search, before register."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lanewise.evaluate import choose_contenders, evaluate
from lanewise.judge import Evaluation
from lanewise.ledger import TrialRecord
from tasks.artifacts import show_table
from tasks.job import PIPELINE, Job, Workshop, pretrained_digest, workshop
from tasks.own_process import fold_training
from tasks.prepare import same_rows
from tasks.progress import Event, interruptible, say
from tasks.stage_task import Made, stage_task
from tasks.stages import StageResult, digest


def trials_of(searched: StageResult) -> list[TrialRecord]:
    """The trials of a search, as it recorded them."""
    return [TrialRecord(**trial) for trial in searched.result["trials"]]


@stage_task("evaluate", reads=("model", "train", "evaluate", "registration.members"), extra=pretrained_digest)
def cross_validate(job: Job, prepared: StageResult, searched: StageResult) -> Made:
    """Train every contender on every fold and name the winner."""
    shop = workshop(job)
    same_rows(job, prepared.result["ref"])
    study, dataset = shop.study, shop.prepared.dataset
    wanted = study.evaluate
    contenders = choose_contenders(trials_of(searched), searched.result["direction"], wanted.finalists)
    splits = dataset.folds(wanted.folds, wanted.repeats, study.seed)
    lanes = len(contenders) * len(splits)
    say(
        Event(
            "evaluate",
            "working",
            f"{len(contenders)} configurations on {len(splits)} folds: {lanes} trainings",
        )
    )
    with interruptible():
        found = evaluate(
            dataset,
            contenders,
            splits,
            fold_training(shop),
            folds=wanted.folds,
            baselines=wanted.baselines,
            confidence=wanted.confidence,
            seed=study.seed,
            calibrated=wanted.calibrate,
        )
    shop.finished_lanes("evaluate").remove()
    for warning in found.warnings:
        say(Event("evaluate", "note", warning))
    _track(shop, found, [split.name for split in splits])
    show_table("evaluation", _table(found), "Mean scores over the folds")
    return Made(asdict(found), _says(found))


def mean(scores: list[float | None]) -> float | None:
    """Mean of the folds that have a score."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None


def _says(found: Evaluation) -> str:
    score = mean(found.candidate(found.winner).scores[found.metric])
    default = mean(found.candidate("default").scores[found.metric])
    if found.winner == "default" or score is None or default is None:
        return f"no trial beat the default over {found.folds * found.repeats} folds"
    folds = found.folds * found.repeats
    return f"{found.winner}: {found.metric} {score:.4g} over {folds} folds, default {default:.4g}"


def _table(found: Evaluation) -> list[dict[str, Any]]:
    return [
        {"candidate": c.name, "kind": c.kind, **{name: mean(values) for name, values in c.scores.items()}}
        for c in found.candidates
    ]


def _track(shop: Workshop, found: Evaluation, folds: list[str]) -> None:
    """One run for each fold, with the score of everyone who was in it."""
    with shop.tracker.tick():
        for j, name in enumerate(folds):
            key = f"fold-{j + 1}"
            scores = {
                f"{metric}/{c.name}": values[j]
                for c in found.candidates
                for metric, values in c.scores.items()
            }
            content = digest(name, str(scores))
            if shop.tracker.told(key, content):
                continue
            tags = shop.tags() | {"lanewise.fold": name}
            shop.tracker.start_run(key, stage="evaluate", parent=PIPELINE, tags=tags, content=content)
            shop.tracker.log(key, 0, scores)
            shop.tracker.end(key, "complete")
