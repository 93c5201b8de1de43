"""The curves of a training as Parquet files: one row a step, and one row a validation."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.recognizer.fit import Config, Result, learning_rate

SCHEMA = "fairloop.training_curves/1"


def steps_table(result: Result, config: Config) -> pa.Table:
    """step (from 1), loss, learning_rate, gradient_norm (before clipping) of every step done."""
    numbers = np.arange(1, result.step + 1)
    rates = [learning_rate(config, number - 1, result.total) for number in numbers.tolist()]
    columns = {
        "step": pa.array(numbers, pa.int64()),
        "loss": pa.array(result.losses, pa.float32()),
        "learning_rate": pa.array(rates, pa.float64()),
        "gradient_norm": pa.array(result.norms, pa.float32()),
    }
    return pa.table(columns, metadata={"schema": SCHEMA})


def validations_table(result: Result) -> pa.Table:
    """step (0: before the first), its measures, and whether it was the best."""
    names = sorted({name for record in result.evaluations for name in record} - {"step"})
    columns: dict[str, pa.Array] = {
        "step": pa.array([int(record["step"]) for record in result.evaluations], pa.int64())
    }
    for name in names:
        columns[name] = pa.array([record.get(name) for record in result.evaluations], pa.float64())
    best = [int(record["step"]) == result.best_step for record in result.evaluations]
    columns["best"] = pa.array(best, pa.bool_())
    return pa.table(columns, metadata={"schema": SCHEMA})


def files(result: Result, config: Config) -> dict[str, bytes]:
    """The Parquet files of a training: steps, and validations where there were some."""
    found = {"steps.parquet": _written(steps_table(result, config))}
    if result.evaluations:
        found["validations.parquet"] = _written(validations_table(result))
    return found


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data
