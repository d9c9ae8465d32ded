"""The array operations, one module an idea."""
