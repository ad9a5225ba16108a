"""The grid pointing game, on maps small enough to check by eye."""

import pytest
import torch

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import GridPointingGame, cell_mask, compose_grid, grid_score


def test_a_grid_is_filled_row_by_row():
    images = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 2, 3)
    scene = compose_grid(images, 2)
    assert scene.shape == (1, 4, 6)
    for cell in range(4):
        assert scene[0][cell_mask(cell, 2, 4, 6)].unique().tolist() == [cell]


def test_grid_score_by_hand():
    heat = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    assert grid_score(heat, 3, 2) == (0.75, True)
    assert grid_score(heat, 0, 2) == (0.25, False)
    assert grid_score(torch.zeros(2, 2), 0, 2) == (0.0, False)


def test_grid_game():
    game = GridPointingGame(2)
    game.update(torch.tensor([[[1.0, 0.0], [0.0, 3.0]]] * 2), torch.tensor([3, 0]))
    assert {k: float(v) for k, v in game.compute().items()} == {"share": 0.5, "hit": 0.5}


def test_grids_that_do_not_work_out_are_refused():
    with pytest.raises(InvalidInputError, match="do not fill"):
        compose_grid(torch.zeros(3, 1, 2, 2), 2)
    with pytest.raises(InvalidInputError, match="multiples of 2"):
        cell_mask(0, 2, 5, 4)
    with pytest.raises(InvalidInputError, match="no cell 4"):
        cell_mask(4, 2, 4, 4)
    with pytest.raises(InvalidInputError, match="no grid"):
        GridPointingGame(1)
    with pytest.raises(InvalidInputError, match="one cell"):
        GridPointingGame().update(torch.zeros(2, 2, 2), torch.tensor([0]))
