"""``cost``: closed forms for FLOPs, MACs and bytes, live memory, parameters, scopes; ``saved_bytes``."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import numpy as np
import pytest

import minitf as mt
from minitf.autodiff.cost import saved_bytes, scope
from minitf.autodiff.ops.convolution import conv2d

F64 = 8


def normal(*shape: int) -> mt.Tensor:
    return mt.tensor(np.random.default_rng(0).standard_normal(shape))


def leaf(*shape: int) -> mt.Tensor:
    return mt.tensor(np.random.default_rng(1).standard_normal(shape), requires_grad=True)


# -- FLOPs and MACs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "batch"), [((5, 7), (7, 3), 1), ((4, 2, 5, 7), (7, 3), 8), ((4, 1, 5, 7), (2, 7, 3), 8)]
)
def test_matmul(x, y, batch):
    with mt.cost() as c:
        mt.matmul(normal(*x), normal(*y))
    assert c.macs == batch * 5 * 7 * 3
    assert c.flops == 2 * c.macs
    assert c.bytes_read == F64 * (np.prod(x) + np.prod(y))
    assert c.bytes_written == F64 * batch * 5 * 3
    assert c.by_primitive["matmul"].calls == 1


def test_an_mlp():
    T, D, F = 6, 5, 20
    x, w1, b1, w2, b2 = normal(T, D), leaf(D, F), leaf(F), leaf(F, D), leaf(D)
    with mt.cost() as c, mt.no_grad():
        mt.tanh(x @ w1 + b1) @ w2 + b2
    assert c.macs == 2 * T * D * F
    assert c.flops == 2 * c.macs + T * F + T * F + T * D
    assert c.parameters == 2 * D * F + F + D
    assert c.bytes_written == F64 * (3 * T * F + 2 * T * D)
    assert c.bytes_read == F64 * (T * D + D * F + T * F + F + T * F + T * F + F * D + T * D + D)


def test_attention():
    B, H, T, S, E = 2, 3, 5, 7, 4
    q, k, v = normal(B, H, T, E), normal(B, H, S, E), normal(B, H, S, E)
    with mt.cost() as c:
        logits = mt.matmul(q, mt.swapaxes(k, -1, -2))
        weights = mt.exp(logits - mt.logsumexp(logits, -1, keepdims=True))
        mt.matmul(weights, v)
    rows, map_ = B * H * T, B * H * T * S
    assert c.macs == 2 * map_ * E
    assert c.by_primitive["logsumexp"].flops == map_ + map_ + (map_ - rows) + 2 * rows  # shift, exp, sum, log, shift
    assert c.flops == 2 * c.macs + (3 * map_ + rows) + map_ + map_


def test_einsum_runs_on_matmul():
    B, H, T, S, E = 2, 3, 5, 7, 4
    with mt.cost() as c:
        mt.einsum("bthe,bshe->bhts", normal(B, T, H, E), normal(B, S, H, E))
    assert c.macs == B * H * T * S * E
    assert c.flops == 2 * c.macs


def test_convolution():
    with mt.cost() as c:
        conv2d(normal(2, 6, 9, 8), normal(4, 3, 3, 3), groups=2, padding=1)
    assert c.macs == 2 * 4 * 9 * 8 * 3 * 3 * 3
    assert c.flops == 2 * c.macs


def test_elementwise_reductions_and_what_is_free():
    x, n = normal(4, 6), np.arange(24).reshape(4, 6)
    for operation, flops in (
        (lambda: mt.exp(x), 24),
        (lambda: x * 2.0 + 1.0, 48),
        (lambda: x + normal(6), 24),
        (lambda: mt.sum(x), 23),
        (lambda: mt.sum(x, axis=1), 20),
        (lambda: mt.mean(x, axis=0), 18 + 6),
        (lambda: mt.cumsum(x, axis=1), 20),
        (lambda: mt.round(x), 24),
        (lambda: x > 0, 0),
        (lambda: mt.where(x > 0, x, 0.0), 0),
        (lambda: mt.max(x, axis=1), 0),
        (lambda: mt.sort(x), 0),
        (lambda: x[[0, 0, 1]], 0),
        (lambda: mt.concatenate([x, x]), 0),
        (lambda: mt.astype(x, "float32"), 0),
        (lambda: mt.equal(n, 3), 0),
    ):
        with mt.cost() as c:
            operation()
        assert c.flops == flops
        assert c.macs == 0


# -- bytes --------------------------------------------------------------------------------------------------------


def test_views_cost_nothing():
    x = normal(4, 6)
    with mt.cost() as c:
        for view in (
            mt.reshape(x, (24,)), x.T, x[1:, ::2], mt.expand_dims(x, 0), mt.broadcast_to(x, (5, 4, 6)), mt.flip(x),
        ):  # fmt: skip
            assert np.shares_memory(view.numpy(), x.numpy())
    assert c.calls == 6
    assert c.bytes_read == c.bytes_written == c.flops == c.peak_bytes == 0


def test_booleans_are_bytes_and_float32_is_four():
    x = mt.astype(normal(10), "float32")
    with mt.cost() as c:
        positive = x > 0
    assert (c.bytes_read, c.bytes_written) == (40, 10)
    with mt.cost() as c:
        mt.where(positive, x, 0.0)
    assert (c.bytes_read, c.bytes_written) == (10 + 40, 40)


def test_broadcast_memory_is_read_once():
    row = normal(6)
    with mt.cost() as c:
        mt.broadcast_to(row, (100, 6)) * mt.broadcast_to(row, (100, 6))
    assert c.bytes_read == 2 * 6 * F64
    assert c.bytes_written == 600 * F64


def test_a_look_up_reads_what_it_returns():
    table = leaf(1000, 16)
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    with mt.cost() as c, mt.no_grad():
        table[ids]
    assert c.flops == 0
    assert c.bytes_read == 6 * 16 * F64 + ids.nbytes
    assert c.bytes_written == 6 * 16 * F64
    assert c.parameters == 16_000


# -- the backward sweep -------------------------------------------------------------------------------------------


def test_the_backward_sweep_is_counted_as_executed():
    T, D, F = 6, 5, 4
    x, w = leaf(T, D), leaf(D, F)
    with mt.cost() as forward:
        y = x @ w
    with mt.cost() as backward:
        y.backward(normal(T, F))
    assert forward.macs == T * D * F
    assert backward.macs == 2 * forward.macs
    with mt.cost() as both:
        mt.grad(lambda x: mt.sum(x @ w))(x)
    assert both.macs == 2 * forward.macs  # nobody asked for the gradient of w


def test_contexts_nest_and_end():
    x = normal(3, 3)
    with mt.cost() as outer:
        x @ x
        with mt.cost() as inner:
            mt.exp(x)
    x @ x
    assert outer.flops == 2 * 27 + 9
    assert inner.flops == 9
    assert set(outer.by_primitive) == {"matmul", "exp"}
    failed = mt.cost()
    with pytest.raises(mt.ShapeError), failed:
        mt.exp(x) + normal(2)
    mt.exp(x)
    assert failed.flops == 9


# -- memory -------------------------------------------------------------------------------------------------------

N = 1000
BYTES = N * F64


def test_what_nobody_keeps_is_freed():
    x = normal(N)
    with mt.cost() as c, mt.no_grad():
        for _ in range(10):
            x = mt.exp(-x)
    assert c.peak_bytes == 3 * BYTES  # the last x, its negation and the next x
    assert c.bytes_written == 20 * BYTES


def test_recording_keeps_what_the_backward_sweep_needs():
    x = leaf(N)
    with mt.cost() as c:
        y = x
        for _ in range(10):
            y = mt.exp(-y)
    assert c.peak_bytes == 11 * BYTES  # ten results of exp, and the last negation beside them
    del y
    with mt.cost() as c:
        y = x
        for _ in range(10):
            y = y + 1.0
    assert c.peak_bytes == 2 * BYTES


def test_the_sweep_frees_residuals_as_it_goes():
    x = leaf(N)
    with mt.cost() as c:
        y = x
        for _ in range(20):
            y = mt.exp(-y)
        total = mt.sum(y)
        del y
        forward = c.peak_bytes
        total.backward()
        kept = c.peak_bytes
    assert forward == 21 * BYTES
    assert kept == 21 * BYTES + F64  # every step frees one result and makes one cotangent
    with mt.cost() as c:
        y = x
        for _ in range(20):
            y = mt.exp(-y)
        mt.sum(y).backward(retain_graph=True)
    assert c.peak_bytes == 22 * BYTES + F64  # the results stay, beside a cotangent and the next


def test_views_keep_their_buffer_alive_and_count_once():
    x = normal(10, 100)
    with mt.cost() as c:
        rows = [mt.exp(x)[i] for i in range(10)]  # each row holds its whole array
        del rows
        y = mt.exp(x)
        views = [y.T, y[1:], mt.reshape(y, (-1,))]
    assert len(views) == 3
    assert c.peak_bytes == 10 * x.nbytes


def test_checkpoint_trades_memory_for_flops():
    def block(x):
        for _ in range(5):
            x = mt.sin(x)
        return x

    def network(x, wrap):
        for _ in range(4):
            x = wrap(block)(x)
        return mt.sum(x)

    def run(wrap):
        with mt.cost() as c:
            mt.grad(lambda x: network(x, wrap))(normal(N))
        gc.collect()
        return c

    plain, thrifty = run(lambda f: f), run(mt.checkpoint)
    assert plain.peak_bytes >= 20 * BYTES
    assert thrifty.peak_bytes < 16 * BYTES
    assert thrifty.flops == plain.flops + 20 * N
    assert thrifty.by_primitive["cos"] == plain.by_primitive["cos"]


# -- parameters ---------------------------------------------------------------------------------------------------


def test_parameters_are_distinct_leaves_that_were_read():
    w, b, unused = leaf(4, 3), leaf(3), leaf(50)
    x = normal(2, 4)
    with mt.cost() as c:
        for _ in range(3):
            y = x @ w + b
        y = y @ w.T  # the same memory again
    assert c.parameters == 12 + 3
    assert unused.size == 50
    with mt.cost() as c:
        x @ x.T
    assert c.parameters == 0


def test_frozen_tied_and_differentiated_parameters_count():
    w = leaf(4, 3)
    w.requires_grad = False
    tied = mt.Tensor(w.data, requires_grad=True)
    x = normal(2, 4)
    with mt.cost() as c:
        x @ w
        x @ tied
    assert c.parameters == 12
    with mt.cost() as c:
        mt.grad(lambda w: mt.sum(x @ w))(tied)
    assert c.parameters == 12


def test_parameters_in_one_buffer_are_told_apart():
    flat = np.zeros(10)
    first, second = mt.Tensor(flat[:4], requires_grad=True), mt.Tensor(flat[4:], requires_grad=True)
    with mt.cost() as c:
        mt.exp(first)
    assert c.parameters == 4
    with mt.cost() as c:
        mt.exp(first[1:])
        mt.exp(second)
        mt.exp(mt.tensor(np.zeros(3), requires_grad=True))  # made inside
    assert c.parameters == 10 + 3


# -- scopes and reports -------------------------------------------------------------------------------------------


class Block:
    """What ``scope`` asks of a module."""

    def __init__(self, **children: Block):
        self.children = children

    def named_modules(self, prefix: str = ""):
        yield prefix, self
        for name, child in self.children.items():
            yield from child.named_modules(f"{prefix}.{name}".strip("."))


def test_scopes_by_name():
    x = normal(10)
    with mt.cost() as c:
        mt.exp(x)
        with scope("encoder"):
            mt.exp(x)
            with scope("head"):
                mt.exp(x)
        with scope("encoder"), scope("head"):
            mt.exp(x)
    assert c.flops == 40
    assert {path: row.flops for path, row in c.by_scope.items()} == {"encoder": 30, "encoder.head": 20}


def test_scopes_of_modules_are_their_paths_from_the_outermost():
    leaf_module = Block()
    middle = Block(inner=leaf_module)
    root = Block(first=middle, second=Block())
    x = normal(10)
    with mt.cost() as c:
        with scope(root):
            mt.exp(x)
            with scope(middle), scope("part"), scope(leaf_module):
                mt.exp(x)
            with scope(Block()):
                mt.exp(x)
        with scope("eval"), scope(middle), scope(leaf_module):
            mt.exp(x)
    assert {path: row.flops for path, row in c.by_scope.items()} == {
        "": 30,
        "first": 10,
        "first.part": 10,
        "first.inner": 10,
        "Block": 10,
        "eval": 10,
        "eval.inner": 10,
    }


def test_a_scope_outside_cost_does_nothing():
    with scope(SimpleNamespace()), scope("x"):  # not even looked at
        pass
    with scope("outside"), mt.cost() as c:
        mt.exp(normal(2))
    assert c.by_scope == {}


def test_tables_and_data():
    x = normal(32, 32)
    with mt.cost() as c, scope("<model>"):
        mt.exp(x @ x)
    assert c.rows() == [
        {"primitive": "matmul", "calls": 1, "flops": 65536, "macs": 32768, "bytes_read": 16384, "bytes_written": 8192},
        {"primitive": "exp", "calls": 1, "flops": 1024, "macs": 0, "bytes_read": 8192, "bytes_written": 8192},
    ]
    assert c.rows("scope")[0] == {"scope": "<model>", **vars(c.total)}
    assert c.table() == str(c)
    assert c.table().splitlines() == [
        "primitive  calls   flops    macs  bytes read  bytes written",
        "-----------------------------------------------------------",
        "matmul         1  65,536  32,768      16,384          8,192",
        "exp            1   1,024       0       8,192          8,192",
        "-----------------------------------------------------------",
        "total          2  66,560  32,768      24,576         16,384",
        "0 parameters touched, 16,384 bytes alive at the peak",
    ]
    assert "<model>" in c.table("scope")
    assert c._repr_html_().count("<tr>") == 4
    with pytest.raises(ValueError, match="rows are by 'primitive' or by 'scope', got 'module'"):
        c.table("module")


def test_cost_and_precision_in_either_order():
    x = normal(4, 4)

    def f(x):
        return mt.sum(mt.sigmoid(mt.store(x @ x)))

    counts = []
    with mt.cost() as c, mt.precision("bfloat16"):
        mt.grad(f)(x)
    counts.append(c)
    with mt.precision("bfloat16"), mt.cost() as c:
        mt.grad(f)(x)
    counts.append(c)
    assert counts[0].total == counts[1].total
    assert counts[0].macs == 3 * 64
    assert "store" in counts[0].by_primitive
    assert "sigmoid" not in counts[0].by_primitive  # charged as executed: by its instructions


def test_saved_bytes_is_found_beside_cost():
    assert mt.cost.saved_bytes is saved_bytes
    assert mt.cost.scope is scope


# -- saved_bytes --------------------------------------------------------------------------------------------------


def test_saved_bytes_of_single_operations():
    x, y = normal(N), normal(N)
    assert saved_bytes(lambda x: x + 1.0 + 2.0 - 3.0, x) == 0
    assert saved_bytes(mt.exp, x) == BYTES  # its output
    assert saved_bytes(lambda x: mt.exp(x + 1.0), x) == BYTES
    assert saved_bytes(mt.sin, x) == BYTES  # its input
    assert saved_bytes(lambda x, y: x * y, x, y) == 2 * BYTES
    assert saved_bytes(lambda x: x * x, x) == BYTES
    assert saved_bytes(lambda x: mt.sin(x) + mt.cos(x), x) == BYTES  # one buffer, saved twice
    assert saved_bytes(lambda x: mt.sum(x), x) == 0
    assert saved_bytes(lambda x: mt.transpose(mt.reshape(x, (10, 100))), x) == 0


def test_saved_bytes_in_another_width():
    x, mask = normal(N), np.ones(N, bool)
    assert saved_bytes(mt.exp, x, itemsize=2) == 2 * N
    assert saved_bytes(lambda x: mt.where(mask, x, 0.0), x, itemsize=2) == N  # a boolean is a byte
    assert saved_bytes(lambda x: mt.exp(mt.where(mask, x, 0.0)), x, itemsize=2) == N + 2 * N


def test_saved_bytes_leaves_parameters_out():
    x, w = normal(6, 5), leaf(5, 7)
    assert saved_bytes(lambda x: x @ w, x) == x.nbytes
    assert saved_bytes(lambda x, w: x @ w, x, w) == x.nbytes + w.nbytes  # given, hence counted
    assert saved_bytes(lambda ids: w[ids] * 2.0, np.array([0, 1, 1])) == 3 * 8  # the indices


def test_saved_bytes_of_trees_and_many_outputs():
    def f(p, scale):
        a, b = p["a"], p["b"]
        return {"y": mt.exp(a) * scale, "z": [mt.sqrt(b)]}

    assert saved_bytes(f, {"a": normal(N), "b": mt.tensor(np.ones(N))}, 2.0) == 2 * BYTES


def test_saved_bytes_of_custom_rules_are_their_residuals():
    @mt.custom_vjp
    def f(x):
        return mt.exp(mt.sin(x))

    f.defvjp(lambda x: (mt.exp(mt.sin(x)), (x > 0,)), lambda residuals, g: (g,))
    assert saved_bytes(f, normal(N)) == N


def test_checkpoint_saves_less():
    def f(x):
        for _ in range(5):
            x = mt.sin(x)
        return x

    assert saved_bytes(f, normal(N)) == 5 * BYTES
    assert saved_bytes(mt.checkpoint(f), normal(N)) <= BYTES
