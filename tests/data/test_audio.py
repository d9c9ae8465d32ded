"""Tones: spectra, times and labels are those of the events."""

import numpy as np
import pytest

from minitf.data.audio import TIMBRES, Event, tone, tone_events


def test_a_tone_has_the_harmonics_of_its_timbre():
    for timbre, amplitudes in enumerate(TIMBRES.values()):
        wave = tone(Event(timbre, 0, 8000, 300.0), 8000, rng=np.random.default_rng(0))
        assert np.mean(wave[100:-100] ** 2) == pytest.approx(1, rel=0.02)
        middle = wave[400:7600] * np.hanning(7200)
        spectrum = np.abs(np.fft.rfft(middle))
        peaks = np.array([spectrum[300 * k * 7200 // 8000] for k in (1, 2, 3, 4)])
        np.testing.assert_allclose(peaks / peaks.max(), np.array(amplitudes) / max(amplitudes), atol=1e-3)
        assert abs(wave[0]) < 1e-12
        assert abs(wave[-1]) < 1e-12


def test_clips():
    waves, labels, events = tone_events(60, seconds=0.5, noise=0.0, rng=np.random.default_rng(0))
    assert waves.shape == (60, 4000)
    assert set(map(len, events)) == {1, 2, 3}
    for wave, label, clip in zip(waves, labels, events, strict=True):
        assert sorted(event.timbre for event in clip) == np.flatnonzero(label).tolist()
        assert [event.onset for event in clip] == sorted(event.onset for event in clip)
        sounding = np.zeros(4000, bool)
        for event in clip:
            assert 0 <= event.onset < event.offset <= 4000
            assert 400 <= event.offset - event.onset <= 2000
            assert 200 <= event.pitch <= 800
            sounding[event.onset : event.offset] = True
        assert not wave[~sounding].any()
        assert np.mean(wave[sounding] ** 2) > 0.1
    assert labels.any(axis=0).all()


def test_noise_and_seeds():
    quiet, loud = (tone_events(2, noise=noise, rng=np.random.default_rng(3)).waves for noise in (0.0, 0.5))
    assert np.std(loud - quiet) == pytest.approx(0.5, rel=0.05)
    with pytest.raises(ValueError, match="needs a rate above 6400 Hz"):
        tone_events(1, rate=4000, rng=np.random.default_rng(0))
