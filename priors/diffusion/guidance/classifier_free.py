r"""Classifier-free guidance: samples that belong to their class more clearly than the data do.

    D_w = D_none + (1 + w) (D_class - D_none)

w = 0 is the prior of the class. For w > 0 this is the conditional mean of no distribution that data were drawn from, so
it is for samples to look at and never for a reconstruction or an assimilation, whose posterior it would not be: those
take the label alone.

Source: Ho and Salimans 2022 (arXiv 2207.12598, Eq. 6).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from priors.diffusion.denoiser import Denoiser, NetworkDenoiser
from priors.networks import UnshuffledUNet
from priors.runtime.errors import InputError


class ClassifierFree(Denoiser):
    """The guided denoiser of one class.

    Args:
        inner: of a prior that was trained with classes, some of them dropped.
        label: the class.
        strength: w.

    Raises:
        InputError: the prior was not trained to answer without a class.
    """

    def __init__(self, inner: Denoiser, *, label: int, strength: float) -> None:
        super().__init__()
        network = inner.network if isinstance(inner, NetworkDenoiser) else None
        if not isinstance(network, UnshuffledUNet) or network.classes is None:
            raise InputError(
                "guidance: this prior was not trained to answer without a class; expected one trained here with "
                "'condition', which drops some labels"
            )
        if not 0 <= label < network.classes:
            raise InputError(f"label: found {label}, this prior knows the classes 0 to {network.classes - 1}")
        assert isinstance(inner, NetworkDenoiser)
        self.inner, self.schedule = inner, inner.schedule
        self.label, self.none, self.strength = label, network.classes, strength

    def forward(self, x_t: Float[Tensor, "b k y x"], t: Float[Tensor, "b"]) -> Float[Tensor, "b k y x"]:
        """See `Denoiser`; one call of twice the batch."""
        labels = torch.tensor([self.label, self.none]).repeat_interleave(len(x_t))
        both = self.inner.of_classes(labels)(torch.cat([x_t, x_t]), torch.cat([t, t]))
        of_class, of_none = both.chunk(2)
        guided: Tensor = of_none + (1 + self.strength) * (of_class - of_none)
        return guided
