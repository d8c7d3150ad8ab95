"""Where an Observer's measurements go: run folders that every command reads, and sinks of anybody's."""

import subprocess
import sys

import pandas as pd
import pytest
import torch
from pypdf import PdfReader
from torch import nn

import landscape
from landscape.errors import UsageError
from landscape.reporting import build_report
from landscape.store import Folder
from landscape_analyses import ANALYSES


def _loss(model, batch):
    return model(batch).square().mean()


@pytest.fixture
def setting():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, optimizer, list(torch.randn(9, 5, 3))


def _loop(observer, model, optimizer, batches):
    for batch in observer.watch(batches):
        optimizer.zero_grad()
        _loss(model, batch).backward()
        optimizer.step()


class Breaks:
    name, version = "breaks", 1

    def measure(self, moment):
        raise RuntimeError("half way")


def _landscape(*words):
    code = "from landscape_cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_folder_is_shown_reported_and_exported_like_any_other(setting, tmp_path):
    model, optimizer, batches = setting
    folder = tmp_path / "run"
    probes = ["gradient_path", "activations", "covariate_shift", Breaks()]
    with (
        pytest.warns(UserWarning, match="'breaks' failed at step 0"),
        landscape.Observer(model, _loss, probes, every=4, optimizer=optimizer, to=folder) as obs,
    ):
        _loop(obs, model, optimizer, batches)
    shown = _landscape("show", folder)
    assert "observed-own-lr0.1-seed0\tfinished\t9/9" in shown
    assert "note: probe 'breaks' failed at step 0" in shown
    assert (folder / "report.pdf").name in _landscape("report", folder)
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
    report = build_report(ANALYSES["observed"](), Folder.read(folder))
    assert report.answer.startswith(
        "Recorded at 3 moments of 9 steps: gradient path, covariate shift, activations. One training decides no claim"
    )
    assert report.headline is not None
    assert report.headline.name == "gradient_path-sweep"
    assert [section.title for section in report.sections] == ["Gradient path", "Covariate shift", "Activations"]
    names = [figure.name for section in report.sections for figure in section.figures]
    assert names == ["gradient_path", "covariate_shift", "activations-sweep", "activations"]
    pages = [page.extract_text() for page in PdfReader(folder / "report.pdf").pages]
    assert "No claim was decided" not in pages[0]
    assert any("Settings" in page for page in pages)
    assert not any("How a claim is decided" in page for page in pages)
    _landscape("export", folder, "-o", tmp_path / "all.csv")
    exported = pd.read_csv(tmp_path / "all.csv", keep_default_na=False)
    keys = ["step", "probe", "quantity", "layer", "variant", "index"]
    both = [frame.sort_values(keys, ignore_index=True) for frame in (exported, obs.frame())]
    pd.testing.assert_frame_equal(*(frame[[*keys, "value"]].astype({"value": float}) for frame in both))


def test_a_training_that_stops_is_interrupted_and_goes_on_from_its_checkpoint(setting, tmp_path):
    model, optimizer, batches = setting
    probes = {"probes": ["gradient_path", "activations"], "every": 2}
    start = {name: value.clone() for name, value in model.state_dict().items()}

    def observer(to):
        return landscape.Observer(model, _loss, **probes, optimizer=optimizer, to=to)

    with observer(tmp_path / "whole") as whole:
        _loop(whole, model, optimizer, batches)
    model.load_state_dict(start)
    optimizer.load_state_dict(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9).state_dict())
    folder = tmp_path / "stopped"

    def until_it_dies():
        with observer(folder) as first:
            for at, batch in enumerate(first.watch(batches)):
                if at == 4:
                    saved.update(
                        model={k: v.clone() for k, v in model.state_dict().items()},
                        observer=first.state_dict(),
                        optimizer=torch.optim.Optimizer.state_dict(optimizer),
                    )
                    torch.save(saved, tmp_path / "checkpoint.pt")
                if at == 7:  # step 6 was measured after the checkpoint
                    raise KeyboardInterrupt
                optimizer.zero_grad()
                _loss(model, batch).backward()
                optimizer.step()

    saved = {}
    with pytest.raises(KeyboardInterrupt):
        until_it_dies()
    (progress,) = Folder.read(folder).progress()
    assert (progress.status, progress.step) == ("interrupted", 6)
    with pytest.raises(UsageError, match=r"holds a run already.*load_state_dict"):
        observer(folder).step(batches[0])
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    with observer(folder) as second:
        second.load_state_dict(state["observer"])
        _loop(second, model, optimizer, batches[4:])
    pd.testing.assert_frame_equal(Folder.read(folder).frame(), Folder.read(tmp_path / "whole").frame())
    (progress,) = Folder.read(folder).progress()
    assert (progress.status, progress.step, progress.run.study.steps) == ("finished", 8, 9)


