"""How many threads compute. What they add up in parts has its last bits by their number, so it belongs to a result."""

import os

VARIABLE = "TF_NUM_INTRAOP_THREADS"  # TensorFlow's


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def used() -> int:
    """Threads that share one operation of TensorFlow in this process, and in those that it starts."""
    return int(os.environ.get(VARIABLE) or 0) or cores()
