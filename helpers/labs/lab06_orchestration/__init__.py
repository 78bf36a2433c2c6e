"""Lab 06: one entry point, and what it does when something behind it fails."""
