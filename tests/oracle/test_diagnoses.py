"""The oracle names mistakes: NumPy implementations with one put in, and what the first diagnosis says."""

import time

import numpy as np
import pytest

from minitf import autodiff as mt
from minitf import oracle
from minitf.oracle.answers import case as make_case
from minitf.oracle.diagnoses import diagnose
from minitf.oracle.references import find
from minitf.registry import REFERENCES, reference


def exact_softmax(z, axis=-1):
    top = z.max(axis, keepdims=True)
    e = np.exp(z - np.where(np.isfinite(top), top, 0))
    total = e.sum(axis, keepdims=True)
    return e / np.where(total == 0, 1, total)


def attention(q, k, v, *, causal=False, mask=None, wrong=""):
    (B, H, T, E), (K, S) = q.shape, k.shape[1:3]
    group = np.arange(H) % K if wrong == "groups" else np.arange(H) // (H // K)
    k, v = k[:, group], v[:, group]
    if wrong == "interleaved":
        q, k, v = (x.reshape(B, x.shape[2], H, -1).swapaxes(1, 2) for x in (q, k, v))
    allowed = np.tri(T, S, S - T + {"one more": 1, "one fewer": -1}.get(wrong, 0), dtype=bool) if causal else True
    if mask is not None:
        allowed = allowed & (~mask if wrong == "mask inverted" else mask)
    if wrong == "causal inverted" and causal:
        allowed = ~allowed
    if wrong == "stale":
        allowed = allowed & (np.arange(S) < S - 1)
    scale = {"no scale": 1.0, "scale twice": 1 / E}.get(wrong, E**-0.5)
    z = np.where(allowed, q @ k.swapaxes(-1, -2) * q.dtype.type(scale), q.dtype.type(-np.inf))
    if wrong == "late values":
        v = np.roll(v, 1, 2)
    if wrong == "tiles":
        out, total = np.zeros(1, q.dtype), np.zeros(1, q.dtype)
        top = np.full((B, H, T, 1), -np.inf, q.dtype)
        for i in range(0, S, 8):
            new = np.maximum(top, z[..., i : i + 8].max(-1, keepdims=True))
            e = np.exp(z[..., i : i + 8] - np.where(np.isfinite(new), new, 0))
            out, total = out + e @ v[:, :, i : i + 8], total * np.exp(top - new) + e.sum(-1, keepdims=True)
            top = new
        return out / total
    if wrong == "means":
        return exact_softmax(np.where(z == -np.inf, q.dtype.type(-1e30), z)) @ v
    if wrong == "NaN":
        with np.errstate(invalid="ignore"):
            return np.exp(z) / np.exp(z).sum(-1, keepdims=True) @ v
    out = exact_softmax(z, -2 if wrong == "axis" else -1) @ v
    return out.swapaxes(1, 2).reshape(out.shape) if wrong == "heads" else out


ATTENTION = [
    ("no scale", "default", "without the scale 1/sqrt(E)"),
    ("scale twice", "default", "the scale 1/sqrt(E) applied twice"),
    ("one more", "causal", "off by one (one key too many)"),
    ("one fewer", "causal", "off by one (one key too few)"),
    ("causal inverted", "causal", "causal mask inverted"),
    ("mask inverted", "masked", "the mask inverted"),
    ("axis", "default", "softmax over the queries"),
    ("tiles", "default", "accumulator is not rescaled when the largest logit grows (tiles of 8 keys)"),
    ("groups", "K=2,causal", "h % K instead of h // (H/K)"),
    ("heads", "default", "axes 1 and 2 (H and T) exchanged in memory"),
    ("interleaved", "default", "heads are interleaved"),
    ("stale", "default", "without the last key and value"),
    ("late values", "default", "values one position late"),
    ("means", "masked", "queries without keys get the mean of the values"),
    ("NaN", "masked", "is NaN in the rows that must be zero"),
]


@pytest.mark.parametrize(("wrong", "label", "told"), ATTENTION)
@pytest.mark.parametrize("name", ["attention.dot_product", "attention.differential"])
def test_attention(name, wrong, label, told):
    def dot_product(q, k, v, **options):
        return attention(q, k, v, wrong=wrong, **options)

    def differential(q1, k1, q2, k2, v, *, lambda_, **options):
        return dot_product(q1, k1, v, **options) - q1.dtype.type(lambda_) * dot_product(q2, k2, v, **options)

    if wrong == "groups" and name == "attention.differential":
        pytest.skip("it is asked with K = 1: every head reads the same keys")
    fn = dot_product if name == "attention.dot_product" else differential
    with np.errstate(all="ignore"):
        report = oracle.check(name, fn, trials=1, sizes="small", gradients=False, options=label)
    assert not report.passed
    assert told in report.diagnoses[0]
    assert len(report.diagnoses) == 1


