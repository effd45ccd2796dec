"""What holds for every projector: results that do not depend on threads, in memory of their own."""

import torch

from recon.operators.projector import Projector


def threads_change_nothing(A: Projector, x: torch.Tensor, y: torch.Tensor) -> None:
    """Check that both directions give the same bits for one, two and three threads, and again for two."""
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3, 2):
            torch.set_num_threads(count)
            results.append((A(x), A.adjoint(y)))
    finally:
        torch.set_num_threads(threads)
    for ax, aty in results[1:]:
        assert torch.equal(ax, results[0][0])
        assert torch.equal(aty, results[0][1])


def memory_is_fresh_and_slice_last(A: Projector, x: torch.Tensor) -> None:
    """Check that inputs may have any strides, and that results are slice-last and shared with nothing."""
    slices, height, width = x.shape
    strided = torch.zeros((slices, height, 2 * width))[:, :, ::2].copy_(x)
    first, second = A(x), A(x.permute(1, 2, 0).contiguous().permute(2, 0, 1))
    assert torch.equal(first, second)
    assert torch.equal(first, A(strided))
    assert first.data_ptr() != second.data_ptr()
    assert first.permute(0, 2, 1).is_contiguous()
    y = A.adjoint(first)
    assert torch.equal(y, A.adjoint(first.contiguous()))
    assert y.permute(1, 2, 0).is_contiguous()
    kept = y.clone()
    A.adjoint(2 * first).zero_()
    assert torch.equal(y, kept)
