"""CTRL: the paper's equations in loops, control codes in front of windows, penalties, and whose words a text is."""

import math

import numpy as np
import pytest

import minitf as mt
from minitf.autodiff.errors import ShapeError
from minitf.data.control_codes import prepend_codes
from minitf.data.listops import TOKENS, generate_listops
from minitf.data.prices import google
from minitf.data.text import byte_text, python_documentation, split
from minitf.inference.decoding import greedy, repetition_penalty
from minitf.inference.scoring import sequence_logprob, source_attribution
from minitf.models.ctrl import CTRL, CTRLConfig
from minitf.nn.functional import cross_entropy
from minitf.nn.module import unfilled
from minitf.optim import AdamW
from minitf.training.fit import fit

SLUG = "ctrl"
paper = pytest.mark.paper
TINY = {"vocab_size": 29, "n_positions": 32, "n_embd": 16, "dff": 24, "n_layer": 2, "n_head": 2}


def tiny(**changes):
    made = CTRL(CTRLConfig(**{**TINY, "resid_pdrop": 0, "embd_pdrop": 0, **changes}), rng=np.random.default_rng(0))
    for parameter in made.parameters():  # the embedding, of deviation 0.02, would leave everything to the positions
        parameter.data += 0.2 * np.random.default_rng(1).standard_normal(parameter.shape)
    return made.eval()