def test_the_right_answer_has_no_diagnosis():
    assert oracle.check("attention.dot_product", attention, trials=1, gradients=False).diagnoses == []


def test_noise_is_no_mistake():
    def noisy(*arrays, **options):
        out = attention(*arrays, **options)
        return out + np.random.default_rng(0).normal(size=out.shape).astype(out.dtype)

    report = oracle.check("attention.dot_product", noisy, trials=1, gradients=False)
    assert not report.passed
    assert report.diagnoses == []


def told_of(name, case, outputs=None, gradients=None, tolerance=1e-6):
    """The diagnoses of arrays of which some are not within the tolerance."""
    got = {("output", key): x for key, x in case.outputs.items()}
    got |= {("gradient", key): x for key, x in case.gradients.items()}
    wrong = {("output", key): x for key, x in (outputs or {}).items()}
    wrong |= {("gradient", key): x for key, x in (gradients or {}).items()}
    tolerances = {key: np.full(x.shape, tolerance) for key, x in got.items()}
    failed = {key for key, x in wrong.items() if not (np.abs(x - got[key]) <= tolerance).all()}
    start = time.perf_counter()
    found = diagnose(find(name), case, {**got, **wrong}, tolerances, failed)
    assert time.perf_counter() - start < 20  # about a second, when nothing else runs
    return found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda g: {"k": g["k"] * 0}, "gradient of k is all zeros"),
        (lambda g: {"k": g["k"] / 2}, "gradient of k is 0.5 times what it should be"),
        (lambda g: {"v": -g["v"]}, "gradient of v has the wrong sign"),
        (lambda g: {"k": g["v"]}, "gradient of k is what the gradient of v should be"),
        (lambda g: {"q": g["q"] * np.where(np.arange(17) == 3, np.nan, 1)[:, None]}, "gradient of q is NaN in"),
    ],
)
def test_gradients(change, told):
    case = oracle.case("attention.dot_product")
    found = told_of("attention.dot_product", case, gradients=change(case.gradients))
    assert told in found[0]


def test_exponentials_without_the_largest_logit_overflow():
    case = oracle.case("attention.dot_product", dtype="float32")
    inputs = {**case.inputs, "q": case.inputs["q"] * 40}
    object.__setattr__(case, "inputs", inputs)  # larger than any case draws them
    case.outputs["out"] = np.asarray(find(case.name).function(*inputs.values()))
    q, k, v = (x.astype(np.float32) for x in inputs.values())
    with np.errstate(all="ignore"):
        e = np.exp(q @ k.swapaxes(-1, -2) * np.float32(0.25))
        out = e / e.sum(-1, keepdims=True) @ v
    bad = ~np.isfinite(out)
    assert bad.any()
    assert not bad.all()
    found = told_of(case.name, case, {"out": out.astype(np.float64)}, tolerance=1e-3)
    assert "without the largest logit subtracted" in found[0]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("state", "with state forgotten"),
        ("late", "with a one step late"),
        ("reverse", "with a in reverse order"),
        ("out late", "out is one step late along axis 1 (T)"),
    ],
)
def test_a_recurrence(wrong, told):
    name = "recurrent.gated_linear_recurrence"
    case = oracle.case(name)
    a, b, h = (case.inputs[key] for key in ("a", "b", "state"))
    if wrong == "state":
        h = h * 0
    if wrong == "late":
        a = np.concatenate([a[:, :1] * 0, a[:, :-1]], 1)
    if wrong == "reverse":
        a = a[:, ::-1]
    states = [h]
    for t in range(a.shape[1]):
        states.append(a[:, t] * states[-1] + b[:, t])
    outputs = {"out": np.stack(states[:-1] if wrong == "out late" else states[1:], 1)}
    if wrong != "out late":
        outputs["state"] = states[-1]
    assert told in told_of(name, case, outputs)[0]


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("recurrent.selective_scan", {"D": 0.0}, "with zeros for D"),
        ("recurrent.wkv4", {"w": -1.0}, "with -w instead of w"),
        ("recurrent.wkv6", {"u": 0.0}, "with zeros for u"),
        ("recurrent.wkv6", {"state": 0.0}, "with state forgotten"),
    ],
)
def test_other_recurrences(name, change, told):
    case = oracle.case(name)
    inputs = {key: x * change.get(key, 1.0) for key, x in case.inputs.items()}
    out = find(name).function(*inputs.values(), **case.options)
    outputs = dict(zip(case.outputs, out if isinstance(out, tuple) else (out,), strict=True))
    assert told in told_of(name, case, {key: np.asarray(x) for key, x in outputs.items()})[0]


