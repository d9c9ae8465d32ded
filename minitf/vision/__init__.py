"""Ideas for images."""
