"""What the oracle says about an implementation: rows of numbers, a verdict, and as much of a reason as it knows."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


class OracleError(AssertionError):
    """An implementation that the oracle does not accept; the message is the report."""


@dataclass(frozen=True)
class Row:
    """One output or one gradient in one case, compared with the right answer.

    largest, rms: of the errors of its elements, in units of their tolerances. Where the tolerance is 0 an error counts
        as infinite. ulp: the largest error in units in the last place of the expected value.
    index, expected, got, tolerance: of the worst element.
    problem: why there are no such numbers, or what they do not say; None if all is well.
    """

    kind: str
    name: str
    place: str
    elements: int = 0
    largest: float = math.inf
    rms: float = math.inf
    ulp: float = math.inf
    index: tuple[int, ...] | None = None
    expected: float = math.nan
    got: float = math.nan
    tolerance: float = math.nan
    problem: str | None = None

    @property
    def passed(self) -> bool:
        return self.problem is None and self.largest <= 1.0

    @property
    def what(self) -> str:
        return f"gradient of {self.name}" if self.kind == "gradient" else self.name


@dataclass
class Report:
    """The result of ``oracle.check`` or ``oracle.judge``. Prints as a table, in a notebook as HTML.

    about: what was compared, in words. rows: one for every output and gradient of every case.
    problems: what kept cases from being compared at all. diagnoses: mistakes that would explain the errors.
    notes: what was not checked, and why. smallest: the arguments of ``oracle.case`` for the smallest case that failed.
    """

    name: str
    framework: str
    dtype: str
    accumulate: str
    profile: str
    device: str
    cases: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    diagnoses: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cause: Exception | None = None
    smallest: dict[str, Any] | None = None

    @property
    def passed(self) -> bool:
        """True if something was compared and everything that was compared is within tolerance."""
        return bool(self.rows) and not self.problems and all(row.passed for row in self.rows)

    def summary(self) -> list[Row]:
        """One row for every output and gradient: that of its worst case, with the RMS over all cases."""
        worst: list[Row] = []
        for kind, name in dict.fromkeys((row.kind, row.name) for row in self.rows):
            rows = [row for row in self.rows if (row.kind, row.name) == (kind, name)]
            last = max(rows, key=lambda row: (row.problem is not None, row.largest))
            elements = sum(row.elements for row in rows)
            rms = math.sqrt(sum(row.elements * row.rms**2 for row in rows) / elements) if elements else last.rms
            ulp = max(row.ulp for row in rows)
            worst.append(Row(**{**asdict(last), "rms": rms, "ulp": ulp, "elements": elements}))
        return worst

    def raise_for_failure(self) -> None:
        """Raises OracleError with the printed report unless ``passed``."""
        if not self.passed:
            raise OracleError(str(self)) from self.cause

    def to_json(self) -> str:
        """The whole report as a JSON object; infinite and undefined numbers are the strings "inf" and "nan"."""
        content = {key: value for key, value in asdict(self).items() if key != "cause"}
        content["passed"] = self.passed
        for row, plain in zip(self.rows, content["rows"], strict=True):
            plain["passed"] = row.passed
        return json.dumps(_finite(content), indent=1, allow_nan=False)

    def __str__(self) -> str:
        lines = [self._title(), self._scope()]
        rows = self.summary()
        if rows:
            table = [("", "largest", "rms", "ulp", "", "worst element"), *(_cells(row) for row in rows)]
            widths = [max(len(cells[i]) for cells in table) for i in range(5)]
            lines.append("")
            for cells in table:
                numbers = [cell.rjust(width) for cell, width in zip(cells[1:4], widths[1:4], strict=True)]
                line = [cells[0].ljust(widths[0]), *numbers, cells[4].ljust(widths[4]), cells[5]]
                lines.append("  ".join(line).rstrip())
            lines.append("(errors: in units of the tolerance, of which 1 is allowed, and of the last place)")
        for heading, entries in (("problem", self.problems), ("diagnosis", self.diagnoses), ("note", self.notes)):
            lines += [f"{heading}: {entry}" for entry in entries]
        if self.smallest is not None:
            lines.append(f"smallest failing case: {self._reproduction()}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        heads = "".join(f"<th>{head}</th>" for head in ("", "largest", "rms", "ulp", "", "worst element"))
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(row)) + "</tr>"
            for row in self.summary()
        )
        entries = [("problem", e) for e in self.problems] + [("diagnosis", e) for e in self.diagnoses]
        entries += [("note", e) for e in self.notes]
        if self.smallest is not None:
            entries.append(("smallest failing case", self._reproduction()))
        told = "".join(f"<p><b>{heading}</b>: {html.escape(entry)}</p>" for heading, entry in entries)
        return (
            f"<p><b>{html.escape(self._title())}</b><br>{html.escape(self._scope())}</p>"
            f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{told}"
        )

    def _reproduction(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in (self.smallest or {}).items())
        return f"oracle.case({self.name!r}, {options})"

    def _title(self) -> str:
        where = f" on {self.device}" if self.device != "cpu" else ""
        verdict = "passed" if self.passed else "FAILED"
        return f"{self.name}, {self.framework}{where}, {self.dtype}: {verdict}"

    def _scope(self) -> str:
        count = f"{len(self.cases)} cases" if len(self.cases) != 1 else f"1 case ({self.cases[0]})"
        kept = "intermediate results" if self.profile == "eager" else "storage points"
        return f"{count}; tolerance for arithmetic in {self.accumulate}, {kept} in {self.dtype}"


def _cells(row: Row) -> tuple[str, ...]:
    verdict = "ok" if row.passed else "FAILED"
    if row.problem is not None:
        return row.what, "-", "-", "-", verdict, f"{row.problem} ({row.place})"
    where = ""
    if row.index is not None:
        at = f"[{', '.join(map(str, row.index))}] " if row.index else ""
        where = f"{at}of {row.place}: expected {row.expected:.6g}, got {row.got:.6g}, tolerance {row.tolerance:.2g}"
    return row.what, _number(row.largest), _number(row.rms), _number(row.ulp), verdict, where


def _number(x: float) -> str:
    return f"{x:.2f}" if x < 1000 else f"{x:.1e}"


def _finite(x: Any) -> Any:
    """``x`` with non-finite floats as strings: JSON has none."""
    if isinstance(x, float) and not math.isfinite(x):
        return str(x)
    if isinstance(x, dict):
        return {key: _finite(value) for key, value in x.items()}
    return [_finite(value) for value in x] if isinstance(x, Sequence) and not isinstance(x, str) else x
