"""The group ``evaluate`` of the configuration: the held-out test, what it is compared with, and what is calibrated."""

from dataclasses import dataclass

from thaw.config.ranges import between


@dataclass
class Evaluate:
    """The held-out test: metrics with confidence intervals."""

    top_k: list[int]  # 1 or more, each | an answer is right if it is among the k likeliest classes
    confidence: float  # of the intervals
    batch_size: int  # at once through the models
    suspects: int  # suspected label errors shown on the data page
    baselines: bool  # logistic regression and k nearest neighbours on the frozen embeddings, to compare with
    # train the same network from random weights too, to compare with; that takes many times as long as phase 2, see
    # docs/evaluation.md#from-scratch
    scratch: bool
    scratch_epochs: int  # of that, all of them
    scratch_learning_rate: float  # learning rate of Adam of that, along a cosine
    worth: float  # smallest gain of accuracy that is worth shipping phase 2; an interval below it is "did not help"
    calibration: bool  # temperature, threshold for a precision and conformal sets, from the validation images
    precision: float  # share of right answers that the threshold below which the model abstains shall give
    conformal: list[float]  # 0.5 to 0.999, each | shares of prediction sets that shall hold the right class
    unfamiliar: float  # share of validation images called unlike the training images; 0: no score for such
    robustness: float  # corrupted images through both models, as a share of the test; below 1 at most 300; 0: none

    def __post_init__(self) -> None:
        between(self, "suspects", 0, 1000, "images")
        between(self, "scratch_epochs", 1, 1000, "epochs")
        between(self, "scratch_learning_rate", 1e-8, 1)
        between(self, "worth", 0, 0.5)
        between(self, "precision", 0.5, 1)
        between(self, "unfamiliar", 0, 0.5)
        between(self, "robustness", 0, 30)
        if any(not 0.5 <= level <= 0.999 for level in self.conformal):
            raise ValueError(f"evaluate.conformal: expected shares from 0.5 to 0.999, received {self.conformal}")
        between(self, "confidence", 0.5, 0.999)
        between(self, "batch_size", 1, 4096, "images")
        if any(k < 1 for k in self.top_k):
            raise ValueError(f"evaluate.top_k: expected numbers from 1, received {self.top_k}")
