"""What the skeletons can be made of beyond the plain decoder: places of norms, parallel blocks, encoders, contexts."""

import numpy as np
import pytest

import minitf as mt
from minitf.attention.dot_product import MultiHeadAttention, scaled_dot_product_attention
from minitf.attention.kv_cache import ContextCache
from minitf.attention.masks import padding_mask
from minitf.feedforward.mlp import FeedForward
from minitf.inference.decoding import beam_search, greedy
from minitf.models.stack import Block, Stack
from minitf.models.transformer import Decoder, Encoder, EncoderDecoder
from minitf.nn.layers import Dropout, LayerNorm, RMSNorm
from minitf.position.relative_buckets import RelativeBias

V, D, L, H, B, T, S = 13, 8, 2, 2, 3, 5, 6
IDS = np.random.default_rng(5).integers(1, V, (B, T))
SOURCE = np.random.default_rng(6).integers(1, V, (B, S))


def randomized(model, seed=0):
    """Weights that matter: norms and biases too."""
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data[...] = rng.normal(0, 0.4, p.shape) + (p.ndim == 1)
    return model.eval()


def parts(seed=0):
    rng = np.random.default_rng(seed)
    return MultiHeadAttention(D, H, rng=rng), FeedForward(D, 12, rng=rng)


def both(**options):
    rng = np.random.default_rng(0)
    encoder = Encoder(V, D, L, H, max_length=9, rng=rng)
    decoder = Decoder(V, D, L, H, max_length=12, cross=True, embedding=encoder.embedding, rng=rng, **options)
    return randomized(EncoderDecoder(encoder, decoder))


def test_sandwich_is_a_norm_on_both_sides_of_a_sub_layer():
    block = randomized(Block(*parts(), lambda: LayerNorm(D), "sandwich"))
    x = np.random.default_rng(1).normal(size=(B, T, D))
    y = x + block.attention_out_norm(block.attention(block.attention_norm(x), causal=True)).data
    want = y + block.feed_forward_out_norm(block.feed_forward(block.feed_forward_norm(y))).data
    np.testing.assert_allclose(block(x, causal=True), want, rtol=0, atol=1e-13)


def test_parallel_sub_layers_read_the_same():
    block = randomized(Block(*parts(), lambda: RMSNorm(D), parallel=True))
    assert block.feed_forward_norm is None
    x = np.random.default_rng(1).normal(size=(B, T, D))
    y = block.attention_norm(x)
    want = x + block.attention(y).data + block.feed_forward(y).data
    np.testing.assert_allclose(block(x), want, rtol=0, atol=1e-13)
    decoder = randomized(Decoder(V, D, L, H, max_length=9, parallel=True, rng=np.random.default_rng(0)))
    cache = decoder.new_cache()
    steps = [decoder(IDS[:, [t]], cache=cache).data for t in range(T)]
    np.testing.assert_allclose(np.concatenate(steps, 1), decoder(IDS), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{"place": "post"}, {"cross": True}])
def test_parallel_is_for_pre_norm_without_a_context(options):
    cross = {"cross": parts()[0]} if options.pop("cross", False) else {}
    with pytest.raises(
        ValueError, match="parallel sub-layers need the norm's place 'pre', and no attention to a context"
    ):
        Block(*parts(), lambda: LayerNorm(D), parallel=True, **options, **cross)


def test_an_encoder_reads_in_both_directions_and_moves_with_its_tokens():
    encoder = randomized(Encoder(V, D, L, H, position="none", rng=np.random.default_rng(0)))
    order = np.random.default_rng(2).permutation(T)
    np.testing.assert_allclose(encoder(IDS[:, order]), encoder(IDS).data[:, order], rtol=0, atol=1e-12)
    changed = IDS.copy()
    changed[:, -1] = (changed[:, -1] + 1) % V
    assert np.abs(encoder(changed).data - encoder(IDS).data)[:, 0].max() > 1e-3


def test_padding_changes_nothing_for_the_others():
    encoder = randomized(Encoder(V, D, L, H, max_length=9, types=2, embedding_norm=True, rng=np.random.default_rng(0)))
    padded = np.concatenate([IDS, np.zeros((B, 3), int)], axis=1)
    valid = np.arange(T + 3) < T
    got = encoder(padded, mask=padding_mask(np.broadcast_to(valid, padded.shape)))
    np.testing.assert_allclose(got.data[:, :T], encoder(IDS), rtol=0, atol=1e-12)


