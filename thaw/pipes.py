"""Commands whose reader may leave early, as ``head`` does."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
