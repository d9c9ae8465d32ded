"""How implementations differ that compute the same: layouts, packed sequences, results beside the output or in place."""

import numpy as np
import pytest

from minitf import oracle

ATTENTION, SCAN, MAMBA = "attention.dot_product", "recurrent.gated_linear_recurrence", "recurrent.selective_scan"
FEW = {"trials": 1, "sizes": ("tiny",)}


def attend(q, k, v, *, causal=False, mask=None, dropout=None, lse=None):
    """Softmax attention (B, H, T, E) with arithmetic in float32; with ``lse``, that too, in the dtype which it names."""
    kind = q.dtype
    wide = np.float64 if kind == np.float64 else np.float32
    q, k, v = (x.astype(wide) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[-3] // k.shape[-3], axis=-3) for x in (k, v))
    T, S = q.shape[-2], k.shape[-2]
    allowed = np.tri(T, S, S - T, dtype=bool) if causal else np.ones((T, S), bool)
    allowed = allowed if mask is None else allowed & mask
    logits = np.where(allowed, q @ k.swapaxes(-1, -2) * wide(q.shape[-1] ** -0.5), wide(-np.inf))
    top = logits.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(logits - np.where(np.isfinite(top), top, 0))
    total = e.sum(-1, keepdims=True)
    p = e / np.where(total == 0, 1, total)
    out = ((p if dropout is None else p * dropout.astype(wide)) @ v).astype(kind)
    if lse is None:
        return out
    with np.errstate(divide="ignore"):
        return out, (np.log(total) + np.where(np.isfinite(top), top, 0))[..., 0].astype(lse or kind)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", ["BTHE", "TBHE", {"q": "BTHE"}])
def test_another_order_of_axes(layout, dtype):
    order = layout if isinstance(layout, str) else "BHTE"
    orders = {name: tuple(map(order.index, "BHTE")) for name in "qkv"}
    if isinstance(layout, dict):
        orders["q"] = (0, 2, 1, 3)

    def implementation(q, k, v, **options):
        arrays = {"q": q, "k": k, "v": v}
        assert all(x.flags.c_contiguous for x in arrays.values())
        out = attend(*(x.transpose(orders[name]) for name, x in arrays.items()), **options)
        return out if isinstance(layout, dict) else out.transpose(np.argsort(orders["q"]))

    report = oracle.check(ATTENTION, implementation, dtype=dtype, gradients=False, **FEW, layout=layout)
    assert report.passed, report
    assert "layout" in str(report)
    report = oracle.check(ATTENTION, attend, dtype=dtype, gradients=False, **FEW, layout="BTHE")
    assert not report.passed


def test_axes_of_gradients_come_back():
    def forward(a, b, state, **options):
        a, b = a.swapaxes(1, 2), b.swapaxes(1, 2)
        h, out = state, np.empty_like(b)
        steps = range(b.shape[1])
        for t in reversed(steps) if options.get("reverse") else steps:
            h = out[:, t] = a[:, t] * h + b[:, t]
        return out.swapaxes(1, 2), h

    def backward(cotangents, a, b, state, **options):
        along, last = cotangents
        out, _ = forward(a, b, state, **options)
        a, out, along = (x.swapaxes(1, 2) for x in (a, out, along))
        da, db = np.empty_like(a), np.empty_like(a)
        steps = range(a.shape[1])
        order = list(steps) if options.get("reverse") else list(reversed(steps))
        g = last
        for i, t in enumerate(order):
            g = g + along[:, t]
            db[:, t] = g
            da[:, t] = g * (out[:, order[i + 1]] if i + 1 < len(order) else state)
            g = g * a[:, t]
        return da.swapaxes(1, 2), db.swapaxes(1, 2), g

    report = oracle.check(SCAN, forward, dtype="float32", backward=backward, **FEW, layout="BDT")
    assert report.passed, report

    def without(cotangents, *inputs, **options):
        da, db, dstate = backward(cotangents, *inputs, **options)
        return da.swapaxes(1, 2), db, dstate

    report = oracle.check(SCAN, forward, dtype="float32", backward=without, **FEW, layout="BDT")
    assert "a, or its gradient, has shape" in str(report)


def packed(q, k, v, *, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, causal=False, wrong=None):
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == np.int32
    out = np.zeros_like(q)
    for b in range(len(cu_seqlens_q) - 1):
        t, s = slice(*cu_seqlens_q[b : b + 2]), slice(*cu_seqlens_k[b : b + 2])
        assert t.stop - t.start <= max_seqlen_q
        assert s.stop - s.start <= max_seqlen_k
        if wrong == "sees the sequence before" and b:
            s = slice(max(0, s.start - 1), s.stop)
        if t.stop > t.start:
            out[t] = attend(*(x.swapaxes(0, 1) for x in (q[t], k[s], v[s])), causal=causal).swapaxes(0, 1)
    return out


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_packed_sequences(dtype):
    report = oracle.check(ATTENTION, packed, dtype=dtype, gradients=False, trials=1, sizes="small", layout="packed")
    assert report.passed, report
    assert "masked" in " ".join(report.notes)

    def wrong(*arrays, **options):
        return packed(*arrays, **options, wrong="sees the sequence before")

    assert not oracle.check(
        ATTENTION, wrong, dtype=dtype, gradients=False, trials=1, sizes="small", layout="packed"
    ).passed


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_log_sum_exp_beside_the_output(dtype):
    for kept in (None, np.float64 if dtype == "float64" else np.float32):

        def both(*arrays, factor=1, kept=kept, **options):
            out, lse = attend(*arrays, **options, lse=kept or arrays[0].dtype)
            return out, (lse * lse.dtype.type(factor)).astype(lse.dtype)

        report = oracle.check(ATTENTION, both, dtype=dtype, gradients=False, **FEW, auxiliary="lse")
        assert report.passed, report
        assert {row.name for row in report.rows} == {"out", "lse"}
    # In float32 an error is seen that bfloat16 would hide.
    factor = 1 + 1e-3 * (dtype != "float64")

    def off(*arrays, **options):
        return both(*arrays, factor=factor + 1e-12, **options)

    assert not oracle.check(ATTENTION, off, dtype=dtype, gradients=False, **FEW, auxiliary="lse").passed
    report = oracle.check(ATTENTION, attend, dtype=dtype, gradients=False, **FEW, auxiliary="lse")
    assert "fn returned 1 arrays; expected 2 (out, lse)" in str(report)


def test_log_sum_exp_of_saved_arrays():
    case = oracle.case(ATTENTION, dtype="float32", options="masked")
    arrays = [x.astype(np.float32) for x in case.inputs.values()]
    out, lse = attend(*arrays, **case.options, lse=np.float32)
    assert oracle.judge(ATTENTION, case, {"out": out, "lse": lse}).passed
    assert not oracle.judge(ATTENTION, case, {"out": out, "lse": lse + 1e-3}).passed
    assert oracle.judge(ATTENTION, case, out.swapaxes(1, 2), layout="BTHE").passed
    assert "expected" in str(oracle.judge(ATTENTION, case, out, layout="BTHE"))
    with pytest.raises(ValueError, match="unpack"):
        oracle.judge(ATTENTION, case, out, layout="packed")


def test_dropout_that_somebody_else_has_drawn():
    chosen = {"options": ["dropout=0.2", "causal,dropout=0.2"], "gradients": False, **FEW}
    assert oracle.check(ATTENTION, attend, dtype="float32", **chosen).passed

    def unscaled(*arrays, dropout, **options):
        return attend(*arrays, **options, dropout=np.minimum(dropout, 1))

    assert not oracle.check(ATTENTION, unscaled, dtype="float32", **chosen).passed
    assert "dropout=0.2" not in oracle.labels(ATTENTION)


def test_a_state_that_is_changed_in_place():
    def update(a, b, state, *, reverse=False, forget=False):
        out = np.empty_like(b)
        steps = range(b.shape[1])
        for t in reversed(steps) if reverse else steps:
            h = a[:, t] * state + b[:, t]
            out[:, t] = h
            if not forget:
                state[:] = h
        return out

    chosen = {"dtype": "float32", **FEW, "in_place": {"state": "state"}}
    report = oracle.check(SCAN, update, **chosen)
    assert report.passed, report
    assert report.notes == ["gradients were not checked"]
    assert not oracle.check(SCAN, lambda *a, **o: update(*a, **o, forget=True), **chosen).passed
    # Nobody expects it here:
    report = oracle.check(SCAN, lambda *a, **o: (update(*a, **o), a[2].copy()), dtype="float32", gradients=False, **FEW)
    assert report.passed
    assert "fn changes its input state" in str(report)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "BTHX"}, "layout reorders the axes of attention.dot_product, which are q BHTE"),
        ({"layout": {"q": "BTH"}}, "layout reorders the axes"),
        ({"layout": {"x": "BTHE"}}, "layout reorders the axes"),
        ({"layout": 3}, "layout is a string such as 'BTHE'"),
        ({"auxiliary": ["lse", "weights"]}, "has lse beside its outputs, not weights"),
        ({"in_place": {"state": "q"}}, "says in which input an output is left; .* the outputs out"),
        ({"in_place": {"out": "x"}}, "the inputs q, k, v"),
        ({"in_place": {"out": "q"}, "framework": "jax"}, "JAX's arrays do not change"),
        ({"in_place": {"out": "q"}, "gradients": True}, "what is changed in place cannot be differentiated"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        oracle.check(ATTENTION, attend, **options)


def test_names_without_such_forms():
    with pytest.raises(ValueError, match="no packed form; its axes are u BTP"):
        oracle.check(MAMBA, attend, layout="packed")
    with pytest.raises(ValueError, match="has nothing beside its outputs, not lse"):
        oracle.check(MAMBA, attend, auxiliary=["lse"])
    with pytest.raises(ValueError, match="no registered axes"):
        oracle.check("feedforward.mixture_of_experts", attend, layout="TB")
