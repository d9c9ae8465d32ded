"""Parameter groups: who decays, how fast each depth learns; and gradients accumulated over pieces of a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minitf as mt
from minitf import nn, optim
from minitf.models.transformer import Decoder
from minitf.optim.groups import decoupled_groups, layerwise_learning_rates
from minitf.training.fit import next_token_loss


def decoder(L=3, **options):
    return Decoder(11, 8, L, 2, max_length=9, rng=np.random.default_rng(0), **options)


def by_name(model, groups, option):
    """{name: the option}, and that every parameter is in one group exactly."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = [(names[id(p)], group[option]) for group in groups for p in group["params"]]
    assert sorted(name for name, _ in found) == sorted(names[id(p)] for p in model.parameters() if p.requires_grad)
    return dict(found)


class StateSpace(nn.Module):
    def __init__(self):
        self.A_log, self.D = nn.Parameter(np.ones((4, 2))), nn.Parameter(np.ones((4, 1)))
        self.proj = nn.Linear(4, 4, rng=np.random.default_rng(0))
        self.norm = nn.GroupNorm(2, 4)


class TestDecay:
    def test_only_matrices_decay(self):
        model = decoder(tied=False)
        found = by_name(model, decoupled_groups(model, 0.1), "weight_decay")
        for name, p in model.named_parameters():
            matrix = name.endswith(".weight") and "norm" not in name
            assert matrix == (p.ndim == 2)
            assert found[name] == (0.1 if matrix else 0.0)

    def test_embeddings_may_be_spared(self):
        model = decoder()
        with_tables, without = (
            by_name(model, decoupled_groups(model, 0.1, embeddings=choice), "weight_decay") for choice in (True, False)
        )
        differ = [name for name in with_tables if with_tables[name] != without[name]]
        assert differ == ["embedding.weight", "positions.weight"]

    def test_state_space_parameters_do_not_decay_whatever_their_shape(self):
        found = by_name(model := StateSpace(), decoupled_groups(model, 0.1), "weight_decay")
        assert [name for name, decay in found.items() if decay] == ["proj.weight"]

    def test_a_head_of_its_own(self):
        model = decoder(tied=False)
        found = by_name(model, decoupled_groups(model, 0.1, factors={"head": 100}), "weight_decay")
        assert found["head.weight"] == pytest.approx(10.0)
        assert found["norm.weight"] == 0.0
        assert found["blocks.0.feed_forward.up.weight"] == 0.1
        with pytest.raises(ValueError, match="no parameter's name begins with 'classifier'"):
            decoupled_groups(model, 0.1, factors={"classifier": 2})

    def test_a_step_without_gradients_moves_only_what_decays(self):
        model = decoder(1)
        before = model.state_dict()
        for p in model.parameters():
            p.data += 0.5
            p.grad = mt.zeros(p.shape)
        optim.AdamW(decoupled_groups(model, 0.1), lr=0.5).step()
        for name, p in model.named_parameters():
            start = before[name] + 0.5
            np.testing.assert_allclose(p.data, start * (0.95 if p.ndim == 2 else 1.0), rtol=1e-15, err_msg=name)

    def test_frozen_parameters_are_left_out(self):
        model = decoder(1)
        model.blocks[0].requires_grad_(False)
        names = by_name(model, decoupled_groups(model, 0.1), "weight_decay")
        assert not any(name.startswith("blocks") for name in names)


class TestRates:
    @given(st.integers(1, 5), st.floats(0.1, 1))
    def test_a_factor_for_every_layer_down_to_the_embeddings(self, L, decay):
        model = decoder(L, tied=False)
        found = by_name(model, layerwise_learning_rates(model, 0.3, decay), "lr")
        for name, lr in found.items():
            if name.startswith("blocks."):
                depth = 1 + int(name.split(".")[1])
            else:
                depth = 0 if name in ("embedding.weight", "positions.weight") else L + 1
            assert lr == pytest.approx(0.3 * decay ** (L + 1 - depth), rel=1e-14)

    def test_no_decay_is_one_group(self):
        assert len(layerwise_learning_rates(decoder(), 0.3, 1.0)) == 1

    def test_with_decoupled_decay(self):
        model = decoder()
        groups = layerwise_learning_rates(model, 0.3, 0.5, weight_decay=0.1)
        decays = by_name(model, decoupled_groups(model, 0.1), "weight_decay")
        assert by_name(model, groups, "weight_decay") == decays
        assert by_name(model, groups, "lr") == by_name(model, layerwise_learning_rates(model, 0.3, 0.5), "lr")
        optim.AdamW(groups)

    def test_refuses(self):
        with pytest.raises(ValueError, match=r"decay must be in \(0, 1\], got 0"):
            layerwise_learning_rates(decoder(), 0.3, 0)
        with pytest.raises(ValueError, match="StateSpace has no trained parameters in 'blocks'"):
            layerwise_learning_rates(StateSpace(), 0.3)


class TestAccumulation:
    """backward() adds to what is there: pieces of a batch, each loss over the number of pieces, are the batch."""

    IDS = np.random.default_rng(1).integers(0, 11, (6, 8))

    def step(self, pieces, clip=None):
        model = decoder(1)
        optimizer = optim.AdamW(model.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            for part in np.split(self.IDS, pieces):
                (next_token_loss(model, part[:, :-1], part[:, 1:]) / pieces).backward()
            if clip:
                optim.clip_grad_norm(model.parameters(), clip)
            optimizer.step()
        return model.state_dict()

    @pytest.mark.parametrize("pieces", [2, 3, 6])
    @pytest.mark.parametrize("clip", [None, 0.1])
    def test_pieces_are_the_batch(self, pieces, clip):
        whole, parts = self.step(1, clip), self.step(pieces, clip)
        # gradients agree to 1e-16; where one is 0 but for rounding, AdamW divides it by eps = 1e-8
        for name, value in whole.items():
            np.testing.assert_allclose(parts[name], value, rtol=0, atol=1e-9, err_msg=name)

    def test_clipping_each_piece_is_another_step(self):
        """The norm to clip is the whole batch's: a sum of clipped gradients has another direction."""
        model = decoder(1)
        for part in np.split(self.IDS, 2):
            (next_token_loss(model, part[:, :-1], part[:, 1:]) / 2).backward()
        whole = optim.grad_norm(model.parameters())
        norms = []
        for part in np.split(self.IDS, 2):
            model.zero_grad()
            (next_token_loss(model, part[:, :-1], part[:, 1:]) / 2).backward()
            norms.append(optim.grad_norm(model.parameters()))
        assert whole < sum(norms) * (1 - 1e-3)

    def test_without_zero_grad_it_goes_on_adding(self):
        p = nn.Parameter(np.array([2.0]))
        for times in (1, 2, 3):
            mt.sum(p * p).backward()
            assert p.grad.data.tolist() == [4.0 * times]
