"""What a study and a network may say about hyperparameters; used by the space only, after the study is read.

Each rule either returns the parameter it is about, or refuses with the line of the study file. A wrong
range in the network's own class is the network's mistake, not the study's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from lanewise.errors import ModelError, StudyError
from lanewise.fields import EXACT, shown, word
from lanewise.names import nearest
from lanewise.parameter import Parameter, same
from lanewise.study import TRAINING, TRAINING_WHEN, Study, Value
from lanewise.training import TRANSFER

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def parents_first(parameters: Mapping[str, Parameter]) -> Iterator[str]:
    """Names, each after those its `when` names, otherwise in the given order.

    Raises:
        StudyError: A `when` names an unknown parameter, or conditions form a cycle.
    """
    for name, parameter in parameters.items():
        for parent in parameter.when:
            if parent not in parameters:
                raise unknown(parent, parameters, name)
    waiting, done = dict(parameters), set[str]()
    while waiting:
        name = next((n for n, p in waiting.items() if done.issuperset(p.when)), "")
        if not name:
            raise _cycle(in_cycle(parameters), None)
        del waiting[name]
        done.add(name)
        yield name


def in_cycle(parameters: Mapping[str, Parameter]) -> list[str]:
    """Names whose conditions lead back to themselves (or from one such name to another); usually none."""
    names = dict(parameters)
    while True:
        parents = {parent for parameter in names.values() for parent in parameter.when}
        loose = [n for n, p in names.items() if n not in parents or not any(q in names for q in p.when)]
        if not loose:
            return list(names)
        for name in loose:
            del names[name]


def reachable(parameters: Mapping[str, Parameter]) -> set[str]:
    """Names that can be active: each condition can hold, and so can those of the parameter it names."""
    found: set[str] = set()
    for name in parents_first(parameters):
        if all(
            parent in found and possible(parameters, parent, values)
            for parent, values in parameters[name].when.items()
        ):
            found.add(name)
    return found


def possible(parameters: Mapping[str, Parameter], name: str, values: tuple[Value, ...]) -> bool:
    """Whether `name` may have one of `values`."""
    return any(parameters[name].legal(value) for value in values)


def unknown(name: str, known: Mapping[str, Any], where: object) -> StudyError:
    """The error for a hyperparameter nobody has."""
    near = nearest(name, known)
    return StudyError(
        f"unknown hyperparameter `{name}`" + (f", did you mean `{near}`?" if near else ""), where=where,
        rule="known: " + ", ".join(known), remedy=f"write `{near}`" if near else "choose one of these",
    )  # fmt: skip


def network_ranges(
    network: str, space: Mapping[str, Any], defaults: Mapping[str, Value], args: Mapping[str, Any]
) -> dict[str, Parameter]:
    """The network's own ranges, less those of constants in `args`.

    Raises:
        ModelError: A range is wrong, or a name is one of training's or has no default.
    """
    where = f"network {network}"
    for name in (*space, *defaults):
        if name in TRAINING:
            raise ModelError(
                f"the network's hyperparameter `{name}` has the name of one of training's", where=where,
                rule="names of training: " + ", ".join(TRAINING), remedy="rename the constructor's argument",
            )  # fmt: skip
    ranges = {}
    for name, given in space.items():
        if name in args:
            continue
        if name not in defaults:
            near = nearest(name, defaults)
            raise ModelError(
                f"the network's space names `{name}`, which has no default in its constructor", where=where,
                rule="hyperparameters: " + (", ".join(defaults) or "none"),
                remedy=f"write `{near}`" if near else f"add `{name}=<default>` to the constructor",
            )  # fmt: skip
        try:
            ranges[name] = Parameter.model_validate(given)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            raise ModelError(
                f"the network's range of `{name}` is wrong: {detail['msg']}",
                where=where, given=repr(given)[:200],
                rule=str(detail.get("ctx", {}).get("rule", "a value, a list of choices, or low and high")),
                remedy="correct `space` in the network's class",
            ) from None  # fmt: skip
        for parent in ranges[name].when:
            if parent not in defaults and parent not in TRAINING and parent not in args:
                raise ModelError(
                    f"the network's range of `{name}` depends on `{parent}`, which is no hyperparameter",
                    where=where, rule="hyperparameters: " + ", ".join(defaults),
                    remedy="correct `when` in the network's class",
                )  # fmt: skip
    return ranges


def check_names(study: Study, known: Mapping[str, Value]) -> None:
    """Refuse what the study says of names nobody has, and of constants."""
    for name, parameter in study.space.items():
        if name in study.model.args:
            raise StudyError(
                f"`{name}` is in `space` and in `model: args:`", where=study.where("space", name),
                rule="a constant is not a hyperparameter", remedy="remove one of the two",
            )  # fmt: skip
        if name in TRANSFER and name not in known:
            raise StudyError(
                f"`{name}` has no effect", where=study.where("space", name), given="there are no pretrained weights",
                rule=f"`{name}` is used only with `model: pretrained:`",
                remedy=f"remove `{name}`, or name a file under `model: pretrained:`",
            )  # fmt: skip
        if name not in known:
            raise unknown(name, known, study.where("space", name))
        for parent in parameter.when:
            if parent not in known:
                raise unknown(parent, known, study.where("space", name, "when", parent))


def inherited(study: Study, name: str, own: Mapping[str, Parameter], default: Value) -> Parameter:
    """The parameter as it is when the study does not name it."""
    if name in own:
        return own[name]
    if name not in TRAINING:
        return Parameter(value=default)
    if name in TRANSFER:
        return _transferred(study, name)
    base = TRAINING[name].searched or Parameter(value=default)
    return base.model_copy(update={"when": dict(TRAINING_WHEN.get(name, {}))})


def _transferred(study: Study, name: str) -> Parameter:
    """What is searched of pretrained weights: whether, what is frozen for how long, and how slowly it trains."""
    if name == "start":
        return Parameter(choices=("scratch", "pretrained"))
    when: dict[str, tuple[Value, ...]] = dict(TRAINING_WHEN[name])
    if name == "freeze":
        return Parameter(choices=("none", "all"), when=when)
    if name == "pretrained_lr_factor":
        return Parameter(low=0.01, high=1.0, log=True, when=when)
    freeze = study.space["freeze"].listed if "freeze" in study.space else ()
    when["freeze"] = tuple(value for value in freeze if value != "none") or when["freeze"]
    epochs = study.train.epochs
    return Parameter(low=1, high=epochs, when=when) if epochs > 1 else Parameter(value=1, when=when)


def fit(study: Study, name: str, parameter: Parameter, default: Value) -> Parameter:
    """Give the values the type of the default (1 becomes 1.0 where due); a single choice is a fixed value.

    Raises:
        StudyError: They have another type, or training cannot use them.
        ModelError: The same, where the network says so.
    """
    changed: dict[str, Any] = {}
    for part in ("value", "choices", "low", "high", "step"):
        held = getattr(parameter, part)
        if held is None:
            continue
        values = held if isinstance(held, tuple) else (held,)
        fitted = tuple(_as_type(value, type(default)) for value in values)
        if None in fitted:
            what, given = f"`{name}` has a value of the wrong type", shown(values[fitted.index(None)])
            rule = f"its default is {shown(default)}, so it must be {_KINDS[type(default)]}"
            if name not in study.space:
                raise ModelError(
                    what,
                    where=f"network {study.model.name}",
                    given=given,
                    rule=rule,
                    remedy="correct `space`",
                )
            remedy = "write such a value" + (
                "" if name in TRAINING else ", or change the default in the network"
            )
            raise StudyError(
                what, where=study.where("space", name, part), given=given, rule=rule, remedy=remedy
            )
        changed[part] = fitted if isinstance(held, tuple) else fitted[0]
    if parameter.choices is not None and len(parameter.choices) == 1:
        changed = {"choices": None, "value": changed["choices"][0]}
    parameter = parameter.model_copy(update=changed)
    if name in TRAINING:
        _check_training(study, name, parameter)
    return parameter


def _as_type(value: Value, kind: type) -> Value | None:
    """`value` as `kind` where nothing is lost, else None."""
    if kind is float and type(value) is int:
        return float(value)
    if kind is int and type(value) is float and value.is_integer() and abs(value) <= EXACT:
        return int(value)
    return value if type(value) is kind else None


def _check_training(study: Study, name: str, parameter: Parameter) -> None:
    """Refuse values that training cannot use."""
    entry = TRAINING[name]
    for value in parameter.listed or parameter.bounds:
        if isinstance(value, str) and not entry.knows(value):
            near = nearest(value, entry.choices)
            raise StudyError(
                f"`{name}` has a value that is not known" + (f", did you mean `{near}`?" if near else ""),
                where=study.where("space", name), given=shown(value),
                rule="one of " + ", ".join(entry.choices) + (", or pkg.module:function" if entry.own else "")
                + (", or names of layers" if entry.layers else ""),
                remedy=f"write `{near}`" if near else "choose one of them",
            )  # fmt: skip
        if isinstance(value, int | float) and not isinstance(value, bool) and not entry.allows(value):
            raise StudyError(
                f"`{name}` is out of bounds", where=study.where("space", name), given=shown(value),
                rule=entry.bounds_text(name), remedy="change the value or the range",
            )  # fmt: skip


def join(study: Study, name: str, parameter: Parameter, base: Parameter) -> Parameter:
    """Join the study's conditions with the inherited ones: all must hold.

    Raises:
        StudyError: They exclude each other.
    """
    when = dict(base.when)
    for parent, values in parameter.when.items():
        both = tuple(v for v in values if parent not in when or any(same(v, w) for w in when[parent]))
        if not both:
            raise StudyError(
                f"`{name}` has no effect", where=study.where("space", name, "when", parent),
                given=f"{parent}: {_words(values)}",
                rule=f"`{name}` is used only with {parent}: {_words(when[parent])}",
                remedy="correct `when`, or remove it",
            )  # fmt: skip
        when[parent] = both
    return parameter.model_copy(update={"when": when})


def without_constants(study: Study, merged: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Settle conditions on constants of `model: args:`: drop those that hold, and parameters whose do not.

    Raises:
        StudyError: The study names a parameter that so has no effect.
    """
    args, kept = study.model.args, dict(merged)
    while True:
        lost = {
            name: parent
            for name, parameter in kept.items()
            for parent, values in parameter.when.items()
            if parent not in kept and (parent not in args or args[parent] not in values)
        }
        for name, parent in lost.items():
            if name in study.space:
                is_now = f"always {word(args[parent])}" if parent in args else "without effect itself"
                raise _no_effect(study, name, parent, is_now, kept[name].when[parent])
            del kept[name]
        if not lost:
            break
    return {
        name: p.model_copy(update={"when": {k: values for k, values in p.when.items() if k in kept}})
        for name, p in kept.items()
    }


