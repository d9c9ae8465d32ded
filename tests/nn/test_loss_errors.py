"""Wrong calls of losses, and what they are told: what was wrong with which argument, and what is allowed."""
# ruff: noqa: E501

import math
import traceback
from pathlib import Path

import numpy as np
import pytest

import minitf as mt
from minitf.nn import functional as F

x, row = np.full((2, 3), 0.5), np.full(3, 0.5)
frames, labels = np.zeros((2, 5, 4)), np.ones((2, 3), int)
image = np.zeros((1, 3, 12, 12))
Shape, Type, Value = mt.ShapeError, TypeError, ValueError


def ctc(log_probs=frames, targets=labels, input_lengths=(5, 5), target_lengths=(3, 3), **options):
    return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, **options)


# fmt: off
CALLS = [
    # -- every loss
    *[
        (f"{loss.__name__} of two shapes", lambda loss=loss: loss(x, x[:, :1]), Shape, rf"{loss.__name__}: input and target must have the same shape, got \(2, 3\) and \(2, 1\)")
        for loss in (F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss, F.charbonnier_loss, F.poisson_nll_loss, F.ccc_loss, F.kl_div, F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.focal_loss, F.dice_loss)
    ],
    *[
        (f"{loss.__name__} reduced somehow", lambda loss=loss: loss(x, x, reduction="average"), Value, rf"{loss.__name__}: reduction must be one of mean, sum, none, got 'average'")
        for loss in (F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss, F.charbonnier_loss, F.poisson_nll_loss, F.ccc_loss, F.kl_div, F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.focal_loss, F.dice_loss, F.info_nce)
    ],
    ("integers as predictions", lambda: F.mse_loss([1, 2], [1, 2]), Type, r"mse_loss: needs real floating values, got int64 \(2,\)"),
    ("complex targets", lambda: F.l1_loss(row, row * 1j), Type, r"l1_loss, target: needs real floating values, got complex128"),
    # -- yes or no
    ("logits instead of probabilities", lambda: F.binary_cross_entropy(4 * x, x), Value, "binary_cross_entropy: input must be probabilities between 0 and 1, got values from 2.0 to 2.0"),
    ("logits of masks", lambda: F.dice_loss(-x, x), Value, "dice_loss: input must be probabilities between 0 and 1, got values from -0.5 to -0.5"),
    ("a mask without a batch", lambda: F.dice_loss(row, row), Shape, r"dice_loss: needs masks \(B, \*\) with at least two axes, got shape \(3,\)"),
    ("dice smoothed away", lambda: F.dice_loss(x, x, smooth=-1), Value, "dice_loss: smooth must not be negative, got -1"),
    ("a weight that does not fit", lambda: F.binary_cross_entropy(x, x, weight=np.ones(2)), Shape, r"weight \(2,\) does not broadcast to the input \(2, 3\)"),
    ("too large a weight", lambda: F.binary_cross_entropy_with_logits(row, row, pos_weight=x), Shape, r"pos_weight \(2, 3\) does not broadcast to the input \(3,\)"),
    ("torchvision's no alpha", lambda: F.focal_loss(x, x, alpha=-1), Value, "focal_loss: alpha must be between 0 and 1, or None, got -1"),
    ("focus on the easy", lambda: F.focal_loss(x, x, gamma=-2), Value, "focal_loss: gamma must not be negative, got -2"),
    # -- real values
    ("no delta", lambda: F.huber_loss(x, x, delta=0), Value, "huber_loss: delta must be positive, got 0"),
    ("a negative beta", lambda: F.smooth_l1_loss(x, x, beta=-1.0), Value, "smooth_l1_loss: beta must not be negative, got -1.0"),
    ("no eps", lambda: F.charbonnier_loss(x, x, eps=0), Value, "charbonnier_loss: eps must be positive, got 0"),
    ("no eps for variances", lambda: F.gaussian_nll_loss(x, x, x, eps=0), Value, "gaussian_nll_loss: eps must be positive, got 0"),
    ("negative variances", lambda: F.gaussian_nll_loss(x, x, -x), Value, "gaussian_nll_loss: variances must not be negative, got -0.5"),
    ("variances per row", lambda: F.gaussian_nll_loss(x, x, row[:2]), Shape, r"gaussian_nll_loss: var \(2,\) does not broadcast to the input \(2, 3\)"),
    ("concordance of nothing", lambda: F.ccc_loss(x[:0], x[:0]), Shape, r"ccc_loss: no samples along axis 0 of shape \(0, 3\)"),
    ("concordance of a number", lambda: F.ccc_loss(0.5, 0.5), ValueError, "ccc_loss: axis 0 is out of range"),
    ("a batch mean of a number", lambda: F.kl_div(0.5, 0.5, reduction="batchmean"), Shape, "kl_div: 'batchmean' needs a batch axis, got a scalar"),
    # -- distances
    ("fewer candidates than queries", lambda: F.info_nce(x, x[:1]), Shape, r"info_nce: needs a \(B, D\) and b \(S, D\) with S at least B, got \(2, 3\) and \(1, 3\)"),
    ("no temperature", lambda: F.info_nce(x, x, 0.0), Value, "info_nce: temperature must be positive, got 0.0"),
    ("a triplet of two widths", lambda: F.triplet_margin_loss(x, x, x[:, :2]), Shape, "triplet_margin_loss: anchor, positive, negative do not fit together: .* axis -1 has sizes"),
    ("a triplet of two ranks", lambda: F.triplet_margin_loss(x, x, row), Shape, "do not fit together: they have different numbers of axes"),
    ("a width that would broadcast", lambda: F.cosine_similarity(x, x[:, :1]), Shape, "cosine_similarity: x1, x2 need vectors of one length along axis 1"),
    ("no margin", lambda: F.triplet_margin_loss(x, x, x, margin=0), Value, "triplet_margin_loss: margin must be positive, got 0"),
    ("a margin that is no cosine", lambda: F.cosine_embedding_loss(x, x, [1, 1], margin=2), Value, "margin must be between -1 and 1, got 2"),
    ("classes instead of signs", lambda: F.cosine_embedding_loss(x, x, [0, 1]), Value, "cosine_embedding_loss: targets are 1 and -1, got 0"),
    ("a sign for every number", lambda: F.cosine_embedding_loss(x, x, np.ones((2, 3), int)), Shape, r"target must have the shape \(2,\), one sign each, got \(2, 3\)"),
    ("scores of two shapes", lambda: F.margin_ranking_loss(x, row, row), Shape, r"margin_ranking_loss: scores must have the same shape, got \(2, 3\) and \(3,\)"),
    ("a target of a half", lambda: F.hinge_embedding_loss(row, row), Value, "hinge_embedding_loss: targets are 1 and -1, got 0.5"),
    # -- alignments
    ("one sequence", lambda: ctc(frames[0]), Shape, r"ctc_loss: needs log_probs \(B, T, V\) and targets \(B, S\), padded, got \(5, 4\) and \(2, 3\)"),
    ("labels in one row", lambda: ctc(targets=labels.ravel()), Shape, r"targets \(B, S\), padded, got \(2, 5, 4\) and \(6,\)"),
    ("time in front", lambda: ctc(frames.swapaxes(0, 1)), Shape, r"got \(5, 2, 4\) and \(2, 3\)"),
    ("labels as floats", lambda: ctc(targets=labels * 1.0), Type, "ctc_loss: targets must be integers, got float64"),
    ("a blank label", lambda: ctc(blank=1), Value, r"ctc_loss: target 1 at \(0, 0\) is no label; labels are 0 to 3 without blank=1"),
    ("a label too many", lambda: ctc(targets=labels * 4), Value, r"ctc_loss: target 4 at \(0, 0\) is no label"),
    ("a blank outside", lambda: ctc(blank=4), Value, "ctc_loss: blank must be one of the 4 classes, got 4"),
    ("more frames than there are", lambda: ctc(input_lengths=(5, 6)), Value, r"ctc_loss: input_lengths must be between 0 and 5, got \[5, 6\]"),
    ("more labels than there are", lambda: ctc(target_lengths=(4, 3)), Value, r"ctc_loss: target_lengths must be between 0 and 3, got \[4, 3\]"),
    ("one length for all", lambda: ctc(input_lengths=5), Shape, r"ctc_loss: input_lengths must be \(B,\) = \(2,\), got \(\)"),
    ("half a length", lambda: ctc(target_lengths=(0.5, 1)), Type, "ctc_loss: target_lengths must be integers, got float64"),
    # -- images and samples
    ("an image without channels", lambda: F.ssim(image[0, 0], image[0, 0]), Shape, r"ssim: needs images \(\*, C, Y, X\), got shape \(12, 12\)"),
    ("too small an image", lambda: F.ssim(image[..., :9], image[..., :9]), Shape, "ssim: an image of 12 x 9 pixels has no window of 11 x 11"),
    ("no peak", lambda: F.psnr(image, image, peak=0), Value, "psnr: peak must be positive, got 0"),
    ("no window", lambda: F.ssim_loss(image, image, window=0), Value, "ssim: window must be at least 1 and sigma positive, got 0 and 1.5"),
    ("as cold as that", lambda: F.gumbel_softmax(x, 0.0), Value, "gumbel_softmax: tau must be positive, got 0.0"),
    ("noise of another shape", lambda: F.gumbel_softmax(x, noise=row), Shape, r"noise must have the shape of the logits, \(2, 3\), got \(3,\)"),
    ("no generator", lambda: F.gumbel_softmax(x), Type, "rng must be a numpy.random.Generator"),
]
# fmt: on


@pytest.mark.parametrize(("call", "error", "message"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_a_wrong_call_is_explained(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    where = Path(traceback.extract_tb(caught.value.__traceback__)[-1].filename)
    assert "numpy" not in where.parts, f"raised deep inside NumPy, in {where}"


def test_nan_is_not_refused():
    """What a diverged model puts out is a NaN loss, not an error about its range."""
    nan = np.full((2, 3), math.nan)
    for loss in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.focal_loss, F.dice_loss, F.huber_loss):
        with np.errstate(invalid="ignore"):
            assert math.isnan(loss(nan, x).item())
