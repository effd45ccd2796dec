"""A small network with the names and the arithmetic of guided-diffusion (arXiv 2105.05233, arXiv 2102.09672)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """Residual block, perhaps resampling by a factor of two, with the noise level as a shift or as scale and shift."""

    def __init__(self, c: int, out: int, emb: int, *, scale_shift: bool, resample: str = "") -> None:
        super().__init__()
        self.scale_shift, self.resample = scale_shift, resample
        self.in_layers = nn.Sequential(nn.GroupNorm(32, c), nn.SiLU(), nn.Conv2d(c, out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb, 2 * out if scale_shift else out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(out, out, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if c == out else nn.Conv2d(c, out, 1)

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return functional.avg_pool2d(x, 2)
        return functional.interpolate(x, scale_factor=2) if self.resample == "up" else x

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.in_layers[2](self._resampled(self.in_layers[:2](x)))
        told = self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, 1)
            h = self.out_layers[1:](self.out_layers[0](h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + told)
        return self.skip_connection(self._resampled(x)) + h


class Attention(nn.Module):
    """Attention over all places; ``old`` packs its weights head by head."""

    def __init__(self, c: int, heads: int, order: str) -> None:
        super().__init__()
        self.heads, self.order = heads, order
        self.norm = nn.GroupNorm(32, c)
        self.qkv = nn.Conv1d(c, 3 * c, 1)
        self.proj_out = nn.Conv1d(c, c, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        b, c, h, w = x.shape
        flat = x.reshape(b, c, -1)
        packed = self.qkv(self.norm(flat))
        width = c // self.heads
        if self.order == "old":
            q, k, v = packed.reshape(b, self.heads, 3, width, -1).unbind(2)
        else:
            q, k, v = packed.reshape(b, 3, self.heads, width, -1).unbind(1)
        weights = torch.softmax(torch.einsum("bnct,bncs->bnts", q, k) / math.sqrt(width), -1)
        seen = torch.einsum("bnts,bncs->bnct", weights, v).reshape(b, c, -1)
        return (flat + self.proj_out(seen)).reshape(b, c, h, w)


class Resample(nn.Module):
    """A convolution that halves the resolution (``op``), or doubles it (``conv``)."""

    def __init__(self, c: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "down":
            self.op = nn.Conv2d(c, c, 3, stride=2, padding=1)
        else:
            self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.op(x) if self.kind == "down" else self.conv(functional.interpolate(x, scale_factor=2))


class AdmNetwork(nn.Module):
    """The U-Net.

    Args:
        channels: of the image.
        out: channels of the output.
        width: of the first level.
        multipliers: of the levels.
        blocks: residual blocks per level.
        attention: which levels attend.
        heads: width to number of heads.
        order: of attention's packed weights.
        scale_shift: how the noise level enters.
        resblock_updown: resample in residual blocks.
        classes: of images.
    """

    def __init__(
        self,
        *,
        channels=1,
        out=1,
        width=32,
        multipliers=(1, 2),
        blocks=1,
        attention=(False, True),
        heads=lambda c: 2,
        order="old",
        scale_shift=True,
        resblock_updown=True,
        classes=None,
    ) -> None:
        super().__init__()
        self.width, self.classes = width, classes
        emb = 4 * width
        self.time_embed = nn.Sequential(nn.Linear(width, emb), nn.SiLU(), nn.Linear(emb, emb))
        if classes is not None:
            self.label_emb = nn.Embedding(classes, emb)

        def residual(c: int, o: int, resample: str = "") -> nn.Module:
            return Residual(c, o, emb, scale_shift=scale_shift, resample=resample)

        def resampling(c: int, kind: str) -> nn.Module:
            return residual(c, c, kind) if resblock_updown else Resample(c, kind)

        c, skips = width, [width]
        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(channels, width, 3, padding=1)])])
        for level, factor in enumerate(multipliers):
            for _ in range(blocks):
                layers = [residual(c, factor * width)]
                c = factor * width
                layers += [Attention(c, heads(c), order)] if attention[level] else []
                self.input_blocks.append(nn.ModuleList(layers))
                skips.append(c)
            if level < len(multipliers) - 1:
                self.input_blocks.append(nn.ModuleList([resampling(c, "down")]))
                skips.append(c)
        self.middle_block = nn.ModuleList([residual(c, c), Attention(c, heads(c), order), residual(c, c)])
        self.output_blocks = nn.ModuleList()
        for level, factor in reversed(list(enumerate(multipliers))):
            for number in range(blocks + 1):
                layers = [residual(c + skips.pop(), factor * width)]
                c = factor * width
                layers += [Attention(c, heads(c), order)] if attention[level] else []
                layers += [resampling(c, "up")] if level and number == blocks else []
                self.output_blocks.append(nn.ModuleList(layers))
        self.out = nn.Sequential(nn.GroupNorm(32, c), nn.SiLU(), nn.Conv2d(c, out, 3, padding=1))

    def forward(self, x: Tensor, times: Tensor, labels: Tensor | None = None) -> Tensor:
        frequencies = torch.exp(-math.log(10_000) * torch.arange(self.width // 2) / (self.width // 2))
        angles = times[:, None].float() * frequencies
        emb = self.time_embed(torch.cat([angles.cos(), angles.sin()], 1))
        if self.classes is not None:
            emb = emb + self.label_emb(labels)
        held = []
        for block in self.input_blocks:
            for layer in block:
                x = layer(x) if isinstance(layer, nn.Conv2d) else layer(x, emb)
            held.append(x)
        for layer in self.middle_block:
            x = layer(x, emb)
        for block in self.output_blocks:
            x = torch.cat([x, held.pop()], 1)
            for layer in block:
                x = layer(x, emb)
        return self.out(x)
