"""Python and installed packages against what Fairloop needs and what it was tested with."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from fairloop.doctor.finding import Finding

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
"""Of a checkout; an installed wheel has none."""
NAMED = 6
"""Packages that a line names before it says how many more."""


def python() -> Finding:
    """The interpreter's version."""
    found = platform.python_version()
    needed = importlib.metadata.metadata("fairloop")["Requires-Python"]
    detail = f"Python {found}, fairloop {importlib.metadata.version('fairloop')}"
    facts = {"python": found, "fairloop": importlib.metadata.version("fairloop")}
    if found not in SpecifierSet(needed, prereleases=True):
        return Finding("python", "fail", detail, f"fairloop needs Python {needed}", facts)
    return Finding("python", "ok", detail, facts=facts)


def packages(constraints: Path = CONSTRAINTS) -> Finding:
    """Installed versions: `fail` outside of what is needed, `warn` other than what was tested."""
    installed: dict[str, str] = {
        canonicalize_name(found.metadata["Name"]): found.version
        for found in importlib.metadata.distributions()
        if found.metadata["Name"]
    }
    needed = [Requirement(text) for text in importlib.metadata.requires("fairloop") or ()]
    unmet = unmet_requirements(needed, installed)
    if unmet:
        advice = "install it again: `make up`, or pip install -c constraints.txt -e ."
        return Finding("packages", "fail", _listed(unmet), advice, {"unmet": unmet})
    if not constraints.is_file():
        return Finding("packages", "ok", "all that fairloop needs is installed")
    pinned = read_constraints(constraints)
    other = [
        f"{name} {installed[name]} (tested with {version})"
        for name, version in sorted(pinned.items())
        if installed.get(name, version) != version
    ]
    facts = {"pinned_and_installed": len(installed.keys() & pinned.keys()), "other": other}
    if other:
        advice = f"if something misbehaves: pip install -c {constraints.name} {other[0].split()[0]}"
        return Finding("packages", "warn", _listed(other), advice, facts)
    detail = f"{facts['pinned_and_installed']} installed as in {constraints.name}"
    return Finding("packages", "ok", detail, facts=facts)


def read_constraints(path: Path) -> dict[str, str]:
    """Version by canonical name of every `name==version` line."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        name, equals, version = line.partition("#")[0].strip().partition("==")
        if equals:
            found[canonicalize_name(name)] = version.strip()
    return found


def unmet_requirements(needed: Sequence[Requirement], installed: Mapping[str, str]) -> list[str]:
    """What is missing of the package's own needs, and what is installed in a version that no extra takes."""
    found = []
    for requirement in needed:
        name = canonicalize_name(requirement.name)
        marker = requirement.marker
        own = marker is None or marker.evaluate({"extra": ""})
        if name == "fairloop":
            continue
        if name not in installed:
            if own:
                found.append(f"{requirement.name} is not installed (needed: {requirement.specifier})")
        elif not requirement.specifier.contains(installed[name], prereleases=True):
            found.append(f"{requirement.name} is {installed[name]} (needed: {requirement.specifier})")
    return list(dict.fromkeys(found))


def _listed(texts: list[str]) -> str:
    rest = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + rest
