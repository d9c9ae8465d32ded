"""Pictures: masks, captions, labels and ids say what is to be seen."""

import numpy as np
import pytest

from minitf.data.images import (
    COLORS,
    DIRECTIONS,
    PALETTE,
    SHAPES,
    captioned_shapes,
    far_pair,
    inside,
    moving_shapes,
    shapes,
)


def test_areas_and_extents():
    center, radius, size = np.array([200.2, 200.4]), 160.3, 401
    areas = {"square": 2.0, "disc": np.pi, "triangle": 0.75 * 3**0.5, "cross": 0}
    arm = (1 - 0.09) ** 0.5
    areas["cross"] = 2 * 0.6 * 2 * arm - 0.6**2
    for kind, name in enumerate(SHAPES):
        for angle in (0.0, 1.0):
            mask = inside(kind, center, radius, angle, size)
            assert mask.sum() / radius**2 == pytest.approx(areas[name], rel=0.02)
            y, x = np.nonzero(mask)
            farthest = np.hypot(x - 200.2, y - 200.4).max()
            assert radius - 1.5 < farthest <= radius + 1e-9
    mask = inside(SHAPES.index("square"), np.array([2.0, 5.0]), 2**0.5, 0.0, 8)  # (x, y): column 2, row 5
    np.testing.assert_array_equal(np.argwhere(mask)[[0, -1]], [[4, 1], [6, 3]])


def test_shapes():
    pictures = shapes(300, 24, rng=np.random.default_rng(0))
    assert pictures.images.shape == (300, 3, 24, 24)
    assert (pictures.images >= 0).all()
    assert (pictures.images <= 1).all()
    assert set(pictures.labels.tolist()) == set(range(4))
    for image, label, mask, caption in zip(*pictures[:3], pictures.captions, strict=True):
        color, shape, side = caption.split()
        assert SHAPES[label] == shape
        assert (image[:, mask] == np.array(COLORS[color])[:, None]).all()
        gray = image[:, ~mask]
        assert (gray == gray[0]).all()
        assert (gray >= 0.2).all()
        assert (gray <= 0.8).all()
        assert np.ptp(gray) > 0.2
        column = np.nonzero(mask)[1].mean()
        assert abs(column - 11.5) < 1 or side == ("right" if column > 11.5 else "left")
    assert len(set(pictures.captions)) == 48  # all combinations
    again = shapes(300, 24, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(again.images, pictures.images)
    images, captions, foreign = captioned_shapes(5, rng=np.random.default_rng(0))
    assert images.shape == (5, 3, 16, 16)
    assert [caption[::-1] for caption in foreign] == captions


def test_far_pair():
    for distance in (6.0, 20.0):
        images, labels = far_pair(40, 32, distance=distance, rng=np.random.default_rng(0))
        assert 8 < labels.sum() < 32
        for image, label in zip(images, labels, strict=True):
            seen = [(image == color[:, None, None]).all(axis=0) for color in PALETTE]
            seen = [mask for mask in seen if mask.any()]
            assert len(seen) == (1 if label else 2)
            if label == 0:
                centers = [np.argwhere(mask).mean(axis=0) for mask in seen]
                assert np.linalg.norm(centers[0] - centers[1]) == pytest.approx(distance, abs=1.3)
            assert 2 * 9 <= np.sum(seen) <= 2 * 16
    with pytest.raises(ValueError, match=r"a distance is more than 4 and at most 27 pixels at this size, got 28"):
        far_pair(1, 32, distance=28, rng=np.random.default_rng(0))


def test_moving_shapes():
    video, directions, ids = moving_shapes(8, 6, 24, objects=2, rng=np.random.default_rng(0))
    assert video.shape == (8, 3, 6, 24, 24)
    steps = list(DIRECTIONS.values())
    for b in range(8):
        background = ids[b] == 0
        still = background[:-1] & background[1:]
        assert (video[b, :, 1:][:, still] == video[b, :, :-1][:, still]).all()
        x, y = steps[directions[b, 1]]
        front = ids[b] == 2  # nothing hides it, so that it is the same shape, moved
        for t in range(5):
            moved = np.zeros((26, 26), bool)
            moved[1 + y : 25 + y, 1 + x : 25 + x] = front[t]
            inner = np.s_[1:-1, 1:-1]  # at the border a part comes in
            np.testing.assert_array_equal(front[t + 1][inner], moved[1:-1, 1:-1][inner])
        colors = [np.unique(video[b].transpose(1, 2, 3, 0)[ids[b] == k], axis=0) for k in (1, 2)]
        assert len(colors[1]) == 1
        assert colors[1][0].tolist() in PALETTE.tolist()
        assert colors[0].tolist() != colors[1].tolist()
    _, directions, _ = moving_shapes(200, 2, 8, rng=np.random.default_rng(0))
    assert np.bincount(directions[:, 0]).min() > 25
    with pytest.raises(ValueError, match="needs 1 to 6 objects and 1 to 8 frames, got 7 and 2"):
        moving_shapes(1, 2, 8, objects=7, rng=np.random.default_rng(0))
