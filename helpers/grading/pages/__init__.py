"""Reports as pages that are read without a network."""
