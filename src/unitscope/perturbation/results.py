"""What was found under a condition: differences to the intact network, per image, averaged over seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Float64, Int
from torch import Tensor

from unitscope.perturbation.conditions import Condition
from unitscope.resampling import merge_clusters


@dataclass(frozen=True)
class Predictions:
    """What the network predicts for some pictures: `log_p` [stimulus logit], the loss, whether the label is among the
    best one and five, and the best.
    """

    log_p: Float64[Tensor, "stimulus logit"]
    loss: Float64[np.ndarray, " stimulus"]
    top1: Float64[np.ndarray, " stimulus"]
    top5: Float64[np.ndarray, " stimulus"]
    best: Int[np.ndarray, " stimulus"]

    @classmethod
    def of(cls, logits: Float[Tensor, "stimulus logit"], codes: Int[Tensor, " stimulus"]) -> Predictions:
        # float64: a loss in float32 has steps of 1e-7, as large as the changes of some units (methods 5).
        log_p = logits.detach().cpu().double().log_softmax(1)
        own = log_p.gather(1, codes[:, None])
        # How many logits are above that of the label.
        rank = (log_p > own).sum(1).numpy()
        best = log_p.argmax(1)
        top1 = (best == codes).double().numpy()
        return cls(log_p, -own[:, 0].numpy(), top1, (rank < 5).astype(np.float64), best.numpy())


@dataclass
class Result:
    """What a condition did so far: per image, averaged over seeds; `per_seed` the sums over images."""

    condition: Condition
    seeds: int
    per_seed: list[float] = field(default_factory=list)
    batches: Int[np.ndarray, " stimulus"] = field(default_factory=lambda: np.empty(0, np.int64))
    photographs: Int[np.ndarray, " stimulus"] = field(default_factory=lambda: np.empty(0, np.int64))
    labels: list[str] = field(default_factory=list)
    answering: set[int] = field(default_factory=set)
    parts: dict[str, list[np.ndarray]] = field(default_factory=dict)
    sums: dict[str, np.ndarray] = field(default_factory=dict)

    def add_predictions(self, number: int, intact: Predictions, disturbed: Predictions, answering: list[int]) -> None:
        """Add the predictions under the condition with seed `number`."""
        loss = disturbed.loss - intact.loss
        found = {
            "loss": loss,
            "top1": disturbed.top1 - intact.top1,
            "top5": disturbed.top5 - intact.top5,
            "flips": (disturbed.best != intact.best).astype(np.float64),
            "kl": (intact.log_p.exp() * (intact.log_p - disturbed.log_p)).sum(1).numpy(),
        }
        for name, values in found.items():
            self.sums[name] = self.sums.get(name, 0) + values
        # Seeds come in their order, 0 first, for each part of the images.
        self.per_seed += [0.0] * (number + 1 - len(self.per_seed))
        self.per_seed[number] += math.fsum(loss)
        self.answering |= set(answering)

    def finish_part(self, intact: Predictions, batches: np.ndarray, photographs: np.ndarray, labels: list[str]) -> None:
        """The part has been shown with all seeds."""
        whole = {name: values / self.seeds for name, values in self.sums.items()}
        whole |= {"intact_loss": intact.loss, "intact_top1": intact.top1}
        for name, values in whole.items():
            self.parts.setdefault(name, []).append(values)
        self.sums = {}
        self.batches = np.concatenate([self.batches, batches])
        self.photographs = np.concatenate([self.photographs, photographs])
        self.labels += labels

    def __getitem__(self, name: str) -> Float64[np.ndarray, " stimulus"]:
        """One number per image: "loss", "top1", "top5", "flips", "kl", "intact_loss" or "intact_top1"."""
        return np.concatenate(self.parts[name])

    def clusters(self) -> tuple[Int[np.ndarray, " stimulus"], str]:
        """What is independent, as a number for each image, and what to call it: images, photographs where several
        images are of one, and batches (joined where they share a photograph) where a unit was drawn for each.
        """
        several = len(np.unique(self.photographs)) < len(self.photographs)
        if self.condition.which != "one per batch":
            return self.photographs, "photographs" if several else "images"
        if not several:
            return self.batches, "batches"
        return merge_clusters(self.batches, self.photographs), "batches and photographs"

    def draws(self) -> Float64[np.ndarray, " draw"] | None:
        """The mean change of loss under each draw of units; None where they are not drawn."""
        return np.array(self.per_seed) / len(self.labels) if self.condition.target == "active" else None

    def seed_sd(self) -> float:
        """The standard deviation over seeds of the mean change of loss; NaN for a single seed."""
        if self.seeds < 2:
            return math.nan
        return float(np.std(np.array(self.per_seed) / len(self.labels), ddof=1))
