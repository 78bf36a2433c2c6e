"""Lab 07: a gate that a bad release does not pass, and traces that say why an answer is what it is."""
