"""The shared library behind the labs: one package a concern."""
