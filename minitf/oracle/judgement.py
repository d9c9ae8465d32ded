"""``check`` runs an implementation on cases and judges what it answers; ``judge`` judges arrays that are there already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import is_inexact
from minitf.autodiff.interop import to_numpy
from minitf.autodiff.precision import FORMATS
from minitf.oracle.answers import SIZES, Case, answer, case, dtype_name, imposed, labels
from minitf.oracle.diagnoses import diagnose
from minitf.oracle.frameworks import FRAMEWORKS, Refused, Run, many
from minitf.oracle.layouts import PACKED, layout_of
from minitf.oracle.references import find
from minitf.oracle.report import Report, Row
from minitf.oracle.tolerances import check_options, tolerance, tolerances_of
from minitf.papers.catalogue import did_you_mean
from minitf.registry import Reference


def check(
    name: str,
    fn: Callable[..., Any],
    framework: str = "numpy",
    dtype: str = "float32",
    accumulate: str | None = None,
    gradients: bool | None = None,
    trials: int = 5,
    sizes: Sequence[str] = ("tiny", "small"),
    seed: int = 0,
    device: str = "cpu",
    *,
    options: Sequence[str] | None = None,
    profile: str = "stored",
    backward: Callable[..., Any] | None = None,
    layout: str | Mapping[str, str] | None = None,
    auxiliary: Sequence[str] = (),
    in_place: Mapping[str, str] | None = None,
) -> Report:
    """Is ``fn`` a correct implementation of ``name`` in ``dtype``? Outputs and gradients, on many drawn cases.

    fn: called with the inputs of a case as arrays of the framework, positionally, and its options as keywords, masks
        as arrays of the framework; returns what the reference returns, in ``dtype``.
    framework: "numpy" (arrays of ``ml_dtypes`` for 16- and 8-bit formats), "torch" or "jax".
    accumulate: the format of the implementation's arithmetic, by default float32 (float64 for float64).
    gradients: judge them too; default: if the framework differentiates (torch.autograd, jax.vjp) or there is a
        ``backward``.
    trials: seeds, from ``seed`` on; each runs every size and every option combination.
    options: labels of option combinations (``oracle.labels(name)``), for implementations that do not have all.
    profile: "stored" expects low-precision values at storage points only, as fused kernels do; "eager" everywhere.
    backward: ``backward(cotangent, *inputs, **options)`` returns the gradients of the differentiable inputs, as a tuple
        in their order or by name; with several outputs ``cotangent`` is a tuple.
    layout: the order of axes in which ``fn`` takes and returns its arrays, such as "BTHE", a dict of such by name, or
        "packed"; see ``oracle.layouts``. ``minitf oracle show NAME`` tells the axes of a name.
    auxiliary: what ``fn`` returns after the outputs, such as "lse", in ``dtype`` or in ``accumulate``.
    in_place: {"state": "state"}: this output (the key) is not returned; ``fn`` leaves it in that input (the value).

    If it fails, smaller cases are tried until one fails too; ``Report.smallest`` is the smallest that was found.
    Never raises because of the implementation: what it raises is in the Report.
    """
    reference = find(name)
    dtype = dtype_name(dtype)
    if not callable(fn):
        raise TypeError(f"oracle.check: fn is the implementation to check, a function; got {fn!r}")
    if framework not in FRAMEWORKS:
        hint = did_you_mean(str(framework), FRAMEWORKS)
        raise ValueError(f"oracle.check: framework must be one of {', '.join(FRAMEWORKS)}, got {framework!r}{hint}")
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise ValueError(f"oracle.check: trials must be a positive integer, got {trials!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"oracle.check: seed must be a non-negative integer, got {seed!r}")
    sizes = (sizes,) if isinstance(sizes, str) else tuple(sizes)
    if not sizes or set(sizes) - set(SIZES):
        raise ValueError(f"oracle.check: sizes are some of {', '.join(SIZES)}, got {sizes!r}")
    options = (options,) if isinstance(options, str) else options
    chosen = labels(name) if options is None else list(options)
    if not chosen:
        raise ValueError(f"oracle.check: options are some of {', '.join(labels(name))}, got none")
    check_options(dtype, accumulate, profile)
    order = layout_of(reference, layout)
    auxiliary = _known_auxiliary(reference, auxiliary)
    in_place = _known_in_place(reference, framework, in_place)
    adapter = FRAMEWORKS[framework](device)
    able = backward is not None or (adapter.differentiates and not in_place)
    if gradients and not able:
        why = "what is changed in place cannot be differentiated" if in_place else f"{framework} does not differentiate"
        raise ValueError(
            f"oracle.check: {why}; pass backward=, a function (cotangent, *inputs, **options) "
            f"that returns the gradients of {', '.join(reference.differentiable)}, or gradients=False"
        )
    wanted = reference.differentiable if gradients or (gradients is None and able) else ()

    report = Report(name, framework, dtype, _accumulate(dtype, accumulate), profile, device)
    if layout is not None:
        report.notes.append(f"layout {layout}")
    if reference.differentiable and not wanted:
        report.notes.append("gradients were not checked")
    broken: set[str] = set()

    def fails(into: Report, size: str, number: int, label: str) -> bool:
        """Runs one case; whether the implementation did not pass it."""
        question = case(name, number, size, dtype, label)
        if not order.has(question):
            broken.add(label)
            into.notes.append(f"cases with {label} have no form in this layout and were not asked")
            return False
        into.cases.append(question.place)
        before = len(into.rows)
        try:
            run = adapter.run(fn, order.asked(question), wanted, backward, in_place)
            question = order.meant(question)
            run = order.decode(question, run)
        except Exception as error:
            broken.add(label)
            told = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
            raised = "" if isinstance(error, Refused) else "fn raised "
            into.problems.append(f"{question.place}: {raised}{told}")
            into.cause = into.cause or (None if isinstance(error, Refused) else error)
            return True
        _compare(into, question, run, wanted, auxiliary)
        for changed in run.changed:
            told = f"fn changes its input {changed}; an in-place result is checked with in_place="
            if told not in into.notes:
                into.notes.append(told)
        return not all(row.passed for row in into.rows[before:]) or len(into.rows) == before

    first: tuple[str, int, str] | None = None
    for size in sorted(sizes, key=SIZES.index):
        for number in range(seed, seed + trials):
            for label in chosen:
                if label not in broken and fails(report, size, number, label):
                    first = first or (size, number, label)
    if first is not None:
        report.smallest = _smallest(first, report, fails)
    return report


#: seeds that are tried in each smaller size for a case that fails too
SHRINKS = 8


def _smallest(first: tuple[str, int, str], report: Report, fails: Callable[..., bool]) -> dict[str, Any]:
    """The arguments of ``oracle.case`` for a failing case in the smallest size in which one is found."""
    size, number, label = first
    for smaller in SIZES[: SIZES.index(size)]:
        for seed in range(number, number + SHRINKS):
            trial = replace(report, cases=[], rows=[], problems=[], diagnoses=[], notes=[], cause=None)
            if fails(trial, smaller, seed, label):
                return {"seed": seed, "size": smaller, "dtype": report.dtype, "options": label}
    return {"seed": number, "size": size, "dtype": report.dtype, "options": label}


def judge(
    name: str,
    case: Case,
    outputs: Any,
    gradients: Any = None,
    *,
    accumulate: str | None = None,
    profile: str = "stored",
    layout: str | Mapping[str, str] | None = None,
) -> Report:
    """Are these arrays the answer to ``case``? They are judged as computed in ``case.dtype``.

    outputs: an array, a tuple of arrays or a dict by name, of NumPy or any framework; in a dict also auxiliary outputs,
        such as "lse".
    gradients: the same for the differentiable inputs; None: they are not judged.
    accumulate, profile, layout: as for ``check``, but no packed one.
    """
    reference = find(name)
    if not isinstance(case, Case):
        raise TypeError(f"oracle.judge: the second argument is a Case, as oracle.case({name!r}) returns; got {case!r}")
    if case.name != name:
        raise ValueError(f"oracle.judge: the case belongs to {case.name!r}, not to {name!r}")
    beside = tuple(name for name in reference.auxiliary if isinstance(outputs, Mapping) and name in outputs)
    given = tuple(_by_name("outputs", outputs, (*reference.outputs, *beside)).values())
    found = None if gradients is None else _by_name("gradients", gradients, reference.differentiable)
    wanted = reference.differentiable if gradients is not None else ()
    report = Report(name, "saved arrays", case.dtype, _accumulate(case.dtype, accumulate), profile, "cpu", [case.place])
    if reference.differentiable and not wanted:
        report.notes.append("gradients were not given and not judged")
    try:
        arrays = tuple(to_numpy(x) for x in given)
        pulled = None if found is None else {key: None if g is None else to_numpy(g) for key, g in found.items()}
    except TypeError as error:
        raise TypeError(f"oracle.judge: outputs and gradients are arrays, loaded already ({error})") from None
    if layout == PACKED:
        raise ValueError("oracle.judge: packed cases are made by oracle.check alone; unpack the arrays")
    try:
        run = layout_of(reference, layout).decode(case, Run(arrays, pulled))
    except Refused as error:
        report.problems.append(f"{case.place}: {error}")
        return report
    _compare(report, case, run, wanted, beside, dtypes=False)
    return report


def _by_name(what: str, given: Any, names: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise ValueError(f"oracle.judge: {what} are {', '.join(names)}; got {', '.join(map(str, given))}")
        return {name: given[name] for name in names}
    if len(values := many(given)) != len(names):
        raise ValueError(f"oracle.judge: {what} are {len(names)} arrays ({', '.join(names)}), got {len(values)}")
    return dict(zip(names, values, strict=True))


def _accumulate(dtype: str, accumulate: str | None) -> str:
    return accumulate or ("float64" if dtype == "float64" else "float32")


def _compare(
    report: Report,
    case: Case,
    run: Run,
    wanted: tuple[str, ...],
    auxiliary: tuple[str, ...] = (),
    *,
    dtypes: bool = True,
) -> None:
    """Adds the rows of one case to ``report``, and diagnoses the first case that fails."""
    reference = find(case.name)
    names = (*case.outputs, *auxiliary)
    if len(run.outputs) != len(names):
        report.problems.append(
            f"{case.place}: fn returned {len(run.outputs)} arrays; expected {len(names)} ({', '.join(names)})"
        )
        return
    outputs = dict(zip(names, run.outputs, strict=True))
    if reference.decisions:
        case = _decided(report, reference, case, outputs)
    tolerances = tolerances_of(case, report.accumulate, report.profile, gradients=bool(wanted))
    for name in auxiliary:
        report.rows.append(_beside(reference, case, name, outputs[name], report))
    names = tuple(name for name in case.outputs if name not in reference.decisions)
    got: dict[tuple[str, str], np.ndarray | None] = {("output", name): outputs[name] for name in names}
    gradients = run.gradients or {}
    if run.gradients is None:  # an output of the wrong shape cannot be pulled back
        wanted = ()
    got |= {("gradient", name): gradients[name] for name in wanted}
    expected = {("output", name): case.outputs[name] for name in names}
    expected |= {("gradient", name): case.gradients[name] for name in wanted}
    allowed = {("output", name): tolerances[0][name] for name in names}
    allowed |= {("gradient", name): x for name, x in tolerances[1].items()}
    compared: dict[tuple[str, str], np.ndarray] = {}
    failed = set()
    for key, right in expected.items():
        array = got[key]
        problem = _unfit(key, array, right, case.dtype if dtypes and is_inexact(right.dtype) else None)
        if problem is not None or array is None:
            report.rows.append(Row(*key, case.place, problem=problem))
            continue
        compared[key] = array.astype(np.float64)
        row = measure(*key, case, compared[key], right, allowed[key])
        report.rows.append(row)
        if not row.passed:
            failed.add(key)
    if failed and not report.diagnoses:
        report.diagnoses += diagnose(reference, case, compared, allowed, failed)


def _beside(reference: Reference, case: Case, name: str, got: np.ndarray, report: Report) -> Row:
    """The row of an auxiliary output, judged in the format that it has: that of the case, or that of the arithmetic."""
    function = reference.auxiliary[name]
    right = np.asarray(function(*case.inputs.values(), **case.options))
    problem = _unfit(("output", name), got, right, None)
    if problem is None and got.dtype.name not in (case.dtype, report.accumulate):
        problem = f"is {got.dtype.name}, expected {' or '.join(dict.fromkeys((report.accumulate, case.dtype)))}"
    if problem is not None:
        return Row("output", name, case.place, problem=problem)
    allowed = tolerance(
        function,
        case.inputs,
        got.dtype.name,
        accumulate=report.accumulate,
        profile=report.profile,
        options=case.options,
    )
    return measure("output", name, case, got.astype(np.float64), right, allowed)


def _known_auxiliary(reference: Reference, names: Any) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else tuple(names)
    if unknown := [name for name in names if name not in reference.auxiliary]:
        known = ", ".join(reference.auxiliary) or "nothing"
        raise ValueError(f"oracle.check: {reference.name} has {known} beside its outputs, not {', '.join(unknown)}")
    return names


def _known_in_place(reference: Reference, framework: str, in_place: Any) -> dict[str, str]:
    in_place = dict(in_place or {})
    if in_place and framework == "jax":
        raise ValueError("oracle.check: JAX's arrays do not change; return the new state instead of in_place=")
    if in_place:
        inputs = tuple(case(reference.name, size="tiny").inputs)
        if not set(in_place) <= set(reference.outputs) or not set(in_place.values()) <= set(inputs):
            raise ValueError(
                f"oracle.check: in_place says in which input an output is left; {reference.name} has the outputs "
                f"{', '.join(reference.outputs)} and the inputs {', '.join(inputs)}; got {in_place!r}"
            )
    return in_place


def _decided(report: Report, reference: Reference, case: Case, outputs: Mapping[str, np.ndarray]) -> Case:
    """``case`` with the answers that belong to the implementation's own decisions, which ``report`` judges apart.

    A decision may differ from the right one where scores are so near to each other that their tolerances overlap.
    """
    decisions = {}
    for name, decision in reference.decisions.items():
        got, right = outputs[name], case.outputs[name]
        scores = np.asarray(decision.scores(*case.inputs.values(), **case.options))
        problem = _unfit(("decision", name), got, right, None)
        if problem is None and got.dtype.kind not in "iu":
            problem = f"is {got.dtype.name}, expected integers, positions from 0 to {scores.shape[-1] - 1}"
        if problem is None and got.size and not (got.min() >= 0 and got.max() < scores.shape[-1]):
            problem = f"has {got.min()} to {got.max()}; positions are from 0 to {scores.shape[-1] - 1}"
        if problem is None and (np.diff(np.sort(got, -1), axis=-1) == 0).any():
            problem = "names a position twice"
        if problem is not None:
            report.rows.append(Row("decision", name, case.place, problem=problem))
            decisions[name] = right
            continue
        spread = tolerance(
            decision.scores,
            case.inputs,
            case.dtype,
            accumulate=report.accumulate,
            profile=report.profile,
            options=case.options,
        )
        report.rows.append(measure_decision(name, case, got.astype(np.int64), scores, spread))
        decisions[name] = got.astype(right.dtype)
    options = imposed(reference, case.options, decisions)
    if all(np.array_equal(x, case.outputs[name]) for name, x in decisions.items()):
        return replace(case, options=options)
    answers = answer(reference, case.inputs, options, case.cotangents)
    return replace(case, options=options, outputs=answers[0], gradients=answers[1])


def measure_decision(name: str, case: Case, got: np.ndarray, scores: np.ndarray, spread: np.ndarray) -> Row:
    """By how much the scores (*, n) of what was passed over exceed those of the chosen, ``got`` (*, k).

    The unit is the sum of the two tolerances, in ``spread`` (*, n). What is chosen later counts as passed over too.
    """
    if got.size == 0:
        return Row("decision", name, case.place, 0, 0.0, 0.0, 0.0)
    chosen, room = np.take_along_axis(scores, got, -1), np.take_along_axis(spread, got, -1)
    earlier = np.zeros((*scores.shape[:-1], scores.shape[-1]), bool)
    ratio, allowed = np.zeros(got.shape), np.zeros(got.shape)
    for place in range(got.shape[-1]):
        np.put_along_axis(earlier, got[..., [place]], True, -1)
        sums = spread + room[..., [place]]
        with np.errstate(invalid="ignore", divide="ignore"):
            excess = np.where(earlier | (scores <= chosen[..., [place]]), 0.0, (scores - chosen[..., [place]]) / sums)
        worst = excess.argmax(-1)[..., None]
        ratio[..., place] = np.take_along_axis(excess, worst, -1)[..., 0]
        allowed[..., place] = np.take_along_axis(sums, worst, -1)[..., 0]
    worst = np.unravel_index(int(ratio.argmax()), ratio.shape)
    return Row(
        "decision",
        name,
        case.place,
        got.size,
        float(ratio[worst]),
        float(np.sqrt(np.mean(np.square(ratio)))),
        0.0,
        tuple(int(i) for i in worst),
        float(case.outputs[name][worst]),
        float(got[worst]),
        float(allowed[worst]),
    )


def _unfit(key: tuple[str, str], got: np.ndarray | None, right: np.ndarray, dtype: str | None) -> str | None:
    """Why ``got`` cannot be compared with the right array, or None."""
    kind, _ = key
    if got is None:
        return (
            "there is no gradient (None): the output does not depend on this input" if kind == "gradient" else "missing"
        )
    if got.shape != right.shape:
        hint = ""
        if got.ndim == right.ndim and sorted(got.shape) == sorted(right.shape):
            hint = "; are axes exchanged?"
        return f"has shape {got.shape}, expected {right.shape}{hint}"
    if dtype is not None and got.dtype.name != dtype:
        return f"is {got.dtype.name}, expected {dtype}: cast the result to the dtype of the inputs"
    return None


def measure(kind: str, name: str, case: Case, got: np.ndarray, right: np.ndarray, tolerance: np.ndarray) -> Row:
    """The errors of one array of the right shape."""
    if right.size == 0:
        return Row(kind, name, case.place, 0, 0.0, 0.0, 0.0)
    right = right.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        error = np.where(got == right, 0.0, np.abs(got - right))  # equal infinities too
        error = np.where(np.isnan(error), np.inf, error)
        ratio = np.where(error == 0, 0.0, error / tolerance)
        ulp = error / _last_place(right, case.dtype)
    worst = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return Row(
        kind,
        name,
        case.place,
        right.size,
        float(ratio[worst]),
        float(np.sqrt(np.mean(np.square(ratio)))),
        float(ulp.max()),
        tuple(int(i) for i in worst),
        float(right[worst]),
        float(got[worst]),
        float(tolerance[worst]),
    )


def _last_place(x: np.ndarray, dtype: str) -> np.ndarray:
    """The distance between neighbours in ``dtype`` at the values ``x``."""
    format = FORMATS[dtype]
    exponent = np.frexp(np.where(np.isfinite(x) & (x != 0), x, 2.0**format.least))[1] - 1
    return np.ldexp(1.0, np.maximum(exponent, format.least) + 1 - format.digits)