def test_what_an_embedding_is_made_of():
    encoder = randomized(
        Encoder(
            V, D, 0, H, max_length=9, position_offset=2, embedding_width=6, embedding_norm=True, embedding_scale=3.0,
            types=2, last_norm=False, rng=np.random.default_rng(0),
        )
    )  # fmt: skip
    types = IDS % 2
    table, places, kinds = (m.weight.data for m in (encoder.embedding, encoder.positions, encoder.types))
    x = 3 * table[IDS] + places[np.arange(T) + 2] + kinds[types]
    norm, project = encoder.embedding_norm, encoder.projection
    centred = x - x.mean(-1, keepdims=True)
    x = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * norm.weight.data + norm.bias.data
    want = x @ project.weight.data + project.bias.data
    np.testing.assert_allclose(encoder(IDS, types=types), want, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="Encoder: this model has no token types"):
        Encoder(V, D, 0, H, max_length=9, rng=np.random.default_rng(0))(IDS, types=types)


def test_a_position_code_of_ones_own():
    code = lambda at: np.sin(at[..., None] * np.arange(D))
    model = Encoder(V, D, 0, H, position=code, last_norm=False, rng=np.random.default_rng(0))
    np.testing.assert_allclose(model(IDS), model.embedding.weight.data[IDS] + code(np.arange(T)), rtol=0, atol=1e-13)


def test_head_scale_and_bias():
    model = randomized(Decoder(V, D, 1, H, max_length=9, head_bias=True, head_scale=0.5, rng=np.random.default_rng(0)))
    want = model.hidden(IDS).data * 0.5 @ model.embedding.weight.data.T + model.head_bias.data
    np.testing.assert_allclose(model(IDS), want, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="needs an embedding of width D"):
        Decoder(V, D, 1, H, max_length=9, embedding_width=4, rng=np.random.default_rng(0))


# -- a context ------------------------------------------------------------------------------------------------------------


def test_a_decoder_reads_its_context():
    model = both()
    context = model.encoder(SOURCE)
    np.testing.assert_array_equal(model(SOURCE, IDS), model.decoder(IDS, context=context))
    block, x = model.decoder.blocks[0], np.random.default_rng(1).normal(size=(B, T, D))
    y = x + block.attention(block.attention_norm(x), causal=True).data
    y = y + block.cross(block.cross_norm(y), context).data
    want = y + block.feed_forward(block.feed_forward_norm(y)).data
    np.testing.assert_allclose(block(x, context, causal=True), want, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"Decoder: its blocks attend to a context, \(B, S, D\); none was given"):
        model.decoder(IDS)


