"""Sounds whose content is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minitf.nn.init import generator

#: amplitudes of the harmonics 1 to 4
TIMBRES = {
    "sine": (1.0, 0.0, 0.0, 0.0),
    "octave": (1.0, 1.0, 0.0, 0.0),
    "hollow": (1.0, 0.0, 1.0, 0.0),
    "bright": (1.0, 1.0, 1.0, 1.0),
    "nasal": (0.2, 0.4, 1.0, 0.4),
    "thin": (0.3, 0.0, 0.0, 1.0),
}
#: seconds in which an event fades in and out
FADE = 0.01


class Event(NamedTuple):
    """timbre: its number. onset, offset: in samples, the latter exclusive. pitch: in Hz."""

    timbre: int
    onset: int
    offset: int
    pitch: float


class Clips(NamedTuple):
    """waves ``(B, samples)``. labels ``(B, 6)``: which timbres occur. events: of each clip, in order of their onset."""

    waves: np.ndarray
    labels: np.ndarray
    events: list[list[Event]]


def tone_events(
    n: int, *, seconds: float = 1.0, rate: int = 8000, noise: float = 0.01, rng: np.random.Generator
) -> Clips:
    """Clips with 1 to 3 events of different timbres, pitches from 200 to 800 Hz, in noise of this standard deviation.

    An event lasts a tenth to a half of the clip, lies wholly inside, and may overlap with others. The root of its
    mean square is 0.5 to 1, its phases are random.

    Raises ValueError if the rate is too low for the highest harmonic.
    """
    samples = round(seconds * rate)
    if rate <= 2 * 4 * 800 or samples < 0.1 * rate:
        raise ValueError(f"tone_events: needs a rate above 6400 Hz and at least 0.1 seconds, got {rate} and {seconds}")
    waves = noise * generator(rng).normal(size=(n, samples))
    labels = np.zeros((n, len(TIMBRES)), bool)
    clips = []
    for b in range(n):
        events = []
        for timbre in rng.permutation(len(TIMBRES))[: rng.integers(1, 4)].tolist():
            length = int(rng.uniform(0.1, 0.5) * samples)
            onset = int(rng.integers(0, samples - length + 1))
            events.append(Event(timbre, onset, onset + length, float(rng.uniform(200, 800))))
            waves[b, onset : onset + length] += rng.uniform(0.5, 1) * tone(events[-1], rate, rng=rng)
            labels[b, timbre] = True
        clips.append(sorted(events, key=lambda event: event.onset))
    return Clips(waves, labels, clips)


def tone(event: Event, rate: int, *, rng: np.random.Generator) -> np.ndarray:
    """The samples of one event: harmonics of its timbre with random phases, of mean square 1 but for the fades."""
    t = np.arange(event.offset - event.onset) / rate
    amplitude = np.array(list(TIMBRES.values())[event.timbre])
    phase = generator(rng).uniform(0, 2 * np.pi, len(amplitude))
    harmonics = np.sin(2 * np.pi * event.pitch * np.outer(t, np.arange(1, len(amplitude) + 1)) + phase)
    # half the square of an amplitude is its mean square
    wave = harmonics @ amplitude / np.sqrt(np.sum(amplitude**2) / 2)
    edge = np.minimum(t, t[-1] - t) / FADE
    return wave * np.where(edge < 1, np.sin(np.pi / 2 * np.clip(edge, 0, 1)) ** 2, 1.0)
