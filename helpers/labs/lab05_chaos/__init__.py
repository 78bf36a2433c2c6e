"""Lab 05: one fault at a time, retries and a game day."""
