"""Experiments: a fault with its steady state, its method, its undo and its journal.

    result = run(cluster, experiment("delete-vllm"))     # always undone; `course recover` after a kill -9

The undo is on disk before the fault is in the cluster. The journal is a time series of what clients,
endpoints, pods and events showed, chained so that an edit by hand is caught.
"""

from __future__ import annotations
