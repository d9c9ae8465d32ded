"""Losses against PyTorch over their options: values and gradients, float64."""

import numpy as np
import pytest

import minitf as mt
from minitf.nn import functional as F
from minitf.nn import init

torch = pytest.importorskip("torch")
TF = torch.nn.functional
pytestmark = pytest.mark.cross

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((2, 4, 6)) * 2
T = RNG.random((4, 6))
T[0, :3] = (0, 1, 0)
P = 1 / (1 + np.exp(-X))
W = RNG.uniform(0.5, 2, 6)
VAR = RNG.uniform(0.1, 2, (4, 6))
COUNTS = RNG.integers(0, 6, (4, 6)).astype(float)
SIGNS = np.array([1, -1, -1, 1])
LOG_P, LOG_Q = (np.log(RNG.dirichlet(np.ones(6), 4)) for _ in range(2))


def both(name, **options):
    """Our function and PyTorch's of the same name and options."""
    return (
        lambda *arrays, **more: getattr(F, name)(*arrays, **options, **more),
        lambda *arrays, **more: getattr(TF, name)(*arrays, **options, **more),
    )


#: name -> (ours, theirs, arrays); all take ``reduction``
CASES = {
    "bce_logits": (*both("binary_cross_entropy_with_logits"), (X, T)),
    "bce_logits_weights": (
        lambda x, t, **o: F.binary_cross_entropy_with_logits(x, t, weight=W, pos_weight=2 * W, **o),
        lambda x, t, **o: TF.binary_cross_entropy_with_logits(
            x, t, weight=torch.tensor(W), pos_weight=torch.tensor(2 * W), **o
        ),
        (X, T),
    ),
    "bce": (*both("binary_cross_entropy"), (P, T)),
    "bce_weight": (
        lambda p, t, **o: F.binary_cross_entropy(p, t, weight=W, **o),
        lambda p, t, **o: TF.binary_cross_entropy(p, t, weight=torch.tensor(W).expand(4, 6), **o),
        (P, T),
    ),
    "l1": (*both("l1_loss"), (X, Y)),
    "smooth_l1": (*both("smooth_l1_loss"), (X, Y)),
    "smooth_l1_0.5": (*both("smooth_l1_loss", beta=0.5), (X, Y)),
    "smooth_l1_0": (*both("smooth_l1_loss", beta=0.0), (X, Y)),
    "huber": (*both("huber_loss"), (X, Y)),
    "huber_2": (*both("huber_loss", delta=2.0), (X, Y)),
    "gaussian": (*both("gaussian_nll_loss"), (X, Y, VAR)),
    "gaussian_full": (*both("gaussian_nll_loss", full=True, eps=0.5), (X, Y, VAR)),
    "gaussian_one_variance_a_row": (*both("gaussian_nll_loss"), (X, Y, VAR[:, :1])),
    "poisson": (*both("poisson_nll_loss"), (X, COUNTS)),
    "poisson_full": (
        lambda x, **o: F.poisson_nll_loss(x, COUNTS, full=True, **o),
        lambda x, **o: TF.poisson_nll_loss(x, torch.tensor(COUNTS), full=True, **o),
        (X,),
    ),
    "poisson_rate": (*both("poisson_nll_loss", log_input=False), (VAR, COUNTS)),
    "kl": (*both("kl_div"), (LOG_P, np.exp(LOG_Q))),
    "kl_log": (*both("kl_div", log_target=True), (LOG_P, LOG_Q)),
    "triplet": (*both("triplet_margin_loss"), (X, Y, VAR)),
    "triplet_swap": (*both("triplet_margin_loss", margin=3.0, swap=True), (X, Y, VAR)),
    "triplet_cosine": (
        lambda a, p, n, **o: F.triplet_margin_loss(a, p, n, distance=lambda x, y: 1 - F.cosine_similarity(x, y), **o),
        lambda a, p, n, **o: TF.triplet_margin_with_distance_loss(
            a, p, n, distance_function=lambda x, y: 1 - TF.cosine_similarity(x, y, -1), **o
        ),
        (X, Y, VAR),
    ),
    "cosine_embedding": (
        lambda a, b, **o: F.cosine_embedding_loss(a, b, SIGNS, margin=-0.5, **o),
        lambda a, b, **o: TF.cosine_embedding_loss(a, b, torch.tensor(SIGNS), margin=-0.5, **o),
        (X, Y),
    ),
    "margin_ranking": (
        lambda a, b, **o: F.margin_ranking_loss(a, b, SIGNS, margin=0.3, **o),
        lambda a, b, **o: TF.margin_ranking_loss(a, b, torch.tensor(SIGNS), margin=0.3, **o),
        (X[:, 0], Y[:, 0]),
    ),
    "hinge_embedding": (
        lambda a, **o: F.hinge_embedding_loss(a, SIGNS, margin=1.5, **o),
        lambda a, **o: TF.hinge_embedding_loss(a, torch.tensor(SIGNS), margin=1.5, **o),
        (VAR[:, 0],),
    ),
}


