"""The slice probe in a training loop: when it draws, what the way holds, and that it goes on from a checkpoint."""

import pytest
import torch
from torch import nn

from landscape.errors import UsageError
from landscape.probes.base import Moment
from landscape.probes.slices import LossSliceProbe


def _bowl(model: nn.Module, batch: object) -> torch.Tensor:
    return model.weight.square().sum() / 2


def _moment(model: nn.Module, step: int) -> Moment:
    return Moment(model=model, loss_fn=_bowl, batch=None, step=step)


def test_the_way_of_a_known_walk_is_drawn_at_its_last_point_and_survives_a_checkpoint():
    model = nn.Linear(3, 1, bias=False).double()
    walk = [torch.tensor([row], dtype=torch.float64) for row in ([4.0, 0, 0], [1.0, 1, 0], [0.0, 0, 0])]
    probe = LossSliceProbe("trajectory", dimensions=2, points=3, gather=2)
    for step, point in enumerate(walk):
        model.weight.data.copy_(point)
        rows = list(probe.measure(_moment(model, step)))
        assert bool(rows) == (step == 2)
        memory, probe = probe.state_dict(), LossSliceProbe("trajectory", dimensions=2, points=3, gather=2)
        probe.load_state_dict(memory)
    values = {(row.quantity, row.index): row.value for row in rows}
    assert values["explained_variance", 1] == pytest.approx(1.0)  # the walk lies in a plane
    for index, point in enumerate(walk):  # the axes have length 1: distances from the end are kept
        seen = values["path_x", index] ** 2 + values["path_y", index] ** 2
        assert seen == pytest.approx(float(point.square().sum()), abs=1e-12)
    assert values["concave_share", 0] == 0.0  # a bowl curves up everywhere


def test_a_saddle_curves_down_along_one_axis_of_two():
    model = nn.Linear(2, 1, bias=False).double()
    model.weight.data.zero_()
    from landscape.probes.slices import _concave

    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    assert float(_concave(x[:, None] ** 2 - x[None, :] ** 2)) == 0.5


@pytest.mark.parametrize("options", [{"directions": "eigen"}, {"directions": "trajectory", "gather": 1}])
def test_what_it_cannot_draw_is_refused(options):
    with pytest.raises(UsageError, match=r"directions|gather"):
        LossSliceProbe(**options)
