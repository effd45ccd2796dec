"""TensorBoard logs of a training run: ``tensorboard --logdir RUN``."""

from pathlib import Path
from types import TracebackType
from typing import Any

EVERY = 20


class TensorBoardLog:
    """Context that writes scalars; a resumed run hides the steps it does again.

    Args:
        folder: where the event files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None

    def __enter__(self) -> "TensorBoardLog":
        return self

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Write the figures of one step; the loss alone, which every step has, only now and then."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        if len(figures) > 1 or step % EVERY == 0:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def write_page(self, step: int, path: Path) -> None:
        """Show a page of samples, where there is one."""
        if self._writer is not None and path.is_file():
            from matplotlib.image import imread

            self._writer.add_image("samples", imread(path)[..., :3], step, dataformats="HWC")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