def literally(model, ids):
    """Logits (T, V) of ids (T,), a number at a time."""
    config, E = model.config, model.config.n_embd // model.config.n_head
    weights = {name: p.data for name, p in model.named_parameters()}
    embedding = weights["embedding.weight"]
    D, x = config.n_embd, []
    for place, token in enumerate(ids):
        code = [0.0] * D
        for i in range(D):
            angle = place * 10000 ** (-2 * (i // 2) / D)
            code[i // 2 + (D // 2 if i % 2 else 0)] = math.cos(angle) if i % 2 else math.sin(angle)
        x.append(math.sqrt(D) * embedding[token] + np.array(code))

    def linear(name, row):
        return row @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def norm(name, row):
        deviation = math.sqrt(sum((row - sum(row) / D) ** 2) / D + 1e-6)
        return (row - sum(row) / D) / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    for layer in range(config.n_layer):
        block = f"blocks.{layer}"
        rows = [norm(f"{block}.attention_norm", row) for row in x]
        q, k, v = ([linear(f"{block}.attention.{which}", row) for row in rows] for which in "qkv")
        for t in range(len(ids)):
            heads = []
            for h in range(config.n_head):
                part = slice(h * E, (h + 1) * E)
                p = [math.exp(q[t][part] @ k[s][part] * E**-0.5) for s in range(t + 1)]
                heads.append(sum(p[s] / sum(p) * v[s][part] for s in range(t + 1)))
            x[t] = x[t] + linear(f"{block}.attention.out", np.concatenate(heads))
        for t in range(len(ids)):
            up = linear(f"{block}.feed_forward.up", norm(f"{block}.feed_forward_norm", x[t]))
            x[t] = x[t] + linear(f"{block}.feed_forward.down", np.maximum(up, 0))
    return np.array([embedding @ norm("norm", row) + weights["head_bias"] for row in x])


@paper(SLUG, kind="transcription")
def test_model_is_the_equations():
    model = tiny()
    model.head_bias.data[:] = np.linspace(-1, 1, 29)
    ids = np.random.default_rng(2).integers(0, 29, 9)
    np.testing.assert_allclose(model(ids[None]).data[0], literally(model, ids), rtol=1e-11, atol=1e-11)


@paper(SLUG, kind="invariant")
def test_preset_has_as_many_parameters_as_the_paper_says():
    with unfilled():
        model = CTRL(CTRLConfig(), rng=np.random.default_rng(0))
    assert mt.nn.count_parameters(model) == 1_637_964_550


@paper(SLUG, kind="gradient")
def test_gradients():
    model, ids = tiny(n_layer=1), np.array([[3, 1, 4, 1]])

    def loss(up, embedding):
        values = {"blocks.0.feed_forward.up.weight": up, "embedding.weight": embedding}
        return cross_entropy(mt.nn.functional_call(model, values, ids[:, :-1])[0], ids[0, 1:])

    weights = dict(model.named_parameters())
    mt.check_grads(loss, weights["blocks.0.feed_forward.up.weight"].data, weights["embedding.weight"].data, order=2)


@paper(SLUG, kind="transcription")
def test_windows_begin_with_the_codes():
    ids = np.arange(10, 21)
    for codes, T in (([7], 4), ([7, 8], 5), ([7, 8, 9], 3)):
        inputs, targets = prepend_codes(ids, codes, T)
        text = []
        for row, target in zip(inputs, targets, strict=True):
            assert row[: len(codes)].tolist() == codes
            assert (target[: len(codes) - 1] == -100).all()
            asked = target[len(codes) - 1 :]
            assert row[len(codes) :].tolist() == asked[:-1].tolist()
            text += asked.tolist()
        assert text == ids[: len(text)].tolist()
        assert len(ids) - len(text) < T - len(codes) + 1
    for wrong, codes, T in ((ids, [], 4), (ids, [1, 2], 1), (ids[:3], [1], 4), (ids[None], [1], 4), (ids, [[1]], 4)):
        with pytest.raises(ShapeError, match="prepend_codes"):
            prepend_codes(wrong, codes, T)


@paper(SLUG, kind="transcription")
def test_penalties_are_the_papers_and_that_of_the_code():
    rng = np.random.default_rng(3)
    logits, ids = 3 * rng.standard_normal((2, 9)), np.array([[1, 1, 4], [0, 8, 2]])
    for mode in ("paper", "signed"):
        got = repetition_penalty(logits, ids, 1.2, mode=mode)
        for b in range(2):
            for token in range(9):
                z = logits[b, token]
                if token in ids[b]:
                    z = z * 1.2 if mode == "signed" and z < 0 else z / 1.2
                assert got[b, token] == z
    positive = np.abs(logits)
    np.testing.assert_array_equal(
        repetition_penalty(positive, ids, 1.2, mode="paper"), repetition_penalty(positive, ids, 1.2, mode="signed")
    )


@paper(SLUG, kind="invariant")
def test_attribution_is_bayes_rule():
    model, text, codes = tiny(), [5, 6, 7, 5], [1, [2, 3], 4]
    got = source_attribution(model, text, codes, prior=[2, 1, 1])
    total = np.array([sequence_logprob(model, np.atleast_1d(code), text) for code in codes])
    joint = np.exp(total) * [0.5, 0.25, 0.25]
    np.testing.assert_allclose(got.posterior, joint / joint.sum(), rtol=1e-12)
    np.testing.assert_allclose(got.log_likelihood, total / 4, rtol=1e-12)
    assert got.order.tolist() == np.argsort(-joint).tolist()
    assert source_attribution(model, text, codes).order.tolist() == np.argsort(-total).tolist()
    assert source_attribution(model, text, codes).posterior.sum() == pytest.approx(1)
    # All codes have the same embedding: nothing is known of the source but the prior.
    model.embedding.weight.data[[1, 4]] = model.embedding.weight.data[2]
    same = source_attribution(model, text, [1, 2, 4], prior=[1, 3, 1])
    np.testing.assert_allclose(same.posterior, [0.2, 0.6, 0.2], rtol=1e-12)
    assert same.order.tolist() == [1, 0, 2]


def test_attribution_of_nonsense():
    with pytest.raises(ShapeError, match="source_attribution"):
        source_attribution(tiny(), [], [1])
    with pytest.raises(ShapeError, match="source_attribution"):
        source_attribution(tiny(), [1], [])
    for prior in ([1], [1, 0], [1, -1], [1, np.inf]):
        with pytest.raises(ValueError, match="prior must be 2 positive numbers"):
            source_attribution(tiny(), [1], [1, 2], prior=prior)


@paper(SLUG, kind="claim")
@pytest.mark.slow
def test_a_code_wins_its_own_texts_and_a_penalty_stops_repetition():
    rng = np.random.default_rng(0)
    expressions, _ = generate_listops(200, min_length=200, max_length=900, rng=rng)
    table = google()
    texts = (
        python_documentation(),
        "\n".join(" ".join(TOKENS[i] for i in row if i) for row in expressions),
        "\n".join(f"{day},{','.join(map(str, row))}" for day, row in zip(table.dates, table.values, strict=True)),
    )
    sources = [split(byte_text(text)) for text in texts]
    T, CODES = 48, [256, 257, 258]
    windows = [prepend_codes(training, [code], T) for code, (training, _) in zip(CODES, sources, strict=True)]
    model = tiny(vocab_size=259, n_positions=96, n_embd=64, dff=192, n_head=4)

    def batches():
        while True:
            chosen = [(x, y, rng.integers(0, len(x), 6)) for x, y in windows]
            yield tuple(np.concatenate([pair[i][pair[2]] for pair in chosen]) for i in (0, 1))

    fit(model, lambda m, x, y: cross_entropy(m(x).reshape(-1, 259), y.reshape(-1)), batches(), steps=150,
        optimizer=AdamW(model.parameters(), 3e-3), schedule="cosine", clip=1.0, progress=False)  # fmt: skip
    right = []
    for source, (_, held_out) in enumerate(sources):
        texts = held_out[: len(held_out) // 48 * 48].reshape(-1, 48)
        for text in texts[rng.permutation(len(texts))[:30]]:
            right.append(source_attribution(model, text, CODES).order[0] == source)
    assert np.mean(right) > 0.9

    def repeated(process):
        text = greedy(model, np.array([[256]]), 80, process=process)[0]
        grams = [tuple(text[i : i + 3]) for i in range(len(text) - 2)]
        return 1 - len(set(grams)) / len(grams)

    assert repeated(lambda logits, ids: repetition_penalty(logits, ids, 1.2)) < repeated(None)
