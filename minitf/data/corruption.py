"""What a model is asked to undo: token ids in, ``(inputs, labels)`` out.

Hidden tokens        ``masked_lm_mask``, ``whole_word_mask``: labels are the ids at chosen positions, -100 elsewhere
Hidden spans         ``span_corruption`` (T5), ``mixture_of_denoisers`` (UL2), ``text_infilling`` (BART)
Moved pieces         ``fill_in_the_middle``, ``segment_reordering``, ``structural_pairs``, ``next_sentence_pairs``
Hidden sentences     ``gap_sentence_generation`` (PEGASUS)

Lengths are rounded half to even.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minitf.autodiff.errors import ShapeError
from minitf.nn.init import generator

IGNORED = -100

Document = Sequence[Any]
Pair = tuple[Any, Any, int]


# -- hidden tokens ------------------------------------------------------------------------------------------------


def masked_lm_mask(
    ids: Any, rate: float = 0.15, *, V: int, mask_id: int, special_ids: Sequence[int] = (), rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """BERT's masking of ids of any shape: each token that is not special is chosen with probability ``rate``.

    Of the chosen, 80 % become ``mask_id``, 10 % a uniformly random id below V, 10 % stay as they are.
    """
    _require_rate("masked_lm_mask", rate)
    ids = _ids("masked_lm_mask", ids)
    chosen = (generator(rng).random(ids.shape) < rate) & ~np.isin(ids, special_ids)
    return _replaced(ids, chosen, V, mask_id, rng)


def whole_word_mask(
    ids: Any, word_ids: Any, rate: float = 0.15, *, V: int, mask_id: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The same for ids ``(T,)``, but a word is chosen whole.

    Words are tried in random order; one is taken if no more than max(1, round(rate n)) tokens are chosen then.

    word_ids: ``(T,)``, the word that a token belongs to, negative where it belongs to none; n counts the others.
    """
    _require_rate("whole_word_mask", rate)
    ids, words = _ids("whole_word_mask", ids), np.asarray(word_ids)
    if ids.ndim != 1 or words.shape != ids.shape:
        raise ShapeError(f"whole_word_mask: ids and word_ids must be (T,), got {ids.shape} and {words.shape}")
    names, sizes = np.unique(words[words >= 0], return_counts=True)
    budget = max(1, round(rate * int(sizes.sum())))
    taken = []
    for i in generator(rng).permutation(len(names)):
        if sizes[i] <= budget:
            budget -= sizes[i]
            taken.append(names[i])
    return _replaced(ids, np.isin(words, taken), V, mask_id, rng)


