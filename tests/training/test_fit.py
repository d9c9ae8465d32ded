"""The training loop: it learns, it reports, it stops."""

import itertools

import numpy as np
import pytest

import minitf as mt
from minitf import nn, optim
from minitf.data import text
from minitf.nn import functional as F
from minitf.training import fit, next_token_loss


class Bigram(nn.Module):
    """Each token predicts the next: logits are rows of a table, with dropout so that modes matter."""

    def __init__(self, V, seed=0):
        rng = np.random.default_rng(seed)
        self.table = nn.Embedding(V, V, rng=rng)
        self.drop = nn.Dropout(0.1, rng=rng)

    def forward(self, ids):
        return self.drop(self.table(ids))


IDS = np.array([0, 1, 2, 3] * 25)


def train(model=None, **options):
    model = model or Bigram(4)
    stream = text.batches(IDS, 8, 5, rng=np.random.default_rng(1))
    settings = {"steps": 40, "lr": 0.3, "progress": False, **options}
    return model, fit(model, next_token_loss, stream, **settings)


def test_learns_a_cycle_and_says_how():
    modes = []

    def validation(model):
        modes.append((model.drop.training, model(IDS).requires_grad))
        inputs, targets = next(text.windows(IDS, 1, 50))
        return next_token_loss(model, inputs, targets).item()

    model, history = train(evaluate=validation, every=15, clip=1.0, schedule="cosine")
    assert history.steps == list(range(40))
    assert history.losses[-1] < 0.3 < 1 < history.losses[0]
    assert history.evaluation_steps == [15, 30, 40]
    assert history.evaluations[-1] < history.evaluations[0]
    assert modes == [(False, False)] * 3
    assert model.drop.training
    assert len(history.grad_norms) == len(history.lrs) == 40
    assert history.lrs[:4] == pytest.approx([0.075, 0.15, 0.225, 0.3])
    assert history.lrs[-1] < 0.01


def test_is_deterministic_and_is_the_loop_one_would_write():
    (model, history), (again, same) = train(clip=0.5), train(clip=0.5)
    assert history == same
    np.testing.assert_array_equal(model.table.weight.data, again.table.weight.data)
    by_hand = Bigram(4)
    optimizer = optim.AdamW(by_hand.parameters(), 0.3)
    stream = text.batches(IDS, 8, 5, rng=np.random.default_rng(1))
    for inputs, targets in itertools.islice(stream, 40):
        optimizer.zero_grad()
        F.cross_entropy(by_hand(inputs), targets).backward()
        optim.clip_grad_norm(by_hand.parameters(), 0.5)
        optimizer.step()
    np.testing.assert_array_equal(model.table.weight.data, by_hand.table.weight.data)


def test_takes_an_optimizer_and_gives_its_lr_back():
    model = Bigram(4)
    optimizer = optim.SGD(model.parameters(), 2.0)
    _, history = train(model, lr=None, optimizer=optimizer, schedule=lambda step: 1 / (1 + step))
    assert history.lrs[:2] == [2.0, 1.0]
    assert optimizer.param_groups[0]["lr"] == 2.0


def test_stops_when_the_loss_is_not_finite():
    model = Bigram(4)
    before = model.table.weight.data.copy()
    bad = itertools.chain([1.0], itertools.repeat(float("nan")))
    loss = lambda model, factor: mt.sum(model.table.weight) * factor
    with pytest.raises(FloatingPointError, match="the loss is nan at step 1, although all parameters are finite"):
        fit(model, loss, bad, steps=5, lr=0.1, progress=False)
    assert np.isfinite(model.table.weight.data).all()
    assert (model.table.weight.data != before).all()
    model.table.weight.data[2, 1] = np.inf
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(FloatingPointError, match=r"parameter table.weight is not finite"),
    ):
        train(model)


def test_stops_when_a_gradient_is_not_finite():
    model = Bigram(4)
    before = model.table.weight.data.copy()
    # sqrt has an infinite slope at 0, and 0 times it is no number
    loss = lambda model, x: mt.sum(mt.sqrt(model.table.weight * 0.0))
    with (
        pytest.raises(FloatingPointError, match=r"the gradient of table.weight is not finite at step 0"),
        np.errstate(all="ignore"),
    ):
        fit(model, loss, [1.0], steps=1, lr=0.1, clip=1.0, progress=False)
    np.testing.assert_array_equal(model.table.weight.data, before)


def test_shows_progress(capsys):
    train(steps=3, progress=True)
    assert "3/3" in capsys.readouterr().err
    train(steps=3)
    assert capsys.readouterr().err == ""


def test_wrong_calls():
    with pytest.raises(ValueError, match="give either an optimizer, or lr for AdamW"):
        train(lr=None)
    with pytest.raises(ValueError, match="the batches ran out after 2 of 3 steps; pass an endless iterator"):
        fit(Bigram(4), next_token_loss, [(IDS[:4], IDS[1:5])] * 2, steps=3, lr=0.1, progress=False)
    with pytest.raises(ValueError, match="function of the step or one of linear, cosine, got 'step'"):
        train(schedule="step")
    with pytest.raises(ValueError, match="steps must be at least 1"):
        train(steps=0)
    with pytest.raises(ValueError, match="give both"):
        train(every=5)
    with pytest.raises(mt.ShapeError, match="loss must return a scalar Tensor"):
        fit(Bigram(4), lambda model, x: model(x), [IDS], steps=1, lr=0.1, progress=False)
