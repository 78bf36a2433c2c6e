"""Grading a class: whom, with which checks, how many at once, here or as Jobs on the cluster."""
