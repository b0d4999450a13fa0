"""The command line: `lanewise run study.yaml` and what stands around it; calls flows and tasks.

It repeats no default of a study. Errors of the user end in one message and the exit code of their class;
Ctrl-C ends after the present step. Nothing heavy is imported before a command needs it, so
`lanewise --help` answers at once.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lanewise.errors import LanewiseError, StudyError

if TYPE_CHECKING:
    from flows.local_server import LocalServer

INTERRUPTED, TERMINATED = 130, 143
RUNS = {"find_rates": 2, "find_configurations": 3, "compare": 3}  # stages of a flow that does not run all
DIFFERENT = 1  # a replay gave other bits
CONTINUE = "Everything printed as ended is kept; the same command continues."

app = typer.Typer(
    name="lanewise",
    help="Tunes PyTorch networks: many trials train side by side, and its numbers can be believed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="The study file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="In place of what the file says: --set search.trials=20. May be repeated.",
    ),
]
Fixed = Annotated[
    list[str] | None,
    typer.Option(
        "--fix",
        metavar="NAME=VALUE",
        help="Do not search this hyperparameter, it is VALUE: --fix lr=1e-3. May be repeated.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings, and the result.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File; without it, the screen.")]
TrackingUri = Annotated[str | None, typer.Option(envvar="MLFLOW_TRACKING_URI", help="Address of MLflow.")]


@app.command()
def run(study: StudyFile, set_: Overrides = None, fix: Fixed = None, quiet: Quiet = False) -> None:
    """Tune a network, from its data to a registered model. Continues what was cut off."""

    def show(outcome: dict[str, Any]) -> None:
        typer.echo(f"\n{outcome['summary']}")

    _run_flow("tune", study, _overrides(set_, fix), quiet=quiet, show=show)


@app.command()
def resume(study: StudyFile, set_: Overrides = None, fix: Fixed = None, quiet: Quiet = False) -> None:
    """Go on with a run that was cut off; as `run`, but refuses where there is nothing to go on with."""
    from tasks.status import check_resumable

    check_resumable(study, _overrides(set_, fix))
    run(study, set_, fix, quiet)


@app.command()
def extend(
    study: StudyFile,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, those that have ended among them.")],
    set_: Overrides = None,
    fix: Fixed = None,
    quiet: Quiet = False,
) -> None:
    """Search on with more trials, as if there had been so many from the start, then evaluate anew."""
    from tasks.status import check_extendable

    check_extendable(study, _overrides(set_, fix), trials)
    run(study, [*(set_ or []), f"search.trials={trials}"], fix, quiet)
    typer.echo(f"to keep it so, write `search: {{trials: {trials}}}` into {study}")


@app.command()
def status(
    study: StudyFile,
    set_: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Where a study stands: who runs it, its trials, what waits for MLflow, missed runs of a schedule."""
    import json

    _quiet()
    from flows.local_server import configured_url
    from tasks.status import missed_runs, status_of

    overrides = _overrides(set_)
    found = status_of(study, overrides, missed_runs(study) if configured_url() else ())
    typer.echo(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.words(study, overrides)))


