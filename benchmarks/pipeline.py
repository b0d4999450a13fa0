"""All stages in one process without orchestration and tracking, for benchmarks that repeat them hundreds of times."""

from __future__ import annotations

from dataclasses import dataclass

from lanewise.data import Dataset, Seal
from lanewise.evaluate import choose_contenders, evaluate
from lanewise.folds import fold_trainer
from lanewise.judge import Evaluation, median_epoch
from lanewise.lr_range import LRCurve
from lanewise.lr_range import run as run_lr_range
from lanewise.metrics import find_metric
from lanewise.pretrained import study_network
from lanewise.refit import FittedModel, TestResult, open_and_score, refit
from lanewise.search import SearchResult, search
from lanewise.search.lanes import SearchLanes
from lanewise.space import build_space
from lanewise.study import Study
from lanewise.trainer import Trainer, full_trainer


@dataclass(frozen=True)
class Outcome:
    """What the stages made."""

    curve: LRCurve | None
    search: SearchResult
    evaluation: Evaluation
    fitted: FittedModel
    test: TestResult | None


def run(study: Study, dataset: Dataset, seal: Seal | None) -> Outcome:
    """lr_range -> search -> evaluate -> refit -> sealed test (None without a seal)."""
    network = study_network(study)
    space = build_space(study, network.space, network.defaults)
    trainer = Trainer(study, network, dataset)
    curve = None
    if study.lr_range.enabled:
        curve = run_lr_range(Trainer(study, network, dataset), space)
        if curve.interval:
            space = space.narrow("lr", *curve.interval)
    metric = find_metric(dataset.metric, dataset.task)
    loop = search(study, space, SearchLanes(trainer), metric=metric.name, direction=metric.direction)
    while True:
        try:
            next(loop)
        except StopIteration as stop:
            result: SearchResult = stop.value
            break
    contenders = choose_contenders(result.trials, result.direction, study.evaluate.finalists)
    splits = dataset.folds(study.evaluate.folds, study.evaluate.repeats, study.seed)
    judged = evaluate(
        dataset,
        contenders,
        splits,
        fold_trainer(study, network, dataset),
        folds=study.evaluate.folds,
        baselines=study.evaluate.baselines,
        confidence=study.evaluate.confidence,
        seed=study.seed,
    )
    train_full = full_trainer(study, network, dataset)
    models = {}
    for name in dict.fromkeys((judged.winner, "default")):
        candidate = judged.candidate(name)
        models[name] = refit(
            dataset,
            network,
            candidate.config or {},
            epochs=median_epoch(candidate),
            members=study.registration.members,
            seed=study.seed,
            train_full=train_full,
        )
    test = None
    if seal is not None:
        test = open_and_score(
            seal,
            models[judged.winner],
            models["default"],
            metric=metric.name,
            confidence=study.evaluate.confidence,
            bootstrap=study.evaluate.bootstrap,
            seed=study.seed,
        )
    return Outcome(curve, result, judged, models[judged.winner], test)


def with_seed(study: Study, seed: int) -> Study:
    """The same study under another seed."""
    return study.model_copy(update={"seed": seed})


__all__ = ["Outcome", "run", "with_seed"]
