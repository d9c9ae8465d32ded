"""Writes the copy of the results that a wheel carries.

    python -m minitf.papers.freeze

The copy, ``minitf/papers/results.json``, holds the reports of this moment in the form of ``minitf papers --json``; it
is never committed.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

from minitf.files import write_atomically
from minitf.papers import checkout, results


def main() -> int:
    root = checkout.root()
    if root is None:
        print("minitf.papers.freeze: results are frozen in a source checkout", file=sys.stderr)
        return 2
    reports = results.judge(root)
    write_atomically(results.FROZEN, frozen(reports))
    states = Counter(report.state for report in reports.values())
    told = ", ".join(f"{states[state]} {state}" for state in results.STATES)
    print(f"{results.FROZEN.relative_to(root)}: {len(reports)} papers, {told}")
    return 0


def frozen(reports: dict[str, results.Report]) -> str:
    entries = [report.as_dict() for report in reports.values()]
    return json.dumps({"format": results.FORMAT, "papers": entries}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