@app.command()
def verify(
    study: StudyFile,
    set_: Overrides = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="First deliver what waits and close what dead runs left open.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Whether ledger, MLflow, registry and Prefect agree about a study. Exit code 5 if they do not."""
    with _prefect_for(study, _overrides(set_)):
        from lanewise.errors import TrackingError
        from tasks.verify import as_json as to_json
        from tasks.verify import verify_study

        checks = verify_study(study, _overrides(set_), repair=repair)
    typer.echo(to_json(checks) if as_json else "\n".join(map(str, checks)))
    if not all(check.ok for check in checks):
        raise typer.Exit(TrackingError.exit_code)


@app.command("lr-range")
def lr_range(study: StudyFile, set_: Overrides = None, fix: Fixed = None, quiet: Quiet = False) -> None:
    """Only the first two stages: which learning rates are usable, with the picture."""

    def show(found: dict[str, Any]) -> None:
        picture = [f"picture: {found['picture']}"] if found["picture"] else []
        typer.echo("\n".join([found["says"], *found["reasons"], *picture]))

    _run_flow("find_rates", study, _overrides(set_, fix), quiet=quiet, show=show)


@app.command()
def search(study: StudyFile, set_: Overrides = None, fix: Fixed = None, quiet: Quiet = False) -> None:
    """Only the first three stages: the trials, to look at in MLflow; nothing is evaluated or registered."""
    _run_flow(
        "find_configurations",
        study,
        _overrides(set_, fix),
        quiet=quiet,
        show=lambda found: typer.echo(found["says"]),
    )


@app.command()
def compare(
    study: StudyFile,
    strategies: Annotated[str, typer.Option(help="Names, with commas between them.")] = "random,tpe",
    seeds: Annotated[int, typer.Option(min=1, help="Searches by each; five show more than one.")] = 5,
    set_: Overrides = None,
    fix: Fixed = None,
    quiet: Quiet = False,
) -> None:
    """Search by several strategies over several seeds, and show which one suits this study."""

    def show(found: dict[str, Any]) -> None:
        typer.echo(f"\n{found['says']}\n\n{found['page']}")

    names = [name.strip() for name in strategies.split(",") if name.strip()]
    _run_flow("compare", study, _overrides(set_, fix), quiet=quiet, show=show, strategies=names, seeds=seeds)


@app.command()
def check(study: StudyFile, set_: Overrides = None, fix: Fixed = None) -> None:
    """Read the study, the data and the network, and try one batch; train and write nothing."""
    from tasks.check import check_study

    for line in check_study(study, _overrides(set_, fix)):
        typer.echo(line)


@app.command()
def init(
    data: Annotated[str, typer.Argument(help="A file, `sklearn:digits`, or `pkg.module:function`.")],
    target: Annotated[str | None, typer.Option("--target", "-t", help="Column to predict.")] = None,
    output: Output = None,
) -> None:
    """Look at the data and write a study file, with reasons as comments."""
    from lanewise.data import look, write_study

    text = write_study(look(data, target))
    if output is None:
        typer.echo(text, nl=False)
        return
    if output.exists():
        raise StudyError(
            "the file is there already", where=output, remedy="name another with -o, or remove it"
        )
    output.write_text(text, encoding="utf-8")
    typer.echo(f"{output} written; look through it, then: lanewise run {output}")


@app.command()
def schema() -> None:
    """The JSON schema of the study file, for editors."""
    import json

    from lanewise.study import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command("check-model")
def check_model(
    target: Annotated[str, typer.Argument(help="A network's name, or `pkg.module:Class`.")],
) -> None:
    """Try a network against everything the engine relies on."""
    from lanewise.errors import ModelError
    from lanewise.testing import check_model as check_network

    report = check_network(target, search_path=[Path.cwd()])
    typer.echo(str(report))
    if not report.ok:
        raise typer.Exit(ModelError.exit_code)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="NAME@champion, NAME/VERSION, or the folder of a model.")],
    data: Annotated[Path, typer.Argument(help="A file with the study's columns; the target is not needed.")],
    output: Output = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Predict the rows of a file with a registered model."""
    _quiet()
    from tasks.predict import predict_file

    text = predict_file(model, data, tracking_uri, say=lambda words: typer.echo(words, err=True))
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")


@app.command()
def replay(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run's id in MLflow, or STUDY/trial-0042.", show_default=False),
    ],
    epochs: Annotated[int | None, typer.Option(min=1, help="Compare the first ones only.")] = None,
    best: Annotated[
        bool, typer.Option("--best", help="The champion's trial; RUN is a study's name or file.")
    ] = False,
    set_: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
    tracking_uri: Annotated[
        str | None, typer.Option(help="Address of MLflow; else the study file's, or MLFLOW_TRACKING_URI.")
    ] = None,
) -> None:
    """Train a recorded trial again, alone, and compare every bit. Exit code 0 if all are equal, else 1."""
    import json

    _quiet()
    from tasks.replay import replay as train_again

    try:
        found = train_again(run, epochs=epochs, best=best, overrides=_overrides(set_), uri=tracking_uri)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(json.dumps(found.to_json(), indent=2) if as_json else "\n".join(found.words()))
    if found.verdict.answer != "EXACT":
        raise typer.Exit(DIFFERENT)


@app.command()
def sync(study: StudyFile, set_: Overrides = None) -> None:
    """Bring to MLflow what a run had to keep back while MLflow was away."""
    _quiet()
    from lanewise.errors import TrackingError
    from tasks.sync import sync_study

    left, text = sync_study(study, _overrides(set_))
    typer.echo(text)
    if left:
        raise typer.Exit(TrackingError.exit_code)


@app.command("export-optuna")
def export_optuna(study: StudyFile, set_: Overrides = None) -> None:
    """Copy a study's trials into a file that optuna-dashboard and Optuna read; also while it runs."""
    _quiet()
    from tasks.optuna_copy import export_optuna as export

    file, trials = export(study, _overrides(set_))
    typer.echo(f"{trials} trials: optuna-dashboard sqlite:///{file}")


