"""Flags of verbs: how they are made, and those that several verbs have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

T = TypeVar("T")


def flag(*names: str, **form: object) -> click.Option:
    """Return a flag; its help shows the default, but of a switch and of a text that is empty."""
    shows = "is_flag" not in form and form.get("default") != ""
    return click.Option(list(names), show_default=shows, **form)  # type: ignore[arg-type]


def parsed(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, str], T | None]:
    """Return a callback that gives a flag's value to *parse*, which raises ValueError."""

    def callback(_: click.Context, __: click.Parameter, text: str | None) -> T | None:
        try:
            return None if text is None else parse(text)
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is not allowed: want {error}") from None

    return callback


COMMAND = click.Argument(["command"], nargs=-1, type=click.UNPROCESSED)
USER = flag("--user", metavar="NAME", help="Run the command as this user.")
ZONE = flag("--zone", default="", metavar="KIND", help="The kind of zone; by default the widest.")


def choosing(verb: str) -> tuple[click.Option, ...]:
    """Return the flags that choose tasks which run anyway; *verb* is what is done with them."""
    return (
        flag("-p", "--pid", metavar="PID,…", help=f"{verb} processes, and what they start."),
        flag("--cgroup", metavar="PATH", help=f"{verb} a cgroup and all below it."),
        flag("--container", metavar="NAME", help=f"{verb} a container, by name or id."),
        flag("--comm", metavar="NAME", help=f"{verb} all processes of this name."),
    )


def timeout(meaning: str, *names: str) -> click.Option:
    """Return the flag that ends a verb; *names* are other names that it has."""
    seconds = click.FloatRange(0.01)
    return flag("--timeout", *names, "timeout", type=seconds, metavar="S", help=meaning)


def rows_at_most(default: int | None = None) -> click.Option:
    """Return the flag that bounds a table."""
    number = click.IntRange(1)
    return flag("--top", type=number, default=default, help="Print so many rows at most.")