def experts(x, router, w_up, w_down, w_gate, *, k, normalize, wrong=""):
    z = x @ router
    chosen = np.argsort(-z, -1, kind="stable")[:, :k]
    p = np.take_along_axis(exact_softmax(z), chosen, -1)
    if normalize and wrong != "not normalised":
        p = p / p.sum(-1, keepdims=True)
    if wrong == "unweighted":
        p = np.ones_like(p)
    if wrong == "reversed":
        p = p[:, ::-1]
    out = np.zeros_like(x)
    for i, (token, mine) in enumerate(zip(x, chosen, strict=True)):
        for place, e in enumerate(mine):
            gate, up = token @ w_gate[e], token @ w_up[e]
            if wrong == "exchanged":
                gate, up = up, gate
            hidden = up * (gate if wrong == "no activation" else gate / (1 + np.exp(-gate)))
            out[i] += p[i, place] * (hidden @ w_down[e])
    return out, chosen


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("not normalised", "without normalize"),
        ("unweighted", "with 1 for every weight of the softmax"),
        ("reversed", "with the weights of the softmax in reverse order"),
        ("exchanged", "exchanged|activation on the other half"),
        ("no activation", "with the activation forgotten in the gate"),
    ],
)
def test_experts(wrong, told):
    def fn(*arrays, **options):
        return experts(*arrays, wrong=wrong, **options)

    report = oracle.check(
        "feedforward.mixture_of_experts", fn, trials=1, sizes="small", gradients=False, options="default"
    )
    assert not report.passed
    assert any(part in report.diagnoses[0] for part in told.split("|"))


def small_rows(draw, size):
    shape = (4, 6)
    inputs = {"x": draw.normal(shape) * 0.1 + 0.05, "weight": draw.uniform(6, 0.5, 1.5), "bias": draw.normal(6)}
    return inputs, {"eps": 1e-2}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("outside", "with epsilon outside the root instead of inside"),
        ("unbiased", "with the variance divided by n - 1 instead of n"),
        ("mean", "with the mean not subtracted"),
        ("no bias", "with bias forgotten"),
        ("no weight", "with ones for weight"),
        ("no epsilon", "with epsilon forgotten|without eps"),
    ],
)
def test_norms(wrong, told):
    from minitf.nn.functional import layer_norm

    name = "test.norm_of_small_rows"
    entry = reference(name, layer_norm, example=small_rows, differentiable=("x", "weight", "bias"))
    try:
        case = make_case(name)
        x, weight, bias = case.inputs.values()
        y = x if wrong == "mean" else x - x.mean(-1, keepdims=True)
        square = (y * y).sum(-1, keepdims=True) / (5 if wrong == "unbiased" else 6)
        root = (
            np.sqrt(square) + 1e-2 if wrong == "outside" else np.sqrt(square + (0 if wrong == "no epsilon" else 1e-2))
        )
        out = y / root * (1 if wrong == "no weight" else weight) + (0 if wrong == "no bias" else bias)
        tolerances = {("output", "out"): np.full(out.shape, 1e-6)}
        found = diagnose(entry, case, {("output", "out"): out}, tolerances, {("output", "out")})
        assert any(part in found[0] for part in told.split("|"))
    finally:
        REFERENCES.pop(name)


def test_a_technique_registers_mistakes_of_its_own():
    name = "test.square"
    entry = reference(
        name,
        mt.square,
        example=lambda draw, size: ({"x": draw.normal((3, 4))}, {}),
        differentiable=("x",),
        mistakes={"with the cube instead of the square": lambda x: x * x * x},
    )
    try:
        case = make_case(name)
        x, g = case.inputs["x"], case.cotangents["out"]
        tolerances = {("output", "out"): np.full((3, 4), 1e-9), ("gradient", "x"): np.full((3, 4), 1e-9)}
        wrong = {("output", "out"): x**3, ("gradient", "x"): 3 * x**2 * g}
        found = diagnose(entry, case, wrong, tolerances, set(wrong))
        assert found == ["this is what comes out with the cube instead of the square (small default seed 0)"]
        wrong["gradient", "x"] = x
        found = diagnose(entry, case, wrong, tolerances, set(wrong))
        assert "the gradients do not follow" in found[0]
    finally:
        REFERENCES.pop(name)
