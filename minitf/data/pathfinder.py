"""Pathfinder: are two marks joined by a dashed path? After Linsley and others and the Long Range Arena.

    images, labels = generate_pathfinder(100, size=32, contour=14, distractors=5, rng=rng)      # the Arena's sizes

Two long paths and some short ones lie in the image and keep 2 pixels apart. Label 1: the marks are at both ends of the first
path. Label 0: one is at an end of the first, the other at an end of the second.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minitf.nn.init import generator

DASH, GAP, TURN, APART, MARK = 2.0, 1.0, 0.6, 2.0, 1.5
#: paths drawn together, and how often, until an image that has no room for one is begun anew
TOGETHER, TRIES = 64, 40


class Scene(NamedTuple):
    """paths: dashes ``(n, 2, 2)`` each, (begin, end) of (x, y), the two long paths first. marks: ``(2, 2)``. label: 1 or 0."""

    paths: list[np.ndarray]
    marks: np.ndarray
    label: int


def generate_pathfinder(
    n: int,
    *,
    size: int = 16,
    contour: int = 5,
    distractors: int = 3,
    thickness: float = 1.0,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """n images ``(n, Y, X)`` of ``uint8`` and their labels ``(n,)``.

    size: of the square image. contour: dashes of a long path; a short one has a third of them. (choice: the small sizes)
    """
    scenes = [draw_scene(size, contour, distractors, rng=rng) for _ in range(n)]
    images = np.array([render(scene, size, thickness) for scene in scenes], np.uint8).reshape(n, size, size)
    return images, np.array([scene.label for scene in scenes])


def draw_scene(size: int, contour: int, distractors: int, *, rng: np.random.Generator) -> Scene:
    """Random paths and marks.

    A path begins anywhere, in any direction, and turns by up to 0.6 rad after each dash. It is drawn again if it leaves the
    image or comes within 2 pixels of an earlier one.
    """
    if contour < 1 or distractors < 0 or size - 1 < DASH:
        raise ValueError(
            f"pathfinder: needs contour >= 1, distractors >= 0 and size > {DASH:.0f}, got {contour}, {distractors}, {size}"
        )
    lengths = [contour, contour, *[max(1, contour // 3)] * distractors]
    for _ in range(TRIES):
        paths: list[np.ndarray] = []
        for length in lengths:
            path = _path(length, size, paths, rng)
            if path is None:
                break
            paths.append(path)
        if len(paths) == len(lengths):
            label = int(generator(rng).integers(2))
            ends = [path[[0, -1], [0, 1]] for path in paths[:2]]
            marks = ends[0] if label else np.array([end[rng.integers(2)] for end in ends])
            return Scene(paths, marks, label)
    raise ValueError(f"pathfinder: an image of {size} pixels has no room for paths of {lengths} dashes")


def _path(length: int, size: int, others: list[np.ndarray], rng: np.random.Generator) -> np.ndarray | None:
    taken = np.concatenate([*others, np.empty((0, 2, 2))])
    for _ in range(TRIES):
        turns = generator(rng).uniform(-TURN, TURN, (TOGETHER, length))
        turns[:, 0] = rng.uniform(0, 2 * np.pi, TOGETHER)
        angle = np.cumsum(turns, axis=1)
        along = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        begin = rng.uniform(0, size - 1, (TOGETHER, 1, 2)) + (DASH + GAP) * (np.cumsum(along, axis=1) - along)
        dashes = np.stack([begin, begin + DASH * along], axis=2)
        for path in dashes[((dashes >= 0) & (dashes <= size - 1)).all(axis=(1, 2, 3))]:
            # dashes that cross have ends within a dash's half of the other
            near = min(
                distances(path.reshape(-1, 2), taken).min(initial=np.inf),
                distances(taken.reshape(-1, 2), path).min(initial=np.inf),
            )
            if near > APART:
                return path
    return None


def distances(points: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """``(P, M)`` from points ``(P, 2)`` to segments ``(M, 2, 2)``."""
    a, along = segments[:, 0], segments[:, 1] - segments[:, 0]
    off = points[:, None] - a
    part = np.clip(np.sum(off * along, axis=-1) / np.sum(along * along, axis=-1), 0, 1)
    return np.linalg.norm(off - part[..., None] * along, axis=-1)


def render(scene: Scene, size: int, thickness: float = 1.0) -> np.ndarray:
    """The image ``(Y, X)`` of ``uint8``: a pixel at distance d from the next dash has clip(1 - d / thickness, 0, 1) of 255;
    marks are discs of radius 1.5."""
    y, x = np.mgrid[:size, :size]
    pixels = np.stack([x, y], axis=-1).reshape(-1, 2).astype(float)
    ink = np.clip(1 - distances(pixels, np.concatenate(scene.paths)).min(axis=1) / thickness, 0, 1)
    marked = np.linalg.norm(pixels[:, None] - scene.marks, axis=-1).min(axis=1) <= MARK
    return np.rint(255 * np.where(marked, 1.0, ink)).astype(np.uint8).reshape(size, size)
