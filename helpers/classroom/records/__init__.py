"""What is kept of a class: attempts, late work, attested grades, certificates."""
