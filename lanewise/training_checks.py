"""Whether the study's training suits the data: its loss the target, its augmentation and mixing the rows.

Stands after the data and the network, which it must know, and before the trainer, which calls it, as `lanewise check`
does. It trains nothing.
"""

from __future__ import annotations

from lanewise.data import Dataset
from lanewise.errors import StudyError
from lanewise.fields import Value
from lanewise.own_loss import load_loss, try_loss
from lanewise.study import Study
from lanewise.training import AUGMENTATIONS, CLASS_LOSSES, VALUE_LOSSES


def check_training(study: Study, dataset: Dataset, inputs: str) -> None:
    """Refuse what training cannot do with these data.

    Args:
        study: The study.
        dataset: Its development rows.
        inputs: "split" where the network takes numbers and categories apart, else "flat".

    Raises:
        ModelError: A loss the user wrote cannot be used.
        StudyError: A loss for another task, augmentation for another kind of data, or mixing of what cannot be mixed.
    """
    kind = dataset.layout.kind
    values = dataset.task == "regression"
    for value in _listed(study, "loss"):
        if value in (CLASS_LOSSES if values else VALUE_LOSSES):
            legal = ", ".join(("auto", *(VALUE_LOSSES if values else CLASS_LOSSES)))
            raise _unfit(study, "loss", value, f"the target is {'a number' if values else 'classes'}", legal)
    for name in own_losses(study):
        try_loss(name, load_loss(name, [study.base_dir]), dataset.n_outputs, values)
    for value in _listed(study, "augmentation"):
        if value not in ("none", kind):
            legal = f"none, {kind}" if kind in AUGMENTATIONS else "none"
            raise _unfit(study, "augmentation", value, f"the data are of kind {kind}", legal)
    for value in _listed(study, "mixing"):
        codes = kind == "text" or (inputs == "split" and len(dataset.layout.categorical) > 0)
        if value != "none" and codes:
            raise _unfit(study, "mixing", value, "the network takes codes, which have no mean", "none")
        if value == "cutmix" and kind != "image":
            raise _unfit(study, "mixing", value, f"the data are of kind {kind}", "none, mixup")


def own_losses(study: Study) -> tuple[str, ...]:
    """The losses the study names by their import paths."""
    return tuple(str(value) for value in _listed(study, "loss") if ":" in str(value))


def _listed(study: Study, name: str) -> tuple[Value, ...]:
    return study.space[name].listed if name in study.space else ()


def _unfit(study: Study, name: str, value: Value, why: str, legal: str) -> StudyError:
    return StudyError(
        f"`{name}: {value}` does not fit the data", where=study.where("space", name), given=why,
        rule=f"here `{name}` is one of: {legal}", remedy=f"remove it, or choose one of: {legal}",
    )  # fmt: skip
