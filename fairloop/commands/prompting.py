"""`fairloop prompts`: shares per prompt and group, models compared, prompts for who is under-represented."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

COLUMNS = ("prompt", "gender", "race")


def rule_options(*more: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that say when a group is under-represented; `more` are further rules of a command."""
    listed = (
        click.option(
            "--rule",
            type=click.Choice(["threshold", "uniform", "parity", *more]),
            default="uniform",
            show_default=True,
            help="Under a fixed share, under 1/n, or too far under the prompt's largest share.",
        ),
        click.option("--threshold", type=click.FloatRange(0, 1), default=0.4, show_default=True),
        click.option(
            "--gap", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Of the rule parity."
        ),
        click.option(
            "--drop",
            type=click.FloatRange(0, 1),
            default=0.5,
            show_default=True,
            help="Leave out prompts of which more images than this share have no face.",
        ),
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(listed):
            command = option(command)
        return command

    return decorate


@click.group()
def prompts() -> None:
    """Audit what a model makes of prompts, and write the prompts that are missing."""


@prompts.command()
@click.argument("audit", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--by",
    type=click.Choice(["gender", "race", "gender,race"]),
    default="gender,race",
    show_default=True,
    help="Attributes that make a group.",
)
@click.option(
    "--failures",
    type=click.Choice(["counted", "left_out"]),
    default="counted",
    show_default=True,
    help="Whether images without a face count among all.",
)
@click.option("--to", "file", type=click.Path(path_type=Path, dir_okay=False), required=True)
def shares(audit: Path, by: str, failures: Any, file: Path) -> None:
    """The share of every group of every prompt of AUDIT (columns prompt, gender, race), as a CSV."""
    from fairloop import prompt_audit

    groups = {attribute: prompt_audit.GROUPS[attribute] for attribute in by.split(",")}
    found = prompt_audit.shares(_observations(audit, groups), groups, failures=failures)
    _write(
        file,
        ("prompt", *groups, "perc", "count", "images"),
        ((s.prompt, *s.group, s.share, s.count, s.images) for s in found),
    )
    click.echo(f"{len(found)} shares in {file}")
    click.echo(f"Next: fairloop prompts targets {audit} PROMPTS --to FOLDER", err=True)


@prompts.command()
@click.argument("audit", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("table", type=click.Path(path_type=Path, dir_okay=False))
@rule_options("target")
@click.option(
    "--target",
    "target_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Of the rule target, under the share that this table (gender, race, share) wants.",
)
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True)
def targets(
    audit: Path,
    table: Path,
    rule: Any,
    threshold: float,
    gap: float,
    target_file: Path | None,
    drop: float,
    folder: Path,
) -> None:
    """The groups that AUDIT finds under-represented, and prompts that ask for them.

    TABLE has the prompts of the audit (prompt, prompt_id). Writes
    prompts_to_generate.csv (prompt, gender, race, perc) and new_prompts.csv
    (prompt, prompt_id), which `fairloop draw prompts` takes.
    """
    from fairloop import prompt_audit
    from fairloop.prompts import read_prompts

    rows = _observations(audit, prompt_audit.GROUPS)
    dropped = prompt_audit.dropped_prompts(rows, drop)
    for prompt, reason in dropped.items():
        click.echo(f"left out: {prompt}: {reason}", err=True)
    found = prompt_audit.shares(rows)
    flagged = prompt_audit.under_represented(
        found, rule, threshold=threshold, gap=gap, target=_target(rule, target_file), without=dropped
    )
    wanted = prompt_audit.targets(flagged, {p.id: p.text for p in read_prompts(table)})
    folder.mkdir(parents=True, exist_ok=True)
    _write(
        folder / "prompts_to_generate.csv",
        (*COLUMNS, "perc"),
        ((t.share.prompt, *t.share.group, t.share.share) for t in wanted),
    )
    new = prompt_audit.as_prompts(wanted)
    _write(folder / "new_prompts.csv", ("prompt", "prompt_id"), ((p.text, p.id) for p in new))
    click.echo(
        f"{len(flagged)} of {len(found)} groups are under-represented: {folder / 'prompts_to_generate.csv'}"
    )
    click.echo(f"Next: fairloop draw prompts MODEL {folder / 'new_prompts.csv'} --count 10", err=True)


@prompts.command()
@click.argument("audits", nargs=-1, required=True, metavar="NAME=AUDIT...")
@click.option(
    "--table", type=click.Path(path_type=Path, dir_okay=False), help="The prompts, for their texts."
)
@click.option(
    "--paired", is_flag=True, help="The k-th image of a prompt is of the same noise in every audit."
)
@click.option("--labels", default="not told", help="Who labelled, for the page.")
@rule_options()
@click.option("--overwrite", is_flag=True, help="Replace the folder of an earlier comparison.")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True)
def compare(
    audits: Sequence[str],
    table: Path | None,
    paired: bool,
    labels: str,
    rule: Any,
    threshold: float,
    gap: float,
    drop: float,
    overwrite: bool,
    folder: Path,
) -> None:
    """Audits of the same prompts by several models, the first the baseline: tables, figures, a page.

    Each AUDIT is a CSV with a row per image: prompt, gender, race. Writes
    results_prompt_grouped.csv, results_grouped.csv and so on, a column per NAME.
    """
    import hashlib

    from fairloop import prompt_audit
    from fairloop.errors import InvalidInput
    from fairloop.prompt_comparison import compare as compared
    from fairloop.prompts import read_prompts
    from fairloop.standalone.commands import needing_the_extra
    from fairloop.standalone.output import check_folder, write_folder

    target = check_folder(folder, overwrite)
    with needing_the_extra("prompts compare"):
        from fairloop.reporting.bundle import prompt_files
    files: dict[str, Path] = {}
    for text in audits:
        name, equals, path = text.partition("=")
        if not (name and equals and path) or name in files:
            raise InvalidInput("AUDIT", f"{text!r} is not NAME=FILE with a name of its own")
        files[name] = Path(path)
    rows = {name: _observations(path, prompt_audit.GROUPS) for name, path in files.items()}
    found = compared(rows, paired=paired, rule=rule, threshold=threshold, gap=gap, drop=drop)
    texts = {p.id: p.text for p in read_prompts(table)} if table else {}
    baseline = found.models[0]
    wanted = prompt_audit.targets(found.missing[baseline], texts) if table else []
    facts = {
        "label_source": labels,
        "texts": texts,
        "inputs": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files.values()},
    }
    write_folder(target, prompt_files(found, facts, wanted))
    for name in found.models:
        moved = found.variation.get(name)
        told = "" if moved is None else f", distance to equal shares {moved.before:.3f} → {moved.after:.3f}"
        click.echo(f"{name}: {len(found.missing[name])} under-represented groups{told}")
    click.echo(f"next: open {target / 'index.html'}")


