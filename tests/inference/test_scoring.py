"""Scores of given texts: as a product of probabilities, and what the normalizations are for."""

import math

import numpy as np
import pytest

import minitf as mt
from minitf.inference.next_token import next_token_probabilities
from minitf.inference.scoring import choose_option, option_scores, sequence_logprob
from minitf.models.transformer import Decoder

V = 6


@pytest.fixture(scope="module")
def model():
    made = Decoder(V, 8, 2, 2, max_length=20, dropout=0.5, rng=np.random.default_rng(0))
    made.embedding.weight.data *= 30
    return made


def product(model, prompt, continuation):
    """log of the product of the probabilities that the model gives, a token at a time."""
    model.eval()
    text, p = list(prompt), 1.0
    for token in continuation:
        p *= next_token_probabilities(model(np.array([text])).data[0, -1])[token]
        text.append(token)
    model.train()
    return math.log(p)


def test_log_of_the_product(model):
    for prompt, continuation in (([1], [2]), ([1, 2, 3], [0, 5, 5, 1]), ([4], [4, 4])):
        got = sequence_logprob(model, prompt, continuation)
        assert got == pytest.approx(product(model, prompt, continuation), abs=1e-10)
    assert sequence_logprob(model, [1], []) == 0.0
    assert model.training


def test_all_continuations_together_are_certain(model):
    total = sum(math.exp(sequence_logprob(model, [3, 1], [a, b])) for a in range(V) for b in range(V))
    assert total == pytest.approx(1, abs=1e-12)


def test_normalizations(model):
    prompt, neutral, options = [1, 2], [5], [[3], [0, 4], [2, 2, 1]]
    plain = np.array([product(model, prompt, option) for option in options])
    per_token = plain / [1, 2, 3]
    gained = plain - [product(model, neutral, option) for option in options]
    unconditional = {"normalize": "unconditional", "neutral_prompt": neutral}
    for want, how in ((plain, {}), (per_token, {"normalize": "tokens"}), (gained, unconditional)):
        np.testing.assert_allclose(option_scores(model, prompt, options, **how), want, atol=1e-10)
        assert choose_option(model, prompt, options, **how) == want.argmax()
    assert option_scores(model, neutral, options, **unconditional).tolist() == [0, 0, 0]


def test_the_order_of_the_options_does_not_matter_and_ties_go_to_the_first(model):
    options = [[3], [0, 4], [2, 2, 1]]
    best = options[choose_option(model, [1], options)]
    assert options[::-1][choose_option(model, [1], options[::-1])] == best
    assert choose_option(model, [1], [[3], [3]]) == 0


def test_refuses(model):
    with pytest.raises(mt.ShapeError, match=r"needs a prompt \(T,\) with T at least 1"):
        sequence_logprob(model, [], [1])
    with pytest.raises(ValueError, match="normalize must be one of 'none', 'tokens', 'unconditional', got 'length'"):
        choose_option(model, [1], [[2]], normalize="length")
    with pytest.raises(ValueError, match="neutral_prompt belongs to normalize='unconditional'"):
        choose_option(model, [1], [[2]], normalize="unconditional")
    with pytest.raises(ValueError, match="at least one option, and a token in each"):
        choose_option(model, [1], [[2], []])
