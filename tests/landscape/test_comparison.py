"""``landscape.compare`` on models and data of every form: one network gives the same numbers however it is called."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset, random_split

import landscape
from landscape import DataError, UsageError
from landscape.data import make_dataset
from landscape.experiment import ProbeSpec, Spec
from landscape.imports import lent
from landscape.models import build_model, model_changes
from landscape.reporting import title

A, B = (torch.randn(96, n, generator=torch.Generator().manual_seed(n)) for n in (4, 3))
Y = (A[:, 0] + B[:, 0] > 0).long() + (A[:, 1] > 0).long()


@dataclass
class Output:
    loss: Tensor
    logits: Tensor


class Pair(NamedTuple):
    a: Tensor
    b: Tensor
    y: Tensor


class Joined(nn.Module):
    """One input and a target: the simple case, whose numbers all others have to give."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(4, width), nn.Linear(3, width), nn.Linear(width, 3)

    def scores(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head(torch.tanh(self.a(a) + self.b(b)))

    def forward(self, x: Tensor) -> Any:
        return self.scores(x[:, :4], x[:, 4:])


class Two(Joined):
    def forward(self, a: Tensor, b: Tensor) -> Any:
        return self.scores(a, b)


class Logits(Joined):
    def forward(self, a: Tensor, b: Tensor) -> Any:
        return {"logits": self.scores(a, b)}


class LossBehind(Joined):
    def forward(self, a: Tensor, b: Tensor, targets: Tensor | None = None) -> Any:
        scores = self.scores(a, b)
        return scores, None if targets is None else F.cross_entropy(scores, targets)


class Dataclass(Joined):
    def forward(self, a: Tensor, b: Tensor, label: Tensor) -> Any:
        scores = self.scores(a, b)
        return Output(F.cross_entropy(scores, label), scores)


class Mapping(Joined):
    def forward(self, **batch: Tensor) -> Any:
        scores = self.scores(batch["a"], batch["b"])
        return {"loss": F.cross_entropy(scores, batch["label"]), "logits": scores}


class Keeps(Joined):
    """It may be given a flag that is no target."""

    def forward(self, a: Tensor, b: Tensor, flag: bool = True) -> Any:
        assert flag is True
        return self.scores(a, b)


def splits(form: Callable[[slice], Any]) -> tuple[Any, Any]:
    return form(slice(32, None)), form(slice(32))


def joined(s: slice) -> Any:
    return torch.cat([A[s], B[s]], 1), Y[s]


def several(s: slice) -> Any:
    return A[s], B[s], Y[s]


def named(s: slice) -> Any:
    return {"a": A[s], "b": B[s], "label": Y[s]}


def arrays(s: slice) -> Any:
    return {"a": A[s].double().numpy(), "b": B[s].numpy(), "label": Y[s].numpy()}


def samples(s: slice) -> Any:
    return [{"a": a.tolist(), "b": b, "label": int(y)} for a, b, y in zip(A[s], B[s], Y[s], strict=True)]


def compared(model: Any, data: Any, **options: Any) -> landscape.Compared:
    return landscape.compare(model, data, **{"steps": 3, "seeds": 1, "norms": ["weight"], "batch_size": 32} | options)


@pytest.fixture(scope="module")
def simple() -> Any:
    return compared(Joined, splits(joined)).frame()


@pytest.mark.parametrize(
    ("model", "form", "standard"),
    [
        (Two, several, True),
        (Two, named, True),
        (Two, lambda s: Pair(A[s], B[s], Y[s]), True),
        (Two, lambda s: [A[s], B[s].numpy(), Y[s].int()], True),
        (Two, lambda s: TensorDataset(A[s], B[s], Y[s]), True),
        (Keeps, several, True),
        (Logits, samples, True),
        (LossBehind, several, False),
        (Dataclass, several, False),
        (Dataclass, arrays, False),
        (Mapping, named, False),
    ],
)
def test_one_network_has_the_same_numbers_however_it_is_called(simple: Any, model: Any, form: Any, standard: bool):
    frame = compared(model, splits(form)).frame()
    chance = frame["quantity"] == "chance_loss"
    assert chance.any() == standard
    if standard:
        assert set(frame[chance]["value"]) == {math.log(3)}
    theirs = simple[simple["quantity"] != "chance_loss"].reset_index(drop=True)
    frame = frame[~chance].reset_index(drop=True)
    assert frame.drop(columns="value").equals(theirs.drop(columns="value"))
    assert frame["value"].to_numpy() == pytest.approx(theirs["value"].to_numpy(), rel=1e-4, abs=1e-6, nan_ok=True)
    assert {"train_accuracy", "test_accuracy"} <= set(frame["quantity"])


def test_two_splits_may_be_named_or_subsets_of_one_data_set() -> None:
    both = compared(Two, {"train": several(slice(32, None)), "validation": several(slice(32))}).frame()
    assert both.equals(compared(Two, lambda: splits(several)).frame())
    drawn = random_split(TensorDataset(A, B, Y), [64, 32], generator=torch.Generator().manual_seed(0))
    frame = compared(Two, drawn).frame().query("step == 0 and quantity == 'test_loss' and arm == 'none'")
    assert len(frame) == 1


def test_several_inputs_without_a_target_have_the_models_loss_or_ones_own() -> None:
    def far(model: nn.Module, batch: Any) -> Tensor:
        return model(*batch).square().mean()

    class Alone(Two):
        def forward(self, a: Tensor, b: Tensor) -> Any:
            return self.scores(a, b).square().mean()

    own = compared(Two, splits(lambda s: (A[s], B[s])), loss_fn=far)
    inside = compared(Alone, splits(lambda s: {"a": A[s], "b": B[s]}))
    quantities = set(own.frame()["quantity"])
    assert own.frame()["value"].equals(inside.frame()["value"])
    assert not {"chance_loss", "test_accuracy", "train_accuracy"} & quantities
    assert {verdict.claim.id for verdict in own.verdicts} == {
        f"weight-{name}" for name in ("range", "pred", "beta", "beta-inv", "loss")
    }
    said = compared(Two, splits(lambda s: (A[s], B[s])), loss_fn=far, chance_loss=0.25).frame()
    assert set(said.query("quantity == 'chance_loss'")["value"]) == {0.25}


def test_a_loss_of_ones_own_for_pairs_says_nothing_of_chance(simple: Any) -> None:
    def halved(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1]) / 2

    frame = compared(Joined, splits(joined), loss_fn=halved).frame()
    assert "chance_loss" not in set(frame["quantity"])
    pick = "quantity == 'full_loss' and step == 0 and arm == 'none'"
    assert frame.query(pick)["value"].item() == pytest.approx(simple.query(pick)["value"].item() / 2, rel=1e-6)


