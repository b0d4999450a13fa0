"""One job: a study file with its overrides, and what is open while it runs; every task asks for it first.

`Job` is small and JSON, so it passes through Prefect as a parameter. What cannot pass (data, network, the
tracker, the lock) is opened here once per process and found again by `workshop`. A job is held by one
process at a time. Nothing here trains.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lanewise.errors import StudyError, TrackingError
from lanewise.fault_points import fault
from lanewise.owner import hold
from lanewise.study import Study, load_study
from tasks.ingredients import ingredients
from tasks.progress import Event, say
from tasks.stages import StageStore, code_version, digest
from tasks.study_record import PIPELINE as PIPELINE  # stages read it here
from tasks.study_record import STUDY_RECORD, records_folder, study_folder, to_text
from tasks.sweep import noted

if TYPE_CHECKING:
    from lanewise.checkpoints import FinishedLanes
    from lanewise.data import Prepared
    from lanewise.model import Network
    from lanewise.space import Space
    from lanewise.tracking import Tracker
    from lanewise.tracking.runs import RunState

CONNECT_TIMEOUT_S = 30.0
LOCK = "run.lock"
FULL = (errno.ENOSPC, errno.EDQUOT)
STOPPED = "stopped, to be continued"


@dataclass(frozen=True)
class Job:
    """What to run.

    Args:
        study: Absolute path of the study file.
        overrides: (dotted key, text) of every `--set`.
    """

    study: str
    overrides: tuple[tuple[str, str], ...] = ()


def make_job(study: str | Path, overrides: Mapping[str, str] | None = None) -> Job:
    """The job of a study file and its overrides."""
    return Job(str(Path(study).absolute()), tuple(sorted((overrides or {}).items())))


class Workshop:
    """What a running job has open; made on first use, closed with the job.

    Args:
        job: The job.
        study: Its study.
    """

    def __init__(self, job: Job, study: Study) -> None:
        self.job, self.study = job, study
        self.home = Path(study.tracking.home).absolute()
        self.folder = study_folder(self.home, study.name)
        self.store = StageStore(self.home)
        self.cut_off = False  # the run before this one did not come to its end
        self.version: dict[str, Any] | None = None  # what the model became in the registry

    @property
    def records(self) -> Path:
        """Ledger and spool of the present rows: a nightly study whose source grew begins a new search."""
        return records_folder(self.home, self.study.name, self.prepared.dataset.split_fingerprint)

    @property
    def user_code(self) -> list[Path]:
        """Where classes and functions named in the study are looked for."""
        return [self.study.base_dir]

    @cached_property
    def network(self) -> Network:
        """The network the study names."""
        from lanewise.pretrained import study_network

        return study_network(self.study)

    @cached_property
    def space(self) -> Space:
        """Every hyperparameter, with its declared range."""
        from lanewise.space import build_space

        space = build_space(self.study, self.network.space, self.network.defaults)
        if ":" in self.study.search.strategy:  # the user's own: refused before anything trains
            from lanewise.search import strategy_of

            strategy_of(self.study, space, "minimize")
        return space

    @cached_property
    def prepared(self) -> Prepared:
        """Development rows and seal; the same source and study give the same ones each time."""
        from lanewise.data import prepare

        def decoded(done: int, total: int) -> None:
            say(Event("prepare", "working", f"{done:,} of {total:,} images decoded", done, total))

        found = prepare(self.study, decoded)
        if ":" in self.study.search.metric:  # the user's own: refused before anything trains
            from lanewise.own_metric import use_own_metric

            use_own_metric(self.study, found.dataset)
        return found

    @cached_property
    def tracker(self) -> Tracker:
        """The tracker, with the parent run open.

        Raises:
            TrackingError: The store is of the wrong kind, or refuses the login.
        """
        from lanewise.tracking import Tracker

        study = self.study
        tracker = Tracker(study.name, study.tracking.uri, self.records / "spool")
        try:
            if not study.tracking.uri.startswith("sqlite:"):
                tracker.ready(CONNECT_TIMEOUT_S)  # a refused login is said before anything is trained
            tracker.start_run(
                PIPELINE,
                stage="pipeline",
                params=_fixed(study),
                tags={"lanewise.seed": study.seed, "lanewise.study": Path(self.job.study).name},
                resume=True,
            )
            tracker.artifact(PIPELINE, to_text(study, self.home), STUDY_RECORD)
        except BaseException:
            tracker.close(timeout_s=5.0)
            raise
        return tracker

    def tags(self) -> dict[str, object]:
        """Tags by which a run can be found again and repeated from its record alone."""
        return dict(self._ingredients)

    @cached_property
    def _ingredients(self) -> dict[str, str]:
        return ingredients(self.study, self.network, self.prepared.dataset)

    @property
    def context(self) -> str:
        """What results depend on, as a digest: study, rows, code and pretrained weights."""
        weights = pretrained_digest(self)
        return digest(self.study.definition(), self.prepared.dataset.split_fingerprint, code_version(), weights)

    def finished_lanes(self, stage: str) -> FinishedLanes:
        """Trainings of a stage that was cut off; they count while study, rows and code are the same."""
        from lanewise.checkpoints import FinishedLanes

        return FinishedLanes(*self.kept(stage))

    def kept(self, stage: str) -> tuple[Path, str]:
        """Where they lie, and all that they depend on."""
        return self.records / "finished" / stage, self.context

    def ended_runs(self) -> frozenset[str]:
        """Keys of the runs that MLflow was told the end of, by whichever process, abandoned ones left out."""
        from lanewise.tracking import run_states

        states = run_states(self.records / "spool")
        return frozenset(key for key, state in states.items() if state not in ("running", "abandoned"))

    def smoke(self) -> int:
        """Try one batch through the default network, before anything is spent; number of its parameters.

        Raises:
            ModelError: The network does not fit the data.
        """
        return self._smoked

    @cached_property
    def _smoked(self) -> int:
        from lanewise.smoke import smoke
        from tasks.own_process import needs_child, smoke_in_child

        if needs_child(self):
            return smoke_in_child(self)
        dataset = self.prepared.dataset
        return smoke(self.network, dataset.layout, dataset.n_outputs, self.space.default())

    @property
    def tracked(self) -> bool:
        """Whether MLflow is told of this run: one that reuses every stage leaves no trace there.

        Unless it continues one that was cut off after its last stage: then it closes what that one opened.
        """
        return "tracker" in self.__dict__ or self._left_open

    @cached_property
    def _left_open(self) -> bool:
        from lanewise.tracking import run_states

        return self.cut_off and run_states(self.records / "spool").get(PIPELINE) != "complete"

    def close(self, *, failed: str | None, stopped: bool) -> None:
        """End the parent run and bring to MLflow what can be brought now.

        Args:
            failed: Why the job failed, None if it did not.
            stopped: It was asked to stop, or this process is being ended.
        """
        cut = stopped or failed is not None
        if "tracker" not in self.__dict__ and (cut or not self._left_open):
            return
        state: RunState = "abandoned" if stopped else "failed" if failed else "complete"
        reason = STOPPED if stopped else failed
        with self.tracker.tick():
            self.tracker.end(PIPELINE, state, reason=reason)
            self.tracker.abandon(reason or "not ended by its stage")
        self.tracker.close(timeout_s=5.0 if stopped else 60.0)


def _fixed(study: Study) -> dict[str, Any]:
    """What does not vary between trials, flat, with the prefix `study.`."""
    flat: dict[str, Any] = {
        "study.name": study.name,
        "study.seed": study.seed,
        "study.model": study.model.name,
    }
    if study.model.pretrained:
        flat["study.pretrained"] = study.model.pretrained
    for section in ("train", "search", "evaluate"):
        for name, value in getattr(study, section).model_dump(mode="json").items():
            flat[f"study.{section}.{name}"] = value
    return flat


def pretrained_digest(shop: Workshop) -> str:
    """SHA-256 of the study's pretrained weights as they lie now, "none" where it has none."""
    from lanewise.pretrained_file import weights_digest

    return weights_digest(shop.study)


