"""Who implements which paper, and what the oracle can be asked about.

This is the lowest floor of the house: it imports nothing of minitf, so every module can register itself.

    @implements("differential-transformer")
    def differential_attention(...): ...

    reference("attention.differential", differential_attention, example=example, differentiable=("q1", "k1"))

Registration happens when a module is imported; ``minitf.papers.index`` finds the same facts without importing
anything, by reading the source, which is what `minitf papers` and `oracle.names()` use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

#: paper slug -> the dotted names of everything registered as implementing it, in order of registration
IMPLEMENTATIONS: dict[str, list[str]] = {}
#: oracle name -> its Reference
REFERENCES: dict[str, Reference] = {}


@dataclass(frozen=True)
class Decision:
    """A discrete output: positions of the largest of some scores, the largest first.

    option: the keyword of the reference that imposes such a choice on it.
    scores: ``scores(*inputs, **options)``, written with ``mt`` -> (*, n), of which the output (*, k) names the k largest.
    """

    option: str
    scores: Callable[..., Any]


@dataclass(frozen=True)
class Reference:
    """A function the oracle can be asked about.

    name: dotted, ``<room>.<idea>``.
    function: pure; arrays or Tensors in, Tensors out.
    example: ``example(draw, size, **options) -> (inputs, options)``: draws the inputs (a dict of arrays, in the
        order of the function's positional parameters) and the keyword options of one case.
    differentiable: names of the inputs that have a gradient.
    outputs: names of the outputs, in order.
    options: the option combinations that cases walk through, one dict of keywords for ``example`` each.
    decisions: those of the outputs that are decisions. They are judged apart, and everything else given the decisions
        that an implementation has made.
    auxiliary: what implementations may return beside the outputs, such as a log-sum-exp: by name a function of the
        inputs and options, written with ``mt``. It is judged where somebody asks for it, its values alone.
    forms: keyword options that select other ways to the same result, with other rounding errors. The tolerances are
        those of the form that has the largest.
    on_request: option combinations that cases do not walk through, but that can be asked for.
    axes: a letter for every axis of inputs and outputs, such as {"q": "BHTE"}: for implementations with another layout.
    mistakes: what the oracle names if it comes out, by how a sentence goes on that begins "this is what comes out",
        such as "with the square root forgotten": functions of the inputs and options like ``function``.
    """

    name: str
    function: Callable[..., Any]
    example: Callable[..., Any]
    differentiable: tuple[str, ...]
    outputs: tuple[str, ...] = ("out",)
    options: tuple[dict[str, Any], ...] = ({},)
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    auxiliary: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    forms: tuple[dict[str, Any], ...] = ({},)
    on_request: tuple[dict[str, Any], ...] = ()
    axes: Mapping[str, str] = field(default_factory=dict)
    mistakes: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


def implements(*slugs: str) -> Callable[[T], T]:
    """Registers the decorated function or class as implementing the papers with these catalogue slugs.

    Raises TypeError when used without slugs (``@implements`` or ``@implements()``).
    """
    if not slugs or not all(isinstance(slug, str) for slug in slugs):
        raise TypeError('implements takes the slugs of papers: @implements("differential-transformer")')

    def register(thing: T) -> T:
        name = f"{thing.__module__}.{thing.__qualname__}"  # pyright: ignore[reportAttributeAccessIssue]
        for slug in slugs:
            known = IMPLEMENTATIONS.setdefault(slug, [])
            if name not in known:
                known.append(name)
        return thing

    return register


def reference(
    name: str,
    function: Callable[..., Any],
    *,
    example: Callable[..., Any],
    differentiable: tuple[str, ...] = (),
    outputs: tuple[str, ...] = ("out",),
    options: tuple[dict[str, Any], ...] = ({},),
    decisions: Mapping[str, Decision] | None = None,
    auxiliary: Mapping[str, Callable[..., Any]] | None = None,
    forms: tuple[dict[str, Any], ...] = ({},),
    on_request: tuple[dict[str, Any], ...] = (),
    axes: Mapping[str, str] | None = None,
    mistakes: Mapping[str, Callable[..., Any]] | None = None,
) -> Reference:
    """Registers ``function`` under ``name`` with the oracle and returns the record.

    Raises ValueError when another function already has the name, or for a decision that is not an output.
    """
    if unknown := set(decisions or ()) - set(outputs):
        raise ValueError(f"reference: {name!r} has the outputs {', '.join(outputs)}; no decision {sorted(unknown)}")
    entry = Reference(
        name=name,
        function=function,
        example=example,
        differentiable=tuple(differentiable),
        outputs=tuple(outputs),
        options=tuple(options),
        decisions=dict(decisions or {}),
        auxiliary=dict(auxiliary or {}),
        forms=tuple(forms),
        on_request=tuple(on_request),
        axes=dict(axes or {}),
        mistakes=dict(mistakes or {}),
    )
    other = REFERENCES.get(name)
    if other is not None and other.function.__module__ != function.__module__:
        raise ValueError(f"reference: {name!r} is already registered by {other.function.__module__}; names are unique")
    REFERENCES[name] = entry
    return entry
