"""How near correct implementations come to their tolerance: records chapters/oracle/tail.json, which the book shows.

    .venv/bin/python tests/cross/tail.py [--seeds 25] [--output chapters/oracle/tail.json]

A run is one implementation on one case; its number is the largest error among its outputs and gradients, in units of the
tolerance. The alarm probability is that of a number above 1 in a generalized Pareto distribution, fitted to the numbers
above their 95 % quantile.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import jax
import numpy as np
import scipy
import torch
from scipy.stats import genpareto
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))
from correct_implementations import CORRECT

from minitf import oracle
from minitf.oracle.frameworks import FRAMEWORKS
from minitf.oracle.judgement import measure
from minitf.oracle.references import find
from minitf.oracle.tolerances import tolerances_of

DTYPES = ("float32", "bfloat16", "float16")
SIZES = ("tiny", "small")
TAIL = 0.95


def run(case, framework, fn, tolerances):
    """{array: largest error in units of its tolerance}; NaN counts as infinite."""
    reference = find(case.name)
    answered = FRAMEWORKS[framework]("cpu").run(fn, case, reference.differentiable)
    ratios = {}
    for name, got in zip(case.outputs, answered.outputs, strict=True):
        if name in reference.decisions:
            if not np.array_equal(got, case.outputs[name]):  # cases have a margin
                raise AssertionError(f"{case}: another decision")
            continue
        ratios[name] = measure("output", name, case, got.astype(float), case.outputs[name], tolerances[0][name]).largest
    for name, got in answered.gradients.items():
        right, allowed = case.gradients[name], tolerances[1][name]
        ratios[f"d{name}"] = measure("gradient", name, case, got.astype(float), right, allowed).largest
    return ratios


def runs(names, seeds, dtypes=DTYPES, sizes=SIZES):
    """(name, dtype, label, place, ratios) of every implementation on every case."""
    for name in names:
        for seed in seeds:
            for dtype in dtypes:
                for case in oracle.cases(name, [seed], sizes, dtype):
                    tolerances = {}
                    for label, framework, fn, profile in CORRECT[name]:
                        if profile not in tolerances:
                            tolerances[profile] = tolerances_of(case, profile=profile)
                        yield name, dtype, label, case.place, run(case, framework, fn, tolerances[profile])


def alarm_probability(numbers):
    """That a run of these is above 1, from the tail that they have."""
    threshold = np.quantile(numbers, TAIL)
    shape, _, scale = genpareto.fit(numbers[numbers > threshold] - threshold, floc=0)
    return float((1 - TAIL) * genpareto.sf(1 - threshold, shape, scale=scale)), float(shape), float(scale)


def summary(numbers):
    numbers = np.array(numbers)
    quantiles = {f"{q:g}": float(np.quantile(numbers, q)) for q in (0.5, 0.99, 0.9999)}
    return {"runs": len(numbers), "quantiles": quantiles, "largest": float(numbers.max())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=25)
    parser.add_argument("--names", nargs="*", default=sorted(CORRECT))
    parser.add_argument("--output", type=Path, default=Path("chapters/oracle/tail.json"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    groups, dtypes, worst = defaultdict(list), defaultdict(list), defaultdict(lambda: (0.0, "", ""))
    for name, dtype, label, place, ratios in tqdm(
        runs(arguments.names, range(arguments.seeds)), unit=" runs", mininterval=5
    ):
        number = max(ratios.values())
        groups[name, dtype, label].append(number)
        dtypes[dtype].append(number)
        worst[name, dtype, label] = max(worst[name, dtype, label], (number, max(ratios, key=ratios.get), place))
    everything = np.concatenate(list(map(np.array, dtypes.values())))
    told = summary(everything)
    edges = np.linspace(0, 1, 51)
    record = {
        "command": f".venv/bin/python tests/cross/tail.py --seeds {arguments.seeds}",
        "versions": {
            "torch": torch.__version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        **told,
        "above_1": int((everything > 1).sum()),
        "edges": edges.round(2).tolist(),
        "dtypes": {},
        "groups": [
            {"name": n, "dtype": d, "label": i, **summary(x), "array": worst[n, d, i][1], "place": worst[n, d, i][2]}
            for (n, d, i), x in sorted(groups.items())
        ],
    }
    for dtype, numbers in dtypes.items():
        probability, shape, scale = alarm_probability(np.array(numbers))
        record["dtypes"][dtype] = {
            **summary(numbers),
            "histogram": np.histogram(numbers, edges)[0].tolist(),
            "alarm_probability": probability,
            "pareto": {"shape": shape, "scale": scale},
        }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(record, indent=1) + "\n")
    for dtype, numbers in record["dtypes"].items():
        print(dtype, {key: value for key, value in numbers.items() if key != "histogram"})
    for group in sorted(record["groups"], key=lambda group: -group["largest"])[:8]:
        print(f"{group['largest']:.3f}", *(group[key] for key in ("name", "dtype", "label", "array", "place")))


if __name__ == "__main__":
    main()
