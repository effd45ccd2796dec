"""Sections of a training configuration that do not decide what is learned, only how the run gets there."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Precision(_Section):
    """Arithmetic of the network; losses, averages and noise levels never lose digits.

    Attributes:
        compute: ``bfloat16`` runs the network's products in it; ``auto`` does so where the processor has it, and the
            log says what was taken; ``float64`` is for comparing runs.
        checkpoint: ``blocks`` keeps the input of every block instead of what is inside and computes it again on the
            way back: the same gradients in less memory and about a third more time.
    """

    compute: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    checkpoint: Literal["none", "blocks"] = "none"


class Condition(_Section):
    """Classes of slices, as the series of the prepared folder name them (``label``).

    Attributes:
        classes: their names; a label of a reconstruction or a sample is a place in this list.
        dropout: share of samples whose class is withheld, so that the prior also answers without one.
    """

    classes: tuple[str, ...] = Field(min_length=1)
    dropout: float = Field(0.1, gt=0, lt=1)

    @model_validator(mode="after")
    def _names_differ(self) -> "Condition":
        if len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes: found {self.classes}, expected names that differ")
        return self


class Parallel(_Section):
    """How the samples of a step are shared.

    Attributes:
        mode: of the processes that torchrun starts: ``ddp`` keeps all weights in each, ``fsdp`` a part of them.
        accumulate: parts of a process's samples that go through the network one after the other.
    """

    mode: Literal["ddp", "fsdp"] = "ddp"
    accumulate: int = Field(1, ge=1)


class Average(_Section):
    """Which average of the weights is validated and exported.

    Attributes:
        kind: ``ema`` forgets at the fixed pace of optimisation.ema; ``power`` at one that grows with the run, so that
            nothing is tuned to its length (Karras et al. 2024, EDM2, arXiv 2312.02696, section 3.1).
        length: deviation of the power average's weights in time, as a share of the run so far.
        lengths: of two more power averages, of which snapshots are kept for `tomocast average`.
        snapshot_every: steps between their snapshots (``snapshots/``, float16); null keeps none.
    """

    kind: Literal["ema", "power"] = "ema"
    length: float = Field(0.1, gt=0, lt=0.28)
    lengths: tuple[float, float] = (0.05, 0.10)
    snapshot_every: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _lengths_differ(self) -> "Average":
        short, long = self.lengths
        if not 0 < short < long < 0.28:
            raise ValueError(
                f"lengths: found {self.lengths}, expected two between 0 and 0.28, the shorter first"
            )
        return self


class EarlyStop(_Section):
    """When a run that gains nothing ends.

    Attributes:
        patience: validations without a gain after which it ends; null never ends it.
        min_gain: what counts as one, in the score's unit: dB of slices, the logarithm of the errors of trajectories.
    """

    patience: int | None = Field(None, ge=1)
    min_gain: float = Field(0.0, ge=0)


class Memorisation(_Section):
    """Whether a validation asks if the network begins to copy its training data (`priors.training.memorisation`).

    Attributes:
        watch: ask, and warn at the onset.
        samples: drawn to be compared with training slices; 0 measures the held-out gap alone.
        levels: noise levels of such a sample.
        stop: end the run at the onset instead of warning alone.
    """

    watch: bool = True
    samples: int = Field(8, ge=0)
    levels: int = Field(8, ge=2)
    stop: bool = False


class Keep(_Section):
    """Which checkpoints stay beside ``checkpoint.pt`` and ``best.pt``, as ``checkpoint-STEP.pt``.

    Attributes:
        last: how many of the latest, the one to resume from included.
        every: and those of every so many steps; null keeps none.
    """

    last: int = Field(1, ge=1)
    every: int | None = Field(None, ge=1)


class Preview(_Section):
    """Pages of samples during training, ``previews/STEP.png`` and in TensorBoard.

    Attributes:
        every: steps between pages; null draws none.
        levels: noise levels of a sample.
    """

    every: int | None = Field(None, ge=1)
    levels: int = Field(20, ge=2)