def agree(ours, theirs, inputs):
    """Values and, for one random cotangent, gradients with respect to all inputs."""
    leaves = [torch.tensor(x, requires_grad=True) for x in inputs]
    expected = theirs(*leaves)
    out, pullback = mt.vjp(ours, *inputs)
    np.testing.assert_allclose(out, expected.detach(), rtol=1e-12, atol=1e-12)
    g = np.random.default_rng(1).standard_normal(out.shape)
    for got, want in zip(pullback(g), torch.autograd.grad(expected, leaves, torch.tensor(g)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")
def test_values_and_gradients(name, reduction):
    ours, theirs, inputs = CASES[name]
    agree(lambda *a: ours(*a, reduction=reduction), lambda *a: theirs(*a, reduction=reduction), inputs)


def test_functions():
    agree(*both("kl_div", reduction="batchmean"), (LOG_P, np.exp(LOG_Q)))
    agree(F.cosine_similarity, lambda a, b: TF.cosine_similarity(a, b, -1), (X, Y))
    agree(F.pairwise_distance, TF.pairwise_distance, (X, Y))
    agree(lambda x: F.normalize(x, 0), lambda x: TF.normalize(x, dim=0), (X,))


def test_info_nce():
    """The usual two lines of CLIP."""

    def clip(a, b, tau):
        scores = TF.normalize(a, dim=-1) @ TF.normalize(b, dim=-1).T / tau
        target = torch.arange(len(a))
        return (TF.cross_entropy(scores, target) + TF.cross_entropy(scores.T, target)) / 2

    agree(lambda a, b, tau: F.info_nce(a, b, tau, symmetric=True), clip, (X, Y, np.array(0.2)))


def test_gumbel_softmax():
    """PyTorch draws -ln of exponentials; with its seed, the same noise."""
    torch.manual_seed(0)
    noise = -torch.empty(4, 6, dtype=torch.float64).exponential_().log().numpy()
    for hard in (False, True):

        def theirs(x, hard=hard):
            torch.manual_seed(0)
            return TF.gumbel_softmax(x, 0.7, hard)

        agree(lambda x, hard=hard: F.gumbel_softmax(x, 0.7, hard, noise=noise), theirs, (X,))


@pytest.mark.parametrize("blank", [0, 3])
@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ctc(blank, zero_infinity, reduction):
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((5, 12, 6))
    targets = rng.choice([label for label in range(6) if label != blank], (5, 7))
    targets[0, :4] = targets[0, 0]  # repetitions
    frames, lengths = np.array([12, 10, 12, 7, 12]), np.array([4, 5, 0, 3, 7])
    if zero_infinity:
        frames[3] = 2  # three labels in two frames

    def theirs(x):
        return TF.ctc_loss(
            TF.log_softmax(x, -1).transpose(0, 1), torch.tensor(targets), torch.tensor(frames), torch.tensor(lengths),
            blank=blank, reduction=reduction, zero_infinity=zero_infinity,
        )  # fmt: skip

    options = {"blank": blank, "reduction": reduction, "zero_infinity": zero_infinity}
    agree(lambda x: F.ctc_loss(F.log_softmax(x), targets, frames, lengths, **options), theirs, (logits,))


def test_ctc_of_many_frames():
    rng = np.random.default_rng(3)
    logits, targets = 5 * rng.standard_normal((3, 150, 20)), rng.integers(1, 20, (3, 40))
    frames, lengths = np.array([150, 120, 80]), np.array([40, 30, 7])
    agree(
        lambda x: F.ctc_loss(F.log_softmax(x), targets, frames, lengths),
        lambda x: TF.ctc_loss(
            TF.log_softmax(x, -1).transpose(0, 1), torch.tensor(targets), torch.tensor(frames), torch.tensor(lengths)
        ),
        (logits,),
    )


def test_gains_and_fans():
    for name in ("linear", "sigmoid", "tanh", "relu", "selu"):
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)
    for shape in ((8, 4, 3, 3), (6, 2, 5)):
        assert init.fans(shape) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))
    assert init.fans((7, 5)) == torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(5, 7))


INITIALIZERS = [
    ("xavier_uniform", {}, {}),
    ("xavier_normal", {}, {}),
    *[
        (name, {"mode": mode}, {"mode": mode, "nonlinearity": "relu"})
        for name in ("kaiming_uniform", "kaiming_normal")
        for mode in ("fan_in", "fan_out")
    ],
]


@pytest.mark.parametrize(("name", "options", "their_options"), INITIALIZERS)
def test_scales_of_initializers(name, options, their_options):
    """By which factor a standard draw is multiplied, in both."""
    shape = (32, 16, 3, 3)
    ours = getattr(init, name)(shape, rng=np.random.default_rng(0), **options)
    rng = np.random.default_rng(0)
    ours /= rng.uniform(-1, 1, shape) if name.endswith("uniform") else rng.normal(0, 1, shape)
    torch.manual_seed(0)
    theirs = getattr(torch.nn.init, f"{name}_")(torch.empty(shape, dtype=torch.float64), **their_options)
    torch.manual_seed(0)
    standard = torch.empty(shape, dtype=torch.float64)
    theirs /= standard.uniform_(-1, 1) if name.endswith("uniform") else standard.normal_(0, 1)
    np.testing.assert_allclose(ours, np.full(shape, theirs.flatten()[0].item()), rtol=1e-10)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3)])
def test_orthogonal(shape):
    """PyTorch's algorithm on our Gaussian matrix."""
    ours = init.orthogonal(shape, 1.3, rng=np.random.default_rng(0))
    rows, columns = shape[0], int(np.prod(shape[1:]))
    drawn = np.random.default_rng(0).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = torch.linalg.qr(torch.tensor(drawn))
    q = q * torch.diag(r).sign()
    want = 1.3 * (q.T if rows < columns else q).reshape(shape)
    np.testing.assert_allclose(ours, want, rtol=1e-12, atol=1e-13)
