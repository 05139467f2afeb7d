"""
Reads command lines of az, each a JSON array of words, and prints the errors of az's own parser.

Run by az's Python. Nothing is sent: each is stopped before its command would run. Queries are parsed too.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from azure.cli.core import get_default_cli
from knack.events import EVENT_INVOKER_POST_PARSE_ARGS


class Parsed(BaseException):
    """The command line was parsed; a BaseException, so that az does not report it as a failure."""


def stop(_: object, **__: object) -> None:
    """End a command where it would begin to run."""
    raise Parsed


def objection(words: list[str]) -> str | None:
    """Return the parser's objection to a command line, which begins after az; None where it has none."""
    cli = get_default_cli()
    cli.register_event(EVENT_INVOKER_POST_PARSE_ARGS, stop)
    invocation = cli.invocation_cls(
        cli_ctx=cli, parser_cls=cli.parser_cls, commands_loader_cls=cli.commands_loader_cls, help_cls=cli.help_cls
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            cli.invocation = invocation
            invocation.execute(words)
    except Parsed:
        return None
    except SystemExit:
        return said.getvalue().strip()
    except Exception as error:  # noqa: BLE001 - of any kind: az does not take this line
        return repr(error)
    return "it was run"


def main() -> int:
    """Exit status: 0 when az understands every line."""
    failed = 0
    for line in sys.stdin:
        words = json.loads(line)
        if found := objection(words):
            failed = 1
            sys.stdout.write(f"az {' '.join(words)}\n    {found}\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
