"""`fairloop models set-threshold`: a recogniser's threshold, taken from where it was measured."""

from __future__ import annotations

from pathlib import Path

import click

from fairloop.commands.stored import opened, resolved, state_dir


@click.command("set-threshold")
@click.argument("model")
@click.option("--report", required=True, help="reports/{id} of EvaluateVerification of this model.")
@state_dir
def set_threshold(model: str, report: str, state_folder: Path) -> None:
    """Give MODEL the common threshold of a report of its own verification.

    CompareImages then decides by it, and says which false match rates were
    measured there, over all and group by group, and on which images.
    """
    from fairloop.thresholds import take_threshold

    with opened(state_folder) as store:
        taken = take_threshold(store, resolved(store, model), report)
    click.echo(f"{taken.model}: {taken.score:.4f} from {taken.report}, FMR {taken.fmr:.4g}")
    click.echo(f"Next: CompareImages with {taken.model}")
