"""Ideas inside the attention sub-layer."""