def test_options_reach_the_model_the_data_the_optimizer_and_the_study(tmp_path: Any) -> None:
    seen: dict[str, Any] = {}

    def load(rows: int, data_dir: Any) -> Any:
        seen.update(rows=rows, data_dir=data_dir)
        return splits(lambda s: tuple(part[:rows] for part in several(s)))

    done = compared(
        Two,
        load,
        batch_size=None,
        model_options={"width": 5},
        data_options={"rows": 20},
        data_dir=tmp_path,
        optimizer=Spec("adam", {"betas": (0.5, 0.9)}),
        probes=["hessian_trace", ProbeSpec("updates", every=1)],
        fields={"evaluate_every": 2},
        seeds=3,
    )
    (study,) = done.folder.experiment.studies
    assert seen == {"rows": 20, "data_dir": tmp_path}
    assert (study.batch_size, study.evaluate_every, study.model.options) == (20, 2, {"width": 5})
    frame = done.frame()
    assert {"hessian_trace", "updates", "gradient_path", "curvature"} <= set(frame["probe"])
    assert set(frame.query("quantity == 'full_loss'")["step"]) == {0, 2, 3}
    assert done.report(tmp_path / "mine.pdf").stat().st_size > 10_000


def test_another_network_of_the_same_name_does_not_go_on_in_the_folder(tmp_path: Any) -> None:
    settings = {"out": tmp_path / "run", "steps": 2}
    compared(lambda: Two(4), splits(several), **settings)
    compared(lambda: Two(4), splits(several), **settings | {"seeds": 2})
    with pytest.raises(UsageError, match=r"holds another experiment:\n  main.network behind the model's name"):
        compared(lambda: Two(5), splits(several), **settings)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (Two, (A, Y), r"differ between the splits.*it must be \(train, test\)"),
        (
            Two,
            (several(slice(9)), named(slice(9))),
            r"the splits differ: train holds entries \[0\].*test entries \['a'\]",
        ),
        (Two, {"a": A, "label": Y}, r"returned a dict.*\(train, test\), each of them \(x, y\), a dict of tensors"),
        (Two, splits(lambda s: DataLoader(TensorDataset(A[s], Y[s]))), "is a DataLoader: give its dataset"),
        (
            Two,
            splits(lambda s: {"a": A[s], "b": B[s][:5], "label": Y[s]}),
            r"but 5 entries \['b'\]; they must be of eq",
        ),
        (Two, splits(lambda s: {"a": A[s] / 0, "b": B[s], "label": Y[s]}), r"entries \['a'\] hold NaN or infinite"),
        (Two, splits(lambda s: {"a": A[s], "text": ["a"] * len(A[s])}), "entry 'text' are a list .* neither a tensor"),
        (Two, splits(lambda s: [{"a": [1.0] * n} for n in (1, 2)]), "can't be stacked.*pad sequences to one length"),
        (Two, splits(lambda s: [{"a": A[0]}, {"b": A[0]}]), "samples have different entries"),
        (Two, splits(lambda s: []), "inputs are empty, a list of length 0"),
        (Two, splits(lambda s: {}), "it holds no tensor"),
    ],
)
def test_data_that_can_not_be_trained_on_is_named(model: Any, data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        compared(model, data)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (Two, splits(lambda s: (A[s], B[s])), "was given the target too, and returned a Tensor without a loss"),
        (Two, splits(lambda s: {"a": A[s], "b": B[s]}), "the whole batch, which has no target, and returned a Tensor"),
        (Joined, splits(named), r"can't take a \(2, 4\), b \(2, 3\), label \(2,\).*unexpected keyword argument 'a'"),
        (lambda input_shape: Two(), splits(named), "needs input_shape, which this data does not tell"),
        ("mlp", splits(named), "model 'mlp' needs input_shape, which this data does not tell"),
        (
            lambda: nn.Sequential(nn.Linear(4, 3), nn.Flatten(0)),
            splits(lambda s: (A[s], A[s][:, 0])),
            r"outputs of shape \(6,\) for float targets of shape \(2, 1\) \(labels of classes have to be whole",
        ),
        (lambda: nn.Linear(4, 2), splits(lambda s: (A[s], Y[s])), "ValueError: 2 outputs for 3 classes"),
        (lambda: nn.Softmax(1), splits(lambda s: (A[s], Y[s])), "has no trainable parameter: there is nothing"),
        (lambda: nn.Linear(4, 3).bfloat16(), splits(lambda s: (A[s], Y[s])), "data are float32: build the model in fl"),
        ("net.py", splits(named), "'net.py' is a file: say which function in it, as in net.py:build"),
    ],
)
def test_a_model_that_does_not_fit_the_batch_is_named(model: Any, data: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compared(model, data)


def test_a_data_set_of_ones_own_may_hold_any_nest_and_say_its_chance() -> None:
    data = make_dataset("mine", named(slice(32, None)), named(slice(32)), classes=3, chance_loss=1.0)
    assert (data.input_shape, data.output_size, data.classes) == (None, 3, 3)
    assert set(compared(Two, data).frame().query("quantity == 'chance_loss'")["value"]) == {1.0}
    other = make_dataset("mine", *splits(lambda s: {"b": A[s], "a": B[s], "label": Y[s]}), classes=3)
    same = make_dataset("mine", *splits(lambda s: {"a": A[s], "b": B[s], "label": Y[s]}), classes=3)
    assert data.checksum == same.checksum != other.checksum


def test_token_labels_are_no_classes_and_sequences_may_be_padded_to_another_length() -> None:
    def tokens(count: int, length: int) -> dict[str, Tensor]:
        ids = torch.randint(1, 9, (count, length), generator=torch.Generator().manual_seed(0))
        return {"input_ids": ids, "labels": ids.masked_fill(ids == 3, -100)}

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.Embedding(9, 6), nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 9))

        def forward(self, input_ids: Tensor, labels: Tensor) -> Any:
            logits = self.head(self.inner(input_ids))
            return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()), logits

    done = compared(Words, (tokens(48, 6), tokens(32, 7)), norms=["layer"])
    assert not done.failed
    assert not {"chance_loss", "test_accuracy"} & set(done.frame()["quantity"])