def check_conditions(study: Study, merged: Mapping[str, Parameter]) -> None:
    """Refuse conditions of the study that never hold, form a cycle, or leave a parameter without effect.

    Raises:
        StudyError: With the line of the condition or of the parameter.
    """
    for name in study.space:
        for parent, values in study.space[name].when.items():
            _check_values(study, name, parent, values, merged)
    if members := in_cycle(merged):
        named = next((name for name in members if name in study.space and study.space[name].when), None)
        raise _cycle(members, study.where("space", *([named, "when"] if named else [])))
    found = reachable(merged)
    for name in merged:
        if name in study.space and name not in found:
            when = merged[name].when
            parent = next(
                p for p, values in when.items() if p not in found or not possible(merged, p, values)
            )
            raise _no_effect(study, name, parent, merged[parent].text(), when[parent])


def enqueued_value(study: Study, place: int, name: str, declared: Mapping[str, Parameter]) -> Value:
    """A value of `search.enqueue`, of the type of its hyperparameter.

    Raises:
        StudyError: The name is unknown, or the value is not in its declared range.
    """
    where, given = study.where("search", "enqueue", place, name), study.search.enqueue[place][name]
    if name not in declared:
        raise unknown(name, declared, where)
    kinds = {type(value) for value in declared[name].listed or declared[name].bounds}
    fitted = next((one for kind in kinds if (one := _as_type(given, kind)) is not None), None)
    if fitted is None or not declared[name].legal(fitted):
        raise StudyError(
            f"`{name}` cannot be enqueued with this value", where=where, given=shown(given),
            rule=f"`{name}` is {declared[name].text()}",
            remedy=f"correct the value, or let the space of `{name}` hold it",
        )  # fmt: skip
    return declared[name].canonical(fitted)


