"""What a card says of where a prior comes from and what was measured on it."""

from pydantic import BaseModel, ConfigDict, Field


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Record):
    """The checkpoint a prior was imported from.

    Attributes:
        family: whose layout it has.
        file: its name, without folders.
        sha256: hash of the file with the weights.
        notes: what was read from it, what was told, what was left out.
    """

    family: str
    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    notes: tuple[str, ...] = ()


class Parent(_Record):
    """A prior whose weights another one began as.

    Attributes:
        name: of the parent.
        sha256: hash of its weights.
        licence: of its weights.
        trained_on: its data, in words.
        unchanged: the weights are still this prior's: training gained nothing.
    """

    name: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    licence: str
    trained_on: str = ""
    unchanged: bool = False


class Footprint(_Record):
    """Memory a network needs beyond its weights, measured on the CPU in float32.

    Attributes:
        forward: bytes per pixel of every slice in one call, without a graph.
        vjp: the same for a vector-Jacobian product.
        forward_once: bytes per pixel of one slice that more slices share, such as what a convolution works in.
        vjp_once: the same for a vector-Jacobian product.
        size: side of the square slices it was measured on.
    """

    forward: float = Field(gt=0)
    vjp: float = Field(gt=0)
    forward_once: float = Field(0.0, ge=0)
    vjp_once: float = Field(0.0, ge=0)
    size: int = Field(ge=1)

    def chunk(self, slices: int, pixels: int, *, vjp: bool) -> int:
        """Return the bytes of a call with so many slices of so many pixels."""
        each, once = (self.vjp, self.vjp_once) if vjp else (self.forward, self.forward_once)
        return int(pixels * (slices * each + once))


class CodecCalibration(_Record):
    """How well a codec fits reference slices, by the error of denoising them.

    Attributes:
        slices: how many were denoised.
        data: what they were.
        level: noise level, physical units.
        error: root-mean-square error with the card's codec, physical units.
        runner_up: the same with the best of the other codecs tried.
        margin: how much larger the runner-up's error is, as a share.
        mirror: how much larger the error on mirror images is, as a share.
        bfloat16: change of the answer in bfloat16, as a share of the error; None where it was not tried.
    """

    slices: int
    data: str
    level: float
    error: float
    runner_up: float
    margin: float
    mirror: float
    bfloat16: float | None = None