def test_what_python_gives_goes_by_its_own_name_in_the_title_and_the_result_says_where_it_is() -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(7, 4), nn.Linear(4, 3))

    def load() -> Any:
        return splits(joined)

    given = compared(network, load, norms=["batch"], steps=1)
    assert title(given.folder.experiment) == "network on load"
    assert str(given.folder.path) in repr(given)
    assert "2 runs done, 0 failed" in repr(given)
    nameless = compared(lambda: network(), splits(joined), norms=["batch"], steps=1)
    assert title(nameless.folder.experiment) == "given model on given data"


def test_functions_of_one_name_are_told_apart_by_what_they_are_for() -> None:
    def one(which: str) -> Any:
        def mine() -> Any:
            return nn.Sequential(nn.Linear(7, 4), nn.Linear(4, 3)) if which == "model" else splits(joined)

        return mine

    assert not compared(one("model"), one("data"), norms=["batch"], steps=1).failed


def _smoothed(share: float) -> Any:
    return lambda model, batch: F.cross_entropy(model(batch[0]), batch[1], label_smoothing=share)


class Wide(nn.Module):
    """One network by its layers, another by its forward."""

    def __init__(self, forward: Any) -> None:
        super().__init__()
        self.first, self.second, self.drop, self.run = nn.Linear(7, 7), nn.Linear(7, 3), nn.Dropout(0.5), forward

    def forward(self, x: Tensor) -> Any:
        return self.second(self.drop(self.run(self.first(x), x)))


