"""Bounds that the page's tables show and the checks hold to: in one place, so that they do not differ."""

from __future__ import annotations

MOST_DELIVERIES = 8
"""A job that ends its workers, or that no backend can do, is given to so many of them at most."""

MOST_LEASES = 3
"""A lease may last so many times the longest generation: all wait for so long when its holder is gone."""

LEAST_KEPT_S, MOST_KEPT_S = 3600, 24 * 3600
"""How long a finished job may be found: whoever comes back within the hour finds it, and memory is not for ever."""

LEAST_TTL, MOST_TTL = 0.5, 1.5
"""An answer is kept for so many times what the settings say."""

TTL_SPREAD = 0.2
"""So much of that time lies between the first and the last end at least, for the smallest chance and the largest."""

SEEN_OF_SPREAD = 0.5
"""So much of the spread twelve answers show whose chance is drawn: less in 3 of 1000 cases (12 q¹¹ − 11 q¹², q = 0.5)."""
