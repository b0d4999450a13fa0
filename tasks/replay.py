"""Trains a recorded trial again, alone, and says whether it gives the recorded bits: `lanewise replay`.

Study, data, split, configuration and seed come from the record in MLflow; the lane goes through the same
engine as in the search. Before it stands any search that was tracked; nothing comes after it but the line
that is kept beside the ledger. It changes nothing in MLflow and opens no seal.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lanewise import tracking
from lanewise.errors import DataError, StudyError, TrackingError
from lanewise.names import is_name
from lanewise.replay import (
    INGREDIENTS,
    Change,
    Epoch,
    Verdict,
    changes,
    compare,
    recorded_epochs,
    setting_changes,
    trained_epoch,
    words,
)
from lanewise.study import Study, Tracking, load_study, rebuild_study
from tasks import replay_log
from tasks.ingredients import ingredients
from tasks.study_record import PIPELINE, STUDY_RECORD, StudyRecord, from_text, records_folder

if TYPE_CHECKING:
    from lanewise.data import Dataset
    from lanewise.model import Network

ADDRESS_VARIABLE = "MLFLOW_TRACKING_URI"
_KEY = re.compile(r"trial-\d{4,}")
_FUNCTION = re.compile(r"[\w.]+:\w+")


@dataclass(frozen=True)
class Replayed:
    """A trial that was trained again.

    Args:
        study, trial, run_id: Which it was.
        state: How it had ended.
        epochs_recorded: How many epochs the record has.
        verdict: How it came out.
        seconds: How long loading and training took.
        kept: Where the outcome was kept; None where the study's folder is not on this machine.
    """

    study: str
    trial: str
    run_id: str
    state: str
    epochs_recorded: int
    verdict: Verdict
    seconds: float
    kept: Path | None

    def to_json(self) -> dict[str, Any]:
        """As JSON, what `--json` prints."""
        own = {**vars(self), "kept": str(self.kept) if self.kept else None}
        del own["verdict"]
        return own | self.verdict.to_json()

    def words(self) -> list[str]:
        """For a terminal."""
        size = f"{self.epochs_recorded} epoch{'s' if self.epochs_recorded != 1 else ''} recorded"
        lines = [f"{self.trial} of {self.study} ({self.state}, {size}), run {self.run_id}"]
        lines += words(self.verdict)
        if self.kept is None:
            lines.append("not counted in the study's report: its folder is not on this machine")
        return lines


def replay(
    run: str,
    *,
    epochs: int | None = None,
    best: bool = False,
    overrides: Mapping[str, str] | None = None,
    uri: str | None = None,
) -> Replayed:
    """Train a recorded trial again and compare.

    Args:
        run: An MLflow run id, or STUDY/trial-0042; with `best` a study's name or file.
        epochs: Compare only so many, the first ones.
        best: Take the trial whose configuration the study's champion has.
        overrides: Settings in place of the recorded ones, such as where the data lie now.
        uri: Tracking address; else the study file's, MLFLOW_TRACKING_URI, or the default.

    Raises:
        StudyError: `run` names no trial, or an override is wrong.
        DataError: The data are not where they were, or cannot be used.
        TrackingError: MLflow is away, or its record of the trial is not enough.
    """
    begun = time.monotonic()
    address, record = _record(run, best, uri)
    where = f"{record['study']}/{record['key']}"
    tags: dict[str, str] = record["tags"]
    whole = recorded_epochs(record["metrics"], record["state"], tags.get("lanewise.reason"))
    _refuse_untrained(record, where, whole)
    kept_study = _study_record(record, where, address)
    study, changed = _rebuilt(kept_study, tags, overrides or {})
    _refuse_moved(study, where)
    with tempfile.TemporaryDirectory() as folder:  # the seal made on the way is thrown away
        study = _with_weights(study, kept_study.home, folder, address)
        network, dataset = _opened(study, folder)
        replayed = _trained(study, network, dataset, record, len(whole), epochs)
        others, unrecorded = changes(tags, ingredients(study, network, dataset))
    verdict = compare(whole[:epochs], replayed, [*changed, *others], unrecorded)
    outcome = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "trial": record["key"],
        "run_id": record["run_id"], "state": record["state"], "overrides": dict(overrides or {}),
        "epochs_recorded": len(whole), **verdict.to_json(),
    }  # fmt: skip
    rows = records_folder(kept_study.home, record["study"], tags[INGREDIENTS["split"]])
    return Replayed(
        record["study"], record["key"], record["run_id"], str(record["state"]), len(whole), verdict,
        round(time.monotonic() - begun, 3), replay_log.keep(rows, outcome),
    )  # fmt: skip


def _record(run: str, best: bool, uri: str | None) -> tuple[str, dict[str, Any]]:
    """The tracking address, and what it holds of the trial that is meant."""
    address = uri or os.environ.get(ADDRESS_VARIABLE) or str(Tracking().uri)
    if best:
        if Path(run).suffix in (".yaml", ".yml") or Path(run).is_file():
            study = load_study(run)
            address, model = uri or study.tracking.uri, study.model_name
        else:
            model = _model_name(run, address)
        name, key, split = tracking.champion_trial(model, uri=address)
        return address, tracking.read_trial(key, uri=address, study=name, split=split)
    if tracking.is_run_id(run):
        return address, tracking.read_trial(run, uri=address)
    name, _, key = run.partition("/")
    if not is_name(name) or not _KEY.fullmatch(key):
        raise StudyError(
            "this names no trial", where="replay", given=run,
            rule="an MLflow run id, or STUDY/trial-0042", remedy="with --best, name a study alone or its file",
        )  # fmt: skip
    return address, tracking.read_trial(key, uri=address, study=name)


def _model_name(study: str, address: str) -> str:
    """The name a study's winner is registered under, from its last record."""
    if not is_name(study):
        raise StudyError(
            "this names no study", where="replay --best", given=study, rule="a study's name, or its file"
        )
    run = tracking.latest_run(PIPELINE, uri=address, study=study)
    text = tracking.read_text(run, STUDY_RECORD, uri=address)
    registered = from_text(text, run).definition.get("register", {}) if text else {}
    return str(registered.get("name") or study)


