"""Ideas inside the feed-forward sub-layer."""
