"""How far an honest implementation may be from the right answer: computed, not guessed.

The technique is evaluated again under ``mt.precision``, which rounds where a kernel of that dtype rounds: to the
storage format at storage points, to the accumulation format everywhere else, inside sums too. Three evaluations round
to nearest, adding up in three orders; ``draws`` more round up or down at random, so that they sample the errors that
implementations with other orders, tilings and instructions make. With e the differences of these R evaluations
from the float64 answer y, the tolerance of element i is

    rms_i^2    = mean over the R evaluations of e_i^2; the largest, if the technique registers several forms
    rms_row^2  = mean of rms_j^2 over the elements j in the same row (the last axis) as i
    rms_all^2  = mean of rms_j^2 over all elements
    tolerance_i = 4.4 sqrt(rms_i^2 + rms_row^2 + rms_all^2 / 4) + u max(|y_i|, smallest normal number)

u is the unit roundoff of the storage format (2^-8 for bfloat16). The three scales guard each other: a dozen samples
of one element may all be small by luck, its row and array are not; and where errors differ from row to row (a softmax
over two keys, a softmax over a thousand) the row knows. The factor is the one under which correct implementations stay
below 0.7 of the tolerance. The last term is one rounding of the result itself, which no sample need have met.

Two places are judged exactly, with tolerance 0: where the answer is infinite, and rows of an output that are
*structurally* zero, such as that of a query that may attend to nothing: zero in the answer, in every evaluation, and
also when all inputs are moved by some 6 %. (Not rows of a gradient. The gradient of a query with one key is zero too,
but as a difference of equal numbers, which a good kernel may have rounded differently.)

Decisions (which experts, which of the largest) are those of the case in every evaluation: what a decision that flips
would do to the values is not rounding, and would hide every mistake that is smaller.

Errors are proportional to the unit roundoff to first order. For float64, whose rounding cannot be seen from float64,
the float32 envelope is scaled by 2^-29, and doubled because the answer has been computed in float64 as well.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import is_inexact
from minitf.autodiff.precision import FORMATS, ORDERS, PROFILES, precision, round_to
from minitf.oracle.answers import Arrays, Case, dtype_name, imposed, outputs_and_gradients
from minitf.oracle.draw import Draw
from minitf.oracle.references import find

FACTOR = 4.4
DRAWS = 8


def unit_roundoff(dtype: str) -> float:
    """The largest relative error of rounding to nearest: 2^-8 for bfloat16, 2^-24 for float32."""
    return 2.0 ** -FORMATS[dtype].digits


def tolerance(
    fn: Callable[..., Any],
    inputs: Sequence[Any] | Mapping[str, Any],
    dtype: str,
    *,
    accumulate: str | None = None,
    profile: str = "stored",
    options: Mapping[str, Any] | None = None,
    cotangents: Any = None,
    draws: int = DRAWS,
    forms: Sequence[Mapping[str, Any]] = ({},),
) -> Any:
    """The tolerance of every element of what ``fn`` returns, for implementations of ``fn`` in ``dtype``.

    fn: written with ``mt``; called as ``fn(*inputs, **options)``, returns an array or a tuple of arrays. It calls
        ``mt.store(x)`` where every sensible implementation writes x to memory.
    inputs: arrays, as a sequence or by name. They are rounded to ``dtype`` first; give an implementation the same.
    dtype, accumulate: formats of values in memory and of arithmetic; accumulate is by default float32 (float64 for
        float64).
    profile: "stored", or "eager" for implementations that write every intermediate result to memory.
    cotangents: one array for each output (the array itself if there is one); asks for gradients too.
    draws: evaluations with stochastic rounding.
    forms: keyword options of ``fn`` that select other ways to the same result; the tolerances are those of the form that
        has the largest.

    Returns an array or a tuple of arrays like ``fn``; with ``cotangents`` a pair of that and a tuple with one array for
    each input, None for those that are not floating. The same call gives the same tolerances every time.
    """
    dtype = dtype_name(dtype)
    check_options(dtype, accumulate, profile, draws)
    if not callable(fn):
        raise TypeError(f"oracle.tolerance: fn is a function written with mt, got {fn!r}")
    if not isinstance(inputs, Sequence | Mapping) or isinstance(inputs, str):
        raise TypeError(
            f"oracle.tolerance: inputs are a sequence or a dict of arrays, got {type(inputs).__name__}; "
            "wrap a single array: [x]"
        )
    arrays = tuple(np.asarray(x) for x in (inputs.values() if isinstance(inputs, Mapping) else inputs))
    positions = tuple(i for i, x in enumerate(arrays) if is_inexact(x.dtype))
    plain = fn(*arrays, **(options or {}))
    count = len(plain) if (many := isinstance(plain, tuple | list)) else 1
    along: tuple[Any, ...] = (None,) * count
    if cotangents is not None:
        along = tuple(np.asarray(g) for g in (cotangents if isinstance(cotangents, tuple | list) else (cotangents,)))
        if len(along) != count:
            raise ValueError(f"oracle.tolerance: fn returns {count} arrays, {len(along)} cotangents were given")
    found = _envelope(
        fn,
        arrays,
        options or {},
        along,
        positions if cotangents is not None else (),
        dtype,
        accumulate,
        profile,
        draws,
        forms,
    )
    outputs = tuple(found[:count]) if many else found[0]
    if cotangents is None:
        return outputs
    by_position = dict(zip(positions, found[count:], strict=True))
    return outputs, tuple(by_position.get(i) for i in range(len(arrays)))


def tolerances_of(
    case: Case, accumulate: str | None = None, profile: str = "stored", *, gradients: bool = True, draws: int = DRAWS
) -> tuple[Arrays, Arrays]:
    """The tolerances of a case's outputs and gradients, by name, for implementations in the dtype of the case."""
    check_options(case.dtype, accumulate, profile, draws)
    reference = find(case.name)
    positions = tuple(list(case.inputs).index(name) for name in reference.differentiable) if gradients else ()
    found = _envelope(
        reference.function,
        tuple(case.inputs.values()),
        imposed(reference, case.options, case.outputs),
        tuple(case.cotangents.get(name) for name in reference.outputs),
        positions,
        case.dtype,
        accumulate,
        profile,
        draws,
        reference.forms,
    )
    count = len(reference.outputs)
    return (
        dict(zip(reference.outputs, found[:count], strict=True)),
        dict(zip(reference.differentiable if gradients else (), found[count:], strict=True)),
    )


