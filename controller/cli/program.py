"""Where errors of any command become one sentence on stderr and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

import typer
from typer.core import TyperGroup

from controller.errors import (
    ConfigError,
    JournalError,
    NotPermitted,
    TemplateError,
    Transient,
    Waiting,
    WheelwayError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class ExitCode(IntEnum):
    """Exit codes: above 2 those of sysexits.h, so that 2 is free for `plan`."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """A code with what it says; the end of `wheelway --help` lists them."""
        made = int.__new__(cls, code)
        made._value_ = code
        made.meaning = meaning
        return made

    OK = 0, "done"
    FAILED = 1, "failed or refused"
    CHANGES = 2, "`plan` found changes"
    USAGE = 64, "the command line was not understood"
    UNAVAILABLE = 69, "Ray, the daemon or the journal is not available; trying again may help"
    BUG = 70, "a mistake in wheelway itself"
    NOT_PERMITTED = 77, "you may not; the message names the group that may"
    CONFIG = 78, "the configuration or a template is wrong"
    INTERRUPTED = 130, "interrupted (Ctrl-C)"
    BROKEN_PIPE = 141, "whoever read the output went away"


_ASKED_WRONGLY: Final = {"ConfigUnknown", "DigestAmbiguous", "ConfigForgotten"}
"""Reasons of a JournalError that are about the question, not about the journal."""


def global_first(args: Sequence[str]) -> list[str]:
    """The command line with `--config PATH` and `--debug` before the command, where they are
    defined; people write them after it just as well.
    """
    given, rest, left = [], [], list(args)
    while left and left[0] != "--":
        word = left.pop(0)
        if word == "--config":
            given += [word, *left[:1]]
            if not left:  # said as such, instead of taking the command for a path
                return given
            del left[:1]
        elif word.startswith("--config=") or word == "--debug":
            given.append(word)
        else:
            rest.append(word)
    return [*given, *rest, *left]


def exit_code_of(error: WheelwayError) -> ExitCode:
    """The exit code by which a script can tell what kind of error it was."""
    match error:
        case ConfigError() | TemplateError():
            return ExitCode.CONFIG
        case NotPermitted():
            return ExitCode.NOT_PERMITTED
        case JournalError() if error.reason in _ASKED_WRONGLY:
            return ExitCode.FAILED
        case JournalError() | Transient() | Waiting():
            return ExitCode.UNAVAILABLE
    return ExitCode.FAILED


class Program(TyperGroup):
    """The `wheelway` command. What its commands raise is told here, and nowhere else."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - the signature is typer's
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002 - as above
        **extra: Any,
    ) -> NoReturn:
        """Run a command line and leave with its exit code (SystemExit)."""
        del standalone_mode, windows_expand_args  # errors are always told here
        args = global_first(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except typer.TyperException as error:
            _tell_usage(error)
            sys.exit(ExitCode.USAGE)
        except typer.Abort:
            sys.exit(ExitCode.INTERRUPTED)
        sys.exit(code if isinstance(code, int) else ExitCode.OK)

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer's own subclass
        """Run the command that was parsed."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except BrokenPipeError as error:
            _silence_stdout()
            raise typer.Exit(ExitCode.BROKEN_PIPE) from error
        except WheelwayError as error:
            _tell(ctx, error.message)
            raise typer.Exit(exit_code_of(error)) from error
        except Exception as error:
            # A bug: told as such instead of pouring a traceback over whoever typed the command.
            _tell(
                ctx,
                f"{type(error).__name__}: {error}\nThis is a mistake in wheelway itself. "
                "`wheelway --debug ...` shows where it happened; please report it",
            )
            raise typer.Exit(ExitCode.BUG) from error
        return result


def _tell(ctx: typer.Context, message: str) -> None:
    """`error: message` on stderr; a configuration's mistakes already are lines file:line: key."""
    if getattr(ctx.obj, "debug", False):
        traceback.print_exc()
    # Printable text only: messages quote names and logs that others wrote.
    from controller.cli.output import clean  # noqa: PLC0415 - not needed when all goes well

    print(f"error: {clean(message)}", file=sys.stderr)


def _tell_usage(error: typer.TyperException) -> None:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "wheelway"
    print(f"error: {error.format_message()}\nSee `{path} --help`.", file=sys.stderr)


def _silence_stdout() -> None:
    """Discard what is still buffered, so that the interpreter does not complain at its end.

    https://docs.python.org/3/library/signal.html#note-on-sigpipe
    """
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # not a real file: a test's buffer
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
