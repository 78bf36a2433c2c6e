"""Lab 09: models as data, and the controller that serves them."""
