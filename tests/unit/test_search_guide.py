"""The worked examples of docs/guides/search.md: each study is searched as it stands there."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

from lanewise.data import prepare
from lanewise.ledger import size_of
from lanewise.metrics import find_metric
from lanewise.model import resolve
from lanewise.search import SearchResult, search
from lanewise.search.lanes import SearchLanes
from lanewise.space import Space, build_space
from lanewise.study import load_study
from lanewise.trainer import Trainer, choose_device, lane_count
from tasks.check import check_study

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "search.md"


def searched(section: str, folder: Path) -> SearchResult:
    """The search of the study that a section of the guide quotes first."""
    text = GUIDE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    quoted = re.search(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert quoted is not None, f"no study under {section}"
    path = folder / "study.yaml"
    path.write_text(quoted[1], encoding="utf-8")
    study = load_study(path)
    dataset, network = prepare(study).dataset, resolve(study.model.name)
    metric = find_metric(dataset.metric, dataset.task)
    trainer = Trainer(study, network, dataset, lanes=lane_count(study, choose_device(study)))
    space = build_space(study, network.space, network.defaults)
    steps = search(study, space, SearchLanes(trainer), metric=metric.name, direction=metric.direction)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: SearchResult = stop.value
            return result


def test_iterative_random(tmp_path: Path) -> None:
    result = searched("Iterative random", tmp_path)
    assert [r.number for r in result.rounds] == [0, 1, 2, 3]
    first, last = (Space.from_json(result.rounds[place].space).parameters["lr"].bounds for place in (0, -1))
    assert first == (1e-5, 0.1) and last[1] / last[0] < 1e3  # of its four decades one at least is gone
    default = result.trials[0].value
    assert default is not None and (result.trials[result.best].value or 0.0) >= default


def test_is_the_pruner_right(tmp_path: Path) -> None:
    """Counted again from the trials: who was dropped, who went on, and who of these beat the best of the others."""
    result = searched("Is the pruner right?", tmp_path)
    audited = [t for t in result.trials if t.audited_from is not None]
    never = [t.value or 0.0 for t in result.trials if t.state == "complete" and t.audited_from is None]
    found = result.audit
    assert found is not None and {t.audited_from for t in audited} == {1, 3}
    assert found.audited == len(audited) > 10
    assert found.dropped == len(audited) + sum(t.state == "pruned" for t in result.trials) > 40
    best, first = max(never), found.missed[0]
    assert first.bar == best and first.seen == sum((t.value or 0.0) > best for t in audited)
    assert found.cost == sum(t.epochs - (t.audited_from or 0) for t in audited)


def test_auto(tmp_path: Path) -> None:
    result = searched("Auto", tmp_path)
    assert result.chosen == "sobol: with 9 trials no one has 10 results to learn from"
    assert len(result.trials) == 9 and result.strategy == "auto"


def test_gradient_based(tmp_path: Path) -> None:
    """The enqueued start is bad; its chain goes where the guide says."""
    result = searched("Gradient-based", tmp_path)
    bad, best = result.trials[1], result.trials[result.best]
    assert bad.config["lr"] == 1e-5 and (bad.value or 1.0) < 0.5
    rates = [t.config["lr"] for t in result.trials if t.config["lr"] in (2.51189e-05, 0.0001, 0.000794328, 0.0125893)]
    assert rates == [2.51189e-05, 0.0001, 0.000794328, 0.0125893]
    assert (best.value or 0.0) >= max(0.95, result.trials[0].value or 0.0)


def test_grid(tmp_path: Path) -> None:
    """Its cells, its size as the guide quotes it, and the default among them."""
    result = searched("Grid", tmp_path)
    said = [f"    {line}" for line in check_study(tmp_path / "study.yaml", {}) if line.startswith("grid")]
    assert said == [line for line in GUIDE.read_text().splitlines() if line.startswith("    grid")]
    by_hand = {*product(["adamw"], [1e-3, 1e-2, 1e-1], [None], [16, 32])}
    by_hand |= {*product(["sgd"], [1e-3, 1e-2, 1e-1], [0.0, 0.9], [16, 32])}
    names = ("optimizer", "lr", "momentum", "width")
    assert result.grid is not None and {tuple(c.config.get(n) for n in names) for c in result.grid} == by_hand
    assert len(result.trials) == len(by_hand) == 18 and {c.state for c in result.grid} <= {"done", "pruned"}
    assert tuple(result.trials[0].config.get(n) for n in names) == ("adamw", 1e-3, None, 32)


def test_several_objectives(tmp_path: Path) -> None:
    """The front goes from a small network to the best one, and every step of it costs parameters."""
    result = searched("Several objectives", tmp_path)
    front = [result.trials[number] for number in result.front]
    sizes = [size_of(trial.curve, "parameters") or 0.0 for trial in front]
    scores = [trial.value or 0.0 for trial in front]
    assert front[0].number == result.best and len(front) >= 3 and sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[-1] and 0.5 < scores[-1] < scores[0] and scores[0] >= (result.trials[0].value or 0.0)
    assert {trial.state for trial in result.trials} <= {"complete", "duplicate"}


def test_noise_floor(tmp_path: Path) -> None:
    result = searched("Noise floor", tmp_path)
    assert result.noise is not None and result.noise.scores == 5 and result.repeats == (1, 2, 3, 4)
    assert 0.0 < result.noise.floor < 0.1 and result.best not in result.repeats
