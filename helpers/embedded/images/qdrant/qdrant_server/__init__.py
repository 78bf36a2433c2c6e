"""Qdrant's engine behind Qdrant's REST API, for clusters that cannot pull the official image.

The official server is a Rust binary that ships in a container image only. Its storage and search
engine, however, is also published as the Python package `qdrant-edge-py`: the same segments, HNSW
index, payload indexes, filters and write-ahead log. This package puts the REST paths of Qdrant 1.20
on top of it, so that `qdrant-client`, probes, metrics and snapshots work as they do against the
official image. It says so in its root response, in its log and in its image's labels. What the
engine cannot do (cluster mode, shards, gRPC) is answered with 501.
"""

API_VERSION = "1.20.0"
ENGINE_LABEL = "Qdrant's engine, embedded server"