@app.command()
def ui(
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's pages.")] = 5000,
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's pages.")] = 4200,
    tracking_uri: TrackingUri = None,
) -> None:
    """MLflow and Prefect in the browser, on this machine only, until Ctrl-C."""
    _quiet()
    from flows.pages import show_pages

    show_pages(mlflow_port, prefect_port, tracking_uri, say=typer.echo)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run a command and leave with its exit code.

    0 done; 1 a replay that differs; 2 study or arguments; 3 data; 4 network; 5 storage or tracking;
    6 too many failed trials; 75 another run holds the study; 130 and 143 interrupted, to be continued with
    the same command.
    """
    log = logging.getLogger("lanewise")
    log.addHandler(logging.StreamHandler())
    log.propagate = (
        False  # what Prefect's loggers say of a user's error is for its pages, not for the terminal
    )
    try:
        app(args=None if args is None else list(args), prog_name="lanewise")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except LanewiseError as error:
        sys.stderr.write(f"{error}\n")
        code = error.exit_code
    # The collector would walk through all of torch once more at the end: a second.
    gc.freeze()
    sys.exit(code)


def _overrides(given: list[str] | None, fixed: list[str] | None = None) -> dict[str, str]:
    """Dotted key -> text, of every `--set` and `--fix`."""
    found = _pairs("--set", given or [], "KEY=VALUE", "--set search.trials=20")
    for name, value in _pairs("--fix", fixed or [], "NAME=VALUE", "--fix lr=1e-3").items():
        if twice := [key for key in found if key == f"space.{name}" or key.startswith(f"space.{name}.")]:
            raise StudyError(
                f"`{name}` is given twice", where=f"--fix {name}={value}", given=f"--set {twice[0]}={found[twice[0]]}",
                rule="it is fixed or it has a range", remedy="leave one of the two out",
            )  # fmt: skip
        found[f"fix.{name}"] = value
    return found


def _pairs(option: str, given: list[str], rule: str, example: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise StudyError(
                "this is no setting", where=option, given=text, rule=rule, remedy=f"write {example}"
            )
        found[key.strip()] = value
    return found


def _quiet() -> None:
    from flows.local_server import quiet_environment

    quiet_environment()


@contextmanager
def _prefect_for(study: Path, overrides: Mapping[str, str]) -> Iterator[None]:
    """A Prefect server to ask: the user's, or one over the history of the study's home."""
    from flows.local_server import LocalServer, configured_url, connected, reach_loopback_directly
    from lanewise.study import load_study

    home = Path(load_study(study, overrides).tracking.home)
    _quiet()
    reach_loopback_directly()
    server = None if configured_url() else LocalServer(home / "prefect")
    try:
        with connected(server):
            yield
    finally:
        if server is not None:
            server.stop()


def _run_flow(
    name: str, study: Path, overrides: Mapping[str, str], *, quiet: bool, show: Any, **more: Any
) -> None:
    """Run a flow of flows/tune.py, or `compare`, against a Prefect server, with its progress on the terminal.

    The server is started first and boots while the libraries are imported: both take seconds.
    """
    from flows.local_server import (
        LocalServer,
        configured_url,
        connected,
        quiet_environment,
        reach_loopback_directly,
    )
    from lanewise.study import load_study

    title = load_study(study, overrides).name  # a wrong study is refused before anything starts
    home = Path(load_study(study, overrides).tracking.home)
    quiet_environment()
    reach_loopback_directly()
    os.environ.setdefault(
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL"
    )  # the terminal is ours, the log is kept
    gc.disable()  # imports make much and free nothing
    server: LocalServer | None = None
    try:
        with _stoppable():
            server = None if configured_url() else LocalServer(home / "prefect")
            with connected(server):
                from flows import compare, tune
                from flows.terminal import shown
                from tasks.progress import STAGES

                gc.freeze()
                gc.enable()
                flow = getattr(compare if name == "compare" else tune, name)
                with shown(title, STAGES[: RUNS.get(name)], quiet=quiet):
                    outcome = flow(study=str(study), overrides=dict(overrides), **more)
                show(outcome)
    except (KeyboardInterrupt, Terminated) as stop:
        terminated = isinstance(stop, Terminated)
        sys.stderr.write(f"{'ended from outside' if terminated else 'stopped'}. {CONTINUE}\n")
        raise typer.Exit(TERMINATED if terminated else INTERRUPTED) from None
    finally:
        gc.enable()
        if server is not None:
            server.stop()


class Terminated(SystemExit):
    """SIGTERM has come, and whoever had something to close has done so."""


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C once: stop after the present step. Twice, or SIGTERM: at once.

    While a stage works SIGTERM is its own (`tasks.progress.ended_gently`): it stops after the present step
    and sends it again to Prefect, which closes the flow, and that again to us.
    """

    def once(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if "tasks.progress" not in sys.modules:  # still importing
            raise KeyboardInterrupt
        sys.stderr.write("\nstopping after this step; Ctrl-C again stops at once\n")
        sys.modules["tasks.progress"].ask_to_stop()

    def ended(_: int, __: FrameType | None) -> None:
        raise Terminated

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, once),
        signal.SIGTERM: signal.signal(signal.SIGTERM, ended),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