def plain() -> nn.Module:
    return Wide(lambda hidden, x: hidden.relu())


def test_changed_code_under_the_same_name_does_not_go_on_in_the_folder(tmp_path: Any) -> None:
    settings: Any = {"out": tmp_path / "loss", "loss_fn": _smoothed(0.1)}
    compared(plain, splits(joined), **settings)
    compared(plain, splits(joined), **settings | {"seeds": 2})
    with pytest.raises(UsageError, match=r"main, none, seed 0: the loss before training was .* the code of the model"):
        compared(plain, splits(joined), **settings | {"loss_fn": _smoothed(0.101), "seeds": 3})
    compared(lambda: plain(), splits(joined), out=tmp_path / "model")
    with pytest.raises(UsageError, match="the code of the model, the loss or the data has changed"):
        compared(lambda: Wide(lambda hidden, x: hidden.relu() + x), splits(joined), out=tmp_path / "model")


def test_a_loss_that_is_another_each_time_is_no_changed_code(tmp_path: Any) -> None:
    noise = np.random.default_rng()

    def noisy(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1]) * float(noise.uniform(1, 2))

    for seeds in (1, 2):
        assert not compared(plain, splits(joined), out=tmp_path / "run", loss_fn=noisy, seeds=seeds).failed


def test_a_look_before_training_draws_nothing_from_the_users_generator() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    compared(plain, splits(joined), steps=1)
    assert torch.rand(1) == expected


def test_two_samples_without_a_label_are_no_reason_to_refuse() -> None:
    def first_unlabelled(s: slice) -> Any:
        x, y = joined(s)
        y = y.clone()
        y[:2] = -100
        return {"x": x, "labels": y}

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(7, 4), nn.Linear(4, 3)

        def forward(self, x: Tensor, labels: Tensor) -> Any:
            return {"loss": F.cross_entropy(self.head(self.layer(x)), labels, ignore_index=-100)}

    assert not compared(Own, splits(first_unlabelled), steps=1).failed


def test_a_loss_that_breaks_while_training_is_not_told_to_give_an_example() -> None:
    def breaks_later(model: nn.Module, batch: Any) -> Tensor:
        if len(batch[1]) > 2:  # not in the look before training
            raise ValueError("late trouble")
        return F.cross_entropy(model(batch[0]), batch[1])

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(7, 4), nn.Linear(4, 3))

    with pytest.warns(UserWarning, match="2 of 2 runs failed, the first main-none-lr0.1-seed0: .*late trouble"):
        (_, why), _ = compared(network, splits(joined), norms=["batch"], loss_fn=breaks_later).failed
    assert "give a tensor" not in why


def test_runs_that_have_ended_are_told_on_request(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    compared(Two, splits(named), out=tmp_path / "run")
    assert capsys.readouterr().err == ""
    compared(Two, splits(named), out=tmp_path / "run", seeds=2, verbose=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["1/4", "2/4", "3/4", "4/4"]
    ended = {line.split(" ", 2)[1]: line.split(" ", 2)[2] for line in lines}
    assert ended["main-none-lr0.1-seed0"] == "was there already"
    assert ended["main-weight-lr0.1-seed1"] == "finished"


def plain_net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def lazy_net() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))


