"""Refits the winner, opens the seal once, stores the model, gives it its alias: after evaluate.

The order makes a crash harmless at any point: the model is written, hashed and checked on this disk, then
brought to MLflow and checked there, then it becomes a version, and the alias comes last, by compare and set.
Where MLflow is away the model waits on this disk, and the next run goes on from there.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lanewise import registry, tracking
from lanewise.data import portable
from lanewise.errors import LanewiseError, ModelError, SearchError, TrackingError
from lanewise.fault_points import fault
from lanewise.fitted import FittedModel
from lanewise.gate import Decision, gate
from lanewise.judge import Evaluation, median_epoch
from lanewise.metrics import find_metric
from lanewise.refit import TestResult, open_and_score, refit
from lanewise.registry import ModelVersion
from lanewise.space import Config
from tasks.artifacts import show_markdown
from tasks.job import PIPELINE, Job, Workshop, pretrained_digest, workshop
from tasks.own_process import refit_training
from tasks.prepare import same_rows
from tasks.progress import Event, ended_gently, interruptible, say
from tasks.stage_task import Made, stage_task
from tasks.stages import StageResult, digest

FINAL = "final"  # key of the run that made the model
FLUSH_TIMEOUT_S = 60.0
DECISIONS = 3  # how often a model is compared anew when the champion changes meanwhile


@stage_task("register", reads=("model", "train", "evaluate", "registration"), extra=pretrained_digest)
def refit_and_test(job: Job, prepared: StageResult, evaluated: StageResult) -> Made:
    """Train the winner on all development rows, score it on the sealed rows, store it on this disk."""
    shop = workshop(job)
    same_rows(job, prepared.result["ref"])
    found = Evaluation.from_dict(evaluated.result)
    study, dataset = shop.study, shop.prepared.dataset
    with interruptible():
        fitted = _refit(shop, found, found.winner, study.registration.members)
        fault("mid_refit")
        default = fitted if found.winner == "default" else _default(shop, found)
    test = open_and_score(
        shop.prepared.seal,
        fitted,
        default,
        metric=dataset.metric,
        confidence=study.evaluate.confidence,
        bootstrap=study.evaluate.bootstrap,
        seed=study.seed,
    )
    folder = shop.home / "models" / f"{study.name}-{fitted.frozen()[:16]}"
    example = portable(dataset.frame.head(registry.EXAMPLE_ROWS), dataset.columns)
    manifest = registry.save(
        fitted.to_parts(), folder, example, fitted.predict(example), search_path=shop.user_code
    )
    shop.finished_lanes("register").remove()
    record = {"test": asdict(test), "folder": str(folder), "digest": manifest.digest, "winner": found.winner}
    score = test.scores[test.metric].estimate
    words = "undefined" if score is None else f"{score:.4g}"
    says = f"{found.winner} refitted; {test.metric} {words} on {test.n} sealed rows"
    return Made(record, says)


@task(name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish(job: Job, evaluated: StageResult, refitted: StageResult) -> dict[str, Any] | None:
    """Bring the stored model to the registry and decide its alias; None where MLflow is away."""
    with ended_gently():
        return _published(workshop(job), evaluated, refitted)


def _published(shop: Workshop, evaluated: StageResult, refitted: StageResult) -> dict[str, Any] | None:
    record, name = refitted.result, shop.study.model_name
    uri = tracking.absolute_uri(shop.study.tracking.uri)
    key = digest(name, record["digest"], uri)  # the same model is registered once, however often it is made
    kept = shop.store.find("version", key)
    if kept is not None:
        return kept.result
    run_id = _final_run(shop, Evaluation.from_dict(evaluated.result), record)
    if run_id is None:
        return None
    version, address = tracking.register(
        Path(record["folder"]),
        name,
        uri=uri,
        run_id=run_id,
        digest=record["digest"],
        verify=lambda folder: registry.verify(folder, search_path=shop.user_code),
        tags={"lanewise.study": shop.study.name, **{k: str(v) for k, v in shop.tags().items()}},
    )
    decision = _promoted(shop, TestResult.from_dict(record["test"]), record["winner"], version)
    fault("after_alias")
    made = asdict(ModelVersion(name, version, decision.alias, decision.reason, address, run_id))
    shop.store.keep("version", key, {"result": made})
    say(Event("register", "note", f"{name} version {version} is {decision.alias}: {decision.reason}"))
    words = f"**{name}** version {version}, *{decision.alias}*: {decision.reason}, `{address}`"
    show_markdown("model", words, "What the model became")
    return made


def _default(shop: Workshop, found: Evaluation) -> FittedModel | None:
    """The default's refit; None where the default diverges, which must not lose the winner."""
    try:
        return _refit(shop, found, "default", shop.study.registration.members)
    except (ModelError, SearchError) as error:
        say(Event("register", "note", f"the default cannot be refitted: {error.what}"))
        return None


