"""Numba loops on plain arrays, each beside its naive NumPy twin."""
