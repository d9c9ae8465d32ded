"""Decisions are judged apart: near scores may be chosen either way, others not, and values are judged given the choice."""

from dataclasses import replace

import numpy as np
import pytest

from minitf import oracle
from minitf.oracle.answers import answer
from minitf.oracle.judgement import measure_decision
from minitf.oracle.references import find
from minitf.registry import Decision, reference

NAME = "feedforward.mixture_of_experts"


def moe(x, router, w_up, w_down, w_gate, *, k, normalize, wrong=""):
    """Expert after expert, sums in float32; with a mistake on request."""
    kind, wide = x.dtype.type, np.promote_types(x.dtype if x.dtype.kind == "f" else np.float32, np.float32)
    times = lambda a, b: (a.astype(wide) @ b.astype(wide)).astype(kind)
    logits = times(x, router).astype(wide)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    experts = np.argsort(-p, axis=-1, kind="stable")[:, (wrong == "skips the best") :][:, :k]
    if wrong == "any order":
        experts = experts[:, ::-1]
    weights = np.take_along_axis(p, experts, -1)
    weights = weights / weights.sum(-1, keepdims=True) if normalize else weights
    weights = (weights * (1.02 if wrong == "weights 2 % too large" else 1)).astype(kind).astype(wide)
    out = np.zeros(x.shape, wide)
    for e in range(router.shape[1]):
        for slot in range(k):
            tokens = experts[:, slot] == e
            gate = times(x[tokens], w_gate[e]).astype(wide)
            h = (gate / (1 + np.exp(-gate)) * times(x[tokens], w_up[e]).astype(wide)).astype(kind)
            out[tokens] += weights[tokens, slot, None] * times(h, w_down[e]).astype(wide)
    return out.astype(kind), experts


def check(dtype, wrong="", size="tiny"):
    implementation = lambda *arrays, **options: moe(*arrays, **options, wrong=wrong)
    return oracle.check(NAME, implementation, dtype=dtype, gradients=False, trials=1, sizes=size)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_an_honest_router_passes(dtype):
    report = check(dtype)
    assert report.passed, report
    assert {row.kind for row in report.rows} == {"output", "decision"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("wrong", ["skips the best", "any order"])
def test_a_wrong_choice_is_the_only_thing_that_fails(dtype, wrong):
    report = check(dtype, wrong)
    failed = {row.name for row in report.rows if not row.passed}
    assert failed == {"experts"}, report


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_wrong_weights_are_not_hidden_by_the_choice(dtype):
    report = check(dtype, "weights 2 % too large", size="small")
    assert {row.name for row in report.rows if not row.passed} == {"out"}, report


def near_tie():
    """A case in which nobody can tell whether token 0 prefers its first or its second expert."""
    case = oracle.case(NAME, size="tiny", dtype="bfloat16", options="k=1,normalize=False")
    inputs = {**case.inputs, "router": case.inputs["router"].copy()}
    first = int(case.outputs["experts"][0, 0])
    other = (first + 1) % inputs["router"].shape[1]
    inputs["router"][:, other] = inputs["router"][:, first]
    outputs, gradients = answer(find(NAME), inputs, case.options, case.cotangents)
    return replace(case, inputs=inputs, outputs=outputs, gradients=gradients), first, other


def test_either_choice_of_a_near_tie_is_right_if_the_values_go_with_it():
    case, first, other = near_tie()
    for choice in (first, other):
        experts = case.outputs["experts"].copy()
        experts[np.isin(experts, [first, other])] = choice
        options = {**case.options, "experts": experts}
        outputs, gradients = answer(find(NAME), case.inputs, options, case.cotangents)
        report = oracle.judge(NAME, case, outputs, gradients)
        assert report.passed, report
    experts[np.isin(experts, [first, other])] = max(first, other)  # the reference takes the lower
    assert (experts != case.outputs["experts"]).any()
    report = oracle.judge(NAME, case, {"out": case.outputs["out"], "experts": experts})
    assert {row.name for row in report.rows if not row.passed} == {"out"}, report


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda e: e.astype(float), "expected integers"),
        (lambda e: e + 99, "positions are from 0 to 2"),
        (lambda e: e[:1], "has shape"),
        (lambda e: np.zeros_like(e), "names a position twice"),
    ],
)
def test_decisions_that_are_none(spoil, told):
    case = oracle.case(NAME, dtype="bfloat16", size="tiny")
    report = oracle.judge(NAME, case, {**case.outputs, "experts": spoil(case.outputs["experts"])})
    assert not report.passed
    assert told in str(report)
    assert {row.name for row in report.rows if not row.passed} == {"experts"}


def test_the_measure_of_a_decision():
    case = oracle.case(NAME, size="tiny", dtype="float32")
    scores, spread = np.array([[3.0, 2.0, 1.0]] * 3), np.full((3, 3), 0.25)
    measure = lambda chosen: measure_decision("experts", case, np.array([chosen] * 3), scores, spread).largest
    assert measure([0, 1]) == 0
    assert measure([1, 0]) == 2.0  # 3 was passed over for 2, with 0.25 + 0.25 to spare
    assert measure([0, 2]) == 2.0
    assert measure([2, 1]) == 4.0


def test_cases_have_decisions_with_a_margin():
    for label in oracle.labels(NAME):
        for seed in range(5):
            case = oracle.case(NAME, seed, "small", "bfloat16", label)
            scores = np.sort(case.inputs["x"] @ case.inputs["router"], -1)[:, ::-1]
            k = case.options["k"]
            assert (scores[:, :k] - scores[:, 1 : k + 1]).min() > 0.12
            assert case.inputs["x"].shape == (24, 16)


def test_a_decision_must_be_an_output():
    with pytest.raises(ValueError, match=r"no decision \['chosen'\]"):
        reference("x.y", abs, example=abs, decisions={"chosen": Decision("chosen", abs)})