def _refit(shop: Workshop, found: Evaluation, name: str, members: int) -> FittedModel:
    candidate = found.candidate(name)
    assert candidate.config is not None  # a contender, not a baseline
    dataset = shop.prepared.dataset
    epochs = median_epoch(candidate)
    say(Event("register", "working", f"{name}: {epochs} epochs on all development rows"))
    return refit(
        dataset,
        shop.network,
        candidate.config,
        epochs=epochs,
        members=members,
        seed=shop.study.seed,
        train_full=refit_training(shop),
        calibration=candidate.calibration,
    )


def _final_run(shop: Workshop, found: Evaluation, record: dict[str, Any]) -> str | None:
    """The MLflow run of the model, with its test scores; None where MLflow is away."""
    test = TestResult.from_dict(record["test"])
    config = found.candidate(record["winner"]).config or {}
    tracker = shop.tracker
    if not tracker.told(FINAL, record["digest"]):
        _tell(shop, test, config, record)
    delivery = tracker.flush(FLUSH_TIMEOUT_S)
    if delivery.unreachable or FINAL not in delivery.run_ids:
        say(
            Event(
                "register", "note",
                f"tracking is away ({delivery.unreachable or 'it has not answered'}): the model waits in "
                f"{record['folder']}; run the same command again when it is back",
            )
        )  # fmt: skip
        return None
    return delivery.run_ids[FINAL]


def _tell(shop: Workshop, test: TestResult, config: Config, record: dict[str, Any]) -> None:
    """Tell MLflow of the model, all of it in one write."""
    tracker = shop.tracker
    with tracker.tick():
        tags = shop.tags() | {"lanewise.winner": record["winner"], "lanewise.manifest": record["digest"]}
        tracker.start_run(
            FINAL, stage="register", parent=PIPELINE, params=config, tags=tags, config=config,
            content=record["digest"],
        )
        scores = {f"test/{name}": interval.estimate for name, interval in test.scores.items()}
        scores |= {
            f"test_default/{name}": interval.estimate for name, interval in test.default_scores.items()
        }
        tracker.log(FINAL, 0, scores)
        tracker.end(FINAL, "complete", objective=test.scores[test.metric].estimate)


def _promoted(shop: Workshop, test: TestResult, winner: str, version: str) -> Decision:
    """Decide and set the alias; anew where another run changed the champion between the two."""
    name, uri = shop.study.model_name, tracking.absolute_uri(shop.study.tracking.uri)
    for left in reversed(range(DECISIONS)):
        previous = tracking.alias_version(name, "champion", uri)
        decision = _decide(shop, test, winner, version, previous)
        try:
            tracking.promote(
                name, version, alias=decision.alias, reason=decision.reason, expected_previous=previous, uri=uri
            )
            break
        except TrackingError:
            if not left or tracking.alias_version(name, "champion", uri) == previous:
                raise
    return decision


def _decide(shop: Workshop, test: TestResult, winner: str, version: str, previous: str | None) -> Decision:
    metric = find_metric(test.metric, shop.prepared.dataset.task)
    champion: float | None = None
    obstacle: str | None = None
    if previous == version:  # registered by a run that was killed after the alias was set
        previous = None
    if previous is not None:
        champion, obstacle = _champion_score(shop, test, previous)
    return gate(
        metric,
        shop.study.registration.gate_margin,
        new=test.scores[test.metric].estimate,
        default=test.default_scores[test.metric].estimate if test.default_scores else None,
        new_is_default=winner == "default",
        champion=champion,
        champion_name=None if previous is None else f"version {previous}",
        obstacle=obstacle,
    )


def _champion_score(shop: Workshop, test: TestResult, version: str) -> tuple[float | None, str | None]:
    """Score of the present champion on the sealed rows, or why it has none."""
    name, dataset = shop.study.model_name, shop.prepared.dataset
    try:
        champion = registry.load(
            f"models:/{name}/{version}",
            search_path=shop.user_code,
            fetch=lambda address: tracking.fetch(address, shop.study.tracking.uri),
        )
        if (champion.task, champion.classes) != (dataset.task, tuple(dataset.classes)):
            return None, "it predicts something else"
        frame, target = shop.prepared.seal.open(test.frozen)  # the same configuration: no new opening
        prediction = champion.predict_array(pd.DataFrame(frame))
    except TrackingError as error:
        return None, error.what
    except (LanewiseError, KeyError, ValueError) as error:
        return None, f"it does not take these columns ({str(error).splitlines()[0]})"
    metric = find_metric(test.metric, dataset.task)
    score = metric.full(target, champion.scored(metric, prediction))
    return (score, None) if score == score else (None, f"its {test.metric} is undefined")
