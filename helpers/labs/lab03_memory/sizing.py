"""How much memory and disk a vector collection needs, by Qdrant's own rule of thumb.

Memory for vectors: number x dimensions x 4 bytes x 1.5, where the half on top is for the index,
metadata and the segments that optimization rewrites
(https://qdrant.tech/documentation/guides/capacity-planning/). The HNSW graph's own share is m links
each way of 4 bytes. Disk holds the same vectors and graph once more, the payload, the write-ahead
log, and every snapshot that is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

BYTES_PER_DIMENSION = {"float32": 4.0, "float16": 2.0, "uint8": 1.0}
OVERHEAD = 1.5
HNSW_M = 16
WAL_BYTES = 2 * 32 * 1024**2
GIB = 1024**3


@dataclass(frozen=True)
class Collection:
    """What is to be stored. `payload_bytes` is the mean size of one point's payload; `snapshots` are kept on the claim."""

    vectors: int
    dimensions: int
    payload_bytes: int = 0
    snapshots: int = 1
    datatype: str = "float32"
    on_disk: bool = False


@dataclass(frozen=True)
class Sizing:
    """Bytes by what takes them."""

    vectors: float
    graph: float
    payload: float
    log: float
    snapshots: float
    rewriting: float
    memory: float

    @property
    def disk(self) -> float:
        """What the volume must hold at its fullest: while segments are rewritten and snapshots lie beside."""
        return self.vectors + self.graph + self.payload + self.log + self.snapshots + self.rewriting

    @property
    def claim_beside_snapshots(self) -> float:
        """What the claim must hold where snapshots lie elsewhere, as in the lab's manifest and the chart's default."""
        return self.disk - self.snapshots

    @property
    def disk_parts(self) -> dict[str, float]:
        """The same by part, in GiB, for a picture."""
        parts = {
            "vectors": self.vectors,
            "HNSW graph": self.graph,
            "payload": self.payload,
            "write-ahead log": self.log,
            "segments being rewritten": self.rewriting,
            "snapshots": self.snapshots,
        }
        return {name: size / GIB for name, size in parts.items()}


def size(collection: Collection) -> Sizing:
    """What a collection needs.

    Raises:
        ValueError: a number is none or is negative, or the datatype is unknown.
    """
    if not isinstance(collection, Collection):
        raise ValueError(f"the plan is {collection!r:.60}: it is Collection(vectors=…, dimensions=…)")
    for name in ("vectors", "dimensions", "payload_bytes", "snapshots"):
        value = getattr(collection, name)
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value!r:.60}: it is a number, and not negative")
    if collection.datatype not in BYTES_PER_DIMENSION:
        known = ", ".join(BYTES_PER_DIMENSION)
        raise ValueError(f"unknown datatype {collection.datatype!r}: one of {known}")
    vectors = collection.vectors * collection.dimensions * BYTES_PER_DIMENSION[collection.datatype]
    graph = collection.vectors * HNSW_M * 2 * 4.0
    payload = float(collection.vectors * collection.payload_bytes)
    stored = vectors + graph + payload
    return Sizing(
        vectors=vectors,
        graph=graph,
        payload=payload,
        log=float(WAL_BYTES),
        snapshots=collection.snapshots * stored,
        rewriting=(OVERHEAD - 1) * stored,
        # Vectors on disk leave the graph and the pages in use to memory.
        memory=(graph if collection.on_disk else vectors) * OVERHEAD,
    )