def test_what_the_source_hides_is_not_read():
    model = both()
    valid = np.ones((B, S), bool)
    valid[:, 4:] = False
    got = model(SOURCE, IDS, source_mask=padding_mask(valid))
    np.testing.assert_allclose(got, model(SOURCE[:, :4], IDS), rtol=0, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_a_cache_computes_the_context_once(masked):
    model, valid = both(), np.ones((B, S), bool)
    valid[0, 2:] = valid[2, 4:] = not masked
    mask = padding_mask(valid)
    writer = model.condition(SOURCE, mask)
    whole = writer(IDS).data
    np.testing.assert_allclose(whole, model(SOURCE, IDS, source_mask=mask), rtol=0, atol=1e-12)
    cache = writer.new_cache(B)
    first = writer(IDS[:, :2], cache=cache).data
    for block in model.decoder.blocks:
        block.cross.k.weight.data[...] = np.nan  # nobody multiplies with it again
    rest = [writer(IDS[:, [t]], cache=cache).data for t in range(2, T)]
    np.testing.assert_allclose(np.concatenate([first, *rest], 1), whole, rtol=0, atol=1e-12)
    assert [slot.length for slot in cache.contexts] == [S] * L
    assert cache.nbytes() == 2 * L * B * D * 8 * (T + S)
    cache.crop(2)
    assert cache.length == 2
    assert cache.contexts[0].length == S
    again = [writer(IDS[:, [t]], cache=cache).data for t in range(2, T)]
    np.testing.assert_array_equal(np.concatenate(again, 1), np.concatenate(rest, 1))


def test_rows_of_the_cache_move_with_their_context():
    model = both()
    valid = np.arange(S) < np.array([[2], [4], [6]])
    writer, rows = model.condition(SOURCE, padding_mask(valid)), np.array([2, 0, 0])
    cache = writer.new_cache(B)
    writer(IDS[:, :3], cache=cache)
    cache.reorder(rows)
    moved = model.condition(SOURCE[rows], padding_mask(valid[rows]))
    np.testing.assert_allclose(
        model.decoder(IDS[rows, 3:], cache=cache), moved(IDS[rows]).data[:, 3:], rtol=0, atol=1e-12
    )


def test_generation_is_that_of_each_source_alone():
    model = both()
    start = np.zeros((B, 1), int)
    texts = greedy(model.condition(SOURCE), start, 6)
    beams, scores = beam_search(model.condition(SOURCE), start, 6, beams=3, eos=2)
    for b in range(B):
        alone = model.condition(SOURCE[[b]])
        np.testing.assert_array_equal(greedy(alone, start[[b]], 6)[0], texts[b])
        one, score = beam_search(alone, start[[b]], 6, beams=3, eos=2)
        np.testing.assert_array_equal(one[0], beams[b][: one.shape[1]])
        assert scores[b] == pytest.approx(score[0], abs=1e-12)


def test_gradients_reach_both_sides():
    model = both().train()
    mt.sum(model(SOURCE, IDS) * np.random.default_rng(0).normal(size=(B, T, V))).backward()
    assert all(np.abs(p.grad.data).max() > 0 for name, p in model.named_parameters() if not name.endswith("k.bias"))


def test_contexts_that_do_not_fit():
    model = both()
    with pytest.raises(mt.ShapeError, match=r"a multiple of the source's 3 rows, got shape \(4, 5\)"):
        model.condition(SOURCE)(np.zeros((4, 5), int))
    encoder = Encoder(V, D, 1, H, max_length=9, rng=np.random.default_rng(0))
    with pytest.raises(
        ValueError, match="needs a decoder with cross attention and of the encoder's width, got cross=False"
    ):
        EncoderDecoder(encoder, Decoder(V, D, 1, H, max_length=9, rng=np.random.default_rng(0)))
    with pytest.raises(ValueError, match="the cache is empty"):
        ContextCache().reorder([0])


# -- a bias for positions, dropout of weights ---------------------------------------------------------------------------------


def test_one_bias_of_positions_for_all_layers():
    bias = RelativeBias(H, num_buckets=4, max_distance=3, bidirectional=False, rng=np.random.default_rng(1))
    model = randomized(Decoder(V, D, L, H, position="none", position_bias=bias, rng=np.random.default_rng(0)))
    assert [name for name, _ in model.named_parameters() if "table" in name] == ["position_bias.table.weight"]
    x, added = model.embedding(IDS), bias(0, T)
    for block in model.blocks:
        x = block(x, causal=True, bias=added)
    np.testing.assert_allclose(model.hidden(IDS), model.norm(x), rtol=0, atol=1e-13)
    cache = model.new_cache()
    steps = [model(IDS[:, [t]], cache=cache).data for t in range(T)]
    np.testing.assert_allclose(np.concatenate(steps, 1), model(IDS), rtol=0, atol=1e-12)


def test_dropout_of_attention_weights():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(B, H, T, 4)) for _ in range(3))
    _, weights = scaled_dot_product_attention(q, k, v, causal=True, return_weights=True)
    kept = np.random.default_rng(7).random(weights.shape) >= 0.5
    drop = lambda w: w * kept * 2
    got = scaled_dot_product_attention(q, k, v, causal=True, dropout=drop)
    np.testing.assert_allclose(got, (weights.data * kept * 2) @ v, rtol=0, atol=1e-13)
    layer = MultiHeadAttention(D, H, dropout=0.9, rng=np.random.default_rng(1))
    x = rng.normal(size=(B, T, D))
    assert np.abs(layer(x).data - layer(x).data).max() > 1e-3
    layer.eval()
    np.testing.assert_array_equal(layer(x), layer(x))


def test_a_stack_of_ones_own_parts():
    made = []
    norm = lambda width: made.append(width) or LayerNorm(width, bias=False)
    stack = Stack(D, L, H, norm=norm, norm_place="sandwich", gated=True, act="silu", rng=np.random.default_rng(0))
    assert made == [D] * (4 * L + 1)
    assert {type(block.feed_forward).__name__ for block in stack.blocks} == {"GatedFeedForward"}
    assert isinstance(stack.blocks[0].dropout, Dropout)
    x = np.random.default_rng(1).normal(size=(B, T, D))
    assert stack.through_blocks(x).shape == (B, T, D)
