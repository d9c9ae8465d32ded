"""Transformations: functions in, functions out, under JAX's names.

Each starts a trace, runs the function on Tensors of that trace, and reads the result off. Everything a rule computes
goes through ``bind`` again, so transformations nest to any depth and in any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from minitf.autodiff.dtypes import is_complex, is_inexact
from minitf.autodiff.errors import ShapeError
from minitf.autodiff.forward import ForwardTrace
from minitf.autodiff.reverse import sweep
from minitf.autodiff.tensor import (
    Leaf,
    Node,
    Primitive,
    ReverseTrace,
    Selection,
    Spec,
    Tensor,
    Trace,
    _node_ids,
    as_tensor,
    lower,
    plain,
    traced,
)
from minitf.autodiff.tree import tree_flatten, tree_leaves, tree_map

#: generators drawn from while a checkpointed function runs, with their state before the first draw
_draws: ContextVar[dict[int, tuple[np.random.Generator, Any]] | None] = ContextVar("minitf_draws", default=None)


def _require_function(what: str, function: Any) -> None:
    if not callable(function):
        raise TypeError(f"{what}: needs a function, got {function!r:.100}; {what}(f), not of what f returns")


def _as_leaf(x: Any, what: str) -> Tensor:
    try:
        value = as_tensor(x)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what}: a leaf of an argument is no array: {error}") from None
    if not is_inexact(value.dtype):
        raise TypeError(
            f"{what}: can differentiate with respect to floating and complex values only, got {value.dtype} "
            f"{value.shape}; write 2.0 instead of 2"
        )
    return value


class _Recording:
    """A function run once under a reverse trace."""

    def __init__(self, what: str, function: Callable[..., Any], primals: Sequence[Any], has_aux: bool = False):
        self.what = what
        self.trace = ReverseTrace()
        self.nodes: list[Any] = []
        self.builders = []
        _require_function(what, function)
        boxed = []
        for primal in primals:
            leaves, build = tree_flatten(primal)
            boxes = []
            for leaf in leaves:
                value = _as_leaf(leaf, what)
                self.nodes.append((Leaf(), value))
                boxes.append(traced(value, self.trace, self.nodes[-1][0]))
            self.builders.append((len(leaves), build))
            boxed.append(build(boxes))
        try:
            out = function(*boxed)
        finally:
            self.trace.active = False
        self.aux = None
        if has_aux:
            if not (isinstance(out, tuple) and len(out) == 2):
                raise TypeError(f"{what}: with has_aux=True the function must return a pair (output, aux)")
            out, self.aux = out
            self.aux = tree_map(lambda x: lower(x, self.trace), self.aux)
        self.out_leaves, self.build_out = tree_flatten(out)
        self.out_leaves = [as_tensor(o) for o in self.out_leaves]
        self.value = self.build_out([lower(o, self.trace) for o in self.out_leaves])

    def pull(self, cotangents: Sequence[Any], *, consume: bool) -> tuple[Any, ...]:
        roots = []
        for out, g in zip(self.out_leaves, cotangents, strict=True):
            g = as_tensor(g)
            if g.shape != out.shape:
                raise ShapeError(f"{self.what}: a cotangent has shape {g.shape}, the output it belongs to {out.shape}")
            if out.trace is self.trace:
                roots.append((out.node, g))
        found = sweep(roots, consume=consume)
        gradients = iter(
            [found[node] if node in found else plain(np.zeros(v.shape, v.dtype)) for node, v in self.nodes]
        )
        return tuple(build([next(gradients) for _ in range(n)]) for n, build in self.builders)


def _split(what: str, args: tuple[Any, ...], argnums: int | Sequence[int]) -> tuple[int, ...]:
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for i in positions:
        if not isinstance(i, int) or not -len(args) <= i < len(args):
            raise ValueError(
                f"{what}: argnums must be positions among the {len(args)} positional arguments of the call, got {argnums!r}"
            )
    return tuple(i % len(args) for i in positions)


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns ``(value, gradient)`` of a scalar function.

    argnums: the argument(s) to differentiate with respect to; a sequence gives a tuple of gradients. Arguments may be
        nested dicts, lists and tuples; the gradient has the same structure.
    has_aux: the function returns ``(value, aux)`` and so does the first result.

    Raises ShapeError unless the value has one element, TypeError for integer arguments.
    """

    _require_function("grad", function)

    @functools.wraps(function)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        positions = _split("grad", args, argnums)

        def of_selected(*selected: Any) -> Any:
            full = list(args)
            for i, value in zip(positions, selected, strict=True):
                full[i] = value
            return function(*full, **kwargs)

        run = _Recording("grad", of_selected, [args[i] for i in positions], has_aux)
        if len(run.out_leaves) != 1 or run.out_leaves[0].size != 1:
            told = f"shape(s) {[o.shape for o in run.out_leaves]}" if run.out_leaves else "nothing"
            raise ShapeError(
                f"grad: the function must return one scalar, it returned {told}; "
                "use mt.vjp or mt.jacobian, or has_aux=True for further outputs"
            )
        root = run.out_leaves[0]
        if is_complex(root.dtype):
            raise TypeError("grad: the function must be real-valued; take mt.real(...) or use mt.vjp")
        gradients = run.pull([plain(np.ones(root.shape, root.dtype))], consume=True)
        result = gradients[0] if isinstance(argnums, int) else gradients
        return ((run.value, run.aux) if has_aux else run.value), result

    return differentiated


