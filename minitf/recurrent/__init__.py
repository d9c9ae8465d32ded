"""Layers with a state of constant size that is carried from token to token."""