def no_effect_enqueued(
    study: Study, place: int, name: str, parameters: Mapping[str, Parameter], config: Mapping[str, Value]
) -> StudyError:
    """The error for an enqueued value that the others of its configuration leave without effect."""
    when = parameters[name].when
    parent = next(p for p, values in when.items() if not any(same(config.get(p, ""), v) for v in values))
    is_now = word(config[parent]) if parent in config else "without effect itself"
    return StudyError(
        f"`{name}` has no effect in this configuration", where=study.where("search", "enqueue", place, name),
        given=f"{parent} is {is_now}", rule=f"`{name}` is used only with {parent}: {_words(when[parent])}",
        remedy=f"remove `{name}`, or add `{parent}: {word(when[parent][0])}`",
    )  # fmt: skip


def _check_values(
    study: Study, name: str, parent: str, values: tuple[Value, ...], merged: Mapping[str, Parameter]
) -> None:
    """Refuse values the parent never has."""
    legal = TRAINING[parent].choices if parent in TRAINING else ()
    for value in values:
        if value in legal or merged[parent].legal(value):
            continue
        near = nearest(str(value), [str(one) for one in (*merged[parent].listed, *legal)])
        raise StudyError(
            f"`{parent}` never is {shown(value)}" + (f", did you mean `{near}`?" if near else ""),
            where=study.where("space", name, "when", parent), given=shown(value),
            rule=f"`{parent}` is {merged[parent].text()}",
            remedy=f"correct the value, or let `{parent}` take it",
        )  # fmt: skip


def _no_effect(study: Study, name: str, parent: str, is_now: str, needed: tuple[Value, ...]) -> StudyError:
    return StudyError(
        f"`{name}` has no effect", where=study.where("space", name), given=f"{parent} is {is_now}",
        rule=f"`{name}` is used only with {parent}: {_words(needed)}",
        remedy=f"remove `{name}`, or let `{parent}` be {_words(needed)}",
    )  # fmt: skip


def _cycle(members: Sequence[str], where: object) -> StudyError:
    return StudyError(
        "the conditions form a cycle",
        where=where,
        given=", ".join(members),
        rule="each `when` leads to a hyperparameter that is always active",
        remedy="remove one of these `when`",
    )


def _words(values: tuple[Value, ...]) -> str:
    return " or ".join(word(value) for value in values)
