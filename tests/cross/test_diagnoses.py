"""Mistakes in PyTorch and JAX, in float32 and bfloat16: how often is the first diagnosis the right one?"""

import collections
import functools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")

from minitf import oracle  # noqa: E402

pytestmark = pytest.mark.cross

#: more take minutes each
SEEDS = (0,)


def wide(x):
    return x.float() if isinstance(x, torch.Tensor) else x.astype(jnp.float32)


def narrow(y, x):
    return y.to(x.dtype) if isinstance(x, torch.Tensor) else y.astype(x.dtype)


def softmax(z, axis=-1):
    return torch.softmax(z, axis) if isinstance(z, torch.Tensor) else jax.nn.softmax(z, axis)


def fixed(x):
    """Without a gradient."""
    return x.detach() if isinstance(x, torch.Tensor) else jax.lax.stop_gradient(x)


def tri(lib, T, S, k):
    band = np.tri(T, S, k, dtype=bool)
    return torch.tensor(band) if lib is torch else jnp.asarray(band)


def attention(q, k, v, *, causal=False, mask=None, wrong="", lib=torch):
    """What both libraries call by the same names, once."""
    kind, (B, H, T, E), (K, S) = q, q.shape, k.shape[1:3]
    group = np.arange(H) % K if wrong == "groups" else np.arange(H) // (H // K)
    q, k, v = wide(q), wide(k)[:, group], wide(v)[:, group]
    if wrong == "interleaved":
        q, k, v = (x.reshape(B, x.shape[2], H, -1).swapaxes(1, 2) for x in (q, k, v))
    offset = {"one more": 1, "one fewer": -1}.get(wrong, 0)
    allowed = tri(lib, T, S, S - T + offset) if causal and wrong != "not causal" else tri(lib, T, S, S)
    if wrong == "asked by nobody":
        allowed = tri(lib, T, S, S - T)
    if mask is not None:
        allowed = allowed & (~mask if wrong == "mask inverted" else mask)
    if wrong == "causal inverted":
        allowed = ~allowed
    if wrong == "stale":
        allowed = allowed & tri(lib, 1, S, S - 2)
    scale = {"no scale": 1.0, "scale twice": 1 / E, "base 2": math.log(2) * E**-0.5}.get(wrong, E**-0.5)
    z = q @ k.swapaxes(-1, -2) * scale
    z = lib.where(allowed, z, -1e30 if wrong == "means" else -math.inf)
    if wrong == "late values":
        v = lib.roll(v, 1, 2)
    if wrong in ("accumulator", "denominator"):
        return narrow(tiles(z, v, wrong, lib), kind)
    if wrong in ("NaN", "means"):
        return narrow(softmax(z) @ v, kind)
    top = fixed(lib.amax(z, -1, keepdims=True))
    e = lib.exp(z - lib.where(lib.isfinite(top), top, 0.0))
    total = e.sum(-1, keepdims=True)
    p = e if wrong == "not divided" else e / lib.where(total == 0, 1.0, total)
    if wrong == "axis":
        p = softmax(z, -2)
    out = p @ v
    return narrow(out.swapaxes(1, 2).reshape(out.shape) if wrong == "heads" else out, kind)


def tiles(z, v, wrong, lib):
    """An online softmax over tiles of 8 keys in which something is not rescaled."""
    out, total, top = 0.0, 0.0, fixed(lib.amax(z[..., :1], -1, keepdims=True)) - 30
    for i in range(0, z.shape[-1], 8):
        new = lib.maximum(top, fixed(lib.amax(z[..., i : i + 8], -1, keepdims=True)))
        e, factor = lib.exp(z[..., i : i + 8] - new), lib.exp(top - new)
        out = out * (1.0 if wrong == "accumulator" else factor) + e @ v[:, :, i : i + 8]
        total = total * (1.0 if wrong == "denominator" else factor) + e.sum(-1, keepdims=True)
        top = new
    return out / total


#: (mistake, option label, part of the right diagnosis)
ATTENTION = [
    ("no scale", "default", "without the scale"),
    ("scale twice", "default", "applied twice"),
    ("base 2", "default", "2**x"),
    ("one more", "causal", "one key too many"),
    ("one fewer", "causal", "one key too few"),
    ("not causal", "causal", "without the causal mask|without causal"),
    ("asked by nobody", "default", "nobody asked for"),
    ("causal inverted", "causal", "causal mask inverted"),
    ("mask inverted", "masked", "mask inverted"),
    ("axis", "default", "over the queries"),
    ("not divided", "default", "without dividing"),
    ("accumulator", "default", "accumulator is not rescaled"),
    ("denominator", "default", "old denominator is not rescaled"),
    ("groups", "K=2,causal", "h % K"),
    ("heads", "default", "exchanged in memory"),
    ("interleaved", "default", "interleaved"),
    ("stale", "default", "last key and value"),
    ("late values", "default", "values one position late"),
    ("NaN", "masked", "rows that must be zero"),
    ("means", "masked", "mean of the values"),
]