def check_options(dtype: str, accumulate: str | None, profile: str, draws: int = DRAWS) -> None:
    """Raises ValueError for an option that ``tolerance`` does not have."""
    if accumulate is not None and (
        dtype_name(accumulate) != accumulate or FORMATS[accumulate].digits < FORMATS[dtype].digits
    ):
        raise ValueError(f"oracle: accumulate={accumulate!r} is coarser than the dtype, {dtype}")
    if profile not in PROFILES:
        raise ValueError(f"oracle: profile must be one of {', '.join(PROFILES)}, got {profile!r}")
    if isinstance(draws, bool) or not isinstance(draws, int) or draws < 2:
        raise ValueError(f"oracle: draws must be an integer of at least 2, got {draws!r}")


def _envelope(
    function: Callable[..., Any],
    inputs: tuple[np.ndarray, ...],
    options: Mapping[str, Any],
    cotangents: tuple[Any, ...],
    positions: tuple[int, ...],
    dtype: str,
    accumulate: str | None,
    profile: str,
    draws: int,
    forms: Sequence[Mapping[str, Any]],
) -> list[np.ndarray]:
    """The tolerances of the outputs, then of the gradients of the inputs at ``positions``."""
    scale = 1.0
    if dtype == "float64":
        scale = 2.0 * unit_roundoff("float64") / unit_roundoff("float32")
        dtype, accumulate = "float32", "float32"

    def everything(*arrays: Any, form: Mapping[str, Any] = forms[0]) -> tuple[Any, ...]:
        given = iter(arrays[len(inputs) :])
        along = tuple(None if g is None else next(given) for g in cotangents)
        chosen = {**options, **form}
        outputs, gradients = outputs_and_gradients(function, arrays[: len(inputs)], chosen, along, positions)
        return (*outputs, *gradients)

    arrays = tuple(_rounded(x, dtype) for x in (*inputs, *(g for g in cotangents if g is not None)))
    answers = [np.asarray(x) for x in everything(*arrays)]
    moved = [np.asarray(x) for x in everything(*_moved(arrays))]
    samples: list[list[list[np.ndarray]]] = [[] for _ in forms]
    for form, run in itertools.product(range(len(forms)), range(len(ORDERS) + draws)):
        order = ORDERS[run % len(ORDERS)]
        if run < len(ORDERS):
            context = precision(dtype, accumulate, profile=profile, order=order)
        else:
            rng = np.random.Generator(np.random.Philox(key=run))
            context = precision(dtype, accumulate, profile=profile, order=order, rounding="stochastic", rng=rng)
        with np.errstate(over="ignore", invalid="ignore"):
            evaluated = context.run(functools.partial(everything, form=forms[form]), *arrays)
        samples[form].append([np.asarray(x) for x in evaluated])
    return [
        scale
        * _tolerance(
            y,
            [[sample[i] for sample in of_form] for of_form in samples],
            moved[i] if i < len(cotangents) else None,
            dtype,
        )
        for i, y in enumerate(answers)
    ]


def _tolerance(y: np.ndarray, samples: list[list[np.ndarray]], moved: np.ndarray | None, dtype: str) -> np.ndarray:
    """The formula above for one array, of which there are samples for each form.

    moved: an output at moved inputs, None for a gradient.
    """
    if y.size == 0 or not is_inexact(y.dtype):
        return np.zeros(y.shape)
    finite = np.isfinite(y)
    for sample in itertools.chain(*samples):
        if not np.isfinite(sample[finite]).all():
            raise ValueError(
                f"oracle: the technique overflows {dtype} (largest number {FORMATS[dtype].largest:.4g}) on these "
                "inputs; there is no tolerance where the right answer cannot be represented"
            )
    with np.errstate(invalid="ignore"):
        squares = [np.mean([np.where(finite, x - y, 0.0) ** 2 for x in of_form], axis=0) for of_form in samples]
    square = np.max(squares, axis=0)
    row = square.mean(axis=-1, keepdims=True) if y.ndim else square
    size = np.maximum(np.where(finite, np.abs(y), 0.0), 2.0 ** FORMATS[dtype].least)
    envelope = FACTOR * np.sqrt(square + row + square.mean() / 4) + unit_roundoff(dtype) * size
    exact = ~finite
    if moved is not None:
        zero = np.all([x == 0 for x in (y, moved, *itertools.chain(*samples))], axis=0)
        exact = exact | (zero.all(axis=-1, keepdims=True) if y.ndim else zero)
    return np.where(exact, 0.0, envelope)


def _rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    return round_to(x.astype(np.float64), dtype) if is_inexact(x.dtype) and x.dtype.kind != "c" else x


def _moved(arrays: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """The floating arrays, every element multiplied by a number near 1."""
    draw = Draw("moved")
    return [x * (1.0 + draw.normal(x.shape) / 16) if is_inexact(x.dtype) else x for x in arrays]
