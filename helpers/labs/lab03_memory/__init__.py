"""Lab 03: Qdrant: sized, filled, asked, lost and restored."""