def test_an_observer_that_was_never_closed_is_told_what_to_do_and_no_cost_is_made_up(setting, tmp_path):
    model, optimizer, batches = setting
    observer = landscape.Observer(model, _loss, ["curvature"], every=1, optimizer=optimizer, to=tmp_path / "run")
    observer.step(batches[0])
    report = build_report(ANALYSES["observed"](), Folder.read(tmp_path / "run"))
    assert any("Not finished" in line and "observer.close()" in line for line in report.failures)
    assert not any("same command" in line for line in report.failures)
    assert not report.cost
    observer.close()
    report = build_report(ANALYSES["observed"](), Folder.read(tmp_path / "run"))
    assert "time of all runs" in report.cost
    assert not report.failures


def test_rows_of_a_future_that_was_given_up_are_gone(setting, tmp_path):
    model, _, batches = setting
    first = landscape.Observer(model, _loss, ["curvature"], every=[0, 1, 5], to=tmp_path / "run")
    for batch in batches[:6]:
        first.step(batch)
    first.close(finished=False)
    second = landscape.Observer(model, _loss, ["curvature"], every=[0, 1, 5, 7], to=tmp_path / "run")
    second.load_state_dict(first.state_dict() | {"steps": 3})
    with second:
        for batch in batches[:5]:
            second.step(batch)
    frame = Folder.read(tmp_path / "run").frame()
    assert sorted(frame.step.unique()) == [0, 1, 5, 7]
    (x,) = frame[(frame.step == 5) & (frame.quantity == "gradient_curvature")].value
    (y,) = second.frame().query("step == 5 and quantity == 'gradient_curvature'").value
    assert x == y


def test_another_model_does_not_go_on_in_the_folder(setting, tmp_path):
    model, _, batches = setting
    with landscape.Observer(model, _loss, ["curvature"], to=tmp_path / "run") as obs:
        obs.step(batches[0])
    other = landscape.Observer(nn.Linear(3, 2), _loss, ["curvature"], to=tmp_path / "run")
    other.load_state_dict(obs.state_dict())
    with pytest.raises(UsageError, match=r"another run:\n  observed.model.name: 'Sequential' stored, 'Linear' asked"):
        other.step(batches[0])


def test_a_sink_of_ones_own_gets_each_measured_step_and_may_stand_beside_others(setting, tmp_path):
    class Collects:
        def __init__(self):
            self.seen = []

        def append(self, step, learning_rate, measurements):
            self.seen.append((step, learning_rate, {row.quantity: row.value for row in measurements}))

    model, optimizer, batches = setting
    sink = Collects()
    assert isinstance(sink, landscape.Sink)
    to = [sink, tmp_path / "run"]
    with landscape.Observer(model, _loss, ["curvature"], every=4, optimizer=optimizer, to=to) as obs:
        _loop(obs, model, optimizer, batches)
    assert [(step, rate) for step, rate, _ in sink.seen] == [(0, 0.1), (4, 0.1), (8, 0.1)]
    frame = obs.frame()
    for step, _, values in sink.seen:
        assert values == dict(zip(*frame[frame.step == step][["quantity", "value"]].T.to_numpy(), strict=True))
    assert len(Folder.read(tmp_path / "run").frame()) == len(frame)
    with pytest.raises(UsageError, match="to=3: give a folder"):
        landscape.Observer(model, _loss, ["curvature"], to=[3])


def test_a_sink_that_fails_is_left_out_with_one_warning_and_training_goes_on(setting, tmp_path):
    class Full:
        def append(self, step, learning_rate, measurements):
            raise OSError("no space left")

    model, optimizer, batches = setting
    to = [Full(), tmp_path / "run"]
    with (
        pytest.warns(UserWarning, match=r"writing to Full failed at step 0.*no space left") as caught,
        landscape.Observer(model, _loss, ["curvature"], every=1, optimizer=optimizer, to=to) as obs,
    ):
        _loop(obs, model, optimizer, batches)
    assert len(caught) == 1
    assert obs.failures == {"Full": "OSError: no space left"}
    assert sorted(obs.frame().step.unique()) == list(range(9))
    assert sorted(Folder.read(tmp_path / "run").frame().step.unique()) == list(range(9))
    with pytest.raises(OSError, match="no space"):
        landscape.Observer(model, _loss, ["curvature"], to=Full(), strict=True).step(batches[0])
