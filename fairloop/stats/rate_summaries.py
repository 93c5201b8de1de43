"""All summaries of a table of rates per group, such as a paper prints (statistics §2)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fairloop.errors import InvalidInput
from fairloop.stats.clusters import redrawn_rates
from fairloop.stats.flags import by_sentence, explain
from fairloop.stats.inequality import skewed_error_ratio
from fairloop.stats.measure import Floats, Measure, probability, rates
from fairloop.stats.null import draw_rates
from fairloop.stats.report import Summary, number, rate, table
from fairloop.stats.roster import known
from fairloop.stats.scoring import Ints
from fairloop.stats.summaries import SUMMARIES, Definition, GroupRates, bounds
from fairloop.stats.summarising import summarise

if TYPE_CHECKING:
    import pandas

Rates = Sequence[float | None] | Floats
"""One rate per group; None or NaN where a group has none."""

KINDS = ("fmr", "fnmr")

UNKNOWN_COUNTS = "without_comparison_counts"
INDEPENDENT = "pairs_taken_as_independent"


@dataclass(frozen=True)
class RateSummaries:
    """A table of rates and every summary that can be made of it."""

    groups: tuple[str, ...]
    fmr: tuple[float | None, ...] | None
    fnmr: tuple[float | None, ...] | None
    accuracy: tuple[float | None, ...] | None
    """Percent."""
    impostor: tuple[int, ...] | None
    genuine: tuple[int, ...] | None
    worst: Mapping[str, tuple[str, ...]]
    """Group, or groups if several are equal, with the highest fmr, highest fnmr, lowest accuracy."""
    summaries: Mapping[str, Summary]
    conventions: Mapping[str, str]
    flags: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `to_json` writes."""
        return {"schema": "fairloop.rate-summaries/1", **asdict(self)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_pandas(self, what: Literal["groups", "summaries"] = "summaries") -> pandas.DataFrame:
        """A data frame of the groups or of the summaries, one row each (needs pandas)."""
        import pandas

        if what == "groups":
            return pandas.DataFrame({"group": self.groups, **self._columns()})
        names = [f.name for f in fields(Summary)]
        rows = [{name: getattr(row, name) for name in names} for row in self.summaries.values()]
        return pandas.DataFrame(rows, columns=names)

    def _columns(self) -> dict[str, tuple[Any, ...]]:
        named = ("fmr", "fnmr", "accuracy", "impostor", "genuine")
        return {name: getattr(self, name) for name in named if getattr(self, name) is not None}

    def __str__(self) -> str:
        columns = self._columns()
        groups = [["group", *columns]]
        for g, name in enumerate(self.groups):
            cells = [
                f"{column[g]:,}" if isinstance(column[g], int) else number(column[g])
                for column in columns.values()
            ]
            groups.append([name, *cells])
        rows = [["summary", "value (95 %)", "zero policy", "if equal: mean", "95 %", "p", "fair"]]
        for s in self.summaries.values():
            numbers = [number(n) for n in (s.value_under_zero_policy, s.null_mean, s.null_p95, s.p_value)]
            rows.append([s.formula, rate(s.value, s.interval), *numbers, f"{s.fair:g}"])
        notes = [f"worst {kind}: {', '.join(names)}" for kind, names in self.worst.items()]
        notes += [f"{key}: {value}" for key, value in self.conventions.items()]
        said = set(self.flags)
        notes += by_sentence((n, f) for n, s in self.summaries.items() for f in s.flags if f not in said)
        notes += [explain(flag) for flag in self.flags]
        return "\n".join([*table(groups), "", *table(rows), "", *notes])


@dataclass(frozen=True)
class _Column:
    """One kind of rate: the groups that have it, their values, and their numbers of comparisons."""

    present: Ints
    value: Floats
    trials: Floats | None


def summarise_rates(
    groups: Sequence[str],
    fmr: Rates | None,
    fnmr: Rates | None = None,
    *,
    impostor: Sequence[int] | Ints | None = None,
    genuine: Sequence[int] | Ints | None = None,
    accuracy: Rates | None = None,
    alpha: float = 0.5,
    replicates: int = 1000,
    seed: int = 0,
) -> RateSummaries:
    """Every summary of error rates per group at one threshold, and of group accuracies.

    Parameters
    ----------
    groups : their names.
    fmr, fnmr : one rate per group, 0–1; None or NaN where a group has none, None for
        the whole when a table lacks it (summaries that need it are then left out).
    impostor, genuine : numbers of comparisons per group. With them come the zero policy,
        intervals, null floors and p-values, all taking comparisons as independent (flagged:
        real floors are higher, as pairs share people). Without them none of these.
    accuracy : percent per group: SER, population STD, mean, mean − STD (FRCSyn trade-off).

    Raises InvalidInput for lengths that differ, rates outside 0–1, accuracies that look
    like shares of 1, and a table with neither rates nor accuracies.

    >>> found = summarise_rates("abcd", [.01, .02, .03, .04], [.05, .05, .10, .20])
    >>> round(found.summaries["garbe"].value, 6)
    0.375
    """
    names = tuple(str(group) for group in groups)
    if not names or len(set(names)) < len(names):
        raise InvalidInput("groups", "needs at least one name, each once")
    alpha = probability(alpha, "alpha")
    columns = {
        "fmr": _column(fmr, impostor, names, ("fmr", "impostor")),
        "fnmr": _column(fnmr, genuine, names, ("fnmr", "genuine")),
    }
    marks = None if accuracy is None else _present(accuracy, names, "accuracy", 100.0)
    if marks is not None and marks.value.max() <= 1.0:
        raise InvalidInput("accuracy", f"all are at most 1 ({marks.value.max():g}); they are percent, 0–100")
    if marks is None and columns["fmr"] is None and columns["fnmr"] is None:
        raise InvalidInput("fmr", "neither FMR, FNMR nor accuracy is given")
    rng = np.random.default_rng(seed)
    observed = _group_rates({k: c.value if c else None for k, c in columns.items()}, columns, alpha)
    drawn, null = _redrawn(columns, alpha, replicates, rng)
    summaries = {}
    for definition in SUMMARIES:
        used = [columns.get(kind) for kind in definition.uses]
        if any(column is None for column in used):
            continue
        there = [column for column in used if column is not None]
        absent = [n for g, n in enumerate(names) if any(g not in column.present for column in there)]
        if all(column.trials is not None for column in there):
            summary = summarise(definition, observed, drawn, null, absent)[0]
            summaries[definition.name] = replace(summary, flags=(*summary.flags, INDEPENDENT))
        else:
            summaries[definition.name] = _value_only(definition, observed, absent)
    if marks is not None:
        summaries.update(_of_accuracy(marks, names))
    counted = [kind for kind, column in columns.items() if column and column.trials is not None]
    uncounted = [kind for kind, column in columns.items() if column and column.trials is None]
    conventions = {"alpha": f"{alpha:g}"}
    if counted:
        conventions["null"] = f"binomial about the pooled rate, {replicates} draws"
        conventions["intervals"] = "95 %, percentiles of binomial replicates moved onto the estimate"
        conventions["seed"] = str(seed)
    worst = {kind: _at(column, names, column.value.max()) for kind, column in columns.items() if column}
    if marks is not None:
        worst["accuracy"] = _at(marks, names, marks.value.min())
    return RateSummaries(
        groups=names,
        fmr=_listed(columns["fmr"], names),
        fnmr=_listed(columns["fnmr"], names),
        accuracy=_listed(marks, names),
        impostor=None if impostor is None else tuple(int(n) for n in impostor),
        genuine=None if genuine is None else tuple(int(n) for n in genuine),
        worst=worst,
        summaries=summaries,
        conventions=conventions,
        flags=tuple([INDEPENDENT] * bool(counted) + [f"{UNKNOWN_COUNTS}:{kind}" for kind in uncounted]),
    )


def _present(values: Rates, names: Sequence[str], field: str, highest: float) -> _Column:
    if len(values) != len(names):
        raise InvalidInput(field, f"{len(values)} values for {len(names)} groups")
    at = np.array([g for g, value in enumerate(values) if known(value)], dtype=np.int64)
    if at.size == 0:
        raise InvalidInput(field, "no group has a value; give None for the whole")
    filled = [value if value is not None and known(value) else 0.0 for value in values]
    return _Column(at, rates(filled, field, highest=highest)[at], None)


def _column(
    values: Rates | None, trials: Sequence[int] | Ints | None, names: Sequence[str], fields: tuple[str, str]
) -> _Column | None:
    if values is None:
        if trials is not None:
            raise InvalidInput(fields[1], f"given without {fields[0]}")
        return None
    found = _present(values, names, fields[0], 1.0)
    if trials is None:
        return found
    if len(trials) != len(names):
        raise InvalidInput(fields[1], f"{len(trials)} values for {len(names)} groups")
    counts = np.asarray(trials, dtype=np.float64)
    for g in found.present:
        if not (counts[g] >= 1 and counts[g] == round(counts[g])):
            raise InvalidInput(fields[1], f"group {names[g]} has {counts[g]:g} comparisons and a rate")
    return replace(found, trials=counts[found.present])


def _group_rates(
    values: Mapping[str, Floats | None], columns: Mapping[str, _Column | None], alpha: float
) -> GroupRates:
    nothing = np.empty(0)
    limit = {
        kind: bounds(column.trials) if column and column.trials is not None else nothing
        for kind, column in columns.items()
    }
    fmr, fnmr = values["fmr"], values["fnmr"]
    return GroupRates(
        fmr=nothing if fmr is None else fmr,
        fnmr=nothing if fnmr is None else fnmr,
        fnmr_at_own_threshold=nothing,
        fmr_bound=limit["fmr"],
        fnmr_bound=limit["fnmr"],
        alpha=alpha,
    )


def _redrawn(
    columns: Mapping[str, _Column | None], alpha: float, replicates: int, rng: np.random.Generator
) -> tuple[GroupRates, GroupRates]:
    """Rates about those observed, and about the pooled ones, where comparisons were counted."""
    drawn: dict[str, Floats | None] = {}
    null: dict[str, Floats | None] = {}
    for kind in KINDS:
        column = columns[kind]
        drawn[kind] = null[kind] = None
        if column is None or column.trials is None:
            continue
        n, value = column.trials, column.value
        raw = rng.binomial(n.astype(np.int64), value, size=(replicates, n.size)) / n
        drawn[kind] = redrawn_rates(value, raw, n.astype(np.int64), clustered=False, rng=rng)
        pooled = np.full(n.size, float(value @ n / n.sum()))
        null[kind] = draw_rates(pooled, n, np.zeros(n.size), np.eye(n.size), replicates, rng)
    return _group_rates(drawn, columns, alpha), _group_rates(null, columns, alpha)


def _value_only(definition: Definition, observed: GroupRates, absent: Sequence[str]) -> Summary:
    """A summary where the numbers of comparisons are unknown: no interval, no null, no zero policy."""
    flags = [f"insufficient:{name}" for name in absent]
    arrays = {kind: getattr(observed, kind) for kind in definition.uses}
    value: float | None = None
    zero = [kind for kind in definition.weighed(observed.alpha) if (arrays[kind] == 0).any()]
    if min(array.size for array in arrays.values()) < 2:
        flags.append("one_group")
    elif definition.zero_policy and zero:
        reason = "is zero and its number of comparisons unknown"
        flags += [f"undefined:a group's {kind.upper()} {reason}" for kind in zero]
    else:
        # No zero that counts: bounds do not matter, but must have the right width.
        unused = replace(
            observed, fmr_bound=np.ones(observed.fmr.size), fnmr_bound=np.ones(observed.fnmr.size)
        )
        value = float(definition.rows(unused))
    if any(not array.any() for array in arrays.values()):
        flags.append("degenerate")
    conventions = definition.conventions(observed.alpha)
    return _bare(definition.name, definition.formula, definition.fair, value, flags, conventions)


def _of_accuracy(marks: _Column, names: Sequence[str]) -> dict[str, Summary]:
    x = marks.value
    flags = [f"insufficient:{name}" for g, name in enumerate(names) if g not in marks.present]
    found: dict[str, tuple[str, float, Callable[[], float]]] = {
        "skewed_error_ratio": ("skewed error ratio (SER)", 1.0, lambda: skewed_error_ratio(x)),
        "accuracy_std": ("population STD of group accuracies (percent)", 0.0, lambda: x.std()),
        "accuracy_mean": ("mean of group accuracies (percent)", 100.0, lambda: x.mean()),
        "frcsyn_trade_off": ("FRCSyn trade-off: mean − STD (percent)", 100.0, lambda: x.mean() - x.std()),
    }
    summaries = {}
    for name, (formula, fair, compute) in found.items():
        if x.size < 2:
            summaries[name] = _bare(name, formula, fair, None, [*flags, "one_group"], {})
            continue
        value = compute()
        mine = [*flags, *(value.flags if isinstance(value, Measure) else ())]
        defined = float(value) if np.isfinite(value) else None
        conventions = {"unit": "percent", "ddof": "0"} if "STD" in formula else {"unit": "percent"}
        summaries[name] = _bare(name, formula, fair, defined, mine, conventions)
    return summaries


def _bare(
    name: str,
    formula: str,
    fair: float,
    value: float | None,
    flags: Sequence[str],
    conventions: Mapping[str, str],
) -> Summary:
    return Summary(
        name, formula, fair, value, None, None, None, None, tuple(flags), conventions=dict(conventions)
    )


def _at(column: _Column, names: Sequence[str], extreme: float) -> tuple[str, ...]:
    return tuple(names[g] for g, value in zip(column.present, column.value, strict=True) if value == extreme)


def _listed(column: _Column | None, names: Sequence[str]) -> tuple[float | None, ...] | None:
    if column is None:
        return None
    found = dict(zip(column.present.tolist(), column.value.tolist(), strict=True))
    return tuple(found.get(g) for g in range(len(names)))
