"""Wrong calls that people really make, and what they are told: what was wrong with which argument, and what is allowed.

One line a call, however long: what it is, the call, the error, and its message. ``COMMANDS`` does the same for the
command line.
"""
# ruff: noqa: E501

import math
import re
import shlex
import traceback
from pathlib import Path

import numpy as np
import pytest

import minitf as mt
from minitf import cli, grade, nn, optim, oracle
from minitf.attention.differential import DifferentialAttention
from minitf.attention.dot_product import MultiHeadAttention
from minitf.attention.kv_cache import KVCache
from minitf.attention.masks import chunk_mask, padding_mask, prefix_mask, segment_mask, sliding_window_mask
from minitf.data import text
from minitf.feedforward.mlp import FeedForward
from minitf.inference.decoding import greedy, sample
from minitf.models.cache import DecoderCache
from minitf.models.transformer import Decoder
from minitf.nn import functional as F
from minitf.papers import catalogue
from minitf.position.rotary import apply_rotary, rotary_frequencies
from minitf.position.sinusoidal import sincos1d, sincos2d
from minitf.registry import implements
from minitf.tokens import ByteTokenizer
from minitf.training import fit

rng = np.random.default_rng(0)
x, wide, ids = np.ones((2, 3)), np.ones((4, 5)), np.zeros((1, 3), int)
four = np.ones((2, 3, 5, 4))  # (B, H, T, E)
image, kernel = np.ones((1, 3, 5, 5)), np.ones((2, 3, 3, 3))
layer, model, tokenizer = nn.Linear(3, 4, rng=rng), Decoder(11, 8, 1, 2, max_length=8, rng=rng), ByteTokenizer()
attention = MultiHeadAttention(8, 2, rng=rng)
leaf = mt.tensor(x, requires_grad=True)
case = oracle.case("attention.differential", size="tiny")
total = lambda module, batch: mt.sum(module(batch))
Shape, Type, Value = mt.ShapeError, TypeError, ValueError


def twice_backward():
    loss = mt.sum(leaf**2)
    loss.backward()
    loss.backward()


def filled():
    cache = KVCache()
    cache.update(four, four)
    return cache


def sdpa(q=four, k=four, v=four, **options):
    return F.scaled_dot_product_attention(q, k, v, **options)


def decoder(**options):
    return Decoder(**{"V": 11, "D": 8, "L": 1, "H": 2, "max_length": 8, "rng": rng} | options)


def train(model=layer, loss=total, batches=(x,), steps=1, lr=1e-3, **options):
    return fit(model, loss, batches, steps=steps, lr=lr, progress=False, **options)


def check(fn=lambda *arrays, **options: arrays[0], **options):
    return oracle.check("attention.differential", fn, **options)


def export(folder="vectors", names="attention.differential", **options):
    return oracle.export(names, folder, **options)


