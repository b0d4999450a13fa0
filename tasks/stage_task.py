"""Makes the work of a stage a Prefect task that is done once: reused while nothing it depends on changed.

Used by one file per stage. A key is the hash of the study's sections the stage reads, of the stages before
it, and of the source code. What Prefect keeps of a task is its state; the result itself is kept by
tasks/stages.py, because Prefect's own result files are not written whole or not at all.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from lanewise.errors import TrackingError
from lanewise.study import Study
from tasks.job import Job, Workshop, workshop
from tasks.progress import Event, ended_gently, say, stop_here
from tasks.stages import StageResult, code_version, digest


@dataclass(frozen=True)
class Made:
    """What a stage made.

    Args:
        record: Its result as JSON, read by later stages.
        says: The result in one line, for people.
        files: File name -> content, kept beside the record.
    """

    record: Mapping[str, Any]
    says: str
    files: Mapping[str, bytes] = field(default_factory=dict)


Work = Callable[..., Made]


def stage_key(
    study: Study, stage: str, reads: Sequence[str], before: Sequence[StageResult], extra: object
) -> str:
    """The hash of everything a stage depends on."""
    sections = {name: _read(study.model_dump(mode="json"), name) for name in reads}
    return digest(
        stage, study.name, study.seed, sections, [result.identity for result in before], code_version(), extra
    )


def stage_task(
    stage: str, *, reads: Sequence[str], extra: Callable[[Workshop], object] | None = None, retries: int = 0
) -> Callable[[Work], Callable[..., StageResult]]:
    """Decorate the work of a stage.

    Args:
        stage: Its name.
        reads: What of the study it depends on: "model" for a section, "search.metric" for one setting.
        extra: What else it depends on, as JSON.
        retries: How often it is tried again when storage or tracking was away.
    """

    def decorate(work: Work) -> Callable[..., StageResult]:
        @task(
            name=stage,
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=retries,
            retry_delay_seconds=2,
            retry_condition_fn=_storage_was_away,
        )
        @functools.wraps(work)
        def done_once(job: Job, *before: StageResult) -> StageResult | State[StageResult]:
            stop_here()
            shop = workshop(job)
            say(Event(stage, "started"))
            key = stage_key(shop.study, stage, reads, before, extra(shop) if extra else None)
            found = shop.store.find(stage, key)
            if found is not None:
                says = str(found.read()["says"])
                say(Event(stage, "reused", says))
                return Completed(name="Reused", message=f"unchanged: {says}", data=found)
            begun = time.monotonic()
            with ended_gently():
                made = work(job, *before)
                seconds = round(time.monotonic() - begun, 3)
                kept = {"says": made.says, "seconds": seconds, "result": made.record}
                result = shop.store.keep(stage, key, kept, made.files)
            say(Event(stage, "done", made.says))
            return result

        @functools.wraps(work)
        def call(*args: Any) -> StageResult:
            found = done_once(*args)
            return found.result() if isinstance(found, State) else found

        return call

    return decorate


def _read(study: Mapping[str, Any], name: str) -> Any:
    found: Any = study
    for part in name.split("."):
        found = found[part]
    return found


def _storage_was_away(_: Any, __: Any, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), TrackingError)
