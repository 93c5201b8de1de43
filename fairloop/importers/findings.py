"""What an import finds: counts, problems by place, and the error that says them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import NoReturn

from fairloop.errors import InvalidInput, Violation
from fairloop.importers.record import Problem
from fairloop.standalone.table import shown

MOST_PROBLEMS = 1_000
"""Kept word for word; more are counted."""
SHOWN_PROBLEMS = 6


@dataclass
class Findings:
    """What went through and what did not. `labels` counts the records that have each label;
    `resumed` images were there from an earlier try."""

    records: int = 0
    images: int = 0
    resumed: int = 0
    dropped: int = 0
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, problem: Problem) -> None:
        self.problem_count += 1
        if not problem.where.isprintable():
            # The name of a file may hold anything, also what a terminal would obey.
            problem = replace(problem, where=shown(problem.where))
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    def refuse(self, what_to_do: str) -> NoReturn:
        """Raises `InvalidInput` with the first problems by place, how many more there are, and what to do."""
        first, *more = self.problems[:SHOWN_PROBLEMS]
        violations = [Violation(problem.where, problem.reason) for problem in more]
        rest = self.problem_count - 1 - len(more)
        if rest > 0:
            violations.append(Violation("and", f"{rest:,} more"))
        violations.append(Violation("nothing was imported", what_to_do))
        raise InvalidInput(first.where, first.reason, *violations)
