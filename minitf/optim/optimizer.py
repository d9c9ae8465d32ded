"""``Optimizer``: parameter groups, state and the loop over parameters; a subclass says what happens to one of them.

Updates are made in place, in the arrays of the parameters, and are not recorded. Groups and ``state_dict`` have
PyTorch's format: a list of dicts with ``params`` and the options that hold for them, and state by the parameter's
position in that list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from minitf.autodiff.config import current
from minitf.autodiff.dispatch import SMALL
from minitf.autodiff.dtypes import real_dtype
from minitf.autodiff.tensor import Leaf, Tensor, plain

Params = Iterable[Tensor] | Iterable[dict[str, Any]]
#: the array of a parameter, its gradient, its state
Row = tuple[np.ndarray, np.ndarray, dict[str, Any]]


class Optimizer:
    """The base of all optimizers.

    params: parameters, or dicts with ``params`` and options that differ from the ``defaults`` for them.

    Raises ValueError for a parameter that is given twice and for options that are unknown or out of range.
    """

    def __init__(self, params: Params, **defaults: Any):
        if isinstance(params, (Tensor, np.ndarray, Mapping)) or not isinstance(params, Iterable):
            raise TypeError(
                f"{self._name}: params must be an iterable of parameters, such as model.parameters(), or a list of "
                f"groups, got {type(params).__name__}"
            )
        given: list[Any] = list(params)
        if not given:
            raise ValueError(f"{self._name}: there are no parameters to optimize (was a generator used twice?)")
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[int, dict[str, Any]] = {}
        for group in given if isinstance(given[0], dict) else [{"params": given}]:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, group: dict[str, Any]) -> None:
        """Adds a dict of ``params`` and options; what it does not say is as in ``defaults``."""
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f"{self._name}: a parameter group is a dict with 'params' and options, got {group!r}")
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if unknown:
            allowed = ", ".join(self.defaults)
            raise ValueError(f"{self._name}: unknown option {sorted(unknown)[0]!r}; a group may set {allowed}")
        seen = {id(p) for p in self.parameters()}
        for p in params:
            if not isinstance(p, Tensor) or (p.trace is not None and not isinstance(p.node, Leaf)):
                what = "the result of an operation" if isinstance(p, Tensor) else type(p).__name__
                raise TypeError(f"{self._name}: can optimize parameters (leaf Tensors) only, got {what}")
            if id(p) in seen:
                raise ValueError(f"{self._name}: a parameter of shape {p.shape} was given twice")
            seen.add(id(p))
        options = {**self.defaults, **{name: value for name, value in group.items() if name != "params"}}
        self._check(options)
        self.param_groups.append({"params": params, **options})

    def _check(self, options: dict[str, Any]) -> None:
        """Raises ValueError for options out of range. Subclasses check theirs too."""
        for name in ("lr", "weight_decay", "eps"):
            value = options.get(name, 0.0)
            if not (isinstance(value, (int, float, np.number)) and 0 <= value < math.inf):
                raise ValueError(f"{self._name}: {name} must be a number that is not negative, got {value!r}")
        betas = options.get("betas", (0.0, 0.0))
        if not isinstance(betas, (tuple, list)) or len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{self._name}: betas must be two numbers in [0, 1), got {betas!r}")

    def parameters(self) -> list[Tensor]:
        """The parameters of all groups."""
        return [p for group in self.param_groups for p in group["params"]]

    def step(self) -> None:
        """Updates every parameter that has a gradient.

        Raises RuntimeError if none has.
        """
        updated = False
        for group in self.param_groups:
            options = {name: value for name, value in group.items() if name != "params"}
            rows = []
            for p in group["params"]:
                if p.grad is not None:
                    p.data = np.asarray(p.data, order="C")  # so that the reals of a complex array are a view
                    rows.append((_reals(p.data), _reals(p.grad.data), self.state.setdefault(id(p), {})))
            self._update_all(rows, **options)
            updated = updated or bool(rows)
        if not updated:
            raise RuntimeError(f"{self._name}: no parameter has a gradient; call loss.backward() before step()")

    def _update_all(self, rows: list[Row], **options: Any) -> None:
        """Updates the parameters of a group, one by one unless a subclass knows better."""
        for p, g, state in rows:
            self._update(p, g, state, **options)

    def _update(self, p: np.ndarray, g: np.ndarray, state: dict[str, Any], **options: Any) -> None:
        """Changes ``p`` in place; ``g`` may be shared and must stay as it is."""
        raise NotImplementedError

    def _state_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that the array ``name`` in the state of a parameter of this shape has."""
        return shape

    def zero_grad(self) -> None:
        """Forgets the gradients of all parameters."""
        for p in self.parameters():
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """State and options, arrays copied, parameters as their positions."""
        position = {id(p): i for i, p in enumerate(self.parameters())}
        return {
            "state": {position[key]: _copied(value) for key, value in self.state.items()},
            "param_groups": [
                {**group, "params": [position[id(p)] for p in group["params"]]} for group in self.param_groups
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` returned for the same parameters in the same groups.

        Raises ValueError if they are not the same; nothing is loaded then.
        """
        if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
            raise TypeError(f"{self._name}: needs what state_dict() returns, a dict with 'state' and 'param_groups'")
        mine = [len(group["params"]) for group in self.param_groups]
        theirs = [len(group["params"]) for group in state["param_groups"]]
        if mine != theirs:
            raise ValueError(f"{self._name}: the groups here have {mine} parameters, those of the state {theirs}")
        params = self.parameters()
        for i, entry in state["state"].items():
            if not isinstance(i, int) or not 0 <= i < len(params):
                raise ValueError(f"{self._name}: the state has an entry {i!r}, parameters are 0 to {len(params) - 1}")
            for name, value in entry.items():
                expected = self._state_shape(name, _reals(params[i].data).shape)
                if np.ndim(value) and np.shape(value) != expected:
                    raise ValueError(
                        f"{self._name}: {name!r} of parameter {i} has shape {np.shape(value)} in the state, "
                        f"needed is {expected}"
                    )
        for group in state["param_groups"]:
            self._check({**self.defaults, **{name: value for name, value in group.items() if name in self.defaults}})
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            group.update({name: value for name, value in saved.items() if name in self.defaults})
        self.state = {id(params[i]): _copied(entry) for i, entry in state["state"].items()}

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.defaults.items())
        return f"{self._name}({sum(p.size for p in self.parameters()):,} parameters, {options})"


def fused(kernel: Callable[..., None], twin: Callable[..., None]) -> Callable[..., None]:
    """``update(rows, **options)``: the kernel where there is one, the twin for other dtypes and few elements.

    rows: tuples that begin with the array of a parameter.
    """

    def update(rows: list[Any], *, lr: Any, **options: Any) -> None:
        settings, options["lr"] = current(), float(lr)
        suited = [row for row in rows if row[0].dtype.char in "fd"]
        if settings.kernels == "numpy" or sum(row[0].size for row in suited) < SMALL:
            return twin(rows, **options)
        kernel(suited, threads=settings.threads, **options)
        twin([row for row in rows if row[0].dtype.char not in "fd"], **options)

    return update


def _copied(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in entry.items()}


def _reals(x: np.ndarray) -> np.ndarray:
    """A complex array seen as real and imaginary parts, as PyTorch's optimizers see it; others as they are."""
    if x.dtype.kind != "c":
        return x
    return np.ascontiguousarray(x)[..., None].view(real_dtype(x.dtype))


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Scales all gradients by min(1, max_norm / (norm + 1e-6)) and returns the norm they had together before.

    Raises ValueError unless ``max_norm`` is positive, RuntimeError if no parameter has a gradient.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm must be positive, got {max_norm!r}")
    given = [params] if isinstance(params, Tensor) else params
    graded = [p for p in given if p.grad is not None]
    if not graded:
        raise RuntimeError("clip_grad_norm: no parameter has a gradient; call loss.backward() first")
    norm = grad_norm(graded)
    factor = max_norm / (norm + 1e-6)
    if factor < 1:
        for p in graded:  # a gradient may share its memory with another one, so it is replaced, not changed
            p.grad = plain(p.grad.data * factor)  # pyright: ignore[reportOptionalMemberAccess]
    return norm


def grad_norm(params: Iterable[Tensor]) -> float:
    """The Euclidean norm of all gradients together; parameters without one count as zero."""
    squares = (np.vdot(p.grad.data, p.grad.data).real for p in params if p.grad is not None)
    return math.sqrt(sum(float(s) for s in squares))
