"""Records tests/oracle/cases.json, what the oracle's cases are: new ones are added, and a changed one is refused.

    .venv/bin/python tests/oracle/record_cases.py

Cases are frozen within a major version: files of them are in other people's repositories.
"""

import json
import sys
from pathlib import Path

from minitf import oracle
from minitf.oracle.answers import label_of
from minitf.oracle.references import find

RECORD = Path(__file__).with_name("cases.json")


def hashes(name):
    """{option combination: hash}. In float32, so that the last bit of somebody's power function does not count."""
    reference = find(name)
    return {
        label: oracle.case(name, seed=1, size="tiny", dtype="float32", options=label).sha256[:16]
        for label in (label_of(options) for options in (*reference.options, *reference.on_request))
    }


def main():
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    found = {name: hashes(name) for name in oracle.names()}
    changed = [
        f"{name} {label}"
        for name, old in recorded.items()
        for label, value in old.items()
        if found.get(name, {}).get(label) != value
    ]
    if changed:
        sys.exit(f"these cases are not what they were: {', '.join(changed)}")
    RECORD.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