def grad(function: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The gradient of a scalar function, as a function of the same arguments; see ``value_and_grad``.

    With ``has_aux`` it returns ``(gradient, aux)``.
    """
    both = value_and_grad(function, argnums, has_aux)

    @functools.wraps(function)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return differentiated


def vjp(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """``(outputs, pullback)``: ``pullback(cotangents)`` is the tuple of the arguments' cotangents.

    The pullback may be called any number of times. With ``has_aux`` returns ``(outputs, pullback, aux)``.
    """
    run = _Recording("vjp", function, primals, has_aux)

    def pullback(cotangents: Any) -> tuple[Any, ...]:
        leaves = tree_leaves(cotangents)
        if len(leaves) != len(run.out_leaves):
            raise ShapeError(
                f"vjp: the function has {len(run.out_leaves)} outputs, the pullback got {len(leaves)} cotangents"
            )
        return run.pull(leaves, consume=False)

    return (run.value, pullback, run.aux) if has_aux else (run.value, pullback)


def jvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """``(outputs, output tangents)`` of ``function(*primals)`` along ``tangents``, in one forward pass.

    Raises ShapeError when a tangent does not have the shape of its primal.
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError("jvp: primals and tangents are tuples, one entry an argument: jvp(f, (x,), (t,))")
    if len(primals) != len(tangents):
        raise ShapeError(f"jvp: {len(primals)} primals but {len(tangents)} tangents")
    trace = ForwardTrace()
    boxed = []
    for primal, tangent in zip(primals, tangents, strict=True):
        leaves, build = tree_flatten(primal)
        directions = tree_leaves(tangent)
        if len(leaves) != len(directions):
            raise ShapeError(f"jvp: a primal has {len(leaves)} leaves, its tangent {len(directions)}")
        boxes = []
        for leaf, direction in zip(leaves, directions, strict=True):
            value, t = _as_leaf(leaf, "jvp"), as_tensor(direction)
            if value.shape != t.shape:
                raise ShapeError(f"jvp: a tangent has shape {t.shape}, its primal {value.shape}")
            boxes.append(traced(value, trace, t))
        boxed.append(build(boxes))
    try:
        out = function(*boxed)
    finally:
        trace.active = False
    outs, build_out = tree_flatten(out)
    outs = [as_tensor(o) for o in outs]
    zeros = [o.node if o.trace is trace else plain(np.zeros(o.shape, o.dtype)) for o in outs]
    return build_out([lower(o, trace) for o in outs]), build_out(zeros)


def jacobian(function: Callable[..., Any], argnums: int = 0, mode: str = "reverse") -> Callable[..., Tensor]:
    """The Jacobian of ``function`` with one array as argument ``argnums`` and one array as output.

    The result has the shape of the output followed by the shape of the argument. mode: "reverse" (one sweep for each
    output element) or "forward" (one pass for each input element).
    """
    if mode not in ("reverse", "forward"):
        raise ValueError(f"jacobian: mode must be 'reverse' or 'forward', got {mode!r}")
    _require_function("jacobian", function)

    @functools.wraps(function)
    def differentiated(*args: Any, **kwargs: Any) -> Tensor:
        from minitf.autodiff.ops.shape import reshape, stack

        (position,) = _split("jacobian", args, argnums)
        x = _as_leaf(args[position], "jacobian")

        def of_x(value: Any) -> Any:
            out = function(*args[:position], value, *args[position + 1 :], **kwargs)
            if len(tree_leaves(out)) != 1 or isinstance(out, (dict, list, tuple)):
                raise TypeError(f"jacobian: the function must return one array, it returned a {type(out).__name__}")
            return out

        if mode == "reverse":
            out, pullback = vjp(of_x, x)
            rows = [pullback(basis)[0] for basis in _basis(out)]
            return reshape(stack(rows), (*out.shape, *x.shape)) if rows else plain(np.zeros((*out.shape, *x.shape)))
        columns = [jvp(of_x, (x,), (basis,))[1] for basis in _basis(x)]
        if not columns:
            return plain(np.zeros((*as_tensor(of_x(x)).shape, *x.shape)))
        return reshape(stack(columns, axis=-1), (*columns[0].shape, *x.shape))

    return differentiated


def _basis(like: Tensor) -> list[Tensor]:
    """The unit arrays of the shape of ``like``, in row-major order."""
    basis = np.eye(like.size, dtype=like.dtype).reshape(like.size, *like.shape)
    return [plain(unit) for unit in basis]


def hvp(function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The Hessian of a scalar function times a vector, forward over reverse.

    Returns the product with the structure of the single primal, or a tuple with one entry a primal.
    """
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError("hvp: primals and tangents are tuples, one entry an argument: hvp(f, (x,), (v,))")
    positions = tuple(range(len(primals)))
    product = jvp(grad(function, argnums=positions), primals, tangents)[1]
    return product[0] if len(primals) == 1 else product


def stop_gradient(x: Any) -> Any:
    """``x`` (an array or a nested container) as a constant to every transformation."""
    return tree_map(lambda leaf: plain(leaf.data) if isinstance(leaf, Tensor) else leaf, x)


def repeatable(rng: np.random.Generator) -> np.random.Generator:
    """``rng``, after noting its state for a surrounding ``checkpoint``: called before every draw in the library."""
    noted = _draws.get()
    if noted is not None and id(rng) not in noted:
        noted[id(rng)] = (rng, rng.bit_generator.state)
    return rng


def checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, keeping only its inputs for the backward sweep, which runs it again.

    Gradients are the same, also with respect to values the function closes over. Random draws of the library's
    functions repeat bit for bit. Under forward mode the function simply runs.
    """

    _require_function("checkpoint", function)

    @functools.wraps(function)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        start = next(_node_ids)
        generators: dict[int, tuple[np.random.Generator, Any]] = {}
        token = _draws.set(generators)
        try:
            out = function(*args, **kwargs)
        finally:
            _draws.reset(token)
        for rng, state in generators.values():  # an enclosing checkpoint must know them as well
            outer = _draws.get()
            if outer is not None:
                outer.setdefault(id(rng), (rng, state))
        leaves, build = tree_flatten(out)
        trace = _innermost(leaves)
        if not isinstance(trace, ReverseTrace):
            return out
        inside = [i for i, o in enumerate(leaves) if isinstance(o, Tensor) and o.trace is trace and o.node.id > start]
        if not inside:
            return out
        boundary = _boundary([leaves[i].node for i in inside], start)

        def rerun(cotangents: Any) -> list[Any]:
            states = [(rng, rng.bit_generator.state) for rng, _ in generators.values()]
            for rng, state in generators.values():
                rng.bit_generator.state = state
            was_active, trace.active = trace.active, True
            begin = next(_node_ids)
            token = _draws.set({})
            try:
                again = tree_leaves(function(*args, **kwargs))
            finally:
                _draws.reset(token)
                trace.active = was_active
                for rng, state in states:
                    rng.bit_generator.state = state
            roots = [(again[i].node, g) for i, g in zip(inside, cotangents, strict=True)]
            found = sweep(roots, consume=True, stop=begin)
            return [found.get(node) for node in boundary]

        primitive = Primitive("checkpoint", lambda: None, outputs="many")
        primitive.vjp = lambda g, needed, out, args, params: rerun(g)
        primals = tuple(lower(leaves[i], trace) for i in inside)
        node = Node(
            primitive,
            tuple(tree_leaves((args, kwargs))),
            {},
            tuple(Spec(p.data) for p in primals),
            list(enumerate(boundary)),
        )
        for place, (i, primal) in enumerate(zip(inside, primals, strict=True)):
            leaves[i] = traced(primal, trace, Selection(node, place))
        return build(leaves)

    return checkpointed


def _innermost(leaves: Sequence[Any]) -> Trace | None:
    """The innermost active trace among ``leaves``."""
    traces = [x.trace for x in leaves if isinstance(x, Tensor) and x.trace is not None and x.trace.active]
    return max(traces, key=lambda t: t.level, default=None)


def _boundary(roots: Sequence[Any], start: int) -> list[Any]:
    """The nodes older than ``start`` that ``roots`` were computed from, in a fixed order."""
    seen: set[Any] = set()
    found: list[Any] = []
    pending = list(roots)
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.id < start:
            found.append(node)
        elif hasattr(node, "parents"):
            pending.extend(parent for _, parent in node.parents)
        else:
            pending.append(node.parent)
    return found


class custom_vjp:
    """A function with a hand-written backward rule (JAX's ``custom_vjp``).

        @mt.custom_vjp
        def clip_gradient(x, bound): return x

        clip_gradient.defvjp(lambda x, bound: (x, bound),                    # forward: (output, residuals)
                             lambda bound, g: (mt.clip(g, -bound, bound), None))  # backward: one cotangent an argument

    Arguments are arrays or scalars; the output is an array or a tuple of arrays. Forward mode raises TypeError.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function = function
        self.forward: Callable[..., Any] | None = None
        self.backward: Callable[..., Any] | None = None
        functools.update_wrapper(self, function)

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """forward(*args) -> (output, residuals); backward(residuals, cotangent) -> a cotangent (or None) an argument."""
        self.forward, self.backward = forward, backward

    def __call__(self, *args: Any) -> Any:
        if self.forward is None or self.backward is None:
            raise TypeError(
                f"{self.function.__name__}: custom_vjp needs its rule first: call .defvjp(forward, backward)"
            )
        trace = _innermost(args)
        if trace is None:
            return self.function(*args)
        if not isinstance(trace, ReverseTrace):
            raise TypeError(f"{self.function.__name__}: a custom_vjp function has no forward-mode derivative")
        name, backward = self.function.__name__, self.backward
        result = self._forward_below(trace, args)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"{name}: the forward rule of custom_vjp must return (output, residuals)")
        out, residuals = result
        many = isinstance(out, tuple)
        parents = [(i, a.node) for i, a in enumerate(args) if isinstance(a, Tensor) and a.trace is trace]

        def pull(g: Any, needed: list[int], out: Any, values: Any, params: Any) -> list[Any]:
            cotangents = backward(values[0], g if many else g[0])
            if not isinstance(cotangents, (tuple, list)) or len(cotangents) != len(args):
                raise TypeError(
                    f"{name}: the backward rule must return one cotangent (or None) for each of {len(args)} arguments"
                )
            pulled = []
            for i in needed:
                c = None if cotangents[i] is None else as_tensor(cotangents[i])
                if c is not None and c.shape != args_shapes[i]:
                    raise ShapeError(
                        f"{name}: the backward rule returned shape {c.shape} for argument {i} of shape {args_shapes[i]}"
                    )
                pulled.append(c)
            return pulled

        args_shapes = [getattr(a, "shape", ()) for a in args]
        primitive = Primitive(name, self.function, outputs="many")
        primitive.vjp = pull
        outs = tuple(as_tensor(o) for o in out) if many else (as_tensor(out),)
        node = Node(primitive, (residuals,), {}, tuple(Spec(o.data) for o in outs), parents)
        results = tuple(traced(o, trace, Selection(node, i)) for i, o in enumerate(outs))
        return results if many else results[0]

    def _forward_below(self, trace: Trace, args: tuple[Any, ...]) -> Any:
        """The forward rule on the arguments one level down, recorded there if that level is traced."""
        lowered = [lower(a, trace) for a in args]
        result = self.forward(*lowered)  # pyright: ignore[reportOptionalCall]
        if _innermost(lowered) is None:
            return result
        # An outer level sees the output through the rule again, and the residuals through the forward rule's code.
        return self(*lowered), result[1]