def _refuse_untrained(record: Mapping[str, Any], where: str, epochs: Sequence[Epoch]) -> None:
    """Refuse a run that is no trial, or of which nothing can be compared."""
    tags, reason = record["tags"], record["tags"].get("lanewise.reason") or ""
    if not _KEY.fullmatch(record["key"]):
        raise StudyError(
            "this run is no trial", where=where, rule="a trial of a search: trial-0042",
            remedy="name one of its study's trials",
        )  # fmt: skip
    if not epochs and (same := re.search(r"same configuration as trial (\d+)", reason)):
        raise StudyError(
            "this trial was not trained", where=where, given=reason, rule="a trial of its own",
            remedy=f"lanewise replay {record['study']}/trial-{int(same[1]):04d}",
        )  # fmt: skip
    lacking = [tag for tag in ("lanewise.seed", INGREDIENTS["split"]) if not tags.get(tag)]
    lacking += [] if record["config"] is not None else ["lanewise.config"]
    if lacking or not epochs:
        raise TrackingError(
            "the record of this trial is not enough to train it again", where=where,
            given=f"no {', '.join(lacking)}" if lacking else "not one epoch of it is recorded",
            rule="configuration, seed, split and at least one epoch",
            remedy="if MLflow was away meanwhile, bring the rest with lanewise sync STUDY",
        )  # fmt: skip


def _study_record(record: Mapping[str, Any], where: str, address: str) -> StudyRecord:
    """The study as it was when the trial was trained."""
    parent = record["parent"]
    text = tracking.read_text(parent, STUDY_RECORD, uri=address) if parent else None
    if text is None:
        raise TrackingError(
            "the study of this trial is not in the record", where=where,
            given=f"no {STUDY_RECORD} in its parent run {parent or ''}".strip(),
            rule="recorded by a version of Lanewise that can replay",
        )  # fmt: skip
    return from_text(text, parent)