def _observations(audit: Path, groups: Iterable[str]) -> list[dict[str, str]]:
    """The rows of an audit: its prompts' ids, and a value or `--` for each attribute."""
    from fairloop.standalone.table import read_header, read_table

    header = read_header(audit)
    wanted = ("prompt", *groups)
    for name in wanted:
        header.check(name, audit.name)
    table = read_table(header, wanted)
    return [{name: table.columns[name][number] or "--" for name in wanted} for number in range(len(table))]


def _target(rule: str, file: Path | None) -> dict[tuple[str, ...], float] | None:
    """The share that a table wants of each of the twelve groups."""
    from fairloop.errors import InvalidInput
    from fairloop.prompt_audit import GROUPS
    from fairloop.standalone.table import read_header, read_table

    if (rule == "target") != (file is not None):
        raise InvalidInput(
            "--target", "goes with --rule target: a table with the columns gender, race, share"
        )
    if file is None:
        return None
    header = read_header(file)
    for name in (*GROUPS, "share"):
        header.check(name, file.name)
    table = read_table(header, (*GROUPS, "share"))
    wanted: dict[tuple[str, ...], float] = {}
    for number in range(len(table)):
        where = f"{file.name}, line {table.lines[number]}"
        group = tuple(str(table.columns[name][number]) for name in GROUPS)
        if any(value not in GROUPS[name] for name, value in zip(GROUPS, group, strict=True)):
            allowed = "; ".join(f"{name}: {', '.join(values)}" for name, values in GROUPS.items())
            raise InvalidInput(where, f"{', '.join(group)} is no group; there are {allowed}")
        if group in wanted:
            raise InvalidInput(where, f"{', '.join(group)} stands there twice")
        try:
            share = float(table.columns["share"][number] or "")
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise InvalidInput(where, f"share {table.columns['share'][number]!r} is no number in 0–1")
        wanted[group] = share
    return wanted


def _write(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