# fmt: off
CALLS = [
    # -- arrays
    ("PyTorch keeps it elsewhere", lambda: mt.softmax(x), AttributeError, r"'softmax'; did you mean mt\.nn\.functional\.softmax\?"),
    ("a typing mistake", lambda: mt.concatenat([x]), AttributeError, r"no attribute 'concatenat'; did you mean mt\.concatenate\?"),
    ("text as an array", lambda: mt.tensor(["a", "b"]), Type, "tensor: a list .* is no array of numbers"),
    ("nothing as an array", lambda: mt.tensor(None), Type, "tensor: a NoneType .* is no array of numbers"),
    ("ragged lists", lambda: mt.tensor([[1, 2], [3]]), Value, "tensor: the nested sequences are ragged"),
    ("an unknown dtype", lambda: mt.astype(x, "float23"), Type, "'float23' is not a dtype; allowed are NumPy's names and bfloat16"),
    ("integers that require gradients", lambda: mt.tensor([1], requires_grad=True), Type, "only floating .* require gradients"),
    ("shapes that do not add", lambda: mt.add(x, wide), Shape, r"add: shapes \(2, 3\) and \(4, 5\).* sizes must be equal or 1"),
    ("shapes that do not multiply", lambda: x @ mt.tensor(wide), Shape, r"matmul: the last axis of \(2, 3\).* must equal"),
    ("matmul with a number", lambda: mt.matmul(x, 2.0), Shape, r"matmul: needs at least one axis.*; multiply by a scalar with \*"),
    ("einsum: sizes", lambda: mt.einsum("ij,jk->ik", x, wide), Shape, "einsum: label 'j' of 'ij,jk->ik' has sizes 3 and 4"),
    ("einsum: a new letter", lambda: mt.einsum("ij->ik", x), Shape, "einsum: output label 'k' of 'ij->ik' must occur in an input"),
    ("einsum: an operand is missing", lambda: mt.einsum("ij,jk->ik", x), Shape, "einsum: .* names 2 operands, 1 were given"),
    ("another number of elements", lambda: mt.reshape(x, (4, 2)), Shape, r"reshape: cannot turn shape \(2, 3\) \(6 elements\) into \(4, 2\)"),
    ("half a permutation", lambda: mt.transpose(x, (0,)), Shape, r"transpose: \(0,\) does not permute the 2 axes"),
    ("an axis too many", lambda: mt.sum(x, axis=2), Shape, "sum: axis 2 is out of range for an array of 2 dimensions"),
    ("an axis that is no integer", lambda: mt.mean(x, axis=0.5), Type, "mean: an axis must be an integer, got 0.5"),
    ("sort: axis", lambda: mt.sort(x, axis=2), Shape, "sort: axis 2 is out of range for an array of 2 dimensions"),
    ("concatenate: shapes", lambda: mt.concatenate([x, wide]), Shape, r"\(2, 3\), \(4, 5\) differ elsewhere than along axis 0"),
    ("concatenate nothing", lambda: mt.concatenate([]), Shape, "concatenate: needs at least one array"),
    ("stack: shapes", lambda: mt.stack([x, wide]), Shape, r"stack: all shapes must be equal, got \(2, 3\), \(4, 5\)"),
    ("unequal parts", lambda: mt.split(x, 2, axis=1), Shape, "split: axis 1 of size 3 does not divide into 2 equal parts"),
    ("squeeze a long axis", lambda: mt.squeeze(x, 0), Shape, r"squeeze: axis 0 of .* has size 2, only size 1 can go"),
    ("broadcast to what does not fit", lambda: mt.broadcast_to(x, (2, 4)), Shape, r"broadcast_to: \(2, 3\) does not broadcast to \(2, 4\)"),
    ("pad: too many pairs", lambda: mt.pad(x, [(1, 1)] * 3), Shape, "pad: widths must be one number, a pair .* for each of the 2 axes"),
    ("a negative size", lambda: mt.zeros((-1, 2)), Shape, r"zeros: a shape is an integer or several, none .* negative; got \(-1, 2\)"),
    ("an endless range", lambda: mt.arange(0, 1, 0), Value, r"arange: give .* a step that is not 0; got \(0, 1, 0\)"),
    ("beyond the end", lambda: mt.tensor(x)[5], IndexError, "index: index 5 is out of bounds for axis 0 with size 2"),
    ("a float as an index", lambda: mt.tensor(x)[1.0], Type, "an index must be an integer, a slice, .* got 1.0"),
    ("assigning into a Tensor", lambda: leaf.__setitem__(0, 1), Type, "cannot be assigned into; use mt.where, mt.index_put or"),
    ("take_along_axis: axes", lambda: mt.take_along_axis(x, [0], 1), Shape, "take_along_axis: indices .* as many dimensions as the array"),
    ("more than there are", lambda: mt.top_k(x, 5), Shape, "top_k: k must be an integer from 0 to 3 .* got 5"),
    ("a condition of numbers", lambda: mt.where(x, 1.0, 0.0), Type, r"where: .* must be boolean, got float64; compare first"),
    ("masks of numbers, combined", lambda: mt.tensor(x) & (x > 0), Type, "bitwise_and: needs integers or booleans, got float64"),
    ("the largest of nothing", lambda: mt.max(np.zeros(0)), Shape, r"max: nothing to choose from .* of shape \(0,\)"),
    ("clip at nothing", lambda: mt.clip(x), Value, "clip: give a minimum, a maximum or both"),
    ("an array as a truth value", lambda: bool(mt.tensor(x)), Value, r"\(2, 3\) is ambiguous; use mt.any or mt.all"),
    ("an array as a number", lambda: mt.tensor(x).item(), Shape, r"item: only a Tensor of one element .* has shape \(2, 3\)"),
    ("the inverse of an oblong", lambda: mt.linalg.inv(x), Shape, r"inv: needs square matrices \(\.\.\., N, N\), got shape \(2, 3\)"),
    ("the inverse of nothing", lambda: mt.linalg.inv(np.zeros((2, 2))), np.linalg.LinAlgError, "inv: the matrix is singular"),
    ("Cholesky of what has no root", lambda: mt.linalg.cholesky(-np.eye(2)), np.linalg.LinAlgError, "cholesky: .* add a multiple of the identity"),
    ("fft: norm", lambda: mt.fft.fft(x, norm="orto"), Value, "fft: norm must be 'backward', 'ortho' or 'forward', got 'orto'"),
    # -- transformations
    ("grad of a value", lambda: mt.grad(mt.sum(x)), Type, r"grad: needs a function, got tensor.*; grad\(f\), not of what f returns"),
    ("grad of many values", lambda: mt.grad(mt.square)(x), Shape, r"grad: .* one scalar, .*\[\(2, 3\)\]; use mt.vjp or mt.jacobian"),
    ("grad of nothing", lambda: mt.grad(lambda x: None)(1.0), Shape, "grad: the function must return one scalar, it returned nothing"),
    ("grad at an integer", lambda: mt.grad(mt.square)(2), Type, r"grad: .* floating and complex .*, got int64 .* write 2\.0 instead of 2"),
    ("grad: argnums", lambda: mt.grad(mt.square, argnums=1)(2.0), Value, "argnums must be positions among the 1 positional arguments .*, got 1"),
    ("grad: no aux", lambda: mt.grad(mt.sum, has_aux=True)(x), Type, r"has_aux=True .* must return a pair \(output, aux\)"),
    ("grad of a complex value", lambda: mt.grad(lambda x: x * 1j)(1.0), Type, r"must be real-valued; take mt.real\(\.\.\.\) or use mt.vjp"),
    ("a function of math inside grad", lambda: mt.grad(lambda x: math.exp(x))(1.0), Type, "derivative would be lost: use the function of mt"),
    ("a function of NumPy inside grad", lambda: mt.grad(np.linalg.norm)(x), Type, r"cannot become an ndarray .* use the function of mt"),
    ("jvp without tuples", lambda: mt.jvp(mt.sum, x, x), Type, r"jvp: primals and tangents are tuples, .*: jvp\(f, \(x,\), \(t,\)\)"),
    ("jvp: shapes", lambda: mt.jvp(mt.sum, (x,), (wide,)), Shape, r"jvp: a tangent has shape \(4, 5\), its primal \(2, 3\)"),
    ("jvp: a tangent too many", lambda: mt.jvp(mt.sum, (x,), (x, x)), Shape, "jvp: 1 primals but 2 tangents"),
    ("vjp: shapes", lambda: mt.vjp(mt.square, x)[1](wide), Shape, r"vjp: a cotangent has shape \(4, 5\), the output .* \(2, 3\)"),
    ("hvp without tuples", lambda: mt.hvp(mt.sum, x, x), Type, r"hvp: primals and tangents are tuples, .*: hvp\(f, \(x,\), \(v,\)\)"),
    ("jacobian of two outputs", lambda: mt.jacobian(lambda x: (x, x))(x), Type, "jacobian: .* must return one array, .* a tuple"),
    ("jacobian: mode", lambda: mt.jacobian(mt.sum, mode="both"), Value, "jacobian: mode must be 'reverse' or 'forward', got 'both'"),
    ("backward twice", twice_backward, RuntimeError, "backward: .* already swept backwards .*; pass retain_graph=True"),
    ("backward from an array", lambda: (leaf * 2).backward(), Shape, r"of shape \(2, 3\) needs its cotangent: backward\(gradient\)"),
    ("backward to nothing", lambda: mt.sum(x).backward(), RuntimeError, "nothing to differentiate, no leaf with requires_grad=True"),
    ("backward inside grad", lambda: mt.grad(lambda x: mt.sum(x).backward())(x), RuntimeError, "use what mt.grad or mt.vjp return"),
    ("a rule that is missing", lambda: mt.custom_vjp(mt.sum)(x), Type, r"custom_vjp needs its rule first: call .defvjp\("),
    ("checkpoint of a value", lambda: mt.checkpoint(3.0), Type, r"checkpoint: needs a function, got 3.0; checkpoint\(f\), not of what f returns"),
    ("check_grads at integers", lambda: mt.check_grads(mt.sum, ids), Type, "check_grads: no argument is floating"),
    ("tree_map: other leaves", lambda: mt.tree_map(mt.add, [x, x], [x]), Value, "tree_map: the trees have 2 and 1 leaves"),
    # -- settings
    ("no such setting", lambda: mt.config(device="cuda").__enter__(), Value, "config: unknown setting 'device'; there are kernels, threads, dtype"),
    ("no such kernels", lambda: mt.config(kernels="cuda").__enter__(), Value, "kernels must be one of numba, numpy, got 'cuda'"),
    ("no threads", lambda: mt.config(threads=0).__enter__(), Value, "config: threads must be a positive integer, got 0"),
    ("parameters of integers", lambda: mt.config(dtype="int8").__enter__(), Value, "dtype must be a floating type such as 'float32', got int8"),
    ("no such format", lambda: mt.precision("bf16"), Value, "precision: storage must be one of bfloat16, float16, .* got 'bf16'"),
    ("no such rounding", lambda: mt.precision("float16", rounding="up"), Value, "rounding must be one of nearest, stochastic, got 'up'"),
    # -- layers and losses
    ("the wrong width", lambda: layer(wide), Shape, r"linear: weight must be \(D_in, D_out\) .*; x is \(4, 5\), weight \(3, 4\)"),
    ("a seed instead of a generator", lambda: nn.Linear(3, 4, rng=0), Type, r"rng must be a numpy.random.Generator .*, got 0"),
    ("a width that is a float", lambda: nn.Linear(3, 8 / 2, rng=rng), Shape, "Linear: D_out must be a positive integer, got 4.0"),
    ("a token beyond the vocabulary", lambda: nn.Embedding(5, 3, rng=rng)([5]), Value, "embedding: ids must be between 0 and 4, got 5"),
    ("tokens as floats", lambda: nn.Embedding(5, 3, rng=rng)([1.0]), Type, "embedding: ids must be integers, got float64"),
    ("a norm of another width", lambda: nn.LayerNorm(4)(x), Shape, r"layer_norm: weight must have the shape of the last axis of x \(2, 3\), \(3,\), not \(4,\)"),
    ("softmax of integers", lambda: F.softmax([1, 2]), Type, "softmax: needs real floating values, got int64"),
    ("softmax with an additive mask", lambda: F.softmax(x, where=x), Type, "softmax: where must be boolean, True where an entry takes part"),
    ("gelu: which?", lambda: F.gelu(x, approximate="fast"), Value, "gelu: approximate must be 'none' or 'tanh', got 'fast'"),
    ("no such activation", lambda: FeedForward(3, 4, "swish", rng=rng), Value, "act must be a function or one of relu, .* got 'swish'"),
    ("more than everything dropped", lambda: F.dropout(x, 20, rng=rng), Value, "dropout: p must be between 0 and 1, got 20"),
    ("dropped by whom?", lambda: nn.Dropout(0.5), Type, r"rng must be a numpy.random.Generator .*, got None"),
    ("classes on axis 1", lambda: F.cross_entropy(np.ones((2, 7, 3)), np.ones((2, 3), int)), Shape, r"classes on the last axis.*\(2, 7\)"),
    ("a class that is not there", lambda: F.cross_entropy(x, [0, 3]), Value, r"target 3 at \(1,\) is not a class; classes are 0 to 2, and ignore_index"),
    ("no such reduction", lambda: F.cross_entropy(x, [0, 1], reduction="avg"), Value, "reduction must be one of mean, sum, none, got 'avg'"),
    ("targets that broadcast", lambda: F.mse_loss(x, x[:, :1]), Shape, r"mse_loss: input and target must have the same shape, got \(2, 3\) and"),
    ("channels last", lambda: F.conv2d(np.ones((1, 5, 5, 3)), kernel), Shape, "conv2d: x has 5 channels .*; its layout is .C_out, C_in/groups, ky, kx"),
    ("no such padding", lambda: F.conv2d(image, kernel, padding="full"), Value, "padding must be 'same', 'valid', an integer or 2 of them, got 'full'"),
    ("a window larger than the image", lambda: F.max_pool2d(image, 6), Shape, "max_pool2d: a kernel of 6 .* does not fit on spatial axis 0 of 5"),
    ("no such interpolation", lambda: F.interpolate(image, size=(2, 2), mode="cubic"), Value, "interpolate: mode must be one of nearest, .* got 'cubic'"),
    ("no size", lambda: F.interpolate(image), Value, "interpolate: give either size or scale_factor"),
    # -- modules
    ("a state's names", lambda: layer.load_state_dict({"weigth": x, "bias": x}), Value, "unexpected: weigth; did you mean weight?"),
    ("PyTorch's layout", lambda: layer.load_state_dict({"weight": np.ones((4, 3))}, strict=False), Value, r"weight is \(3, 4\) here, \(4, 3\) in the state"),
    ("a file as a state", lambda: layer.load_state_dict("model.npz"), Type, "load_state_dict: needs a mapping .* arrays, got str"),
    ("a parameter's name", lambda: nn.functional_call(layer, {"wieght": x}, x), Value, "no parameter 'wieght'; did you mean weight"),
    ("a parameter's shape", lambda: nn.functional_call(layer, {"weight": x}, x), Value, r"weight has shape \(3, 4\), got a value of \(2, 3\)"),
    ("integer parameters", lambda: layer.astype("int8"), Type, "parameters need a floating dtype such as 'float32', got int8"),
    ("a module without forward", lambda: nn.Module()(x), NotImplementedError, "Module has no forward method; a Module says there what it computes"),
    ("no fans", lambda: nn.init.xavier_uniform((3,), rng=rng), Shape, r"fan-out need a weight of at least 2 dimensions, got shape \(3,\)"),
    # -- attention and positions
    ("an additive mask", lambda: sdpa(mask=np.zeros((5, 5))), Type, r"mask must be boolean \(True = may attend\), got float64"),
    ("PyTorch's keywords", lambda: sdpa(is_causal=True), Type, "unexpected keyword argument 'is_causal'; did you mean causal?"),
    ("PyTorch's keywords to a layer", lambda: attention(np.ones((1, 3, 8)), attn_mask=None), Type, "'attn_mask'; did you mean mask?"),
    ("keys of another width", lambda: sdpa(k=four[..., :2]), Shape, r'k has shape .*, expected "... S E" with E = 4 \(from q'),
    ("heads behind positions", lambda: sdpa(k=four[:, :2], v=four[:, :2]), Shape, "K must divide the H = 3 heads of q; got q"),
    ("valid tokens as a mask", lambda: sdpa(mask=np.ones((2, 5), bool)), Shape, r"\(2, 5\) does not broadcast .*; .* by attention.masks.padding_mask"),
    ("a bias of other heads", lambda: sdpa(bias=np.ones((2, 5, 5))), Shape, r"bias of shape \(2, 5, 5\) does not broadcast to the logits"),
    ("an empty window", lambda: sdpa(causal=True, window=0), Value, "window must be a positive integer or None, got 0"),
    ("a cap of nothing", lambda: sdpa(softcap=0.0), Value, "scaled_dot_product_attention: softcap must be positive or None, got 0.0"),
    ("no such normalizer", lambda: sdpa(normalizer="relu"), Value, r"normalizer must be 'softmax' or a function \(logits, mask\)"),
    ("heads that do not divide", lambda: MultiHeadAttention(8, 3, rng=rng), Shape, "H = 3 heads do not divide D = 8; give the head width E"),
    ("groups that do not divide", lambda: MultiHeadAttention(8, 4, 3, rng=rng), Shape, "K = 3 key/value heads must divide H = 4 query heads"),
    ("no such pairing", lambda: DifferentialAttention(8, 2, layer=0, pairing="odd", rng=rng), Value, "pairing must be one of consecutive, halves, got 'odd'"),
    ("padding as numbers", lambda: padding_mask(ids), Type, r"padding_mask: valid must be boolean \(True = a real token\), got int64"),
    ("a prefix too long", lambda: prefix_mask(5, 4), Value, "prefix_mask: the prefix must have 0 to 4 positions, got 5"),
    ("a window of nothing", lambda: sliding_window_mask(4, window=0), Value, "window must be a positive integer or None, got 0"),
    ("empty chunks", lambda: chunk_mask(4, 0), Value, "chunk_mask: a chunk must have at least 1 position, got 0"),
    ("segments of floats", lambda: segment_mask([0.5, 1.5]), Type, "segment_mask: ids must be integers, got float64"),
    ("a cache of other rows", lambda: filled().update(four[:1], four[:1]), Shape, "the cache holds k .*; only axis 2 may differ"),
    ("a cache of another dtype", lambda: filled().update(four.astype("f"), four), Type, "holds k of float64, got float32; cast it first"),
    ("back to the future", lambda: filled().crop(6), Value, "KVCache.crop: length must be 0 to 5, the positions seen, got 6"),
    ("a position that is not held", lambda: filled().keep([5]), Value, "keep: indices must be different numbers from 0 to 4"),
    ("an odd rotation", lambda: rotary_frequencies(3), Shape, "rotary_frequencies: E must be even and positive, got 3"),
    ("no such layout", lambda: apply_rotary(x, [0, 1], [1.0], "neox"), Value, "layout must be one of half, interleaved, got 'neox'"),
    ("positions of another length", lambda: apply_rotary(x, [0, 1, 2], [1.0]), Shape, r"positions must be \(T,\) .*; got \(3,\) for x \(2, 3\)"),
    ("an odd code", lambda: sincos1d(5, [0]), Shape, "sincos1d: D must be even and positive, got 5"),
    ("an odd code of images", lambda: sincos2d(6, [0], [0]), Shape, "sincos2d: D must be a positive multiple of 4, got 6"),
    # -- models and decoding
    ("no such position code", lambda: decoder(position="rope"), Value, "Decoder: position must be one of none, learned, .* got 'rope'"),
    ("learned positions of what length?", lambda: decoder(max_length=None), Value, "Decoder: learned positions need max_length"),
    ("no such norm", lambda: decoder(norm="batch"), Value, "Decoder: norm must be one of layer, rms, or make one; got 'batch'"),
    ("a norm in no place", lambda: decoder(norm_place="both"), Value, "norm's place must be 'pre', 'post' or 'sandwich', got 'both'"),
    ("no heads", lambda: decoder(H=0), Value, "needs L of at least 0 layers and H of at least 1 head, got L = 1, H = 0"),
    ("slots that are not there", lambda: DecoderCache(2, [0, 2]), Value, r"layer_slot must count its slots from 0 and use each, got \[0, 2\]"),
    ("too long a text", lambda: model(np.zeros((1, 9), int)), Shape, "Decoder: 9 positions, but max_length is 8"),
    ("one row without a batch", lambda: model([1, 2]), Shape, r"Decoder: ids must be \(B, T\), got shape \(2,\)"),
    ("a text instead of ids", lambda: model("hello"), Type, "a str .* is no array of numbers"),
    ("decoding with a layer", lambda: greedy(layer, ids, 2), Type, r"needs a model that generates, with new_cache\(B\) .* got Linear"),
    ("a prompt without a batch", lambda: greedy(model, [1], 2), Shape, r"greedy: the prompt must be ids \(B, T\) .*, got shape \(1,\)"),
    ("half a step", lambda: greedy(model, ids, 1.5), Value, "greedy: steps must be an integer of at least 0, got 1.5"),
    ("a seed instead of a generator", lambda: sample(model, ids, 1, rng=0), Type, "rng must be a numpy.random.Generator .*, got 0"),
    ("as cold as that", lambda: sample(model, ids, 1, rng=rng, temperature=0), Value, "temperature must be positive, got 0; greedy is the limit 0"),
    ("top_p in percent", lambda: sample(model, ids, 1, rng=rng, top_p=90), Value, r"top_p must be in \(0, 1\], or None, got 90"),
    ("top_k of nothing", lambda: sample(model, ids, 1, rng=rng, top_k=0), Value, "top_k must be an integer from 1 to V = 11, or None, got 0"),
    # -- text, optimizers, training
    ("bytes to encode", lambda: tokenizer.encode(b"abc"), Type, "encode: needs a str, got bytes"),
    ("no such special token", lambda: tokenizer.encode("a", before=["<cls>"]), Value, "no special token; there are: <bos>, <eos>"),
    ("an id that is no token", lambda: tokenizer.decode([999]), Value, "decode: 999 at position 0 is no token; ids are 0 to 258"),
    ("a batch to decode", lambda: tokenizer.decode(ids), Type, r"decode: needs one sequence of integer ids, got int64 \(1, 3\)"),
    ("text to decode", lambda: tokenizer.decode("abc"), Type, "decode: needs one sequence of integer ids, got text"),
    ("batches of a text", lambda: text.batches("abc", 2, 2, rng=rng), Type, r"got text; byte_text\(text\) makes ids of it"),
    ("batches of too little", lambda: text.batches(ids[0], 2, 8, rng=rng), Shape, "batches: 3 ids are too few for windows of T=8"),
    ("a fraction in percent", lambda: text.split("abc", 10), Value, "split: validation is a fraction between 0 and 1, got 10"),
    ("a module to optimize", lambda: optim.AdamW(layer), Type, r"params must be an iterable .*, such as model.parameters\(\), .* Linear"),
    ("nothing to optimize", lambda: optim.AdamW([]), Value, r"no parameters to optimize \(was a generator used twice\?\)"),
    ("uphill", lambda: optim.AdamW([leaf], lr=-1), Value, "AdamW: lr must be a number that is not negative, got -1"),
    ("one beta", lambda: optim.AdamW([leaf], betas=0.9), Value, r"AdamW: betas must be two numbers in \[0, 1\), got 0.9"),
    ("a parameter twice", lambda: optim.SGD([leaf, leaf], 0.1), Value, r"SGD: a parameter of shape \(2, 3\) was given twice"),
    ("no such option of a group", lambda: optim.SGD([{"params": [leaf], "rate": 1}], 0.1), Value, "unknown option 'rate'; a group may set lr, momentum"),
    ("a step without gradients", lambda: optim.SGD([nn.Parameter(x)], 0.1).step(), RuntimeError, r"call loss.backward\(\) before step\(\)"),
    ("a state of something else", lambda: optim.SGD([leaf], 0.1).load_state_dict({}), Type, r"needs what state_dict\(\) returns"),
    ("clipped to nothing", lambda: optim.clip_grad_norm([leaf], 0), Value, "clip_grad_norm: max_norm must be positive, got 0"),
    ("a warmup too long", lambda: optim.schedules.cosine(0, 10, warmup=11), Value, "cosine: needs 0 <= warmup <= total"),
    ("no learning rate", lambda: train(lr=None), Value, "fit: give either an optimizer, or lr for AdamW"),
    ("no such schedule", lambda: train(schedule="step"), Value, "schedule must be a function of the step or one of linear, cosine, got 'step'"),
    ("too few batches", lambda: train(steps=2), Value, "fit: the batches ran out after 1 of 2 steps; pass an endless iterator"),
    ("a loss that is an array", lambda: train(loss=lambda module, x: module(x)), Shape, "fit: loss must return a scalar Tensor"),
    ("data that are not finite", lambda: train(batches=[x * np.nan]), FloatingPointError, "the loss is nan at step 0; the first output that is not finite is that of the model"),
    # -- the oracle
    ("no such name", lambda: oracle.case("attention.diferential"), LookupError, r"no 'attention.diferential'; did you mean 'attention.differential'"),
    ("a function as a name", lambda: oracle.case(sdpa), Type, "a name is a string such as 'attention.differential', got <function"),
    ("no such dtype", lambda: oracle.case("attention.differential", dtype="bf16"), Value, "must be one of .* did you mean 'bfloat16'?"),
    ("no such size", lambda: oracle.case("attention.differential", size="xl"), Value, "size must be one of tiny, small, medium, got 'xl'"),
    ("no such options", lambda: oracle.case("attention.differential", options="casual"), Value, "did you mean 'causal'"),
    ("a negative seed", lambda: oracle.case("attention.differential", seed=-1), Value, "seed must be a non-negative integer, got -1"),
    ("no function to check", lambda: check(fn=x), Type, "oracle.check: fn is the implementation to check, a function; got"),
    ("no such framework", lambda: check(framework="pytorch"), Value, "must be one of numpy, torch, jax, .* did you mean 'torch'?"),
    ("no trials", lambda: check(trials=0), Value, "oracle.check: trials must be a positive integer, got 0"),
    ("a seed that is no number", lambda: check(seed="a"), Value, "oracle.check: seed must be a non-negative integer, got 'a'"),
    ("gradients from NumPy", lambda: check(gradients=True), Value, r"numpy does not differentiate; pass backward=, .* or gradients=False"),
    ("too coarse a sum", lambda: check(accumulate="bfloat16"), Value, "accumulate='bfloat16' is coarser than the dtype, float32"),
    ("NumPy on a GPU", lambda: check(device="cuda"), Value, "numpy arrays live on the cpu, not on 'cuda'"),
    ("judging without a case", lambda: oracle.judge(case.name, {}, x), Type, r"is a Case, as oracle.case\('.*'\) returns; got {}"),
    ("another case", lambda: oracle.judge("attention.dot_product", case, x), Value, "the case belongs to 'attention.differential', not to 'attention.dot_product'"),
    ("an output's name", lambda: oracle.judge(case.name, case, {"o": x}), Value, "oracle.judge: outputs are out; got o"),
    ("a file to judge", lambda: oracle.judge(case.name, case, "out.npy"), Type, "oracle.judge: outputs .* are arrays, loaded already"),
    ("one array as the inputs", lambda: oracle.tolerance(F.softmax, x, "bfloat16"), Type, r"got ndarray; wrap a single array: \[x\]"),
    ("no such file format", lambda: export(format="csv"), Value, "format must be one of safetensors, npz, json, got 'csv'"),
    ("nothing to export", lambda: export(names="atention.*"), LookupError, "no name matches 'atention.*'; `minitf oracle list` shows all"),
    ("an impossible folder", lambda: export("/dev/null/x"), OSError, "oracle.export cannot make this folder .* where you may write"),
    # -- papers and exercises
    ("no such paper", lambda: catalogue.paper("diferential-transformer"), LookupError, "no paper .* did you mean 'differential-transformer'"),
    ("implementing nothing", lambda: implements(sdpa), Type, r'takes the slugs of papers: @implements\("differential-transformer"\)'),
    ("no such exercise", lambda: grade.find("attention/diferential"), Value, "did you mean attention/differential"),
    ("no such submission", lambda: grade.grade("attention/differential", "nowhere.py"), Value, "there is no file nowhere.py"),
    ("no time", lambda: grade.Limits(seconds=0), Value, "limits: seconds must be a positive integer, got 0"),
]