def lazy_with(norm: str) -> nn.Module:
    normalization = nn.LazyBatchNorm1d() if norm == "batch" else nn.Identity()
    return nn.Sequential(nn.LazyLinear(8), normalization, nn.ReLU(), nn.LazyLinear(3))


def test_an_arm_of_selu_has_its_initial_weights_and_all_others_those_of_the_plain_network() -> None:
    given: dict[str, Any] = {"input_shape": (4,), "output_size": 3, "seed": 5}
    with lent("given:selu", plain_net) as name:
        plain, batch, selu, again = (build_model(name, norm=n, **given) for n in ("none", "batch", "selu", "selu"))
        plan = {c.name: c for c in model_changes(name, norm="selu", **given)}
        other = build_model(name, norm="selu", **given | {"seed": 6})
        wide = build_model(name, norm="selu", **given | {"input_shape": (4,)})
    assert all(torch.equal(batch.state_dict()[key], value) for key, value in plain.state_dict().items())
    assert {(c.name, c.action) for c in plan.values()} >= {("0", "draw"), ("2", "draw"), ("1", "replace")}
    for layer in (0, 2):
        weight = selu.get_parameter(f"{layer}.weight")
        assert not torch.equal(weight, plain.get_parameter(f"{layer}.weight"))
        assert not selu.get_parameter(f"{layer}.bias").any()
        assert torch.equal(weight, again.get_parameter(f"{layer}.weight"))
        assert torch.equal(weight, wide.get_parameter(f"{layer}.weight"))
        assert not torch.equal(weight, other.get_parameter(f"{layer}.weight"))


def test_the_weights_of_selu_have_the_variance_of_one_over_their_inputs() -> None:
    with lent("given:broad", lambda: nn.Sequential(nn.Linear(100, 400), nn.ReLU(), nn.Linear(400, 3))) as name:
        net = build_model(name, norm="selu", input_shape=(100,), output_size=3)
    weight = net.get_parameter("0.weight")
    error = (2 / weight.numel()) ** 0.5  # of a variance, relative
    assert float(100 * weight.var()) == pytest.approx(1.0, abs=4 * error)


def test_a_network_whose_nonlinearity_can_not_be_seen_is_not_called_selu_for_its_weights_alone() -> None:
    with pytest.raises(UsageError, match="can't be normalized by 'selu'"):
        compared(Joined, splits(lambda s: (torch.cat([A[s], B[s]], 1), Y[s])), norms=["selu"])


def test_selu_is_compared_with_its_own_weights_and_the_manifest_says_so() -> None:
    done = compared(plain_net, splits(lambda s: (A[s], Y[s])), norms=["selu", "layer"])
    assert not done.failed
    assert "2 with weights drawn anew (0, 2)" in done.folder.manifest["changes"]["selu"]
    with lent("given:first", plain_net) as name:
        net = build_model(name, norm="selu", input_shape=(4,), output_size=3, seed=0)
    expected = F.cross_entropy(net.eval()(A[:32]), Y[:32]).item()
    first = done.frame().query("arm == 'selu' and step == 0 and quantity == 'test_loss'")["value"]
    assert first.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("build", [lazy_net, lazy_with])
def test_lazy_modules_get_their_shapes_from_the_data_and_equal_weights_in_every_arm(build: Any) -> None:
    done = compared(build, splits(lambda s: (A[s], Y[s])), norms=["batch"])
    assert not done.failed
    example = lambda model: model(A[:2])  # noqa: E731
    with lent("given:lazy", build) as name:
        none, batch = (
            build_model(name, norm=norm, input_shape=(4,), output_size=3, example=example) for norm in ("none", "batch")
        )
    ends = [[p for p in net.parameters() if p.ndim > 1] for net in (none, batch)]
    assert [tuple(p.shape) for p in ends[0]] == [(8, 4), (3, 8)]
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    assert all(module.training for module in batch.modules())
    running = {key: value for key, value in batch.state_dict().items() if "running" in key}
    assert {float(value.sum()) for value in running.values()} == {0.0, 8.0}  # the pass moved none


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.hidden, self.head = nn.Embedding(9, 4, sparse=True), nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.words((x[:, :2] > 0).long()).mean(1))))


