"""Independent pieces of the evaluation beside each other: nearly all of them are work for one core."""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

from thaw.evaluation import baselines
from thaw.runtime import threads


class InTurn(Executor):
    """Does at once what is submitted."""

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """Do the work; its error is raised here."""
        done: Future[Any] = Future()
        done.set_result(work(*arguments, **named))
        return done


@contextmanager
def pool(*, large: bool) -> Iterator[Executor]:
    """Give what takes pieces of work, each of which has one thread for its matrices.

    The number of those threads and which warnings are passed over are the whole process's, so pieces that set them
    would undo each other's; here they are the same for all.

    Args:
        large: whether a matrix product is worth several threads, and memory counts: then each piece is done at once.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", baselines.UNFINISHED)
        if large:
            yield InTurn()
        else:
            with threadpool_limits(1), ThreadPoolExecutor(threads.used()) as several:
                yield several
