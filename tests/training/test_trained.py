"""Tiny subjects: trained once, and the same from then on."""

import sys

import numpy as np
import pytest

from minitf import nn
from minitf.training.fit import SUBJECTS, fit, fit_classifier, subject, trained


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Registers a subject "point" that counts how often it is trained; files go to a folder of their own."""
    monkeypatch.setenv("MINITF_CACHE", str(tmp_path))
    count = []

    @subject("point")
    def point():
        model = nn.Linear(2, 1, rng=np.random.default_rng(0))

        def train():
            count.append(1)
            loss = lambda model, x: ((model(x) - 1.0) ** 2).mean()
            fit(model, loss, [np.eye(2)] * 5, steps=5, lr=0.1, progress=False)

        return model, train

    yield count
    del SUBJECTS["point"]


def test_trains_once(runs, tmp_path):
    first, again = trained("point"), trained("point")
    assert len(runs) == 1
    assert not first.training
    assert not again.training
    np.testing.assert_equal(again.state_dict(), first.state_dict())
    (file,) = (tmp_path / "trained").iterdir()
    assert file.name.startswith("point-")
    file.write_bytes(file.read_bytes()[:-50])  # a damaged file is no file
    np.testing.assert_equal(trained("point").state_dict(), first.state_dict())
    assert len(runs) == 2
    trained("point")
    assert len(runs) == 2


def test_an_edit_trains_anew(runs, monkeypatch):
    trained("point")
    monkeypatch.setattr(sys.modules[trained.__module__], "_sources", lambda *others: "edited")
    trained("point")
    assert len(runs) == 2


def test_works_where_nothing_can_be_written(runs, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINITF_CACHE", str(tmp_path / "file"))
    np.testing.assert_equal(trained("point").state_dict(), trained("point").state_dict())
    assert len(runs) == 2


def test_names(runs):
    with pytest.raises(ValueError, match=r"trained: there is no subject 'tiny_ml'.*tiny_lm"):
        trained("tiny_ml")
    with pytest.raises(ValueError, match="subject: there is a 'point' already, from "):
        subject("point")(lambda: None)


def test_fit_classifier_learns_what_can_be_learned():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    y = np.argmax(x[:, :3], axis=1)
    model = nn.Linear(4, 3, rng=rng)
    history = fit_classifier(model, (x, y), 150, lr=0.1, rng=rng, progress=False)
    assert len(history.losses) == 150
    assert history.lrs[0] == pytest.approx(0.1 / 15)  # warm-up over a tenth
    assert (np.argmax(model(x).data, axis=1) == y).mean() > 0.95
