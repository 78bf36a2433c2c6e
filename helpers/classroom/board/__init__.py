"""The live view of a class: who passed, who is stuck on what, who has not begun."""
