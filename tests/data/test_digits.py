"""The handwritten digits: what is known about them, and that they can be told apart."""

import numpy as np

from minitf.data.digits import ATTRIBUTION, digits8x8


def test_what_is_known_about_them():
    images, labels = digits8x8()
    assert images.shape == (1797, 1, 8, 8)
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert set(np.unique(images * 16)) == set(range(17))
    assert (images[0, 0, 0] * 16).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]  # a zero begins
    assert labels[:10].tolist() == list(range(10))
    assert "CC BY 4.0" in ATTRIBUTION


def test_shuffling_keeps_images_and_labels_together():
    images, labels = digits8x8()
    mixed, names = digits8x8(rng=np.random.default_rng(0))
    key = lambda x, y: sorted((int(b), a.tobytes()) for a, b in zip(x, y, strict=True))
    assert key(mixed, names) == key(images, labels)
    assert (names != labels).any()
    np.testing.assert_array_equal(digits8x8(rng=np.random.default_rng(0)).labels, names)


def test_the_nearest_image_mostly_has_the_same_label():
    images, labels = digits8x8()
    flat = images.reshape(len(images), -1)
    distance = ((flat[:500, None] - flat[None, 500:]) ** 2).sum(-1)
    assert (labels[500:][distance.argmin(1)] == labels[:500]).mean() > 0.95
