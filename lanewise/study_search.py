"""The study's section `search`: which configurations are tried, how many, and which stop early.

A part of the study, by which it is read and checked; it knows no other section.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from lanewise.fields import Int, Name, Real, Scalar, Section, number, wrong

CLASS_METRICS = (
    "accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "roc_auc", "log_loss", "mcc",
    "brier", "ece",
)  # fmt: skip
VALUE_METRICS = ("rmse", "mae", "r2")
METRIC_NAMES = CLASS_METRICS + VALUE_METRICS

STRATEGY_NAMES = ("auto", "tpe", "gp", "cmaes", "nsga2", "random", "iterative", "sobol", "grid", "gradient")
MAX_LANES = 65_536
MAX_CELLS = 100_000  # of a grid
UNTAUGHT = ("random", "grid", "sobol")  # strategies whose proposals depend on no result
OBJECTIVES = ("parameters", "multiply_adds")  # beside the metric; each is a count, and to be small
METRIC_ONLY = ("gp", "cmaes", "iterative", "gradient")  # strategies that learn from one objective
NOISE_SEEDS = 3  # of two, the spread is hardly known: the floor would be 18 times their difference


def _lanes(value: Any) -> Any:
    if value == "auto" or (isinstance(lanes := number(value), int) and 1 <= lanes <= MAX_LANES):
        return value if value == "auto" else lanes
    raise wrong("not a number of lanes", f"auto, or a whole number from 1 to {MAX_LANES}", "write auto")


def _strategy(value: str) -> str:
    if value not in STRATEGY_NAMES and ":" not in value:
        raise PydanticCustomError("name", "unknown strategy", {"known": (*STRATEGY_NAMES, "pkg.module:Class")})
    return value


def _metric(value: str) -> str:
    if value != "auto" and value not in METRIC_NAMES and ":" not in value:
        raise PydanticCustomError("name", "unknown metric", {"known": ("auto", *METRIC_NAMES, "pkg.module:function")})
    return value


class Search(Section):
    """Which configurations are tried, how many, and which stop early."""

    strategy: Annotated[str, AfterValidator(_strategy)] = Field(
        default="tpe", json_schema_extra={"anyOf": [{"enum": [*STRATEGY_NAMES]}, {"pattern": ":"}]},
        description="How the next configuration is chosen; auto: sobol where no trial can learn from another, else "
        "tpe; `pkg.module:Class` for a strategy of your own.",
        examples=["tpe", "gp", "mypackage.strategies:Mine"],
    )  # fmt: skip
    metric: Annotated[str, AfterValidator(_metric)] = Field(
        default="auto", json_schema_extra={"anyOf": [{"enum": ["auto", *METRIC_NAMES]}, {"pattern": ":"}]},
        description="The objective, on validation rows; auto: rmse for numbers, accuracy for classes, with a "
        "rare class roc_auc (of two) or balanced_accuracy; `pkg.module:function` for a metric of your own.",
        examples=["auto", "roc_auc", "my_metrics:cost"],
    )  # fmt: skip
    metric_direction: Literal["maximize", "minimize"] | None = Field(
        default=None,
        description="Which is better, for a metric of your own; empty: the function's attribute `direction`.",
    )
    objectives: tuple[Literal["parameters", "multiply_adds"], ...] = Field(
        default=(),
        description="Objectives beside the metric, each to be small: `parameters`, the trainable ones; `multiply_adds` "
        "of the prediction of one row. The strategy then looks for the whole Pareto front, and `pruner` is none.",
    )  # fmt: skip
    trials: Int | None = Field(
        default=50, ge=1, le=1_000_000,
        description="Number of trials, the default's included; empty: no limit. A grid must fit into them; "
        "without `trials`, the whole of it is tried.",
    )  # fmt: skip
    epochs: Int | None = Field(
        default=None, ge=1, description="Budget in epochs, summed over all trials; empty: no limit."
    )
    seconds: Real | None = Field(
        default=None,
        gt=0,
        description="Budget in seconds; results then depend on the machine's speed. Empty: no limit.",
    )
    lanes: Annotated[Annotated[int, Field(ge=1, le=MAX_LANES)] | Literal["auto"], BeforeValidator(_lanes)] = (
        Field(
            default="auto",
            description="Trials that train side by side; auto: as many as fit for random, sobol "
            "and grid search, else a fifth of the trials, at least 8.",
        )
    )
    pruner: Literal["asha", "hyperband", "median", "none"] = Field(
        default="asha", description="Early stopping of trials that are behind; with `objectives`, none."
    )
    rung_first: Int = Field(
        default=5, ge=1, description="Epoch of the first rung, where trials may be stopped."
    )
    rung_factor: Int = Field(
        default=3, ge=2, le=100,
        description="Each rung is this many times later, and keeps one trial in this many.",
    )  # fmt: skip
    audit: Real = Field(
        default=0.0, ge=0, le=1,
        description="Share of the trials that early stopping would stop that go on to their end, drawn at random, "
        "to see how often it drops a good one. 0: off.",
    )  # fmt: skip
    startup: Int = Field(
        default=10, ge=1, description="Random trials before the strategy learns from results."
    )
    population: Int | None = Field(
        default=None, ge=4, le=10_000,
        description="Trials of a generation of cmaes and nsga2; empty: 4 + 3 ln(number of searched "
        "hyperparameters), for cmaes of its ranges.",
    )  # fmt: skip
    round_trials: Int = Field(
        default=10, ge=2, description="Trials that end before `strategy: iterative` begins its next round."
    )
    grid_points: Int | None = Field(
        default=None, ge=2, le=1000,
        description="Grid: values taken of every range that is continuous or logarithmic, both ends among them.",
    )  # fmt: skip
    enqueue: tuple[dict[str, Scalar], ...] = Field(
        default=(),
        description="Configurations tried right after the default, such as [{lr: 0.001, width: 64}]; what one "
        "leaves out is at its default.",
    )
    noise_seeds: Int = Field(
        default=0, ge=0, le=1000,
        description="Seeds under which the default is trained first, at least 3; the spread of their scores is "
        "the noise floor. 0: off.",
    )  # fmt: skip
    patience: Int = Field(
        default=0, ge=0,
        description="Trials without progress beyond the noise floor after which no more are begun; 0: off.",
    )  # fmt: skip
    warm_start: tuple[Name, ...] = Field(
        default=(),
        description="Names of earlier studies in the same home, of the same network and metric, whose trials "
        "the strategy learns from too.",
    )
    max_failures: Int = Field(
        default=20, ge=1, description="Failed trials in a row after which the search gives up."
    )
    max_retries: Int = Field(
        default=3, ge=1, le=100,
        description="How often a trial whose network ends its process is tried alone before it counts as failed. "
        "Grid: how often a failed cell is trained again before it counts as impossible.",
    )  # fmt: skip
    trial_timeout_s: Real = Field(
        default=3600.0, gt=0,
        description="Seconds a trial with a network of your own may take for an epoch, else it counts as failed.",
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _whole_grid(cls, data: Any) -> Any:
        """A grid has its own number of trials: the default for other strategies does not bound it."""
        return {"trials": None, **data} if isinstance(data, dict) and data.get("strategy") == "grid" else data

    @model_validator(mode="before")
    @classmethod
    def _whole_trainings(cls, data: Any) -> Any:
        """With several objectives nothing is pruned: the default is that of one."""
        return {"pruner": "none", **data} if isinstance(data, dict) and data.get("objectives") else data

    @model_validator(mode="after")
    def _several_objectives(self) -> Search:
        if not self.objectives:
            return self
        if len(set(self.objectives)) < len(self.objectives):
            raise wrong("an objective is named twice", "each once", "remove one of them", "objectives")
        if self.strategy in METRIC_ONLY:
            raise wrong(
                f"`{self.strategy}` with several objectives", "a strategy that knows more than the metric: "
                "nsga2, tpe, auto, random, sobol, grid or one of your own",
                "write for example `strategy: nsga2`, or remove `objectives`", "strategy",
            )  # fmt: skip
        if self.pruner != "none":
            raise wrong(
                f"`pruner: {self.pruner}` with several objectives",
                "no early stopping: a trial that is behind in the metric may be the best of its size",
                "remove `pruner`, or write `pruner: none`", "pruner",
            )  # fmt: skip
        if self.patience:
            raise wrong(
                "`patience` with several objectives", "progress in the metric alone does not say when to stop",
                "remove `patience`, or `objectives`", "patience",
            )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _ends(self) -> Search:
        unbounded = self.trials is None and self.epochs is None and self.seconds is None
        if unbounded and self.strategy != "grid":
            raise wrong(
                "a search without an end",
                "one of trials, epochs, seconds is given",
                "add for example `trials: 50`",
            )
        first = max(1, self.noise_seeds) + len(self.enqueue)
        if self.trials is not None and first > self.trials and self.enqueue:
            raise wrong(
                f"{len(self.enqueue)} configurations in `enqueue` for {self.trials} trials",
                "the default and every enqueued configuration are a trial",
                f"write `trials: {first}` or more",
                "enqueue",
            )
        if 0 < self.noise_seeds < NOISE_SEEDS:
            raise wrong(
                f"a noise floor from {self.noise_seeds} seeds", f"0, or at least {NOISE_SEEDS}",
                "write for example `noise_seeds: 5`", "noise_seeds",
            )  # fmt: skip
        if self.trials is not None and self.noise_seeds >= self.trials:
            raise wrong(
                f"{self.noise_seeds} noise seeds of {self.trials} trials", "noise_seeds < trials",
                "raise `trials`, or lower `noise_seeds`", "noise_seeds",
            )  # fmt: skip
        if self.audit and self.pruner == "none":
            raise wrong(
                "an audit of `pruner: none`", "a pruner that stops trials",
                "remove `audit`, or choose a pruner, for example `pruner: asha`", "audit",
            )  # fmt: skip
        if self.warm_start and self.strategy in UNTAUGHT:
            raise wrong(
                f"a warm start of `{self.strategy}`", "a strategy that learns from results",
                "remove `warm_start`, or choose another strategy", "warm_start",
            )  # fmt: skip
        if self.patience and self.strategy == "grid":
            raise wrong(
                "a grid with `patience`", "a grid ends when every cell was tried", "remove `patience`", "patience"
            )
        return self
