"""The public face of tomocast: CT reconstruction and data assimilation with pretrained diffusion priors."""
