"""The transformer in columns: its equations in loops, its special cases, gradients, costs, and the decoder in rows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf import oracle
from minitf.attention.dot_product import MultiHeadAttention
from minitf.models.mathematical import (
    BlockWeights,
    MathematicalTransformer,
    attention_columns,
    from_row_convention,
    layer_norm_columns,
    mlp_columns,
    multi_head_columns,
    transformer_block_columns,
)
from minitf.models.transformer import Decoder
from minitf.nn.functional import cross_entropy
from minitf.optim import AdamW

SEEDS = st.integers(0, 10**6)


def block_weights(rng, D=4, H=2, K=3, E=2, F=5):
    shapes = [(H, K, D), (H, K, D), (H, E, D), (H, D, E), (F, D), (F,), (D, F), (D,), (D,), (D,), (D,), (D,)]
    return BlockWeights(*(rng.normal(0, 0.7, shape) for shape in shapes))


# -- the equations, one number at a time ------------------------------------------------------------------------------


def loop_attention(X, U_q, U_k, causal):
    N = X.shape[1]
    apply = lambda U, n: X[:, n] if U is None else [sum(u * x for u, x in zip(row, X[:, n], strict=True)) for row in U]
    A = np.zeros((N, N))
    for n in range(N):
        query = apply(U_q, n)
        exponents = {
            other: sum(k * q for k, q in zip(apply(U_q if U_k is None else U_k, other), query, strict=True))
            for other in range(n + 1 if causal else N)
        }
        total = sum(math.exp(e) for e in exponents.values())
        for other, e in exponents.items():
            A[other, n] = math.exp(e) / total
    return A


def loop_multi_head(X, A, W_val, W_out):
    D, N = X.shape
    Y = np.zeros((D, N))
    for h in range(len(W_val)):
        V = np.array(
            [[sum(W_out[h, i, e] * W_val[h, e, j] for e in range(W_val.shape[1])) for j in range(D)] for i in range(D)]
        )
        for d, n, j, other in np.ndindex(D, N, D, N):
            Y[d, n] += V[d, j] * X[j, other] * A[h, other, n]
    return Y


def loop_norm(X, gamma, beta, eps):
    out = np.zeros(X.shape)
    for n, x in enumerate(X.T):
        mean = sum(x) / len(x)
        variance = sum((value - mean) ** 2 for value in x) / len(x)
        out[:, n] = [g * (v - mean) / math.sqrt(variance + eps) + b for v, g, b in zip(x, gamma, beta, strict=True)]
    return out


def loop_mlp(X, W_1, b_1, W_2, b_2):
    out = np.zeros((len(W_2), X.shape[1]))
    for n, x in enumerate(X.T):
        hidden = [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(W_1, b_1, strict=True)]
        hidden = [0.5 * z * (1 + math.erf(z / math.sqrt(2))) for z in hidden]
        out[:, n] = [sum(w * v for w, v in zip(row, hidden, strict=True)) + b for row, b in zip(W_2, b_2, strict=True)]
    return out


def loop_block(X, w, causal=False, A=None, eps=1e-5):
    tokens = loop_norm(X, w.gamma_1, w.beta_1, eps)
    if A is None:
        A = [loop_attention(tokens, U_q, U_k, causal) for U_q, U_k in zip(w.U_q, w.U_k, strict=True)]
    Y = X + loop_multi_head(tokens, np.array(A), w.W_val, w.W_out)
    return Y + loop_mlp(loop_norm(Y, w.gamma_2, w.beta_2, eps), w.W_1, w.b_1, w.W_2, w.b_2)


def loop_model(model, ids):
    """The scores of one sequence."""
    V = model.W.shape[1]
    columns = []
    for n, i in enumerate(ids):
        x = model.W.data @ np.array([float(i == j) for j in range(V)])
        if model.p is not None:
            x = np.append(x, model.p.data[:, n]) if model.concatenated else x + model.p.data[:, n]
        columns.append(x)
    if model.pool == "class":
        columns.insert(0, model.x_class.data)
    X = np.array(columns).T
    for weights in model.blocks:
        X = loop_block(X, BlockWeights(**{name: w.data for name, w in weights.items()}), model.causal, eps=model.eps)
    X = loop_norm(X, model.gamma.data, model.beta.data, model.eps)
    if model.pool == "mean":
        X = X.sum(axis=1, keepdims=True) / X.shape[1]
    scores = np.array([model.W_head.data @ x for x in X.T]).T
    return scores if model.pool == "none" else scores[:, 0]


@pytest.mark.paper("introduction-to-transformers", kind="transcription")
class TestTranscription:
    @given(SEEDS, st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2), st.booleans())
    def test_attention_weights(self, seed, D, N, K, maps, causal):
        rng = np.random.default_rng(seed)
        X, U = rng.normal(size=(D, N)), rng.normal(size=(maps, K, D))
        got, exponents = attention_columns(X, *U, causal=causal, return_logits=True)
        np.testing.assert_allclose(got, loop_attention(X, *U, *[None] * (2 - maps), causal), rtol=0, atol=1e-13)
        key, query = U[-1] if maps else np.eye(D), U[0] if maps else np.eye(D)
        np.testing.assert_allclose(exponents, (key @ X).T @ (query @ X), rtol=0, atol=1e-12)

    @given(SEEDS, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.booleans())
    def test_multi_head(self, seed, D, N, H, E, shared):
        rng = np.random.default_rng(seed)
        X, A = rng.normal(size=(D, N)), rng.random((N, N) if shared else (H, N, N))
        W_val, W_out = rng.normal(size=(H, E, D)), rng.normal(size=(H, D, E))
        want = loop_multi_head(X, np.broadcast_to(A, (H, N, N)), W_val, W_out)
        np.testing.assert_allclose(multi_head_columns(X, A, W_val, W_out), want, rtol=0, atol=1e-12)

    @given(SEEDS, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.sampled_from(["", "causal", "A"]))
    def test_block(self, seed, D, N, H, how):
        rng = np.random.default_rng(seed)
        X, w = rng.normal(size=(2, D, N)), block_weights(rng, D, H)
        options = {"": {}, "causal": {"causal": True}, "A": {"A": rng.random((H, N, N))}}[how]
        want = np.stack([loop_block(x, w, eps=0.1, **options) for x in X])
        np.testing.assert_allclose(transformer_block_columns(X, w, eps=0.1, **options), want, rtol=0, atol=1e-11)

    @pytest.mark.parametrize(
        "options",
        [
            {"max_length": 5},
            {"positions": "none", "causal": False},
            {"positions": np.random.default_rng(1).normal(size=(4, 6)), "pool": "mean"},
            {"positions": np.random.default_rng(1).normal(size=(2, 5)), "concatenated": 2, "C": 3},
            {"max_length": 5, "concatenated": 1, "causal": False, "pool": "class", "C": 2},
        ],
    )
    def test_model(self, options):
        rng = np.random.default_rng(0)
        model = MathematicalTransformer(6, 4, 2, 2, 5, eps=0.1, rng=rng, **options)
        for p in model.parameters():
            p.data[...] = rng.normal(0, 0.6, p.shape)
        ids = rng.integers(0, 6, (2, 5))
        want = np.stack([loop_model(model, row) for row in ids])
        np.testing.assert_allclose(model(ids), want, rtol=0, atol=1e-11)

    def test_cases_of_the_oracle(self):
        case = oracle.case("models.mathematical.attention_columns", size="tiny", options={"causal": True})
        X, U_q, U_k = case.inputs.values()
        want = np.stack([loop_attention(x, U_q, U_k, True) for x in X])
        np.testing.assert_allclose(case.outputs["out"], want, rtol=0, atol=1e-14)
        case = oracle.case("models.mathematical.multi_head_columns", size="tiny")
        X, A, W_val, W_out = case.inputs.values()
        np.testing.assert_allclose(A.sum(axis=-2), 1, rtol=0, atol=1e-14)
        want = np.stack([loop_multi_head(x, a, W_val, W_out) for x, a in zip(X, A, strict=True)])
        np.testing.assert_allclose(case.outputs["out"], want, rtol=0, atol=1e-14)


# -- what must hold ---------------------------------------------------------------------------------------------------


@pytest.mark.paper("introduction-to-transformers", kind="invariant")
class TestAttention:
    @given(SEEDS, st.integers(1, 6), st.integers(0, 2), st.booleans(), st.sampled_from([1.0, 1e3, 1e100]))
    def test_columns_are_distributions_however_large_the_exponents(self, seed, N, maps, causal, size):
        rng = np.random.default_rng(seed)
        A = attention_columns(size * rng.normal(size=(2, 3, N)), *rng.normal(size=(maps, 3, 3)), causal=causal).data
        assert (A >= 0).all()
        np.testing.assert_allclose(A.sum(axis=-2), 1, rtol=0, atol=1e-14)
        if causal:
            np.testing.assert_array_equal(A, np.triu(A))

    def test_hugely_negative_exponents_do_not_break_through_the_mask(self):
        X = np.full((1, 4), 1e100)
        A = attention_columns(X, [[1.0]], [[-1.0]], causal=True).data
        np.testing.assert_array_equal(A, np.triu(np.ones((4, 4))) / np.arange(1, 5))

    def test_one_map_gives_symmetric_exponents_and_two_do_not(self):
        rng = np.random.default_rng(0)
        X, U = rng.normal(size=(4, 6)), rng.normal(size=(2, 3, 4))
        asymmetry = []
        for maps in (U[:0], U[:1], U):
            A, e = (array.data for array in attention_columns(X, *maps, return_logits=True))
            asymmetry.append(np.abs(e - e.T).max())
            assert np.abs(A - A.T).max() > 0.1  # the columns have different sums to be divided by
        assert max(asymmetry[:2]) < 1e-14
        assert asymmetry[2] > 1

    def test_maps_of_all_heads_at_once(self):
        rng = np.random.default_rng(0)
        X, U_q, U_k = rng.normal(size=(2, 4, 5)), rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 2, 4))
        together = attention_columns(X[:, None], U_q, U_k).data
        for b, h in np.ndindex(2, 3):
            np.testing.assert_allclose(together[b, h], attention_columns(X[b], U_q[h], U_k[h]), rtol=0, atol=1e-14)


@pytest.mark.paper("introduction-to-transformers", kind="invariant")
class TestEquivariance:
    @given(SEEDS, st.integers(1, 6))
    def test_a_block_commutes_with_permutations(self, seed, N):
        rng = np.random.default_rng(seed)
        X, w, P = rng.normal(size=(4, N)), block_weights(rng), np.eye(N)[rng.permutation(N)]
        permuted, plain = (transformer_block_columns(x, w).data for x in (X @ P, X))
        np.testing.assert_allclose(permuted, plain @ P, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("pool", ["none", "mean", "class"])
    @pytest.mark.parametrize(
        ("positions", "concatenated"), [("none", 0), ("learned", 0), ("learned", 2), ("fixed", 0), ("fixed", 2)]
    )
    def test_only_positions_tell_a_model_the_order(self, pool, positions, concatenated):
        rng = np.random.default_rng(0)
        fixed = rng.normal(size=(concatenated or 8, 6))
        model = MathematicalTransformer(
            9, 8, 2, 2, positions=fixed if positions == "fixed" else positions, concatenated=concatenated,
            max_length=6, causal=False, pool=pool, rng=rng,
        )  # fmt: skip
        model.W.data *= 50
        if positions == "learned":
            model.p.data *= 50
        ids, order = rng.integers(0, 9, (2, 6)), rng.permutation(6)
        scores, shuffled = model(ids).data, model(ids[:, order]).data
        error = np.abs(shuffled - (scores[..., order] if pool == "none" else scores)).max()
        assert error < 1e-12 if positions == "none" else error > 1e-2


@pytest.mark.paper("introduction-to-transformers", kind="invariant")
class TestCausality:
    @given(SEEDS, st.integers(0, 5))
    def test_a_token_leaves_the_columns_before_it_bit_identical(self, seed, n):
        rng = np.random.default_rng(seed)
        model = MathematicalTransformer(9, 8, 2, 2, max_length=6, rng=rng)
        ids = rng.integers(0, 9, (2, 6))
        changed = ids.copy()
        changed[:, n] = (ids[:, n] + 1) % 9
        before, after = model(ids).data, model(changed).data
        np.testing.assert_array_equal(after[..., :n], before[..., :n])
        assert (after[..., n:] != before[..., n:]).any(axis=-2).all()

    def test_without_the_mask_every_column_changes(self):
        rng = np.random.default_rng(0)
        model = MathematicalTransformer(9, 8, 1, 2, max_length=6, causal=False, rng=rng)
        ids = rng.integers(0, 9, (1, 6))
        changed = ids.copy()
        changed[0, -1] = (ids[0, -1] + 1) % 9
        assert (model(changed).data != model(ids).data).any(axis=-2).all()


@pytest.mark.paper("introduction-to-transformers", kind="invariant")
class TestGivenMixing:
    """What the block is when A is not computed from the tokens."""

    def test_the_identity_makes_a_network_of_single_tokens(self):
        rng = np.random.default_rng(0)
        X, w = rng.normal(size=(4, 6)), block_weights(rng)
        together = transformer_block_columns(X, w, A=np.eye(6)).data
        alone = [transformer_block_columns(X[:, n : n + 1], w, A=np.eye(1)).data for n in range(6)]
        np.testing.assert_allclose(together, np.concatenate(alone, axis=1), rtol=0, atol=1e-13)
        V = np.einsum("hde,hef->df", w.W_out, w.W_val)
        np.testing.assert_allclose(multi_head_columns(X, np.eye(6), w.W_val, w.W_out), V @ X, rtol=0, atol=1e-13)

    def test_a_toeplitz_matrix_is_a_convolution(self):
        rng = np.random.default_rng(0)
        X, kernel, N = rng.normal(size=(3, 8)), rng.normal(size=4), 8
        lag = np.arange(N) - np.arange(N)[:, None]  # n - n'
        A = np.where((lag >= 0) & (lag < 4), kernel[np.clip(lag, 0, 3)], 0.0)
        identity = np.eye(3)[None]
        want = np.stack([np.convolve(row, kernel)[:N] for row in X])
        np.testing.assert_allclose(multi_head_columns(X, A, identity, identity), want, rtol=0, atol=1e-13)
        channels_first = mt.nn.functional.conv1d(X[None], np.stack([kernel[::-1]] * 3)[:, None], padding=3, groups=3)
        np.testing.assert_allclose(channels_first[0, :, :N], want, rtol=0, atol=1e-13)

    def test_heads_with_toeplitz_matrices_are_a_convolution_that_mixes_channels(self):
        """Head h looks h tokens back with the matrix V_h: the weights of a convolution, (D, D, H)."""
        rng = np.random.default_rng(0)
        X, w = rng.normal(size=(4, 7)), block_weights(rng, H=3)
        A = np.stack([np.eye(7, k=h) for h in range(3)])
        V = w.W_out @ w.W_val
        want = [sum(V[h] @ X[:, n - h] for h in range(3) if n >= h) for n in range(7)]
        np.testing.assert_allclose(multi_head_columns(X, A, w.W_val, w.W_out), np.stack(want, 1), rtol=0, atol=1e-13)

    def test_a_normalized_adjacency_matrix_averages_over_neighbors(self):
        rng = np.random.default_rng(0)
        X, adjacency = rng.normal(size=(3, 6)), rng.random((6, 6)) < 0.5
        adjacency |= adjacency.T | np.eye(6, dtype=bool)
        identity = np.eye(3)[None]
        got = multi_head_columns(X, adjacency / adjacency.sum(axis=0), identity, identity).data
        for n in range(6):
            np.testing.assert_allclose(got[:, n], X[:, adjacency[:, n]].mean(axis=1), rtol=0, atol=1e-14)

    def test_computed_weights_can_be_given(self):
        rng = np.random.default_rng(0)
        X, w = rng.normal(size=(2, 4, 5)), block_weights(rng)
        A = attention_columns(layer_norm_columns(X, w.gamma_1, w.beta_1)[:, None], w.U_q, w.U_k, causal=True)
        given = transformer_block_columns(X, w, A=A)
        np.testing.assert_array_equal(given, transformer_block_columns(X, w, causal=True))


@pytest.mark.paper("introduction-to-transformers", kind="invariant")
class TestRowConvention:
    @given(SEEDS, st.sampled_from([(4, 2, 2), (6, 3, 2), (5, 2, 3), (4, 1, 6)]), st.integers(1, 5), st.booleans())
    def test_the_heads_are_those_of_multi_head_attention(self, seed, sizes, N, causal):
        (D, H, E), rng = sizes, np.random.default_rng(seed)
        rows = MultiHeadAttention(D, H, E=E, bias=False, rng=rng)
        U_q, U_k, W_val, W_out = from_row_convention(*(m.weight for m in (rows.q, rows.k, rows.v, rows.out)), E)
        X = 3 * rng.normal(size=(2, D, N))
        y, weights = rows(X.swapaxes(-1, -2), causal=causal, return_weights=True)
        A = attention_columns(X[:, None], U_q, U_k, causal=causal)
        np.testing.assert_allclose(A, weights.data.swapaxes(-1, -2), rtol=0, atol=1e-13)
        np.testing.assert_allclose(multi_head_columns(X, A, W_val, W_out), y.data.swapaxes(-1, -2), rtol=0, atol=1e-13)

    def test_queries_and_keys_share_the_scale_and_value_matrices_have_the_rank_of_a_head(self):
        rng = np.random.default_rng(0)
        D, H, E = 8, 4, 2
        W_q, W_k, W_v, W_o = rng.normal(size=(4, D, H * E))
        U_q, U_k, W_val, W_out = from_row_convention(W_q, W_k, W_v, W_o, E)
        for U, W in ((U_q, W_q), (U_k, W_k)):
            np.testing.assert_allclose(np.concatenate(U.data), W.T / 2**0.25, rtol=1e-15)
        V = (W_out @ W_val).data
        for h in range(H):
            head = slice(h * E, (h + 1) * E)
            np.testing.assert_allclose(V[h], (W_v[:, head] @ W_o[head]).T, rtol=0, atol=1e-14)
            assert np.linalg.matrix_rank(V[h]) == E
        w = MathematicalTransformer(5, D, 1, H, positions="none", rng=rng).blocks[0]
        ranks = [np.linalg.matrix_rank(w["W_out"].data[h] @ w["W_val"].data[h]) for h in range(H)]
        assert ranks == [E] * H


def in_columns(decoder, E):
    """The state of the MathematicalTransformer that is this decoder of heads of width E."""
    state = decoder.state_dict()
    found = {
        "W": state["embedding.weight"].T, "p": state["positions.weight"].T, "W_head": state["head.weight"].T,
        "gamma": state["norm.weight"], "beta": state["norm.bias"],
    }  # fmt: skip
    for layer in range(len(decoder.blocks)):
        part = lambda name, layer=layer: state[f"blocks.{layer}.{name}"]
        heads = from_row_convention(*(part(f"attention.{name}.weight") for name in ("q", "k", "v", "out")), E)
        w = BlockWeights(
            *heads,
            part("feed_forward.up.weight").T, part("feed_forward.up.bias"),
            part("feed_forward.down.weight").T, part("feed_forward.down.bias"),
            part("attention_norm.weight"), part("attention_norm.bias"),
            part("feed_forward_norm.weight"), part("feed_forward_norm.bias"),
        )  # fmt: skip
        found |= {f"blocks.{layer}.{name}": value for name, value in w._asdict().items()}
    return found


@pytest.mark.paper("introduction-to-transformers", kind="invariant")
def test_the_decoder_in_rows_learns_the_same():
    """Every part of an untied pre-norm decoder has its counterpart but the biases of the attention: it has none here.

    U = E^(-1/4) Wᵀ takes steps that are as much smaller, which AdamW does not know: its steps do not depend on the
    scale of a gradient. So U_q and U_k get the learning rate times E^(-1/4), and eps and decay times E^(1/4).
    """
    V, D, L, H, T, E = 11, 12, 2, 3, 7, 4
    rng = np.random.default_rng(0)
    rows = Decoder(
        V, D, L, H, tied=False, max_length=T, rng=rng,
        attention=lambda layer, rng: MultiHeadAttention(D, H, bias=False, rng=rng),
    )  # fmt: skip
    columns = MathematicalTransformer(V, D, L, H, max_length=T, rng=rng).load_state_dict(in_columns(rows, E))
    lr, eps, decay, r = 1e-2, 1e-8, 0.1, E**0.25
    maps = [weights[name] for weights in columns.blocks for name in ("U_q", "U_k")]
    others = [p for p in columns.parameters() if not any(p is m for m in maps)]
    optimizers = [
        AdamW(rows.parameters(), lr, eps=eps, weight_decay=decay),
        AdamW(
            [{"params": others}, {"params": maps, "lr": lr / r, "eps": eps * r, "weight_decay": decay * r}],
            lr, eps=eps, weight_decay=decay,
        ),
    ]  # fmt: skip
    losses = []
    for _ in range(20):
        ids = rng.integers(0, 3, (4, T + 1)).cumsum(axis=1) % V
        found = [
            cross_entropy(scores, ids[:, 1:]) for scores in (rows(ids[:, :-1]), mt.swapaxes(columns(ids[:, :-1]), 1, 2))
        ]
        for loss, optimizer in zip(found, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append([loss.item() for loss in found])
    np.testing.assert_allclose(*np.transpose(losses), rtol=0, atol=1e-10)
    assert losses[-1][0] < losses[0][0] - 0.5
    for name, value in in_columns(rows, E).items():
        np.testing.assert_allclose(columns.state_dict()[name], value, rtol=0, atol=1e-9, err_msg=name)


def test_a_new_block_keeps_the_size_of_what_it_reads():
    model = MathematicalTransformer(50, 64, 1, 4, positions="none", rng=np.random.default_rng(0))
    w = BlockWeights(**model.blocks[0])
    X = layer_norm_columns(np.random.default_rng(1).normal(size=(64, 200)), w.gamma_1, w.beta_1)
    _, e = attention_columns(X, w.U_q, w.U_k, return_logits=True)
    assert 0.8 < e.data.std() < 1.25
    for across in (multi_head_columns(X, np.eye(200), w.W_val, w.W_out), w.W_1 @ X, w.W_2 @ (w.W_1 @ X)):
        assert 0.8 < across.data.std() < 1.25


def test_a_model_computes_in_the_dtype_of_its_parameters():
    with mt.config(dtype="float32"):
        model = MathematicalTransformer(5, 8, 1, 2, positions=np.ones((8, 4)), rng=np.random.default_rng(0))
    assert model(np.zeros((1, 3), int)).dtype == np.float32


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"H": 3}, mt.ShapeError, "H = 3 to divide D = 8"),
        ({"H": 0}, mt.ShapeError, "H = 0 to divide D = 8"),
        ({"concatenated": 8}, mt.ShapeError, "concatenated = 8 < D"),
        ({"concatenated": -1}, mt.ShapeError, "0 <= concatenated = -1"),
        ({"pool": "max"}, ValueError, "pool must be one of none, mean, class, got 'max'"),
        ({"pool": "class"}, ValueError, "pool='class' needs causal=False"),
        ({"positions": "learned"}, ValueError, 'positions must be "learned" .with max_length.*max_length None'),
        ({"positions": "rotary"}, ValueError, "got 'rotary'"),
        ({"concatenated": 2}, ValueError, "concatenated 2"),
        ({"positions": np.zeros((7, 5))}, mt.ShapeError, r"with P = 8, got \(7, 5\)"),
        ({"positions": np.zeros(8)}, mt.ShapeError, r"got \(8,\)"),
        ({"positions": np.zeros((8, 5)), "concatenated": 2}, mt.ShapeError, "with P = 2"),
    ],
)
def test_choices_that_make_no_model(options, error, message):
    options = {"H": 2, "positions": "none"} | options
    with pytest.raises(error, match=f"^MathematicalTransformer: .*{message}"):
        MathematicalTransformer(5, 8, 1, rng=np.random.default_rng(0), **options)


def test_inputs_that_do_not_fit():
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(4, 5)), block_weights(rng)
    with pytest.raises(mt.ShapeError, match=r"^attention_columns: U_q .* with D = 4"):
        attention_columns(X, np.ones((3, 5)))
    with pytest.raises(mt.ShapeError, match=r"^attention_columns: U_k .* with K = 3"):
        attention_columns(X, np.ones((3, 4)), np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"^attention_columns: U_k without U_q"):
        attention_columns(X, U_k=np.ones((3, 4)))
    with pytest.raises(mt.ShapeError, match=r"^multi_head_columns: A .* with N = 5"):
        multi_head_columns(X, np.eye(4), w.W_val, w.W_out)
    with pytest.raises(mt.ShapeError, match=r"^multi_head_columns: W_out .* with E = 2"):
        multi_head_columns(X, np.eye(5), w.W_val, np.ones((2, 4, 3)))
    with pytest.raises(mt.ShapeError, match=r"^transformer_block_columns: A .* with N = 5"):
        transformer_block_columns(X, w, A=np.eye(4))
    with pytest.raises(ValueError, match=r"^transformer_block_columns: causal is for computed weights"):
        transformer_block_columns(X, w, A=np.eye(5), causal=True)
    W = np.ones((4, 6))
    for wrong, E in (((W, W, W, W), 3), ((W, W, np.ones((4, 3)), W.T), 3), ((W, W, W, W.T), 4), ((W, W, W, W.T), 0)):
        with pytest.raises(mt.ShapeError, match=f"^from_row_convention: .* with E = {E}, got "):
            from_row_convention(*wrong, E)
    model = MathematicalTransformer(5, 8, 1, 2, max_length=3, rng=rng)
    with pytest.raises(mt.ShapeError, match="4 tokens, but positions for 3"):
        model(np.zeros((1, 4), int))
    for shape in ((4,), (1, 0), (1, 2, 3)):
        with pytest.raises(mt.ShapeError, match="N >= 1"):
            model(np.zeros(shape, int))
    with pytest.raises(ValueError, match="ids must be between 0 and 4"):
        model(np.full((1, 2), -1))


# -- gradients and costs ----------------------------------------------------------------------------------------------


@pytest.mark.paper("introduction-to-transformers", kind="gradient")
class TestGradients:
    @pytest.mark.parametrize("maps", [0, 1, 2])
    @pytest.mark.parametrize("causal", [False, True])
    def test_attention_weights(self, maps, causal):
        rng = np.random.default_rng(0)
        mt.check_grads(
            lambda *arrays: attention_columns(*arrays, causal=causal, return_logits=True),
            rng.normal(size=(2, 3, 4)), *rng.normal(size=(maps, 2, 3)),
        )  # fmt: skip

    def test_multi_head(self):
        rng = np.random.default_rng(0)
        shapes = ((2, 3, 4), (2, 2, 4, 4), (2, 1, 3), (2, 3, 1))
        mt.check_grads(multi_head_columns, *(rng.normal(size=shape) for shape in shapes))

    def test_norm_and_mlp(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(3, 4))
        mt.check_grads(lambda *arrays: layer_norm_columns(*arrays, eps=0.1), X, *rng.normal(size=(2, 3)))
        mt.check_grads(mlp_columns, X, *(rng.normal(size=shape) for shape in ((5, 3), (5,), (3, 5), (3,))))

    @pytest.mark.parametrize("how", ["", "causal", "A"])
    def test_block(self, how):
        rng = np.random.default_rng(0)
        A = [rng.random((2, 4, 4))] if how == "A" else []
        mt.check_grads(
            lambda X, *rest: transformer_block_columns(
                X, BlockWeights(*rest[:12]), A=rest[12] if how == "A" else None, causal=how == "causal", eps=0.1
            ),
            rng.normal(size=(3, 4)), *block_weights(rng, D=3, K=2, E=1, F=4), *A,
        )  # fmt: skip

    def test_row_convention(self):
        rng = np.random.default_rng(0)
        weights = (rng.normal(size=shape) for shape in ((3, 4), (3, 4), (3, 4), (4, 3)))
        mt.check_grads(lambda *W: from_row_convention(*W, 2), *weights)


@pytest.mark.paper("introduction-to-transformers", kind="claim")
class TestClaims:
    """Mixing tokens is quadratic in their number, mixing features linear."""

    def test_attention_weights(self):
        D, N, K = 5, 7, 3
        X, U = np.ones((D, N)), np.ones((2, K, D))
        softmax = 4 * N * N - N  # subtract, exp, divide; a column's sum has N - 1 additions
        for maps, macs in ((U[:0], D * N * N), (U[:1], K * D * N + K * N * N), (U, 2 * K * D * N + K * N * N)):
            with mt.cost() as c:
                attention_columns(X, *maps)
            assert (c.macs, c.flops) == (macs, 2 * macs + softmax)

    @pytest.mark.parametrize(("D", "N", "H", "K", "E", "F"), [(4, 3, 2, 3, 2, 5), (6, 9, 3, 2, 4, 24)])
    def test_block(self, D, N, H, K, E, F):
        with mt.cost() as c:
            transformer_block_columns(np.ones((D, N)), block_weights(np.random.default_rng(0), D, H, K, E, F))
        assert c.macs == H * (K + E) * N * (2 * D + N) + 2 * D * F * N

    def test_block_of_the_usual_proportions(self):
        D, H, macs = 16, 4, []
        w = block_weights(np.random.default_rng(0), D, H, D // H, D // H, 4 * D)
        for A in (None, np.eye(16)):
            for N in (16, 32, 64):
                with mt.cost() as c:
                    transformer_block_columns(np.ones((D, N)), w, A=A if A is None else np.eye(N))
                macs.append(c.macs)
        assert macs[:3] == [12 * D * D * N + 2 * D * N * N for N in (16, 32, 64)]
        assert macs[3:] == [10 * D * D * N + D * N * N for N in (16, 32, 64)]  # neither keys nor queries

    def test_rows_take_the_same_work(self):
        D, H, N = 12, 3, 10
        rows = MultiHeadAttention(D, H, bias=False, rng=np.random.default_rng(0))
        U_q, U_k, W_val, W_out = from_row_convention(*(m.weight for m in (rows.q, rows.k, rows.v, rows.out)), D // H)
        with mt.cost() as in_rows:
            rows(np.ones((2, N, D)))
        with mt.cost() as in_columns:
            X = np.ones((2, D, N))
            multi_head_columns(X, attention_columns(X[:, None], U_q, U_k), W_val, W_out)
        assert in_columns.macs == in_rows.macs == 2 * (4 * D * D * N + 2 * D * N * N)

    def test_factors_of_the_value_matrices_are_smaller_and_cheaper(self):
        """2 D H E numbers instead of H D², and as much less work on every token."""
        D, H, E, N = 32, 4, 8, 10
        rng = np.random.default_rng(0)
        X, A, W_val, W_out = (rng.normal(size=shape) for shape in ((D, N), (H, N, N), (H, E, D), (H, D, E)))
        V = W_out @ W_val
        with mt.cost() as factored:
            got = multi_head_columns(X, A, W_val, W_out)
        with mt.cost() as whole:
            want = mt.sum(mt.matmul(mt.matmul(V, X), A), axis=0)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-11)
        assert (W_val.size + W_out.size, V.size) == (2 * D * H * E, H * D * D)
        assert factored.macs == 2 * D * H * E * N + H * E * N * N
        assert whole.macs == H * D * D * N + H * D * N * N
