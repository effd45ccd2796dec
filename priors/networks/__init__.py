"""Networks a card can name; each is a thin wrapper around a library's."""

from priors.networks.monai_unet import MonaiUNet, UnshuffledUNet

AnyNetwork = MonaiUNet

__all__ = ["AnyNetwork", "MonaiUNet", "UnshuffledUNet"]
