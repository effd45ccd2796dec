"""Batches drawn ahead are those of their steps, whatever is asked for."""

import threading

import torch

from priors.training.engine.prefetch import Prefetch


def test_every_step_gets_its_own_batch_also_after_a_jump():
    ahead = Prefetch(lambda step: torch.tensor(step), workers=3)
    assert [int(ahead(step)) for step in (0, 1, 2, 3, 4, 20, 21, 5, 6)] == [0, 1, 2, 3, 4, 20, 21, 5, 6]


def test_the_next_steps_are_drawn_before_they_are_asked_for():
    drawn, later = [], threading.Event()

    def draw(step: int) -> torch.Tensor:
        drawn.append(step)
        if step == 2:
            later.set()
        return torch.tensor(step)

    Prefetch(draw, workers=2)(0)
    assert later.wait(10)
    assert sorted(drawn) == [0, 1, 2]
