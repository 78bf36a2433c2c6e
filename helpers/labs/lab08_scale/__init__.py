"""Lab 08: a queue before the model, a cache that does not storm, scaling by what users feel, and a review."""
