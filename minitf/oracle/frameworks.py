"""Calling an implementation in its own framework: arrays across and back, gradients by its own differentiation.

16- and 8-bit floating arrays cross as integers of the same bits, because NumPy's interfaces to other libraries do not
carry them. A framework is imported when it is asked for, by name.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import as_dtype
from minitf.autodiff.interop import to_numpy
from minitf.oracle.answers import Case


@dataclass(frozen=True)
class Run:
    """What an implementation answered.

    outputs: those of the reference in order, then what was asked for beside them.
    gradients: by name of the input, None where it has none; or not asked for.
    changed: names of the inputs whose values it changed, though nobody expected that.
    """

    outputs: tuple[np.ndarray, ...]
    gradients: Mapping[str, np.ndarray | None] | None = None
    changed: tuple[str, ...] = ()


class Refused(Exception):
    """What an implementation returned is not what its framework could go on with; the message says what."""


class Framework:
    """NumPy, and what the others have in common."""

    differentiates = False

    def __init__(self, device: str):
        if device != "cpu":
            raise ValueError(f"oracle.check: numpy arrays live on the cpu, not on {device!r}")

    def to_framework(self, x: np.ndarray) -> Any:
        """A new array of the framework with the values of ``x``, whose dtype is the one to have."""
        return x.copy()

    def run(
        self,
        fn: Callable[..., Any],
        case: Case,
        differentiable: tuple[str, ...],
        backward: Callable[..., Any] | None = None,
        in_place: Mapping[str, str] | None = None,
    ) -> Run:
        """Calls ``fn`` on the inputs of ``case``, and differentiates it if ``differentiable`` names any input.

        in_place: outputs by name that are not returned but stand afterwards in the input of the name given.
        """
        in_place = in_place or {}
        given = {name: typed(x, case.dtype) for name, x in case.inputs.items()}
        inputs = {name: self.to_framework(x) for name, x in given.items()}
        if in_place:
            fn = self._completed(fn, tuple(case.outputs), inputs, in_place)
        options = {
            name: self.to_framework(typed(x, case.dtype)) if isinstance(x, np.ndarray) else x
            for name, x in case.options.items()
        }
        cotangents = {name: self.to_framework(typed(x, case.dtype)) for name, x in case.cotangents.items()}
        if backward is None and differentiable:
            run = self.differentiate(fn, inputs, options, cotangents, differentiable, tuple(case.outputs))
        else:
            run = Run(arrays(fn(*inputs.values(), **options)))
            if differentiable:
                assert backward is not None
                if in_place:
                    inputs |= {name: self.to_framework(given[name]) for name in in_place.values()}
                run = self._pulled_back(run, backward, inputs, options, cotangents, differentiable)
        allowed = set(in_place.values())
        changed = tuple(
            name for name, x in inputs.items() if name not in allowed and not _same(to_numpy(x), given[name])
        )
        return replace(run, changed=changed)

    def _completed(
        self, fn: Callable[..., Any], names: tuple[str, ...], inputs: Mapping[str, Any], in_place: Mapping[str, str]
    ) -> Callable[..., Any]:
        """``fn`` that returns the outputs which it leaves in its inputs, too."""

        def complete(*values: Any, **options: Any) -> tuple[Any, ...]:
            returned = fn(*values, **options)
            rest = list(() if returned is None else many(returned))
            for position, name in enumerate(names):
                if name in in_place:
                    rest.insert(position, inputs[in_place[name]])
            return tuple(rest)

        return complete

    def _pulled_back(
        self,
        run: Run,
        backward: Callable[..., Any],
        inputs: Mapping[str, Any],
        options: Mapping[str, Any],
        cotangents: Mapping[str, Any],
        differentiable: tuple[str, ...],
    ) -> Run:
        """``run`` with the gradients that ``backward`` returns."""
        along = tuple(cotangents.values())
        pulled = backward(along[0] if len(along) == 1 else along, *inputs.values(), **options)
        if isinstance(pulled, Mapping):
            if unknown := set(pulled) - set(differentiable):
                raise Refused(
                    f"backward returned gradients for {sorted(unknown)}; there are {', '.join(differentiable)}"
                )
            gradients = {name: pulled.get(name) for name in differentiable}
        else:
            pulled = pulled if isinstance(pulled, tuple | list) else (pulled,)
            if len(pulled) != len(differentiable):
                raise Refused(
                    f"backward returned {len(pulled)} arrays; it must return one for each of {', '.join(differentiable)}"
                )
            gradients = dict(zip(differentiable, pulled, strict=True))
        return Run(run.outputs, {name: None if g is None else to_numpy(g) for name, g in gradients.items()})

    def differentiate(
        self,
        fn: Callable[..., Any],
        inputs: dict[str, Any],
        options: dict[str, Any],
        cotangents: dict[str, Any],
        differentiable: tuple[str, ...],
        names: tuple[str, ...],
    ) -> Run:
        raise NotImplementedError


class Torch(Framework):
    differentiates = True

    def __init__(self, device: str):
        self.torch = framework_module("torch")
        self.device = device

    def to_framework(self, x: np.ndarray) -> Any:
        torch = self.torch
        if x.dtype.kind == "V":  # a format of ml_dtypes
            bits = torch.from_numpy(x.view(f"i{x.dtype.itemsize}" if x.dtype.itemsize > 1 else "u1").copy())
            return bits.to(self.device).view(getattr(torch, x.dtype.name))
        return torch.from_numpy(x.copy()).to(self.device)

    def differentiate(self, fn, inputs, options, cotangents, differentiable, names):
        leaves = [inputs[name].requires_grad_(True) for name in differentiable]
        outputs = many(fn(*inputs.values(), **options))
        run = Run(arrays(outputs))
        if not fitting(outputs, cotangents, names):
            return run
        roots = {name: out for name, out in zip(names, outputs, strict=False) if name in cotangents}
        for name, out in roots.items():
            if not out.requires_grad:
                raise Refused(
                    f"output {name!r} is not connected to the inputs (requires_grad is False): was it computed under "
                    "no_grad, detached, or by a kernel without a backward? gradients=False checks the values alone"
                )
        along = [cotangents[name].to(out.dtype) for name, out in roots.items()]
        found = self.torch.autograd.grad(list(roots.values()), leaves, along, allow_unused=True)
        return Run(
            run.outputs,
            {name: None if g is None else to_numpy(g) for name, g in zip(differentiable, found, strict=True)},
        )


class Jax(Framework):
    differentiates = True

    def __init__(self, device: str):
        self.jax = framework_module("jax")
        self.device = self.jax.devices(device)[0]

    def to_framework(self, x: np.ndarray) -> Any:
        return self.jax.device_put(x.copy(), self.device)

    def run(self, fn, case, differentiable, backward=None, in_place=None):
        wide = case.dtype == "float64"
        with self._wide() if wide else contextlib.nullcontext():
            return super().run(fn, case, differentiable, backward, in_place)

    def _wide(self) -> contextlib.AbstractContextManager[Any]:
        """float64, which JAX has only where it is switched on."""
        switch = getattr(self.jax, "enable_x64", None) or framework_module("jax.experimental").enable_x64
        return switch(True)

    def differentiate(self, fn, inputs, options, cotangents, differentiable, names):
        def of_selected(*selected: Any) -> tuple[Any, ...]:
            given = {**inputs, **dict(zip(differentiable, selected, strict=True))}
            return many(fn(*given.values(), **options))

        outputs, pullback = self.jax.vjp(of_selected, *(inputs[name] for name in differentiable))
        run = Run(arrays(outputs))
        if not fitting(outputs, cotangents, names):
            return run
        along = tuple(
            cotangents[names[i]].astype(out.dtype) if i < len(names) and names[i] in cotangents else self._nothing(out)
            for i, out in enumerate(outputs)
        )
        found = pullback(along)
        return Run(run.outputs, {name: to_numpy(g) for name, g in zip(differentiable, found, strict=True)})

    def _nothing(self, out: Any) -> Any:
        """The cotangent of an output along which nothing is pulled back."""
        floating = self.jax.numpy.issubdtype(out.dtype, np.inexact)
        return self.jax.numpy.zeros_like(out) if floating else np.zeros(out.shape, self.jax.dtypes.float0)


FRAMEWORKS: dict[str, type[Framework]] = {"numpy": Framework, "torch": Torch, "jax": Jax}


def framework_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and name.partition(".")[0] != error.name:
            raise
        raise ModuleNotFoundError(
            f"oracle.check: framework={name!r}, but {name} is not installed in this Python", name=name
        ) from None


def typed(x: np.ndarray, dtype: str) -> np.ndarray:
    """A floating array in ``dtype``; its values are already of that format, so the cast is exact."""
    x = np.asarray(x)  # a scalar of NumPy is none of its arrays
    return x.astype(as_dtype(dtype)) if x.dtype.kind == "f" else x


def many(out: Any) -> tuple[Any, ...]:
    """One output or several, as a tuple."""
    return tuple(out) if isinstance(out, tuple | list) else (out,)


def fitting(outputs: tuple[Any, ...], cotangents: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    """Whether the cotangents can be pulled back through these outputs."""
    return len(outputs) >= len(names) and all(
        tuple(out.shape) == tuple(cotangents[name].shape)
        for name, out in zip(names, outputs, strict=False)
        if name in cotangents
    )


def _same(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether these are the same bits; a NaN is one."""
    return x.shape == y.shape and x.tobytes() == y.tobytes()


def arrays(outputs: Any) -> tuple[np.ndarray, ...]:
    """Outputs of any framework as ndarrays of their own dtypes; raises Refused for what is no array."""
    found = []
    for position, out in enumerate(many(outputs)):
        try:
            found.append(to_numpy(out))
        except (TypeError, ValueError) as error:
            raise Refused(f"output {position} is {type(out).__name__}, not an array ({error})") from None
    return tuple(found)