def _rebuilt(
    kept: StudyRecord, tags: Mapping[str, str], overrides: Mapping[str, str]
) -> tuple[Study, list[Change]]:
    """The study to train by, and the settings in it that are not the recorded ones.

    Threads and device are those of the trial, which the study may leave open or have changed since, unless
    an override names others. A GPU that is not there is replaced, which the verdict then says.
    """
    if any(key.split(".")[0] == "tracking" for key in overrides):
        raise StudyError(
            "where a study is tracked is no part of its record", where="--set tracking...",
            remedy="name the address with --tracking-uri",
        )  # fmt: skip
    import torch

    recorded = rebuild_study(kept.definition, kept.base_dir)
    study = rebuild_study(kept.definition, kept.base_dir, overrides)
    used: dict[str, Any] = {}
    threads, device = tags.get(INGREDIENTS["threads"], ""), tags.get(INGREDIENTS["device"], "").split(",")[0]
    if study.train.threads == recorded.train.threads and threads.isdecimal() and int(threads):
        used["threads"] = int(threads)
    if study.train.device == recorded.train.device and device in ("cpu", "cuda"):
        used["device"] = device
        if device == "cuda" and not torch.cuda.is_available():
            used["device"] = "cpu"
    elif study.train.device == "cuda" and not torch.cuda.is_available():
        raise StudyError("there is no GPU that torch can use", where="train.device", given="cuda")
    changed = [
        change
        for change in setting_changes(recorded.definition(), study.definition())
        if change.ingredient not in ("train.threads", "train.device")
    ]
    return study.model_copy(update={"train": study.train.model_copy(update=used)}), changed


def _refuse_moved(study: Study, where: str) -> None:
    """Say where the data were looked for, if they are not there."""
    source = study.data.source
    path = study.base_dir / source
    if source.startswith("sklearn:") or _FUNCTION.fullmatch(source) or path.exists():
        return
    raise DataError(
        "the data of this trial are not where they were", where=path, rule="the rows the trial was trained on",
        remedy=f"say where they are now: lanewise replay {where} --set data.source=FILE",
    )  # fmt: skip


def _with_weights(study: Study, home: Path, folder: str, address: str) -> Study:
    """The study with its pretrained weights at hand: those it began with, else what their name means now.

    Args:
        home: The study's own, which may be another machine's.
        folder: Where they go if they are brought.
        address: Where models are registered.
    """
    if not study.model.pretrained:
        return study
    from tasks.pretrained import settle_weights, settled

    begun = study.model_copy(update={"tracking": study.tracking.model_copy(update={"home": str(home)})})
    if settled(begun):
        return begun
    brought = study.model_copy(update={"tracking": study.tracking.model_copy(update={"home": folder})})
    settle_weights(brought, address)
    return brought


def _opened(study: Study, folder: str) -> tuple[Network, Dataset]:
    """Network and development rows.

    Args:
        study: Rebuilt.
        folder: Where the seal goes.
    """
    from lanewise.data import prepare
    from lanewise.pretrained import study_network

    network = study_network(study)
    elsewhere = study.tracking.model_copy(update={"home": folder})
    return network, prepare(study.model_copy(update={"tracking": elsewhere})).dataset


def _trained(
    study: Study, network: Network, dataset: Dataset, record: Mapping[str, Any], whole: int, most: int | None
) -> list[Epoch]:
    """The trial's epochs, trained alone as the search trains it.

    Args:
        whole: Epochs recorded.
        most: Epochs wanted; None for all.
    """
    from lanewise.engine.hypergradient import CONTINUOUS, PREFIX
    from lanewise.ledger import SIZE
    from lanewise.model_size import model_size
    from lanewise.trainer import Trainer

    trainer = Trainer(study, network, dataset, lanes=1)
    key, seed = str(record["key"]), int(record["tags"]["lanewise.seed"])
    slopes = tuple(name for name in CONTINUOUS if PREFIX + name in record["metrics"])
    wanted = study.search.objectives
    counts = model_size(network, dataset.layout, dataset.n_outputs, record["config"], wanted)
    sizes = {SIZE + name: count for name, count in counts.items()}
    trainer.add(trainer.lane(key, record["config"], seed, keep_best=False, slopes=slopes))
    found: list[Epoch] = []
    for epoch in range(1, min(whole, most or whole) + 1):
        (report,) = trainer.tick()
        values = {"train/loss": report.train_loss, **report.scores, **(sizes if epoch == 1 else {})}
        ending = record["state"] == "failed" and epoch == whole
        found.append(trained_epoch(epoch, values, report.failed, f"valid/{dataset.metric}", last=ending))
        if report.finished:
            break
    trainer.drop(key)
    return found