def differential(q1, k1, q2, k2, v, *, lambda_, wrong="", lib=torch, **options):
    first, second = (attention(q, k, v, wrong=wrong, lib=lib, **options) for q, k in ((q1, k1), (q2, k2)))
    lambda_ = {"added": -lambda_, "no lambda": 0.0}.get(wrong, lambda_)
    return narrow(wide(first) - lambda_ * wide(second), q1)


def recurrence(a, b, state, *, reverse=False, wrong="", lib=torch):
    kind = a
    a, b, h = wide(a), wide(b), wide(state)
    a = lib.roll(a, 1, 1) * np.float32(1) if wrong == "late" else a
    if wrong == "late":
        a = lib.concatenate([a[:, :1] * 0, a[:, 1:]], 1)
    h = h * 0 if wrong == "state" else h
    out = []
    for t in range(a.shape[1]):
        h = a[:, t] * h + (b[:, t] if wrong != "no input" else 0 * b[:, t])
        out.append(h)
    return narrow(lib.stack(out, 1), kind), narrow(h, kind)


def layer_norm(x, weight, bias, *, eps=1e-5, wrong="", lib=torch):
    kind, n = x, x.shape[-1]
    x, weight, bias = wide(x), wide(weight), wide(bias)
    y = x if wrong == "mean" else x - x.sum(-1, keepdims=True) / n
    square = (y * y).sum(-1, keepdims=True) / (n - 1 if wrong == "n - 1" else n)
    y = y / (lib.sqrt(square) + eps if wrong == "outside" else lib.sqrt(square + eps))
    y = y * (1 if wrong == "no weight" else weight) + (0 if wrong == "no bias" else bias)
    return narrow(y, kind)


KINDS = [
    *(("attention.dot_product", attention, *kind) for kind in ATTENTION),
    *(("attention.differential", differential, *kind) for kind in ATTENTION if kind[0] != "groups"),
    ("attention.differential", differential, "added", "default", "lambda_ of the opposite sign"),
    ("attention.differential", differential, "no lambda", "default", "without lambda_"),
    ("recurrent.gated_linear_recurrence", recurrence, "state", "default", "state forgotten"),
    ("recurrent.gated_linear_recurrence", recurrence, "late", "default", "a one step late"),
    ("recurrent.gated_linear_recurrence", recurrence, "no input", "default", "zeros for b"),
    ("recurrent.gated_linear_recurrence", recurrence, "", "reverse", "without reverse"),
    ("nn.layer_norm", layer_norm, "mean", "default", "mean not subtracted"),
    ("nn.layer_norm", layer_norm, "n - 1", "default", "n - 1"),
    ("nn.layer_norm", layer_norm, "outside", "eps=0.01", "epsilon outside"),
    ("nn.layer_norm", layer_norm, "no weight", "default", "ones for weight"),
    ("nn.layer_norm", layer_norm, "no bias", "default", "bias forgotten"),
]


def test_the_first_diagnosis_is_the_right_one():
    """In nine of ten cases at least that the oracle finds wrong at all; the table has one line for each mistake."""
    told, missed = collections.Counter(), collections.Counter()
    columns = [(framework, dtype) for framework in ("torch", "jax") for dtype in ("float32", "bfloat16")]
    lines, total, right, unseen = [], 0, 0, []
    for name, fn, wrong, label, part in KINDS:
        cells = []
        for framework, dtype in columns:
            implementation = functools.partial(fn, wrong=wrong, lib=torch if framework == "torch" else jnp)
            hits = count = 0
            for seed in SEEDS:
                report = oracle.check(
                    name,
                    implementation,
                    framework,
                    dtype,
                    trials=1,
                    sizes="small",
                    seed=seed,
                    options=label,
                    gradients=True,
                )
                if report.passed:
                    unseen.append(f"{name} {wrong} {framework} {dtype}")
                    continue
                count += 1
                first = report.diagnoses[0] if report.diagnoses else "; ".join(report.problems) or "nothing"
                hit = any(x in first for x in part.split("|"))
                hits += hit
                if not hit:
                    missed[f"{name}, {wrong}, {framework} {dtype}: {first[:110]}"] += 1
            cells.append(f"{hits}/{count}")
            total, right = total + count, right + hits
            told[framework, dtype] += hits
        lines.append(f"{name:34} {wrong or 'reverse':16} " + " ".join(f"{cell:>14}" for cell in cells))
    print()
    print(" " * 51 + " ".join(f"{' '.join(column):>14}" for column in columns))
    print("\n".join(lines))
    print(f"right: {right} of {total}; found by nobody: {len(unseen)}", *sorted(set(unseen)), sep="\n  ")
    print("not named:", *(f"{n} x {what}" for what, n in missed.items()), sep="\n  ")
    assert total >= 0.9 * len(KINDS) * len(columns) * len(SEEDS)
    assert right >= 0.9 * total
