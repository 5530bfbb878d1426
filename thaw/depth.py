"""How deep to thaw where ``phase2.unfreeze`` is ``auto``: by where in the network frozen features know the task best.

Yosinski et al. (2014), arXiv:1411.1792, find that the higher a layer, the more particular it is to what the network
was trained on, and the more is lost by keeping it, the further away the new task is. Where that begins can be told:
close to what the network was trained on, each block adds to what features know of the task, up to the output; far from
it, blocks add nothing from some depth on, or take away. So what is thawed depends on the loss that the best place has
less than the output (``thaw.probing``). Other things equal less is thawed, which costs less.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thaw.probing import Probe

AUTO = "auto"

# What part of the output's loss the best place must have less, and the share of the forward pass that is thawed then.
# benchmarks/depths.py measures what each depth gives on given images.
RULE = ((0.1, "75%"), (0.0, "30%"))


@dataclass(frozen=True)
class Choice:
    """What ``auto`` stands for, and why."""

    share: str  # of the computation, as ``phase2.unfreeze`` says it
    reason: str  # one line


def lead(probes: Sequence[Probe]) -> float:
    """What part of the output's loss the best place has less: 0, the output is the best, to 1.

    Args:
        probes: the output's first.
    """
    return 1 - min(probe.loss for probe in probes) / max(probes[0].loss, 1e-12)


def choose(probes: Sequence[Probe], labels: np.ndarray) -> Choice:
    """What is thawed of a network.

    Args:
        probes: of places all over it, the output's first.
    """
    share = next(share for least, share in RULE if lead(probes) >= least)
    best = min(probes, key=lambda probe: probe.loss)
    where = f"before {best.block} ({best.accuracy:.1%} right)" if best.block else "at the output"
    reason = f"auto: frozen features are best {where}, {probes[0].accuracy:.1%} right at the output: thaw {share}"
    return Choice(share, reason)
