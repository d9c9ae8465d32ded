"""Ours, PyTorch's and naive NumPy's time for the same computation, one after the other in one run: `make bench`.

Every entry of ``CASES`` makes its inputs and returns what is timed: ``ours``, and where there is such a thing ``torch`` (the
eager code that people would otherwise run on a CPU) and ``numpy`` (the kernel's twin). All get the threads that the
environment variable MINITF_BENCH_THREADS says (2). Sides take turns, so that what else the machine does hits all alike, and
each runs twice and is timed the second time, when its threads are awake and those of the one before have come to rest.
Medians are over 15 rounds (NumPy's over 5), and nothing asserts a time. What came out is printed and written to
``benchmarks.json``.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minitf as mt
from minitf.nn import functional as F

torch = pytest.importorskip("torch")
import cases_conv  # noqa: E402
import cases_local  # noqa: E402
import cases_low_bit  # noqa: E402
import cases_recurrent  # noqa: E402
import cases_sparse  # noqa: E402
from sides import Cases, Sides, floats, twin, with_gradients  # noqa: E402

THREADS = int(os.environ.get("MINITF_BENCH_THREADS", "2"))
ROUNDS, ENOUGH = 15, 5

# -- attention ----------------------------------------------------------------------------------------------------


def attention_forward(T: int) -> Sides:
    q, k, v = (floats(2, 8, T, 64, seed=i) for i in range(3))
    tensors = [torch.tensor(x) for x in (q, k, v)]
    sides: Sides = {
        "ours": lambda: F.scaled_dot_product_attention(q, k, v, causal=True),
        "torch": lambda: torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=True),
    }
    if T < 4096:  # a (16, 4096, 4096) array is 1 GB
        sides["numpy"] = twin(F.scaled_dot_product_attention, q, k, v, causal=True)
    return sides


def attention_backward(T: int) -> Sides:
    q, k, v, g = (floats(2, 8, T, 64, seed=i) for i in range(4))
    attend = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, causal=True)
    pullback = mt.vjp(attend, q, k, v)[1]
    leaves = [torch.tensor(x, requires_grad=True) for x in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=True)
    along = torch.tensor(g)
    sides: Sides = {
        "ours": lambda: pullback(g),
        "torch": lambda: torch.autograd.grad(out, leaves, along, retain_graph=True),
    }
    if T < 4096:
        sides["numpy"] = twin(pullback, g)
    return sides


def decode_attention() -> Sides:
    q, k, v = floats(1, 32, 1, 64), floats(1, 8, 32768, 64, seed=1), floats(1, 8, 32768, 64, seed=2)
    tensors = [torch.tensor(x) for x in (q, k, v)]
    return {
        "ours": lambda: F.scaled_dot_product_attention(q, k, v),
        "torch": lambda: torch.nn.functional.scaled_dot_product_attention(*tensors, enable_gqa=True),
        "numpy": twin(F.scaled_dot_product_attention, q, k, v),
    }


# -- rows ---------------------------------------------------------------------------------------------------------


def cross_entropy() -> Sides:
    logits, classes = floats(2048, 8192), np.random.default_rng(1).integers(0, 8192, 2048)
    leaf, target = torch.tensor(logits, requires_grad=True), torch.tensor(classes)
    ours = lambda: mt.grad(lambda x: F.cross_entropy(x, classes))(logits)
    return {
        "ours": ours,
        "torch": lambda: torch.autograd.grad(torch.nn.functional.cross_entropy(leaf, target), leaf),
        "numpy": twin(ours),
    }


# -- a whole step -------------------------------------------------------------------------------------------------


def gpt_train_step() -> Sides:
    from torch_gpt import TorchGPT

    from minitf.models.transformer import Decoder
    from minitf.optim import AdamW

    B, T, D, H, L, V = 8, 256, 256, 8, 4, 4096
    ids = np.random.default_rng(0).integers(0, V, (B, T + 1))
    with mt.config(dtype="float32"):
        model = Decoder(V, D, L, H, 1024, max_length=T, rng=np.random.default_rng(0))
    optimizer = AdamW(list(model.parameters()), lr=1e-3)
    other, tokens = TorchGPT(V, D, L, H, 1024, T), torch.tensor(ids)
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=1e-3)

    def ours() -> None:
        loss = F.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def theirs() -> None:
        loss = torch.nn.functional.cross_entropy(other(tokens[:, :-1]).reshape(-1, V), tokens[:, 1:].reshape(-1))
        other_optimizer.zero_grad()
        loss.backward()
        other_optimizer.step()

    return {"ours": ours, "torch": theirs, "numpy": twin(ours)}


CASES: Cases = {
    "gpt_train_step": (gpt_train_step, "B=8 T=256 D=256 H=8 L=4 F=1024 V=4096, AdamW"),
    **{
        f"attention_causal_{T}_{way}": (lambda T=T, make=make: make(T), f"B·H=16 T={T} E=64")
        for T in (1024, 4096)
        for way, make in (("forward", attention_forward), ("backward", attention_backward))
    },
    "decode_attention_32k": (decode_attention, "one query, 32 heads on 8 key/value heads, 32768 keys, E=64"),
    "layer_norm": (
        lambda: with_gradients(
            F.layer_norm, lambda x, w, b: torch.nn.functional.layer_norm(x, (1024,), w, b),
            floats(4096, 1024), floats(1024), floats(1024),
        ),
        "(4096, 1024), forward and backward",
    ),
    "rms_norm": (
        lambda: with_gradients(
            F.rms_norm, lambda x, w: torch.nn.functional.rms_norm(x, (1024,), w, 1e-6), floats(4096, 1024), floats(1024)
        ),
        "(4096, 1024), forward and backward",
    ),
    "softmax": (
        lambda: with_gradients(F.softmax, lambda x: torch.softmax(x, -1), floats(4096, 1024)),
        "(4096, 1024), forward and backward",
    ),
    "gelu": (
        lambda: with_gradients(F.gelu, torch.nn.functional.gelu, floats(2048, 4096)), "(2048, 4096), forward and backward"
    ),
    "cross_entropy": (cross_entropy, "(2048, 8192), forward and backward"),
    **cases_local.CASES,
    **cases_sparse.CASES,
    **cases_recurrent.CASES,
    **cases_conv.CASES,
    **cases_low_bit.CASES,
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_sides(name: str, benchmark: Any, results: dict[str, dict[str, Any]]) -> None:
    make, note = CASES[name]
    torch.set_num_threads(THREADS)
    with mt.config(threads=THREADS):
        sides = make()
        ours = sides.pop("ours")
        ours()
        peak = peak_bytes(ours)
        taken: dict[str, list[float]] = {side: [] for side in sides}

        def others() -> None:
            for side, run in sides.items():
                if side != "numpy" or len(taken[side]) < ENOUGH:
                    taken[side].append(seconds(run))
            ours()

        benchmark.pedantic(ours, setup=others, rounds=ROUNDS)
    if not benchmark.disabled:
        times = {"ours_s": benchmark.stats.stats.median}
        times |= {f"{side}_s": float(np.median(rounds)) for side, rounds in taken.items()}
        results[name] = {**times, "facts": {"peak_bytes": peak, "note": note}}


def seconds(run: Callable[[], Any]) -> float:
    run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peak_bytes(run: Callable[[], Any]) -> int:
    """The largest size of what NumPy and Numba hold at a time beyond what was there before."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
