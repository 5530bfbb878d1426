"""Hold back what converters and runtimes print and log; what goes wrong in them raises. No TensorFlow."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def python() -> Iterator[None]:
    """Hold back what is printed, logged and warned of inside, in Python and below it."""
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            descriptor(2),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def descriptor(number: int) -> Iterator[None]:
    """Send nowhere what compiled code writes to a descriptor inside."""
    try:
        kept = os.dup(number)
    except OSError:  # closed: there is nothing to hold back
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, number)
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)
        os.close(nowhere)
