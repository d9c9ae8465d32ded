"""Whatever stacks blocks."""