def _replaced(
    ids: np.ndarray, chosen: np.ndarray, V: int, mask_id: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """80 % of the chosen masked, 10 % random, 10 % as they are; and the labels."""
    how, words = rng.random(ids.shape), rng.integers(0, V, ids.shape)
    inputs = np.where(chosen & (how < 0.8), mask_id, np.where(chosen & (how >= 0.9), words, ids))
    return inputs, np.where(chosen, ids, IGNORED)


# -- hidden spans -------------------------------------------------------------------------------------------------


def random_spans_noise_mask(T: int, rate: float, mean_length: float, *, rng: np.random.Generator) -> np.ndarray:
    """T5's choice of spans: ``(T,)``, True in them. It begins outside of a span and ends in one.

    round(T rate) tokens, at least 1 and at most T - 1, are in round(tokens / mean_length) spans, of which there are at least
    1 and as many as fit. How the tokens inside, and those outside, are cut into so many parts is uniformly random.
    """
    _require_rate("random_spans_noise_mask", rate)
    if T < 2 or not mean_length >= 1:
        raise ValueError(
            f"random_spans_noise_mask: needs T >= 2 and mean_length >= 1, got T={T}, mean_length={mean_length}"
        )
    noise = min(max(round(T * rate), 1), T - 1)
    spans = min(max(round(noise / mean_length), 1), noise, T - noise)
    inside, outside = (_composition(n, spans, rng) for n in (noise, T - noise))
    lengths = np.stack([outside, inside], axis=1).ravel()
    return np.repeat(np.arange(2 * spans) % 2 == 1, lengths)


def span_corruption(
    ids: Any,
    rate: float = 0.15,
    mean_length: float = 3.0,
    *,
    sentinels: Sequence[int],
    eos: int | None = None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """T5's denoising of ids ``(T,)``: (inputs, targets).

    inputs: ids with the i-th span replaced by the i-th sentinel. targets: sentinel, span, sentinel, span, ..., and ``eos``.

    Raises ValueError if there are fewer sentinels than spans.
    """
    ids = _ids("span_corruption", ids, axes=1)
    noise = random_spans_noise_mask(len(ids), rate, mean_length, rng=rng)
    starts = np.flatnonzero(noise & ~np.concatenate([[False], noise[:-1]]))
    if len(sentinels) < len(starts):
        raise ValueError(f"span_corruption: {len(starts)} spans need as many sentinels, there are {len(sentinels)}")
    marks = np.asarray(sentinels, ids.dtype)[: len(starts)]
    marked = ids.copy()
    marked[starts] = marks
    kept = ~noise
    kept[starts] = True
    hidden = np.flatnonzero(noise)
    targets = np.insert(ids[hidden], np.searchsorted(hidden, starts), marks)
    return marked[kept], targets if eos is None else np.append(targets, eos)


def join_spans(inputs: np.ndarray, targets: np.ndarray, sentinels: Sequence[int], eos: int | None = None) -> np.ndarray:
    """The ids that ``span_corruption`` made ``(inputs, targets)`` of."""
    targets = targets[:-1] if eos is not None else targets
    places = {sentinel: i for i, sentinel in enumerate(sentinels)}
    spans: list[list[int]] = []
    for token in targets.tolist():
        if len(spans) < len(places) and token == sentinels[len(spans)]:
            spans.append([])
        else:
            spans[-1].append(token)
    found = iter(spans)
    parts = [next(found) if token in places else [token] for token in inputs.tolist()]
    return np.array(list(itertools.chain.from_iterable(parts)), inputs.dtype)


#: mode -> (mean length of spans, rate), or None for a prefix language model
DENOISERS: dict[str, tuple[float, float] | None] = {
    "LM": None,
    "SC1": (3, 0.15),
    "SC2": (8, 0.15),
    "SC3": (64, 0.15),
    "SC4": (3, 0.5),
    "SC5": (8, 0.5),
    "SC6": (64, 0.5),
}


def mixture_of_denoisers(
    ids: Any,
    *,
    sentinels: Sequence[int],
    eos: int | None = None,
    prefixes: Mapping[str, int] | None = None,
    weights: Mapping[str, float] | None = None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """One of DENOISERS, drawn anew for each example, applied to ids ``(T,)``: (inputs, targets).

    "LM" cuts the ids in two, left part and right part; the right one has 1 to T/2 - 1 tokens, uniformly: a quarter of T on
    average. (choice, as are the spans and rates: those of UL2)

    prefixes: by mode, the id in front of the inputs that tells the model which one it is. weights: by mode; uniform.
    """
    ids = _ids("mixture_of_denoisers", ids, axes=1)
    weight = np.array([1.0 if weights is None else weights.get(mode, 0.0) for mode in DENOISERS])
    unknown = {*(weights or ()), *(prefixes or ())} - DENOISERS.keys()
    if unknown or not weight.sum() > 0 or (weight < 0).any() or len(ids) < 2:
        raise ValueError(
            f"mixture_of_denoisers: needs at least 2 ids, and weights and prefixes for some of {', '.join(DENOISERS)}, "
            f"got {len(ids)} ids and weights {weights}, prefixes {prefixes}"
        )
    mode = list(DENOISERS)[int(generator(rng).choice(len(DENOISERS), p=weight / weight.sum()))]
    spans = DENOISERS[mode]
    if spans is None:
        cut = len(ids) - int(rng.integers(1, max(2, len(ids) // 2)))
        inputs, targets = ids[:cut], ids[cut:] if eos is None else np.append(ids[cut:], eos)
    else:
        inputs, targets = span_corruption(ids, spans[1], spans[0], sentinels=sentinels, eos=eos, rng=rng)
    return inputs if prefixes is None else np.concatenate([[prefixes[mode]], inputs]), targets


def text_infilling(
    ids: Any, rate: float = 0.3, mean_length: float = 3.0, *, mask_id: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """BART's noise on ids ``(T,)``: (inputs, ids). Spans of Poisson length become one ``mask_id`` each, until round(rate T)
    tokens are hidden; a span of length 0 inserts a mask.

    Spans do not overlap or touch: their places are uniformly random among those where this holds. (choice)
    """
    _require_rate("text_infilling", rate)
    ids = _ids("text_infilling", ids, axes=1)
    T, left = len(ids), round(rate * len(ids))
    lengths = []
    while left > 0:
        lengths.append(min(int(generator(rng).poisson(mean_length)), left))
        left -= lengths[-1]
    kept = T - sum(lengths)
    # one token at least between two spans: the n-th span follows the n-th chosen gap among the kept tokens
    n = min(len(lengths), kept + 1)
    gaps = np.sort(rng.choice(kept + 1, n, replace=False))
    lengths = [*lengths[: n - 1], sum(lengths[n - 1 :])] if n else []
    inputs, place = [], 0
    for before, length in zip(np.diff(gaps, prepend=0).tolist(), lengths, strict=True):
        inputs += [*ids[place : place + before].tolist(), mask_id]
        place += before + length
    return np.array([*inputs, *ids[place:].tolist()], ids.dtype), ids


def _composition(n: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """n as a sum of so many positive integers, all such sums alike."""
    cuts = np.sort(generator(rng).choice(n - 1, parts - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=n)


# -- moved pieces -------------------------------------------------------------------------------------------------


def fill_in_the_middle(
    doc: Any,
    rate: float = 0.5,
    spm: float = 0.5,
    *,
    prefix_id: int,
    suffix_id: int,
    middle_id: int,
    pad_id: int = 0,
    encode: Callable[[Any], Any] = np.asarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """With probability ``rate``, the middle of a document last, so that a causal model learns to fill it in.

    Two cuts, uniform in 0 .. len(doc), make prefix p, middle m and suffix s, of which
        PSM    <prefix> p <suffix> s <middle> m
        SPM    <prefix> <suffix> s <middle> p m          with probability ``spm``
    As many ids as ``encode(doc)`` has come out: the end of the suffix makes room for the three marks. A suffix that is too
    short for that leaves the document as it is.

    doc: ids; or text, and what encodes it: the pieces are encoded separately (``pad_id`` fills up if they are shorter).
    """
    _require_rate("fill_in_the_middle", rate)
    _require_rate("fill_in_the_middle", spm)
    whole = _ids("fill_in_the_middle", encode(doc), axes=1)
    if generator(rng).random() >= rate:
        return whole
    a, b = np.sort(rng.integers(0, len(doc) + 1, 2))
    p, m, s = (np.asarray(encode(piece), whole.dtype) for piece in (doc[:a], doc[a:b], doc[b:]))
    surplus = len(p) + len(m) + len(s) + 3 - len(whole)
    if surplus > len(s):
        return whole
    s = s[: len(s) - surplus] if surplus > 0 else np.append(s, np.full(-surplus, pad_id, s.dtype))
    if rng.random() < spm:
        parts = [[prefix_id], [suffix_id], s, [middle_id], p, m]
    else:
        parts = [[prefix_id], p, [suffix_id], s, [middle_id], m]
    return np.concatenate([np.asarray(part, whole.dtype) for part in parts])


def next_sentence_pairs(docs: Sequence[Document], *, rng: np.random.Generator) -> list[Pair]:
    """(sentence, other, label) for every sentence that has a next one: label 1 and the next, or, with probability 1/2, label
    0 and a random sentence of another document."""
    pairs: list[Pair] = []
    for d, i in _with_next("next_sentence_pairs", docs):
        true = int(generator(rng).integers(2))
        pairs.append((docs[d][i], docs[d][i + 1] if true else _elsewhere(docs, d, rng), true))
    return pairs


def structural_pairs(docs: Sequence[Document], *, rng: np.random.Generator) -> list[Pair]:
    """(first, second, label) for every sentence that has a next one, with a third of probability each: label 0 and both in
    order, label 1 and both swapped, label 2 and a random sentence of another document second."""
    pairs: list[Pair] = []
    for d, i in _with_next("structural_pairs", docs):
        label = int(generator(rng).integers(3))
        here, following = docs[d][i], docs[d][i + 1]
        second = _elsewhere(docs, d, rng) if label == 2 else following
        pairs.append((following, here, 1) if label == 1 else (here, second, label))
    return pairs


def _with_next(name: str, docs: Sequence[Document]) -> list[tuple[int, int]]:
    if sum(len(doc) > 0 for doc in docs) < 2:
        raise ValueError(f"{name}: sentences of other documents need at least 2 documents that are not empty")
    return [(d, i) for d, doc in enumerate(docs) for i in range(len(doc) - 1)]


def _elsewhere(docs: Sequence[Document], d: int, rng: np.random.Generator) -> Any:
    """A uniformly random sentence of a uniformly random document other than d."""
    others = [other for i, other in enumerate(docs) if i != d and len(other)]
    other = others[int(rng.integers(len(others)))]
    return other[int(rng.integers(len(other)))]


def segment_reordering(ids: Any, chunks: int = 4, *, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """ERNIE-Doc's task: ids ``(T,)`` cut into k pieces, which are permuted; (inputs, the number of the order).

    k is uniform in 1 .. ``chunks``, and so is how T is cut into k parts that are not empty (choice), and the order. There are
    1! + 2! + ... + chunks! classes: orders of fewer pieces come first, then they are in lexicographic order.
    """
    ids = _ids("segment_reordering", ids, axes=1)
    if not 1 <= chunks <= len(ids):
        raise ValueError(f"segment_reordering: chunks must be from 1 to the {len(ids)} ids, got {chunks}")
    k = int(generator(rng).integers(1, chunks + 1))
    pieces = np.split(ids, np.cumsum(_composition(len(ids), k, rng))[:-1])
    order = rng.permutation(k).tolist()
    rank = sum(math.factorial(k - 1 - i) * sum(later < here for later in order[i:]) for i, here in enumerate(order))
    return np.concatenate([pieces[i] for i in order]), sum(math.factorial(n) for n in range(1, k)) + rank


# -- hidden sentences ---------------------------------------------------------------------------------------------


def gap_sentence_generation(
    sentences: Sequence[Any],
    rate: float = 0.3,
    *,
    mask_id: int,
    scores: Any = None,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """PEGASUS: (document with max(1, round(rate n)) of its n sentences replaced by a mask each, these sentences in order).

    sentences: ids ``(T_i,)`` each. scores: ``(n,)``, how important they are: the best are hidden, ties to the first; without
    scores ``rng`` chooses.
    """
    _require_rate("gap_sentence_generation", rate)
    rows = [_ids("gap_sentence_generation", sentence, axes=1) for sentence in sentences]
    n = len(rows)
    if not n or (scores is None) == (rng is None) or (scores is not None and np.shape(scores) != (n,)):
        raise ValueError(f"gap_sentence_generation: needs sentences, and either a score for each of the {n} or rng")
    order = generator(rng).permutation(n) if scores is None else np.argsort(-np.asarray(scores), kind="stable")
    hidden = set(order[: max(1, round(rate * n))].tolist())
    inputs = [np.array([mask_id]) if i in hidden else row for i, row in enumerate(rows)]
    return np.concatenate(inputs), np.concatenate([rows[i] for i in sorted(hidden)])


def _require_rate(name: str, rate: float) -> None:
    if not 0 <= rate <= 1:
        raise ValueError(f"{name}: a rate is between 0 and 1, got {rate!r}")


def _ids(name: str, ids: Any, axes: int | None = None) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.size == 0 and ids.dtype.kind == "f":  # np.asarray([])
        ids = ids.astype(np.int64)
    if ids.dtype.kind not in "iu" or (axes is not None and ids.ndim != axes):
        raise ShapeError(f"{name}: needs integer ids{' (T,)' if axes else ''}, got {ids.dtype} {ids.shape}")
    return ids
