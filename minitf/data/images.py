"""Pictures: the handwritten digits, and shapes: classified, captioned, in pairs, moving.

Images are ``(B, C, Y, X)`` with red, green, blue from 0 to 1, videos ``(B, C, frames, Y, X)``; pixel centers are at integers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minitf.data.digits import digits8x8 as digits8x8
from minitf.nn.init import generator

SHAPES = ("square", "disc", "triangle", "cross")
COLORS = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.8, 0.1),
    "blue": (0.1, 0.2, 0.9),
    "yellow": (0.9, 0.9, 0.1),
    "purple": (0.7, 0.1, 0.8),
    "cyan": (0.1, 0.8, 0.9),
}
PALETTE = np.array(list(COLORS.values()))
SIDES = ("left", "right")
#: of motion, as steps (x, y)
DIRECTIONS = {"right": (1, 0), "down": (0, 1), "left": (-1, 0), "up": (0, -1)}


class Pictures(NamedTuple):
    """images ``(B, 3, Y, X)``. labels ``(B,)``: the number of the shape. masks ``(B, Y, X)``: where the shape is. attributes
    ``(B, 3)``: the numbers of color, shape and side."""

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    attributes: np.ndarray

    @property
    def captions(self) -> list[str]:
        """ "red square left" and the like."""
        colors = list(COLORS)
        return [f"{colors[color]} {SHAPES[shape]} {SIDES[side]}" for color, shape, side in self.attributes.tolist()]


class Videos(NamedTuple):
    """video ``(B, 3, frames, Y, X)``. directions ``(B, objects)``: numbers of DIRECTIONS. ids ``(B, frames, Y, X)``: 0 where the
    background is seen, k for object k, counted from 1."""

    video: np.ndarray
    directions: np.ndarray
    ids: np.ndarray


def shapes(n: int, size: int = 32, *, rng: np.random.Generator) -> Pictures:
    """One filled shape each, of random kind, color, place, angle, and radius from size / 8 to size / 4, on textured noise."""
    images = _texture((n, 3, size, size), rng)
    kinds, colors = rng.integers(0, len(SHAPES), n), rng.integers(0, len(COLORS), n)
    radius = rng.uniform(size / 8, size / 4, n)
    center = radius[:, None] + rng.random((n, 2)) * (size - 1 - 2 * radius)[:, None]
    angle = rng.uniform(0, 2 * np.pi, n)
    masks = np.array([inside(k, c, r, a, size) for k, c, r, a in zip(kinds, center, radius, angle, strict=True)])
    images = np.where(masks[:, None], PALETTE[colors][:, :, None, None], images)
    right = (center[:, 0] > (size - 1) / 2).astype(int)
    return Pictures(images, kinds, masks, np.stack([colors, kinds, right], axis=1))


def captioned_shapes(n: int, size: int = 16, *, rng: np.random.Generator) -> tuple[np.ndarray, list[str], list[str]]:
    """Images, their captions, and these in a second "language": the words backwards, each spelled backwards. (choice)"""
    pictures = shapes(n, size, rng=rng)
    return pictures.images, pictures.captions, [caption[::-1] for caption in pictures.captions]


def far_pair(
    n: int, size: int = 32, *, distance: float | None = None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Images of two discs of radius 2 on textured noise, and 1 where they have the same color ``(n,)``, which half of them do.

    distance: between their centers, to within half a pixel; any at which they do not touch by default.

    Raises ValueError where two discs at that distance do not touch, or do not fit.
    """
    radius, room = 2.0, size - 5.0
    if room <= 0 or (distance is not None and not 2 * radius < distance <= room):
        raise ValueError(
            f"far_pair: a distance is more than {2 * radius:.0f} and at most {room:.0f} pixels at this size, got {distance}"
        )
    images = _texture((n, 3, size, size), rng)
    labels = rng.integers(0, 2, n)
    for image, same in zip(images, labels, strict=True):
        while True:
            places = radius + rng.uniform(0, room, (2, 2))
            apart = float(np.linalg.norm(places[0] - places[1]))
            if apart > 2 * radius if distance is None else abs(apart - distance) <= 0.5:
                break
        first = int(rng.integers(len(COLORS)))
        second = first if same else (first + int(rng.integers(1, len(COLORS)))) % len(COLORS)
        for place, color in zip(places, (first, second), strict=True):
            image[:, inside(SHAPES.index("disc"), place, radius, 0.0, size)] = PALETTE[color][:, None]
    return images, labels


def moving_shapes(n: int, frames: int = 8, size: int = 32, *, objects: int = 1, rng: np.random.Generator) -> Videos:
    """Shapes that move by a pixel a frame, each in its direction, before a still texture; later ones hide earlier ones.

    Objects of a video have different colors; their centers stay in the image.

    Raises ValueError for more objects than colors, or more frames than pixels.
    """
    if not 1 <= objects <= len(COLORS) or not 1 <= frames <= size:
        raise ValueError(
            f"moving_shapes: needs 1 to {len(COLORS)} objects and 1 to {size} frames, got {objects} and {frames}"
        )
    video = np.repeat(_texture((n, 3, 1, size, size), rng), frames, axis=2)
    directions = rng.integers(0, len(DIRECTIONS), (n, objects))
    ids = np.zeros((n, frames, size, size), np.int64)
    steps = np.array(list(DIRECTIONS.values()))
    for b in range(n):
        colors = rng.permutation(len(COLORS))
        for k in range(objects):
            step = steps[directions[b, k]]
            low, high = np.maximum(-step * (frames - 1), 0), size - 1 - np.maximum(step * (frames - 1), 0)
            start = rng.uniform(low, high)
            kind, radius, angle = (
                int(rng.integers(len(SHAPES))),
                rng.uniform(size / 10, size / 6),
                rng.uniform(0, 2 * np.pi),
            )
            for t in range(frames):
                here = inside(kind, start + t * step, radius, angle, size)
                ids[b, t][here] = k + 1
                video[b, :, t][:, here] = PALETTE[colors[k]][:, None]
    return Videos(video, directions, ids)


def inside(kind: int, center: np.ndarray, radius: float, angle: float, size: int) -> np.ndarray:
    """The pixels ``(Y, X)`` in a shape of SHAPES whose corners are at ``radius`` from ``center`` (x, y), turned by ``angle``."""
    y, x = np.mgrid[:size, :size].astype(float)
    x, y = (x - center[0]) / radius, (y - center[1]) / radius
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = cos * x + sin * y, cos * y - sin * x
    if SHAPES[kind] == "square":
        return np.maximum(abs(x), abs(y)) <= 0.5**0.5
    if SHAPES[kind] == "disc":
        return x * x + y * y <= 1
    if SHAPES[kind] == "triangle":  # three sides at half a radius from the center
        return np.max([np.cos(a) * x + np.sin(a) * y for a in 2 * np.pi / 3 * np.arange(3)], axis=0) <= 0.5
    narrow, wide = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    return (narrow <= 0.3) & (wide <= (1 - 0.3**2) ** 0.5)


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Gray noise in blocks of 4 pixels and in single ones, from 0.2 to 0.8, the same in all channels."""
    n, _, *between, Y, X = shape
    blocks = generator(rng).uniform(-0.2, 0.2, (n, -(-Y // 4), -(-X // 4)))
    coarse = blocks.repeat(4, axis=1).repeat(4, axis=2)[:, :Y, :X]
    gray = 0.5 + coarse + rng.uniform(-0.1, 0.1, (n, Y, X))
    return np.broadcast_to(gray.reshape(n, 1, *[1] * len(between), Y, X), shape).copy()
