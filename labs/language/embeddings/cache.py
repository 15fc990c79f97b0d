"""A cache of embeddings in Parquet files, each of them complete or absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labs.language.pipeline import Columns
from labs.runtime.errors import InputError
from labs.runtime.options import expand_user

KEY = b"labs.embeddings"


class EmbeddingCache:
    """One file of vectors, named after everything that determines them.

    The file has a row per text, in order: ``embedding`` (a list of float32 of fixed length),
    ``tokens`` and ``truncated``. Its schema's metadata holds the key.
    """

    def __init__(self, directory: Path, key: Mapping[str, str | int]) -> None:
        self._content = json.dumps(dict(key), sort_keys=True)
        name = hashlib.sha256(self._content.encode()).hexdigest()[:24]
        self.path = expanded(Path(directory)) / f"{name}.parquet"
        self._count = int(key["count"])

    def read(self) -> dict[str, np.ndarray] | None:
        """``vectors``, ``tokens`` and ``truncated``; ``None`` if the file is missing or damaged."""
        try:
            if pq.read_schema(self.path).metadata.get(KEY) != self._content.encode():
                return None
            table = pq.read_table(self.path)
        except (OSError, pa.ArrowException, AttributeError):
            return None
        if table.num_rows != self._count:
            return None
        vectors = table["embedding"].combine_chunks()
        return {
            "vectors": vectors.flatten().to_numpy().reshape(len(vectors), -1),
            "tokens": table["tokens"].to_numpy(),
            "truncated": table["truncated"].to_numpy(),
        }

    def keep(self, runs: Iterator[Columns]) -> Iterator[Columns]:
        """Yield the runs of an ``Embedder``'s results unchanged, and write them on the way.

        The file gets its final name when everything is written; after an error, or if the reader
        stops early, no file is left.

        Raises:
            InputError: the directory cannot be written, for instance because the disk is full.
        """
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        writer: pq.ParquetWriter | None = None
        try:
            try:  # before anything is computed
                temporary.parent.mkdir(parents=True, exist_ok=True)
                temporary.touch()
            except OSError as error:
                raise self._unwritable(error) from None
            for run in runs:
                table = self._table(run)
                try:
                    if writer is None:
                        writer = pq.ParquetWriter(temporary, table.schema, compression="none")
                    writer.write_table(table)
                except OSError as error:
                    raise self._unwritable(error) from None
                yield run
            if writer is not None:
                try:
                    writer.close()
                    with open(temporary, "rb+") as file:
                        os.fsync(file.fileno())
                    os.replace(temporary, self.path)
                except OSError as error:
                    raise self._unwritable(error) from None
        finally:
            if writer is not None and writer.is_open:
                with contextlib.suppress(OSError):  # the disk may be too full for the footer
                    writer.close()
            with contextlib.suppress(OSError):  # the directory may not exist
                temporary.unlink(missing_ok=True)

    def _table(self, run: Columns) -> pa.Table:
        vectors = run["embedding"]
        values = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
        return pa.table(
            {
                "embedding": pa.FixedSizeListArray.from_arrays(values, vectors.shape[1]),
                "tokens": run["tokens"],
                "truncated": run["truncated"],
            }
        ).replace_schema_metadata({KEY: self._content})

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(
            f"`cache_dir` {self.path.parent} cannot be written"
            f" ({error.strerror or str(error).strip()}): free some space, or use another directory"
        )


def expanded(directory: Path) -> Path:
    """An absolute path, ``~`` replaced.

    Of a user without a home, as in some containers, ``~`` is the temporary directory.
    """
    try:
        return expand_user(directory).absolute()
    except InputError:
        if directory.parts[0] != "~":  # the home of another user
            raise
        return Path(tempfile.gettempdir(), *directory.parts[1:])
