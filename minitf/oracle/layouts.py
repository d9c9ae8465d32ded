"""Layouts: in which order of axes an implementation takes and returns its arrays.

    check("attention.dot_product", fn, layout="BTHE")                       any order of the axes that a name registers
    check("recurrent.selective_scan", fn, layout={"u": "BDT", "B": "BNT"})  array by array
    check("attention.dot_product", fn, layout="packed")                     sequences end to end, (total, H, E)

Cases, answers and tolerances stay in the order of the reference. Arrays are brought into the layout, contiguous, just
before the implementation is called, and what it returns is brought back.

*Packed* are sequences of different lengths without padding. The implementation is given ``cu_seqlens_q`` and
``cu_seqlens_k``, int32 of shape (B + 1,), where each sequence starts and the last one ends, and the integers
``max_seqlen_q`` and ``max_seqlen_k``; a causal mask is aligned to the end of every sequence. The case behind it is that
of the reference with a mask that says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from minitf.oracle.answers import FORMAT_VERSION, Arrays, Case, answer
from minitf.oracle.draw import Draw
from minitf.oracle.frameworks import Refused, Run
from minitf.registry import Reference

PACKED = "packed"
#: letters that are other sizes of the same axis: keys are positions, key heads are heads, value widths are widths
SAME = str.maketrans("SKW", "THE")


class Layout:
    """The layout of the reference: nothing changes."""

    def has(self, case: Case) -> bool:
        """Whether ``case`` can be asked in this layout."""
        return True

    def asked(self, case: Case) -> Case:
        """``case`` with inputs, options and cotangents as the implementation gets them."""
        return case

    def meant(self, case: Case) -> Case:
        """The same question to the reference, with its answer."""
        return case

    def decode(self, meant: Case, run: Run) -> Run:
        """What the implementation answered, as the reference would. Raises Refused for shapes that do not fit."""
        known = list(meant.outputs.items())
        outputs = tuple(self._back(meant, *known[i], x) if i < len(known) else x for i, x in enumerate(run.outputs))
        gradients = run.gradients and {
            name: None if x is None else self._back(meant, name, meant.gradients[name], x)
            for name, x in run.gradients.items()
        }
        return replace(run, outputs=outputs, gradients=gradients)

    def _back(self, meant: Case, name: str, right: np.ndarray, x: np.ndarray) -> np.ndarray:
        """``x`` in the order of ``right``."""
        return x


@dataclass(frozen=True)
class Permuted(Layout):
    """orders: for every array by name, the axes of the reference in the order of the implementation.

    told: for every array by name, that order in letters.
    """

    orders: Mapping[str, tuple[int, ...]]
    told: Mapping[str, str]

    def asked(self, case: Case) -> Case:
        return replace(case, inputs=self._permuted(case.inputs), cotangents=self._permuted(case.cotangents))

    def _permuted(self, arrays: Arrays) -> Arrays:
        return {
            name: np.ascontiguousarray(x.transpose(self.orders[name])) if name in self.orders else x
            for name, x in arrays.items()
        }

    def _back(self, meant: Case, name: str, right: np.ndarray, x: np.ndarray) -> np.ndarray:
        if name not in self.orders:
            return x
        order = self.orders[name]
        _require(name, x, tuple(right.shape[axis] for axis in order), self.told[name])
        return x.transpose(np.argsort(order))


@dataclass(frozen=True)
class Packed(Layout):
    """reference: of which ``axes`` says where the batch B and the positions T of queries and S of keys are."""

    reference: Reference

    def has(self, case: Case) -> bool:
        return not any(isinstance(value, np.ndarray) for value in case.options.values())

    def meant(self, case: Case) -> Case:
        T, S = (self._size(case, letter) for letter in "TS")
        queries, keys = self._lengths(case)
        t, s = np.arange(T)[:, None], np.arange(S)
        allowed = [(t < q) & (s < k) for q, k in zip(queries, keys, strict=True)]
        if case.options.get("causal"):
            allowed = [x & (t + k - q >= s) for x, q, k in zip(allowed, queries, keys, strict=True)]
        options = {name: value for name, value in case.options.items() if name != "causal"}
        options["mask"] = np.stack(allowed)[:, None]
        outputs, gradients = answer(self.reference, case.inputs, options, case.cotangents)
        return replace(case, options=options, outputs=outputs, gradients=gradients)

    def asked(self, case: Case) -> Case:
        lengths = dict(zip("TS", self._lengths(case), strict=True))
        options = dict(case.options)
        for kind, letter in (("q", "T"), ("k", "S")):
            options[f"cu_seqlens_{kind}"] = np.concatenate([[0], np.cumsum(lengths[letter])]).astype(np.int32)
        options |= {"max_seqlen_q": int(max(lengths["T"])), "max_seqlen_k": int(max(lengths["S"]))}
        inputs, cotangents = (
            {name: self._pack(name, x, lengths) for name, x in arrays.items()}
            for arrays in (case.inputs, case.cotangents)
        )
        return replace(case, inputs=inputs, options=options, cotangents=cotangents)

    def _lengths(self, case: Case) -> tuple[list[int], list[int]]:
        """Of queries and of keys in every sequence; the first has full length, others may be empty."""
        B, T, S = (self._size(case, letter) for letter in "BTS")
        draw = Draw(FORMAT_VERSION, case.name, case.size, case.seed, case.label, "lengths")
        queries, keys = draw.integers(B, 0, T + 1), draw.integers(B, 0, S + 1)
        queries[0], keys[0] = T, S
        return queries.tolist(), (queries if T == S else keys).tolist()

    def _size(self, case: Case, letter: str) -> int:
        axes = self.reference.axes
        return next(
            x.shape[axes[name].index(letter)] for name, x in case.inputs.items() if letter in axes.get(name, "")
        )

    def _place(self, name: str) -> tuple[int, int, str] | None:
        """The axes of batch and position, and the letter of the latter; None for what is not packed."""
        axes = self.reference.axes.get(name, "")
        letter = next((letter for letter in "TS" if letter in axes), "")
        return (axes.index("B"), axes.index(letter), letter) if letter and "B" in axes else None

    def _pack(self, name: str, x: np.ndarray, lengths: Mapping[str, list[int]]) -> np.ndarray:
        if (place := self._place(name)) is None:
            return x
        rows = np.moveaxis(x, place[:2], (0, 1))
        return np.concatenate([row[:n] for row, n in zip(rows, lengths[place[2]], strict=True)])

    def _back(self, meant: Case, name: str, right: np.ndarray, x: np.ndarray) -> np.ndarray:
        if (place := self._place(name)) is None:
            return x
        lengths = dict(zip("TS", self._lengths(meant), strict=True))
        full = np.zeros(right.shape, x.dtype)
        rows = np.moveaxis(full, place[:2], (0, 1))
        _require(name, x, (sum(lengths[place[2]]), *rows.shape[2:]), PACKED)
        start = 0
        for row, n in zip(rows, lengths[place[2]], strict=True):
            row[:n] = x[start : start + n]
            start += n
        return full


def _require(name: str, x: np.ndarray, shape: tuple[int, ...], layout: str) -> None:
    if x.shape != shape:
        raise Refused(f"{name}, or its gradient, has shape {x.shape}, expected {shape} ({layout})")


def layout_of(reference: Reference, layout: str | Mapping[str, str] | None) -> Layout:
    """The layout with this name; raises ValueError for one that ``reference`` cannot be asked in."""
    if layout is None:
        return Layout()
    if not reference.axes:
        raise ValueError(f"oracle: {reference.name} has no registered axes, so no other layout; got {layout!r}")
    told = ", ".join(f"{name} {axes}" for name, axes in reference.axes.items())
    if layout == PACKED:
        letters = {letter for axes in reference.axes.values() for letter in axes}
        if not letters >= set("BTS"):
            raise ValueError(f"oracle: {reference.name} has no packed form; its axes are {told}")
        return Packed(reference)
    if isinstance(layout, str):
        wanted = {
            name: "".join(axes[axes.translate(SAME).index(letter)] for letter in layout)
            for name, axes in reference.axes.items()
            if sorted(axes.translate(SAME)) == sorted(layout)
        }
    elif isinstance(layout, Mapping):
        wanted = dict(layout)
    else:
        raise TypeError(f"oracle: layout is a string such as 'BTHE', or a dict of them by name; got {layout!r}")
    fitting = all(sorted(reference.axes.get(name, "")) == sorted(axes) for name, axes in wanted.items())
    if not wanted or not fitting:
        raise ValueError(f"oracle: layout reorders the axes of {reference.name}, which are {told}; got {layout!r}")
    orders = {name: tuple(reference.axes[name].index(letter) for letter in axes) for name, axes in wanted.items()}
    return Permuted(orders, wanted)
