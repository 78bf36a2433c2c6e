"""A folder a lab: what must be true (checks), what proves it (mutants), what only this lab draws and reasons with."""
