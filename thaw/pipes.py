"""Output for the reader of a command, who may leave early, as ``head`` does, or take no Unicode."""

import gc
import io
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK = 0.5  # seconds between two looks at the parent
LONGEST = 300  # characters of an error of others
GRACE = 30  # seconds in which a process that is to end puts things in order
# What a line cannot hold as it is: ends of lines, signs of control that a terminal would obey, and the backslash.
CONTROL = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029]")

# In names of environment variables, and in the parts of a text such as Azure's connection strings.
SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL|CONNECTION|SIGNATURE", re.IGNORECASE)


def on_one_line(text: str) -> str:
    """Escape tabs, ends of lines, other control characters and backslashes as Python writes them: \\t, \\n, \\x1b,
    \\\\.
    """
    return CONTROL.sub(lambda sign: sign[0].encode("unicode_escape").decode("ascii"), text)


def shown(text: str) -> str:
    """Return text for people without what a name could do to a terminal; backslashes and ends of lines stay."""
    return "".join(sign if sign in "\\\n" else on_one_line(sign) for sign in text)


def without_secrets(text: str) -> str:
    """Return what the client of a server has said, with … for each value that the environment keeps secret."""
    named = [(name, value) for name, value in os.environ.items() if SECRET.search(name)]
    # A connection string is name=value;name=value, and a client may tell one of them alone.
    parts = [part.partition("=")[::2] for _, value in named for part in value.split(";")]
    secrets = {value for name, value in [*named, *parts] if SECRET.search(name) and len(value) > 3}
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, "…")
    return text


def said_by(error: Exception) -> str:
    """Return what a server's client has raised in one line, without anything that the environment keeps secret."""
    return without_secrets(" ".join(f"{type(error).__name__}: {error}".split()))[:LONGEST]


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


def _end_with(parent: int) -> None:
    """End this process once its parent has ended: of two DVCs the second must not find the first one's stage at work.

    DVC does not end its stage when it is killed, nor on SIGTERM.
    """
    while os.getppid() == parent:
        time.sleep(LOOK)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def run(main: Callable[[], None], name: str, *, resumes: bool = True) -> None:
    """Call a stage's ``main``; an error that a user can mend becomes one line on stderr and exit code 1.

    SIGTERM ends it as Ctrl-C does, with exit code 130: what is open is closed, and what it has started ends with it. A
    second one of either, while that is done, ends it at once.

    Args:
        main: what to call.
        name: of the command, for the line.
        resumes: whether the same command goes on with what is done, which is said where it is interrupted.
    """
    in_any_encoding()
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if is_main else None
    if is_main and "DVC_STAGE" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("THAW_TRACEBACK"):
            raise
        sys.exit(f"{name}: {shown(' '.join(str(error).split()))}")
    except KeyboardInterrupt:
        if is_main:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            before = signal.SIG_DFL
        print(f"{name}: interrupted{'; the same command goes on with what is done' * resumes}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)
        gc.freeze()  # or Python looks through all that is left of TensorFlow for garbage, only to end: two seconds
