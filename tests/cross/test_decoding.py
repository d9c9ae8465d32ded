"""Decoding against Transformers: its models, asked by our searches, write what its ``generate`` writes."""

import functools
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from keep_double import keep_double  # noqa: E402
from transformers.generation import logits_process as theirs  # noqa: E402

import minitf as mt  # noqa: E402
from minitf.inference import decoding  # noqa: E402

pytestmark = pytest.mark.cross

V, EOS, PAD, STEPS = 12, 3, 11, 9  # a pad of 0 is none to their beams, which fill with eos then
PROMPTS = np.array([[5, 1, 7], [2, 9, 4], [6, 6, 1]])


@functools.cache
def gpt2(seed):
    with keep_double():
        torch.manual_seed(seed)
        config = transformers.GPT2Config(
            vocab_size=V, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=EOS
        )
        model = transformers.GPT2LMHeadModel(config).eval()
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(6 if p.ndim > 1 else 1)  # from nearly even distributions to decided ones
        return model


class Asked(mt.nn.Module):
    """One of their models with our interface, which reads the whole text every time."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def new_cache(self, B):
        return Text()

    def forward(self, ids, cache=None):
        text = ids if cache is None else cache.after(ids)
        with keep_double(), torch.no_grad():
            logits = self.model(torch.tensor(np.ascontiguousarray(text))).logits
        return mt.tensor(logits.numpy()[:, -ids.shape[1] :])


class Text:
    read = None

    def after(self, ids):
        self.read = ids if self.read is None else np.concatenate([self.read, ids], axis=1)
        return self.read

    def reorder(self, rows):
        self.read = self.read[rows]


def generate(model, **options):
    with keep_double(), torch.no_grad():
        out = model.generate(
            torch.tensor(PROMPTS),
            attention_mask=torch.ones(PROMPTS.shape, dtype=torch.long),
            max_new_tokens=STEPS,
            pad_token_id=PAD,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **options,
        )
    return out


def same_texts(mine, other):
    """Ours end with the longest text; theirs may have more padding."""
    n = mine.shape[-1]
    np.testing.assert_array_equal(mine.reshape(-1, n), other[:, :n])
    assert (other[:, n:] == PAD).all()


@pytest.mark.parametrize("eos", [EOS, None])
def test_greedy(eos):
    for seed in range(4):
        out = generate(gpt2(seed), eos_token_id=eos)
        same_texts(decoding.greedy(Asked(gpt2(seed)), PROMPTS, STEPS, eos=eos, pad=PAD), out.sequences.numpy())


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("beams", [2, 3, 5])
def test_beam_search(beams, length_penalty, early_stopping):
    for seed in range(4):
        options = {"length_penalty": length_penalty, "early_stopping": early_stopping}
        out = generate(gpt2(seed), num_beams=beams, num_return_sequences=beams, eos_token_id=EOS, **options)
        ids, scores = decoding.beam_search(
            Asked(gpt2(seed)), PROMPTS, STEPS, beams=beams, eos=EOS, pad=PAD, returned=beams, **options
        )
        same_texts(ids, out.sequences.numpy())
        np.testing.assert_allclose(scores.reshape(-1), out.sequences_scores.numpy(), rtol=0, atol=1e-10)


def test_beams_under_penalties_and_bans():
    def process(logits, ids):
        return decoding.no_repeat_ngram(decoding.repetition_penalty(logits, ids, 1.3), ids, 2)

    for seed in range(4):
        out = generate(gpt2(seed), num_beams=3, eos_token_id=EOS, repetition_penalty=1.3, no_repeat_ngram_size=2)
        ids, scores = decoding.beam_search(
            Asked(gpt2(seed)), PROMPTS, STEPS, beams=3, eos=EOS, pad=PAD, process=process
        )
        same_texts(ids, out.sequences.numpy())
        np.testing.assert_allclose(scores, out.sequences_scores.numpy(), rtol=0, atol=1e-10)


def test_beams_in_a_trie():
    names = [(*name, EOS) for name in itertools.product((1, 4, 5), (2, 6), (7, 8, 9))]
    trie = decoding.TokenTrie(names)
    T = PROMPTS.shape[1]
    # theirs must always be given a token; behind a complete text it makes no difference which
    allowed = lambda b, ids: trie.allowed(ids[T:].tolist()) or [PAD]
    for seed in range(4):
        out = generate(gpt2(seed), num_beams=4, eos_token_id=EOS, prefix_allowed_tokens_fn=allowed)
        ids, _ = decoding.beam_search(
            Asked(gpt2(seed)), PROMPTS, STEPS, beams=4, eos=EOS, pad=PAD, prefix_allowed=trie.allowed
        )
        same_texts(ids, out.sequences.numpy())
        assert all(tuple(text[T : T + 4]) in names for text in ids.tolist())


CUTS = {
    "temperature": theirs.TemperatureLogitsWarper,
    "top_k": theirs.TopKLogitsWarper,
    "top_p": theirs.TopPLogitsWarper,
    "min_p": theirs.MinPLogitsWarper,
    "typical_p": theirs.TypicalLogitsWarper,
}


@pytest.mark.parametrize(
    "cuts",
    [
        {"temperature": 0.6},
        {"top_k": 5},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"typical_p": 0.7},
        {"temperature": 1.4, "top_k": 20},
        {"temperature": 0.9, "top_p": 0.95, "min_p": 0.02},
        {"top_k": 30, "top_p": 0.9, "typical_p": 0.9},
    ],
)
def test_cuts(cuts):
    logits = 2.5 * np.random.default_rng(0).normal(size=(20, 50))
    out = torch.tensor(logits)
    for name, value in cuts.items():
        out = CUTS[name](value)(None, out)
    got = decoding.next_token_probabilities(logits, **cuts)
    np.testing.assert_allclose(got, torch.softmax(out, -1).numpy(), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(got > 0, np.isfinite(out.numpy()))


def test_penalties_and_bans():
    rng = np.random.default_rng(1)
    logits, ids = rng.normal(size=(6, 10)), rng.integers(0, 10, (6, 14))
    for penalty in (0.8, 1.0, 1.7):
        want = theirs.RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor(ids), torch.tensor(logits)).numpy()
        np.testing.assert_allclose(decoding.repetition_penalty(logits, ids, penalty), want, rtol=1e-14)
    for n in (1, 2, 3, 4):
        want = theirs.NoRepeatNGramLogitsProcessor(n)(torch.tensor(ids), torch.tensor(logits)).numpy()
        np.testing.assert_array_equal(decoding.no_repeat_ngram(logits, ids, n), want)
        assert (want == -np.inf).any() or n > 2
