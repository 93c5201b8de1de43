"""What `fairloop operations` does: calls on google.longrunning.Operations, printed."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
from google.longrunning import operations_pb2
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from fairloop import names
from fairloop.client import SERVICES, Client
from fairloop.commands.operation_view import SCHEMA, View, details, duration, reached, view
from fairloop.commands.surroundings import advised, printable, surroundings
from fairloop.errors import DeadlineExceeded, FairloopError, InvalidInput, NotFound, PreconditionFailed
from fairloop.operation import Operation, Progress

PAGE = 200
"""Operations asked for at once: each costs the server a few reads of the store."""
SHOWN = 50
LINE_SECONDS = 5.0
"""Between lines of progress where no bar can be drawn."""
PIPE_WIDTH = 220
"""A pipe has no width; 80 columns would break the rows."""


class AnyOperation(Operation[operations_pb2.Operation]):
    """An operation whatever it makes: its result is the operation itself, ended."""

    def __init__(self, name: str, client: Client) -> None:
        super().__init__(name, client.service_of(name), operations_pb2.Operation)

    def now(self) -> operations_pb2.Operation:
        return self._get()

    def _unpack(self, operation: operations_pb2.Operation) -> operations_pb2.Operation:
        return operation


def list_operations(
    services: Sequence[str],
    states: Sequence[str],
    limit: int | None,
    addresses: Sequence[str],
    state_folder: Path,
    as_json: bool,
) -> None:
    """Prints the operations of the services that answer; exits with 1 when one does not."""
    asked = services or SERVICES
    silent: dict[str, str] = {}
    found: list[View] = []
    with surroundings(state_folder, addresses), Client.from_environment() as client:
        with ThreadPoolExecutor(len(asked)) as pool:
            replies = {name: pool.submit(_all_of, client, name) for name in asked}
        for name, reply in replies.items():
            try:
                found += reply.result()
            except FairloopError as error:
                silent[name] = str(advised(error, name))
    wanted = [v for v in found if not states or v.state.lower() in states]
    wanted.sort(key=lambda v: (v.age_seconds, v.name))
    shown = wanted[: limit or (None if as_json else SHOWN)]
    if as_json:
        _echo_json({"schema": SCHEMA, "operations": [v.to_json() for v in shown], "unavailable": silent})
    else:
        if shown:
            _console().print(_table(shown), highlight=False)
        elif len(silent) < len(asked):
            click.echo("no operations" + (" in these states" if found else ""))
        if len(shown) < len(wanted):
            click.echo(f"the newest {len(shown)} of {len(wanted)}; --limit {len(wanted)} shows all", err=True)
        if shown:
            click.echo("next: fairloop operations show|wait|cancel ID", err=True)
    for message in silent.values():
        click.echo(f"Error: {message}", err=True)
    if silent:
        sys.exit(1)


def show(name: str, addresses: Sequence[str], state_folder: Path, as_json: bool) -> None:
    """Prints one operation."""
    with _operation(name, addresses, state_folder) as operation:
        _print_one(view(operation.now()), as_json)


def cancel(name: str, timeout: float, addresses: Sequence[str], state_folder: Path, as_json: bool) -> None:
    """Cancels and waits for the end; exits with 1 when that is another end."""
    with _operation(name, addresses, state_folder) as operation:
        found = view(operation.now())
        late = found.done
        if not late:
            operation.cancel()
            click.echo(f"asked {found.owner} to stop; waiting", err=True)
            try:
                with _telling(operation.name) as tell:
                    found = view(operation.result(timeout, on_progress=tell))
            except DeadlineExceeded:
                raise click.ClickException(
                    f"{operation.name} was asked to stop and has not after {timeout:.0f} s; it will when its "
                    f"owner next looks, or is replaced: fairloop operations wait {found.id}"
                ) from None
    _print_one(found, as_json)
    if found.state != "CANCELLED":
        when = "had ended already" if late else "ended before it could be stopped"
        click.echo(f"Error: {found.name} {when}: {found.state}", err=True)
        sys.exit(1)


def wait(
    name: str, timeout: float | None, addresses: Sequence[str], state_folder: Path, as_json: bool
) -> None:
    """Waits for the end with progress; exits with 1 when it is not success."""
    with _operation(name, addresses, state_folder) as operation:
        try:
            with _telling(operation.name) as tell:
                ended = view(operation.result(timeout, on_progress=tell))
        except DeadlineExceeded as error:
            raise click.ClickException(str(error)) from None
        except PreconditionFailed:  # suspended: not ended, and nothing to wait for
            ended = view(operation.now())
            click.echo(
                "Error: it is suspended since nobody waited for it; whoever started it starts it again "
                "with the same request id",
                err=True,
            )
        except KeyboardInterrupt:
            click.echo(
                f"{operation.name} goes on for as long as its lease; to stop it: "
                f"fairloop operations cancel {operation.name.removeprefix('operations/')}",
                err=True,
            )
            raise click.Abort from None
    _print_one(ended, as_json)
    if ended.state != "SUCCEEDED":
        sys.exit(1)
    report = (ended.result or {}).get("report")
    if report and not as_json:
        click.echo(f"next: fairloop report {report}", err=True)


@contextlib.contextmanager
def _operation(name: str, addresses: Sequence[str], state_folder: Path) -> Iterator[AnyOperation]:
    """The operation of this name, or id, at its service; errors leave with what to do about them."""
    full = names.check("operation", name if name.startswith("operations/") else f"operations/{name}", "NAME")
    service = full.removeprefix("operations/").partition("-")[0]
    if service not in SERVICES:
        raise InvalidInput("NAME", f"{name!r} is of no service: it begins with {', '.join(SERVICES)}")
    with surroundings(state_folder, addresses), Client.from_environment() as client:
        try:
            yield AnyOperation(full, client)
        except NotFound as error:
            raise NotFound(f"{error}; `fairloop operations list` shows those there are") from error
        except FairloopError as error:
            raise advised(error, service) from error


def _all_of(client: Client, service: str) -> list[View]:
    """Every operation of a service, page by page."""
    caller: Any = getattr(client, service)
    request = operations_pb2.ListOperationsRequest(name="operations", page_size=PAGE)
    found: list[View] = []
    while True:
        reply = caller.call(caller.operations.ListOperations, request)
        found += [view(operation) for operation in reply.operations]
        if not reply.next_page_token:
            return found
        request.page_token = reply.next_page_token


def _table(found: Sequence[View]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "service", "method", "caller", "state", "attempt", "owner", "age", "progress"):
        table.add_column(heading, no_wrap=heading in ("id", "state", "age"), overflow="fold")
    for v in found:
        method = v.method.rpartition(".")[2]
        cells = (v.id, v.service, method, v.caller, v.state.lower(), str(v.progress.attempt), v.owner)
        table.add_row(*(Text(printable(c)) for c in (*cells, duration(v.age_seconds), v.how_far())))
    return table


def _print_one(found: View, as_json: bool) -> None:
    if as_json:
        _echo_json({"schema": SCHEMA, **found.to_json()})
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in details(found):
        table.add_row(Text(label), Text(text))
    _console().print(table, highlight=False)


@contextlib.contextmanager
def _telling(name: str) -> Iterator[Callable[[Progress], None]]:
    """Shows progress on standard error: a bar on a terminal, else a line when there is news."""
    console = Console(stderr=True)
    if console.is_terminal:
        text = TextColumn("{task.description}", markup=False)
        with Bar(BarColumn(24), text, console=console, transient=True) as bar:
            task = bar.add_task("", total=None)

            def draw(progress: Progress) -> None:
                bar.update(
                    task,
                    description=_line(progress),
                    total=progress.total or None,
                    completed=progress.done,
                )

            yield draw
        return
    last, told = "", 0.0

    def tell(progress: Progress) -> None:
        nonlocal last, told
        line = _line(progress)
        if line != last and time.monotonic() - told >= LINE_SECONDS:
            last, told = line, time.monotonic()
            click.echo(f"{name}: {line}", err=True)

    yield tell


def _line(progress: Progress) -> str:
    attempt = f", attempt {progress.attempt}" if progress.attempt > 1 else ""
    return f"{printable(progress.state.lower())}{attempt} {reached(progress)}".rstrip()


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def _echo_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=1))
