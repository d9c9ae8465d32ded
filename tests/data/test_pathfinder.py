"""Pathfinder: the geometry keeps its promises, the label is what the marks say, pixels are distances."""

import numpy as np
import pytest

from minitf.data.pathfinder import Scene, draw_scene, generate_pathfinder, render


@pytest.mark.parametrize(("size", "contour", "distractors"), [(16, 5, 3), (32, 14, 5)])
def test_paths_keep_their_promises(size, contour, distractors):
    rng = np.random.default_rng(0)
    labels = []
    for _ in range(12 if size == 16 else 3):
        paths, marks, label = draw_scene(size, contour, distractors, rng=rng)
        assert [len(path) for path in paths] == [contour] * 2 + [contour // 3] * distractors
        for path in paths:
            assert path.min() >= 0
            assert path.max() <= size - 1
            along = path[:, 1] - path[:, 0]
            np.testing.assert_allclose(np.linalg.norm(along, axis=1), 2)
            np.testing.assert_allclose(path[1:, 0] - path[:-1, 1], along[:-1] / 2)  # a gap of 1, straight on
            cosines = np.sum(along[1:] * along[:-1], axis=1) / 4
            assert (cosines >= np.cos(0.6) - 1e-12).all()
        # dashes as many points: no two paths have any within 2 pixels
        at = np.linspace(0, 1, 41)[:, None]
        points = [np.concatenate([a + at * (b - a) for a, b in path]) for path in paths]
        for i in range(len(paths)):
            for j in range(i):
                assert np.linalg.norm(points[i][:, None] - points[j], axis=-1).min() > 2
        ends = [{tuple(path[0, 0]), tuple(path[-1, 1])} for path in paths[:2]]
        found = [{k for k in range(2) if tuple(mark) in ends[k]} for mark in marks]
        assert found == ([{0}, {0}] if label else [{0}, {1}])
        assert not label or (marks[0] != marks[1]).any()
        labels.append(label)
    assert size > 16 or 0 < sum(labels) < 12


def test_pixels_by_hand():
    dash = np.array([[[1.0, 2.0], [3.0, 2.0]]])
    far = np.array([[0.0, 7.0], [7.0, 7.0]])
    image = render(Scene([dash], far, 0), 8, thickness=2.0)
    expected = np.zeros((8, 8))
    for y in range(7):
        for x in range(8):
            d = np.hypot(max(1 - x, x - 3, 0), y - 2)
            expected[y, x] = round(255 * max(0, 1 - d / 2))
    for mx in (0, 7):
        for y in range(8):
            for x in range(8):
                if np.hypot(x - mx, y - 7) <= 1.5:
                    expected[y, x] = 255
    np.testing.assert_array_equal(image, expected)


def test_images():
    images, labels = generate_pathfinder(20, rng=np.random.default_rng(1))
    again, _ = generate_pathfinder(20, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(images, again)
    assert (images.shape, images.dtype) == ((20, 16, 16), np.uint8)
    assert set(labels.tolist()) == {0, 1}
    with pytest.raises(ValueError, match="an image of 8 pixels has no room for paths"):
        generate_pathfinder(1, size=8, contour=30, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="needs contour >= 1"):
        draw_scene(16, 0, 0, rng=np.random.default_rng(0))
