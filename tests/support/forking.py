"""A Python that has imported what takes seconds, and forks for each program that needs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def imported(*modules: str, **variables: str) -> Iterator[Run]:
    """Runs programs as `python -c PROGRAM ARGUMENTS...` does, where these modules are imported
    already and these variables set. At their end they only flush what they wrote.
    """
    command = [sys.executable, __file__, *modules]
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **variables}
        ) as server,
    ):
        assert server.stdin
        assert server.stdout
        out, error = Path(folder, "out"), Path(folder, "error")

        def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
            asked = [program, str(out), str(error), *map(str, arguments)]
            server.stdin.write(f"{json.dumps(asked)}\n")
            server.stdin.flush()
            status = int(server.stdout.readline())
            return subprocess.CompletedProcess(asked, status, out.read_text(), error.read_text())

        yield run
        server.stdin.close()


def _serve(modules: list[str]) -> None:
    for module in modules:
        import_module(module)
    for line in sys.stdin:
        program, out, error, *arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            for number, path in ((1, out), (2, error)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os._exit(_run(program, arguments))
        _, status = os.waitpid(child, 0)
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)  # what was imported has nothing to tidy up


def _run(program: str, arguments: list[str]) -> int:
    sys.argv = ["-c", *arguments]
    try:
        exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        return 1
    finally:
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1:])
