"""Names of files in a folder of diffusers."""

EXTRA = "tomocast.json"
WEIGHTS = "diffusion_pytorch_model"
