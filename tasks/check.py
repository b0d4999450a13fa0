"""Everything that can be refused, without training or writing anything; what `lanewise check` calls."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from lanewise.data import prepare
from lanewise.own_metric import use_own_metric
from lanewise.pretrained import Pretrained, study_network
from lanewise.search import choose, strategy_of
from lanewise.smoke import smoke
from lanewise.space import build_space
from lanewise.study import Study, load_study
from lanewise.tracking import absolute_uri
from lanewise.training_checks import check_training
from tasks.pretrained import settle_weights, settled


def check_study(path: Path, overrides: Mapping[str, str]) -> Iterator[str]:
    """Yield one line for each part that fits.

    Raises:
        StudyError, DataError, ModelError: A part does not fit.
    """
    study = load_study(path, overrides)
    yield f"study    {study.name}: {path}"
    absolute_uri(study.tracking.uri)
    with tempfile.TemporaryDirectory() as folder:  # what a check brings and seals is thrown away
        elsewhere = study.model_copy(update={"tracking": study.tracking.model_copy(update={"home": folder})})
        settle_weights(elsewhere if not settled(study) else study)
        yield from _parts(study if settled(study) else elsewhere, elsewhere)
    yield "all fits"


def _parts(study: Study, elsewhere: Study) -> Iterator[str]:
    network = study_network(study)
    space = build_space(study, network.space, network.defaults)
    searched = space.searched()
    yield f"space    {len(searched)} searched: {', '.join(searched)}"
    strategy_of(study, space, "minimize")
    if study.search.strategy == "auto":
        yield f"strategy auto is {choose(study.search, space).words}"
    if study.search.strategy == "grid":
        from lanewise.search import Grid

        yield f"grid     {Grid(study, space, 'minimize').words}"
    dataset = prepare(elsewhere).dataset
    for warning in dataset.warnings:
        yield f"note     {f'{warning.column}: ' if warning.column else ''}{warning.message}"
    yield (
        f"data     {dataset.rows} rows to work with, {dataset.test_rows} to be sealed; {dataset.task}; "
        f"objective {dataset.metric} ({dataset.metric_reason})"
    )
    check_training(study, dataset, network.inputs)
    use_own_metric(study, dataset)
    if weights := Pretrained.of(study, network, dataset):
        for text in weights.words():
            yield f"note     {text}"
    size = smoke(network, dataset.layout, dataset.n_outputs, space.default())
    yield f"network  {network.name}: {size:,} parameters at the default"
