"""The series of prices that come with Matplotlib: real measurements over time.

    google    every trading day from 2004-08-19 to 2008-10-14: opening, highest, lowest, closing price, volume
    stocks    about every month from 1990 to 2022: closing prices of eight companies and two indices, NaN before a listing

Source: finance.yahoo.com, by way of Matplotlib's sample data.
"""

from __future__ import annotations

import csv
from typing import NamedTuple

import numpy as np

from minitf.data.pictures import sample


class Prices(NamedTuple):
    """dates ``(T,)`` datetime64[D], ascending. values ``(T, C)`` float64. names: what the C columns are."""

    dates: np.ndarray
    values: np.ndarray
    names: tuple[str, ...]


def google() -> Prices:
    """Google's shares in US dollars, and how many changed hands."""
    held = sample("goog.npz")["price_data"]
    names = ("open", "high", "low", "close", "volume")
    return Prices(held["date"], np.stack([held[name].astype(np.float64) for name in names], axis=1), names)


def stocks() -> Prices:
    """Closing prices of eight companies, in US dollars, and the levels of two indices. Days without any price are left out."""
    with sample("Stocks.csv") as stream:
        rows = list(csv.reader(line for line in stream if not line.startswith("#")))
    dates = np.array([row[0] for row in rows[1:]], "datetime64[D]")
    values = np.array([[float(cell) if cell else np.nan for cell in row[1:]] for row in rows[1:]])
    kept = np.isfinite(values).any(axis=1)
    return Prices(dates[kept], values[kept], tuple(rows[0][1:]))