_open: dict[Job, Workshop] = {}


def workshop(job: Job) -> Workshop:
    """The open workshop of a job."""
    return _open[job]


@contextmanager
def opened(job: Job) -> Iterator[Workshop]:
    """Hold a job, and close what it opened when it ends, however it ends.

    Raises:
        StudyError: The study is wrong; nothing was started.
        StudyHeldError: Another process runs this study.
        TrackingError: The home cannot be written.
    """
    study = load_study(job.study, dict(job.overrides))
    shop = Workshop(job, study)
    with _held(shop.home, shop.folder / LOCK), noted(shop.folder) as shop.cut_off:
        fault("holding_lock")
        if study.model.pretrained:
            from tasks.pretrained import settle_weights

            settle_weights(study)
        _open[job] = shop
        failed: str | None = None
        stopped = False
        try:
            yield shop
        except OSError as error:
            failed = str(error)
            raise storage_error(error, shop.home) from error
        except Exception as error:
            failed = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise
        except BaseException:  # Ctrl-C, a stop, SIGTERM
            stopped = True
            raise
        finally:
            del _open[job]
            shop.close(failed=failed, stopped=stopped)


def storage_error(error: OSError, home: Path) -> TrackingError:
    """An error of the file system, as one a user can act on."""
    full = error.errno in FULL
    return TrackingError(
        "the disk is full" if full else "a file cannot be read or written", where=error.filename or home,
        given=error.strerror,
        remedy=("free space" if full else "put it right")
        + ", then run the same command again; everything printed as ended is kept",
    )  # fmt: skip


def _private(home: Path) -> None:
    """Make the home, and refuse one that everyone may write: what lies there decides what is trained and loaded."""
    home.mkdir(parents=True, exist_ok=True, mode=0o755)
    mode = home.stat().st_mode
    if mode & stat.S_IWOTH:
        raise StudyError(
            "everyone may write into the home of the study", where=home, given=f"mode {stat.S_IMODE(mode):o}",
            rule="written by its owner, or its group", remedy=f"chmod o-w {home}",
        )  # fmt: skip


@contextmanager
def _held(home: Path, path: Path) -> Iterator[None]:
    """Hold the study's lock, which a dying process gives back."""
    try:
        _private(home)
        file = hold(path)
    except OSError as error:
        if error.errno in FULL:
            raise storage_error(error, path.parent) from error
        raise StudyError(
            "the home of the study cannot be written", where=path.parent, given=error.strerror,
            remedy="correct its permissions, or name another folder in `tracking: home:`",
        ) from error  # fmt: skip
    with file:
        yield
