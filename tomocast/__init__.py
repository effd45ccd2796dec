"""The public face of tomocast: CT reconstruction and data assimilation with pretrained diffusion priors.

    import tomocast as tc

    scan = tc.read_scan("scan.h5")
    volume = tc.reconstruct(scan, "nerd-fast", prior="ct-chest-256", seed=0)
    volume.save("out.nii.gz")

Names are imported when they are first used: ``import tomocast`` itself loads neither NumPy nor torch. NumPy arrays in
give NumPy arrays out; torch tensors stay tensors, where they are.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
