"""Parameters of a flow as a command line gives them: words NAME=VALUE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError


def named(words: Sequence[str]) -> Mapping[str, str]:
    """Values by name; a word without `=` has an empty value, which its parameter then refuses."""
    return dict(word.partition("=")[::2] for word in words)


def refusal(error: ValidationError, names: Iterable[str]) -> SystemExit:
    """What ends the program: the first parameter that is wrong, and what is allowed."""
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"])) or "parameters"
    if first["type"] == "extra_forbidden":
        return SystemExit(f"--set {name}: no such parameter; there are {', '.join(sorted(names))}")
    return SystemExit(f"--set {name}: {first['msg']} (it is {first['input']!r})")