COMMANDS = [
    ("no command", "", r"the following arguments are required: COMMAND"),
    ("no such command", "paper", r"invalid choice: 'paper' \(choose from .*papers.*oracle.*exercises"),
    ("no such option", "papers --famly attention", r"unrecognized arguments: --famly"),
    ("no such paper", "papers diferential-transformer", r"no paper is called 'diferential-transformer'; did you mean 'differential-transformer'"),
    ("no such family", "papers --family atention", r"no family is called 'atention'; did you mean 'attention'"),
    ("a list of one", "papers differential-transformer --missing", r"--missing and --family choose from the list .*; leave them out with a SLUG"),
    ("no action", "oracle", r"the following arguments are required: ACTION"),
    ("no such names", "oracle list nothing.*", r"no name matches 'nothing\.\*'; `minitf oracle list` shows all"),
    ("no such name", "oracle show attention.diferential", r"knows no 'attention.diferential'; did you mean 'attention.differential'"),
    ("no such file format", "oracle export attention.* --format csv", r"format must be one of safetensors, npz, json, got 'csv'"),
    ("no such dtype", "oracle export attention.* --dtype bf16", r"dtype must be one of .* got 'bf16'; did you mean 'bfloat16'\?"),
    ("no such size", "oracle export attention.* --size huge", r"size must be one of tiny, small, medium, got 'huge'"),
    ("no number", "oracle export attention.* --seed x", r"argument --seed: invalid int value: 'x'"),
    ("an impossible folder", "oracle export attention.* -o /dev/null/x", r"/dev/null/x: oracle.export cannot make this folder .* where you may write"),
    ("no such exercise", "start diferential", r"no exercise 'diferential'; did you mean attention/differential\? \(`minitf exercises` lists all\)"),
    ("no place for it", "start attention/differential --dir /dev/null/x", r"--dir: cannot make the folder /dev/null/x"),
    ("nothing started", "grade", r"no exercise is started here; `minitf exercises` lists them, `minitf start NAME` begins one"),
    ("not started", "grade attention/differential", r"there is no attention/differential/exercise.py; `minitf start .*` makes one"),
    ("no such submission", "grade attention/differential --file nowhere.py", r"there is no file nowhere.py"),
    ("results to nowhere", "grade attention/differential --json no/where.json", r"--json: there is no folder no to write where.json into"),
    ("no such hint", "hint attention/differential 99", r"attention/differential has hints 1 to \d+, not 99"),
    ("hints count from 1", "hint attention/differential 0", r"attention/differential has hints 1 to \d+, not 0"),
    ("no such solution", "solution nothing", r"there is no exercise 'nothing' \(`minitf exercises` lists all\)"),
]
# fmt: on


@pytest.mark.parametrize(("call", "error", "message"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_a_wrong_call_is_explained(call, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message) as caught:
        call()
    where = Path(traceback.extract_tb(caught.value.__traceback__)[-1].filename)
    assert "numpy" not in where.parts, f"raised deep inside NumPy, in {where}"
    assert list(tmp_path.iterdir()) == [], "something was half-done"


@pytest.mark.parametrize(("line", "message"), [c[1:] for c in COMMANDS], ids=[c[0] for c in COMMANDS])
def test_a_wrong_command_is_explained(line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(shlex.split(line)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Traceback" not in told.err
    *usage, last = told.err.strip().splitlines()
    assert last.startswith("minitf"), told.err
    assert all(line.startswith(("usage: ", " ")) for line in usage), told.err
    assert re.search(message, last), told.err


def test_leaving_the_engine_on_purpose_is_allowed():
    """What is refused inside grad is a conversion that nobody asked for."""

    def f(x):
        scale = x.item() + float(mt.stop_gradient(x)) + x.numpy().sum() + np.asarray(x.detach())
        return x * scale if x > 0 else -x

    assert mt.grad(f)(2.0).item() == 8.0
    assert float(leaf[0, 0]) == np.asarray(leaf)[0, 0] == 1.0
