"""Matplotlib's pictures and prices: their shapes and what is known about them."""

import matplotlib.cbook
import numpy as np
import pytest

from minitf.data.pictures import picture
from minitf.data.prices import google, stocks


@pytest.mark.parametrize(
    ("name", "shape", "least", "most"),
    [
        ("hopper", (3, 600, 512), 0, 1),
        ("minduka", (4, 128, 128), 0, 1),
        ("jacksboro", (1, 344, 403), 200, 1100),
        ("vancouver", (1, 91, 120), -1437, 2205),
    ],
)
def test_pictures(name, shape, least, most):
    image = picture(name)
    assert image.shape == shape
    assert image.dtype == np.float64
    assert least <= image.min() < image.mean() < image.max() <= most


def test_the_photograph_stands_upright_and_its_channels_are_red_green_blue():
    red, green, blue = picture("hopper")[:, 200:260, 230:290]  # a face, in the upper half
    assert red.mean() > green.mean() + 0.1 > blue.mean() + 0.1


def test_an_unknown_picture_and_a_missing_file(monkeypatch):
    with pytest.raises(ValueError, match="name must be one of hopper, minduka, jacksboro, vancouver, got 'lena'"):
        picture("lena")

    def missing(file):
        raise FileNotFoundError(file)

    monkeypatch.setattr(matplotlib.cbook, "get_sample_data", missing)
    with pytest.raises(FileNotFoundError, match="without its sample data"):
        picture("hopper")


def test_google():
    dates, values, names = google()
    assert names == ("open", "high", "low", "close", "volume")
    assert values.shape == (1047, 5)
    assert str(dates[0]) == "2004-08-19"
    assert values[0].tolist() == [100.0, 104.06, 95.96, 100.34, 22351900.0]
    assert (np.diff(dates) > np.timedelta64(0)).all()
    opening, high, low, close, _ = values.T
    assert (low <= np.minimum(opening, close)).all()
    assert (high >= np.maximum(opening, close)).all()


def test_stocks():
    dates, values, names = stocks()
    assert names == ("IBM", "AAPL", "MSFT", "XRX", "AMZN", "DELL", "GOOGL", "ADBE", "^GSPC", "^IXIC")
    assert values.shape == (len(dates), 10)
    assert (np.diff(dates) > np.timedelta64(0)).all()
    assert np.isfinite(values).any(axis=1).all()
    assert np.isnan(values[0, names.index("AMZN")])  # first traded in 1997
    assert values[0, 0] == 10.970438003540039
