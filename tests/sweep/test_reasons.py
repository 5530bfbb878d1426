"""Logs as DVC, the stages and TensorFlow leave them."""

import pytest

from thaw.sweep import reasons

STAGE_FAILED = (
    "Running stage 'phase1_head':\n> python -m x\n{said}"
    "ERROR: failed to reproduce 'phase1_head': failed to run: python -m x, exited with 1\n"
)
TRACEBACK = (
    "Traceback (most recent call last):\n  File 'a.py', line 1, in old\nKeyError: 1\n\nDuring handling:\n\n"
    "Traceback (most recent call last):\n  File 'a.py', line 1, in <module>\n    main()\n    ^^^^^^\n{}\n"
)
OOM = "OOM when allocating tensor with shape[64,112,112,96] and type float on /device:GPU:0 by allocator bfc"
PLAIN = "ValueError: bad\n\tnode\n [[{{node x}}]] [Op:y]"
EAGER = f"tensorflow.x.ResourceExhaustedError: {{{{f}}}} {OOM} [Op:Conv2D]"
GRAPH = (
    "tensorflow.python.framework.errors_impl.ResourceExhaustedError: Graph execution error:\n\n"
    "Detected at node conv defined at (most recent call last):\n  File 'b.py', line 2, in fit\n"
    f"{OOM}\n\t [[{{{{node conv}}}}]]\nHint: add report_tensor_allocations_upon_oom. [Op:__inference_multi_step_1]"
)


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (STAGE_FAILED.format(said="I0000 noise\nphase1_head: no such depth\n"), "phase1_head: no such depth"),
        (STAGE_FAILED.format(said=""), "failed to reproduce 'phase1_head': failed to run: python -m x, exited with 1"),
        ("WARNING: what\nERROR: you are not inside of a DVC repository\n", "you are not inside of a DVC repository"),
        ("Traceback …\nMemoryError\n\n", "MemoryError"),
        ("", "it ended without a word"),
        (STAGE_FAILED.format(said="noise\n").replace("with 1", "with -9"), reasons.OUT_OF_MEMORY),
        (STAGE_FAILED.format(said="").replace("with 1", "with 137"), reasons.OUT_OF_MEMORY),
        (
            STAGE_FAILED.format(said=TRACEBACK.format(PLAIN)),
            "ValueError: bad",
        ),
        (STAGE_FAILED.format(said=TRACEBACK.format("MemoryError")), "MemoryError"),
        (STAGE_FAILED.format(said=TRACEBACK.format(GRAPH)), f"ResourceExhaustedError: Graph execution error: {OOM}"),
        (
            STAGE_FAILED.format(said=TRACEBACK.format(EAGER)),
            f"ResourceExhaustedError: {{{{f}}}} {OOM} [Op:Conv2D]",
        ),
        (TRACEBACK.format(PLAIN) + STAGE_FAILED.format(said="what\n"), "what"),
        # Of a traceback that was only logged the stage goes on to its own message.
        (
            STAGE_FAILED.format(said=TRACEBACK.format("OSError: x") + "phase1_head: deep\n"),
            "phase1_head: deep",
        ),
        (TRACEBACK.format("KeyError: 'dvc'\n\nasked for help"), "KeyError: 'dvc'"),
    ],
)
def test_the_reason_of_a_failure_is_found_in_the_log(log: str, reason: str) -> None:
    assert reasons.find(log) == reason


def test_a_trial_that_was_killed_has_that_for_a_reason() -> None:
    assert "out of memory" in reasons.find("Running stage 'phase1_head':\n", 137)