class Reentrant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        block = lambda h: torch.relu(self.hidden(h))  # noqa: E731
        return self.head(checkpoint(block, x.clone().requires_grad_(), use_reentrant=True))


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].clone()


class Custom(nn.Module):
    """With a function of its own that can't be differentiated twice."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.act, self.head = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(Once.apply(self.act(self.hidden(x))))


def test_a_model_without_a_second_derivative_is_compared_by_probes_of_the_first_order() -> None:
    data = splits(lambda s: (A[s], Y[s]))
    with pytest.raises(
        UsageError, match=r"no second derivative.*ask for these: fields=\{\"probes\": \[\"gradient_path\"\]\}"
    ):
        compared(Custom, data)
    done = compared(Custom, data, fields={"probes": ["gradient_path"]})
    assert not done.failed
    assert set(done.frame()["probe"]) == {"training", "gradient_path"}


class Locked(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 3)
        self.lock = threading.Lock()


def bare(norm: str) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8) if norm == "batch" else nn.Identity(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (lambda: nn.DataParallel(plain_net()), {}, "^without normalization: model .*: DataParallel is not supported"),
        (Sparse, {}, r"^without normalization: model .*: sparse gradients are not supported.*sparse=False"),
        (Reentrant, {}, r"^without normalization: model .*pass use_reentrant=False"),
        (Locked, {}, r"^without normalization: .*can't be copied.*To compare it all the same let the model's function"),
        (lambda: plain_net().to("meta"), {}, "on the meta device, where they have no values: load them"),
        (lambda: nn.Linear(4, 3), {}, r"^norms='weight': model .*leave 'weight' of norms out, choose another, or let"),
        (bare, {"norms": ["batch"], "batch_size": 1}, r"^norms='batch': .*can't train with batch_size=1: a batch norm"),
        (plain_net, {"norms": ["batch"], "batch_size": 1}, r"BatchNorm1d gets one value.*Give batch_size=2 or more"),
        (plain_net, {"norms": ["bacth"]}, "\n  norms='bacth': there is no normalization 'bacth'; did you mean 'batch'"),
        (plain_net, {"lr": [0.1, -1.0]}, "\n  lr=-1.0: a learning rate"),
        (plain_net, {"seeds": [0, 0]}, "\n  seeds=0: seed 0 is there twice"),
        (plain_net, {"steps": 0}, "\n  steps: must be 1 or more"),
        (plain_net, {"fields": {"evaluate_every": 0}}, r"\n  fields\['evaluate_every'\]: must be 1 or more"),
        (plain_net, {"model_options": {"norm": "batch"}}, r"\n  model_options\['norm'\]: the arms say which"),
        (plain_net, {"probes": ["curvatur"]}, "\n  probes='curvatur': there is no probe"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*use_reentrant")
def test_what_can_not_be_trained_or_probed_is_said_before_training_in_the_words_of_the_call(
    model: Any, options: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        compared(model, splits(lambda s: (A[s], Y[s])), **options)


def test_one_name_is_enough_and_a_criterion_is_not() -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(7, 4), nn.Linear(4, 3))

    done = compared(network, splits(joined), norms="batch", probes="hessian_trace", steps=1)
    assert set(done.frame()["arm"]) == {"none", "batch"}
    assert "hessian_trace" in set(done.frame()["probe"])
    with pytest.raises(UsageError, match="CrossEntropyLoss is a loss of outputs and targets"):
        compared(network, splits(joined), loss_fn=nn.CrossEntropyLoss())


class Centred(nn.Module):
    """A criterion with a running centre."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(3))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            self.centre.lerp_(logits.mean(0), 0.5)
        return F.cross_entropy(logits - self.centre, labels)


def test_each_run_begins_with_a_criterion_as_it_was_found() -> None:
    """Runs of one process share it: else an arm would train on what the arms before it left."""
    criterion, data = Centred(), splits(lambda s: (A[s], Y[s]))
    loss = lambda model, batch: criterion(model(batch[0]), batch[1])  # noqa: E731
    alone, after = (compared(plain_net, data, loss_fn=loss, norms=norms) for norms in (["layer"], ["batch", "layer"]))
    rows = [done.frame().query("arm == 'layer'").reset_index(drop=True) for done in (alone, after)]
    assert rows[0]["value"].equals(rows[1]["value"])
    assert not criterion.centre.any()
