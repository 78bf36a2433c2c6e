"""Lab 02: vLLM, its start, its queue and its end."""
