"""Lab 04: who reaches whom, and what a policy forgot."""
