"""Output for the reader of a command, who may leave early, as ``head`` does, or take no Unicode."""

import gc
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What a line cannot hold as it is: ends of lines, signs of control that a terminal would obey, and the backslash.
CONTROL = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029]")


def on_one_line(text: str) -> str:
    """Escape tabs, ends of lines, other control characters and backslashes as Python writes them: \\t, \\n, \\x1b,
    \\\\.
    """
    return CONTROL.sub(lambda sign: sign[0].encode("unicode_escape").decode("ascii"), text)


def shown(text: str) -> str:
    """Return text for people without what a name could do to a terminal; backslashes and ends of lines stay."""
    return "".join(sign if sign in "\\\n" else on_one_line(sign) for sign in text)


def in_any_encoding() -> None:
    """Write the rest as Python writes it (\\xe9) where output takes ASCII or the like only, and would raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def takes_unicode() -> bool:
    """Return whether standard output can hold every character."""
    return "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """End quietly once nobody reads standard output any more, with the exit code that other programs have then.

    Python would show an error, at the latest when it ends: so what is left to write is written here.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:
        # What Python still holds would be written as it ends, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(128 + signal.SIGPIPE)


def run(main: Callable[[], None], name: str) -> None:
    """Call a stage's ``main``; an error that a user can mend becomes one line on stderr and exit code 1."""
    in_any_encoding()
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("THAW_TRACEBACK"):
            raise
        sys.exit(f"{name}: {shown(' '.join(str(error).split()))}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; `dvc repro` starts this stage again")
    finally:
        gc.freeze()  # or Python looks through all that is left of TensorFlow for garbage, only to end: two seconds
