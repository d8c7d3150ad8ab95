"""``landscape compare`` and ``landscape.compare``: from a folder with a user's own files to a PDF."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from pypdf import PdfReader
from torch import nn

import landscape
from landscape import DataError, UsageError
from landscape.models import build_model
from landscape.store import Folder

Call = Callable[..., Result]

MODELS = """
import torch
from torch import nn
from reports import WIDTH          # a file of the user's beside it

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))

def build():
    return Net()

class Dict(Net):
    def forward(self, x):
        return {"scores": super().forward(x)}

def takes_norm(norm, input_shape, output_size):
    layer = {"none": nn.Identity, "batch": lambda: nn.BatchNorm1d(5)}[norm]()
    return nn.Sequential(nn.Linear(*input_shape, 5), layer, nn.Tanh(), nn.Linear(5, output_size))

def ignores_norm(norm):
    return Net()

NET = Net()

def broken():
    raise RuntimeError("no weights today")

def recurrent():
    return nn.LSTM(4, 3)
"""
DATA = """
import torch

def load(samples=96):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 4, generator=g)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    return (x[32:], y[32:]), (x[:32], y[:32])

def curve():
    (x, _), (x_test, _) = load()
    return (x, x[:, :3].sin()), (x_test, x_test[:, :3].sin())

def broken():
    raise OSError("the disk is elsewhere")
"""
LOSS = """
from torch.nn import functional as F

def smooth(model, batch):
    x, y = batch
    return F.cross_entropy(model(x), y, label_smoothing=0.1)

def of_dict(model, batch):
    return F.cross_entropy(model(batch[0])["scores"], batch[1])

def vector(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

def breaks(model, batch):
    return {"loss": model(batch[0]).mean()}["los"]

def lost(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1]) * float("nan")
"""


@pytest.fixture(name="command")
def _command(landscape: Call) -> Call:
    """Run the command in this process, under a name that the package does not have."""
    return landscape


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, whose files are called like modules of ours; what is imported from it is forgotten."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "models.py").write_text(MODELS)
    (folder / "landscape.py").write_text(DATA)
    (folder / "cli.py").write_text(LOSS)
    (folder / "reports.py").write_text("WIDTH = 6\n")
    (folder / "data.py").write_text("raise RuntimeError('nobody asked for this one')\n")
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(folder)
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


SMALL = ["--steps", 6, "--batch-size", 32, "--norm", "batch"]


def test_from_a_folder_of_ones_own_to_a_pdf(mine: Path, command: Call) -> None:
    program = Path(sys.executable).with_name("landscape")
    words = ["compare", "models:build", "--data", "landscape.py:load", "--loss", "cli:smooth", "--norm", "layer"]
    words += ["--seeds", "2", "--steps", "6", "--batch-size", "32"]
    done = subprocess.run([program, *words, "--workers", "2"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "note: layer: 2 inserted (first, second), 1 kept (head: the output layer)" in done.stderr
    assert done.stdout.splitlines()[-1] == "report: runs/compare-models-build/report.pdf"
    folder = Folder.read("runs/compare-models-build")
    study = folder.experiment.studies[0]
    assert [arm.norm for arm in study.arms] == ["none", "layer"]
    assert (study.loss, study.batch_size, study.steps) == ("cli:smooth", 32, 6)
    text = "".join(page.extract_text() for page in PdfReader(folder.path / "report.pdf").pages)
    assert "normalized (layer) 2 inserted (first, second), 1 kept (head: the output layer)" in " ".join(text.split())
    verdicts = {v["id"]: v["verdict"] for v in json.loads((folder.path / "report.json").read_text())["verdicts"]}
    assert {"layer-beta", "layer-loss", "layer-acc"} <= set(verdicts)
    assert len(folder.frame().query("quantity == 'full_loss' and step == 6")) == 4
    assert folder.manifest["commands"] == [f"landscape {' '.join(words)}"]
    # the report alone imports nothing of the user's
    (mine / "models.py").unlink()
    again = command("report", folder.path)
    assert again.exit_code == 0, again.output


BERT = """
from transformers import BertConfig, BertForSequenceClassification

def build(layers):
    sizes = {"vocab_size": 32, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    return BertForSequenceClassification(
        BertConfig(num_hidden_layers=layers, max_position_embeddings=8, num_labels=2, **sizes)
    )
"""
GPT2 = """
from transformers import GPT2Config, GPT2LMHeadModel

def build():
    return GPT2LMHeadModel(GPT2Config(vocab_size=32, n_positions=8, n_embd=16, n_layer=1, n_head=2))
"""
TEXTS = """
import torch

def load(samples=96):
    ids = torch.randint(1, 32, (samples, 6), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": (ids[:, 0] > 15).long()}
    return {"train": {k: v[32:] for k, v in batch.items()}, "test": {k: v[:32] for k, v in batch.items()}}

def next_words():
    return {split: batch | {"labels": batch["input_ids"]} for split, batch in load().items()}
"""


def test_a_public_transformer_on_dictionaries_to_a_pdf(mine: Path, command: Call) -> None:
    Path("bert.py").write_text(BERT)
    Path("texts.py").write_text(TEXTS)
    words = ["--norm", "rms", "--optimizer", "adamw", "--lr", "0.01", "--seeds", "3", "--steps", "4"]
    words += ["--batch-size", "32", "--model-option", "layers=1", "--data-option", "samples=96"]
    result = command("compare", "bert.py:build", "--data", "texts.py:load", *words, "--workers", 0)
    assert result.exit_code == 0, result.output
    assert "note: none: 3 removed" in result.stderr
    folder = Folder.read("runs/compare-bert-build")
    (study,) = folder.experiment.studies
    assert (study.optimizer.name, study.model.options, study.data.options) == ("adamw", {"layers": 1}, {"samples": 96})
    text = " ".join("".join(page.extract_text() for page in PdfReader(folder.path / "report.pdf").pages).split())
    assert "the loss of guessing is not known" in text
    assert {"rms-acc", "rms-beta"} <= {
        v["id"] for v in json.loads((folder.path / "report.json").read_text())["verdicts"]
    }
    assert folder.manifest["commands"] == [
        "landscape compare bert.py:build --data texts.py:load --model-option layers=1 --data-option samples=96 "
        "--norm rms --lr 0.01 --seeds 3 --steps 4 --optimizer adamw --batch-size 32"
    ]
    frame = folder.frame()
    # The first loss on the test split is what transformers itself computes at these weights.
    model = build_model("bert.py:build", norm="none", input_shape=None, output_size=None, layers=1).eval()
    names: dict[str, object] = {}
    exec(TEXTS, names)
    with torch.no_grad():
        theirs = model(**names["load"]()["test"])
    first = frame.query("step == 0 and arm == 'none' and seed == 0").set_index("quantity")["value"]
    assert first["test_loss"] == pytest.approx(theirs.loss.item(), rel=1e-5)
    same = theirs.logits.argmax(1) == names["load"]()["test"]["labels"]
    assert first["test_accuracy"] == pytest.approx(same.float().mean().item())
    again = landscape.compare(
        "bert.py:build",
        "texts.py:load",
        norms=["rms"],
        optimizer="adamw",
        lr=0.01,
        steps=4,
        seeds=1,
        batch_size=32,
        model_options={"layers": 1},
    )
    assert again.frame().equals(frame[frame["seed"] == 0].reset_index(drop=True))


def test_a_public_language_model_has_its_own_loss_and_no_accuracy(mine: Path) -> None:
    Path("gpt2.py").write_text(GPT2)
    Path("texts.py").write_text(TEXTS)
    done = compared("gpt2.py:build", "texts.py:next_words", norms=["rms"], batch_size=32)
    assert not done.failed
    assert not {"chance_loss", "test_accuracy"} & set(done.frame()["quantity"])
    assert "rms-acc" not in {verdict.claim.id for verdict in done.verdicts}


def test_the_arms_of_a_seed_start_from_the_same_weights(mine: Path) -> None:
    settings = {"input_shape": (4,), "output_size": 3, "seed": 5}
    plain = build_model("models:build", norm="none", **settings).state_dict()
    for norm in ("batch", "layer", "lp:1", "group:2"):
        arm = build_model("models:build", norm=norm, **settings).state_dict()
        assert set(plain) < set(arm)
        assert all(torch.equal(arm[key], plain[key]) for key in plain)
    other = build_model("models:build", norm="none", **settings | {"seed": 6}).state_dict()
    assert not torch.equal(other["first.weight"], plain["first.weight"])


def compared(model: str, data: str, **options: object) -> landscape.Compared:
    return landscape.compare(model, data, **{"steps": 4, "seeds": 1, "norms": ["layer"]} | options)


def test_a_loss_of_ones_own_is_what_is_trained_and_recorded(mine: Path) -> None:
    frame = compared("models:build", "landscape.py:load", loss_fn="cli:smooth").frame()
    x, y = landscape_data(mine)[1]
    with torch.no_grad():
        outputs = build_model("models:build", norm="none", input_shape=(4,), output_size=3).eval()(x)
    expected = nn.functional.cross_entropy(outputs, y, label_smoothing=0.1)
    first = frame.query("step == 0 and arm == 'none'").set_index("quantity")["value"]
    assert first["test_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert first["test_loss"] != pytest.approx(nn.functional.cross_entropy(outputs, y).item(), rel=1e-3)
    assert first["test_accuracy"] == float((outputs.argmax(1) == y).float().mean())


def landscape_data(folder: Path):
    names: dict[str, object] = {}
    exec((folder / "landscape.py").read_text(), names)
    return names["load"]()


def test_a_model_that_takes_norm_builds_it_itself(mine: Path, command: Call) -> None:
    result = command("compare", "models:takes_norm", "--data", "landscape.py:load", *SMALL, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "inserted" not in result.stderr
    result = command("compare", "models:takes_norm", "--data", "landscape.py:load", "--norm", "layer", "--dry-run")
    assert result.exit_code == 2
    assert "models:takes_norm' raises KeyError: 'layer'" in result.stderr


def test_a_regression_claims_nothing_of_accuracy(mine: Path, tmp_path: Path) -> None:
    done = compared("models:build", "landscape.py:curve")
    assert {v.claim.id for v in done.verdicts} == {f"layer-{k}" for k in ("range", "pred", "beta", "beta-inv", "loss")}
    text = "".join(page.extract_text() for page in PdfReader(done.report(tmp_path / "curve.pdf")).pages)
    assert "accuracy" not in text.lower()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["models:bild", "--data", "landscape.py:load"], 2, "models has no 'bild'; did you mean 'build'"),
        (["modles:build", "--data", "landscape.py:load"], 2, "there is no module 'modles'"),
        (["modles.py:build", "--data", "landscape.py:load"], 2, "there is no file modles.py"),
        (["models:WIDTH", "--data", "landscape.py:load"], 2, "is a int, not a function that builds a network"),
        (["models:build", "--data", "landscape:load"], 2, "landscape has no 'load'"),
        (["models:build", "--data", "didgits"], 2, "did you mean 'digits'"),
        (["models:build", "--data", "digits"], 2, "can't take inputs (2, 1, 8, 8)"),
        (["models:build", "--data", "landscape.py:broken"], 1, "landscape.py:broken' raises OSError: the disk is"),
        (["models:broken", "--data", "landscape.py:load"], 2, "models:broken' raises RuntimeError: no weights today"),
        (["models:recurrent", "--data", "landscape.py:load"], 2, "can't take inputs (2, 4)"),
        (["models:ignores_norm", "--data", "landscape.py:load"], 2, "'none' and 'batch' are the same network"),
        (["models:Dict", "--data", "landscape.py:load"], 2, "give a loss(model, batch) of your own"),
        (["models:build", "--data", "landscape.py:load", "--loss", "smooth"], 2, "'smooth' names no code"),
        (["models:build", "--data", "landscape.py:load", "--loss", "cli:rough"], 2, "cli has no 'rough'"),
        (["models:build", "--data", "landscape.py:load", "--loss", "cli:vector"], 2, "must return a scalar tensor"),
        (["models:build", "--data", "landscape.py:load", "--norm", "bacth"], 2, "did you mean 'batch'"),
        (["models:build", "--data", "landscape.py:load", "--lr", "-1"], 2, "a learning rate (step size) must be > 0"),
        (["models:build", "--data", "landscape.py:load", "--steps", "0"], 2, "steps: must be 1 or more, not 0"),
        (["models:build", "--data", "landscape.py:load", "--seeds", "0"], 2, "--seeds 0: give 1 or more"),
        (["models:build", "--data", "landscape.py:load", "--batch-size", "999"], 2, "999 with 64 training examples"),
        (["models:build", "--data", "landscape.py:load", "--model-option", "wide=3"], 2, "has no option 'wide'"),
        (["models:build", "--data", "landscape.py:load", "--model-option", "wide"], 2, "write KEY=VALUE, as in"),
        (["models:build", "--data", "landscape.py:load", "--data-option", "rows=3"], 2, "its options: samples"),
        (["models:build", "--data", "landscape.py:load", "--data-option", "samples=?"], 2, "'?' is no TOML value"),
        (["models:build", "--data", "landscape.py:load", "--optimizer", "sdg"], 2, "did you mean 'sgd'"),
        (["models:build", "--data", "landscape.py:load", "--probe", "curvatur"], 2, "did you mean 'curvature'"),
        (["models:build", "--data", "landscape.py:load", "--norm", "bacth"], 2, "\n  --norm bacth: there is no normal"),
        (["models:build", "--data", "landscape.py:load", "--lr", "-1"], 2, "\n  --lr -1.0: a learning rate"),
        (["models:build", "--data", "landscape.py:load", "--steps", "0"], 2, "\n  --steps: must be 1 or more"),
        (
            ["models:build", "--data", "landscape.py:load", "--batch-size", "1"],
            2,
            "--norm batch: model 'models:build' can't train with --batch-size 1: BatchNorm1d gets one value per unit, "
            "and the variance of one value is 0. Give --batch-size 2 or more (and as many training examples), or a "
            "normalization within a sample (--norm layer)",
        ),
        (
            ["models:build", "--data", "landscape.py:load", "--norm", "instance"],
            2,
            "--norm instance: model 'models:build': Net can't be normalized by 'instance': first: instance does",
        ),
        (["models:build", "--data", "landscape.py:load", "--norm", "instance"], 2, "leave --norm instance out, choose"),
        (["models:build"], 2, "Missing option '--data'"),
        (["models:build", "--data", "models:build"], 1, "model and data seem to be exchanged"),
        (
            ["models:NET", "--data", "landscape.py:load"],
            2,
            "is a network, a Net; each run trains a new one",
        ),
        (["models:build", "--data", "landscape.py:load", "--loss", "cli:breaks"], 2, "with loss 'cli:breaks' can't"),
        (["models:build", "--data", "landscape.py:load", "--loss", "cli:lost"], 2, "'cli:lost' is nan before the fi"),
        (["models:tor", "--data", "landscape.py:load"], 2, "models has no 'tor'; known: Dict, NET, Net, WIDTH, broken"),
    ],
)
def test_what_is_wrong_is_said_once(mine: Path, command: Call, words: list[str], code: int, message: str) -> None:
    result = command("compare", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "not foreseen" not in result.stderr
    assert not Path("runs").exists()


def test_a_model_of_dictionaries_with_its_own_loss(mine: Path) -> None:
    frame = compared("models:Dict", "landscape.py:load", loss_fn="cli:of_dict").frame()
    assert "train_accuracy" not in set(frame["quantity"])
    assert {"full_loss", "test_loss", "effective_smoothness"} <= set(frame["quantity"])


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def test_python_and_the_command_measure_the_same(mine: Path, command: Call, tmp_path: Path) -> None:
    sys.path.append(str(mine))
    build = importlib.import_module("models").build
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    done = landscape.compare(
        build, landscape_data(mine), norms=["batch"], steps=6, seeds=2, batch_size=32, loss_fn="cli:smooth"
    )
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    words = ["--loss", "cli:smooth", *SMALL, "--seeds", 2, "--workers", 0, "--out", "out"]
    result = command("compare", "models:build", "--data", "landscape.py:load", *words)
    assert result.exit_code == 0, result.output
    theirs = Folder.read("out").frame()
    assert len(theirs) > 100
    assert done.frame().equals(theirs)
    assert [change.action for change in done.changes["batch"]] == ["insert", "insert", "keep"]
    written = json.loads(Path("out/report.json").read_text())["verdicts"]
    assert {v.claim.id: v.verdict for v in done.verdicts} == {v["id"]: v["verdict"] for v in written}
    assert done.report(tmp_path / "to" / "mine.pdf").read_bytes()[:5] == b"%PDF-"


def test_python_goes_on_in_its_folder_and_takes_functions_of_any_kind(tmp_path: Path) -> None:
    x = torch.linspace(-1, 1, 24).repeat(4, 1).T.contiguous()
    data = (x, (x[:, 0] > 0).long() * 2), (x, (x[:, 0] > 0).long() * 2)

    def loss_fn(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    settings = {"norms": ["layer"], "steps": 4, "out": tmp_path / "run", "loss_fn": loss_fn, "optimizer": "adam"}
    first = landscape.compare(lambda: net(), lambda: data, seeds=1, **settings)
    second = landscape.compare(lambda: net(), data, seeds=[0, 1], **settings)
    assert not first.failed
    assert set(second.frame()["seed"]) == {0, 1}
    assert second.frame().query("seed == 0").reset_index(drop=True).equals(first.frame())
    with pytest.raises(UsageError, match="holds another experiment"):
        landscape.compare(lambda: net(), data, seeds=1, **settings | {"steps": 5})
    with pytest.raises(UsageError, match="workers=2 train in processes of their own"):
        landscape.compare(lambda: net(), data, workers=2)
    with pytest.raises(UsageError, match="the model is a int"):
        landscape.compare(3, data)
    with pytest.raises(DataError, match=r"must return a landscape.data.Dataset"):
        landscape.compare(net, 7)
    with pytest.raises(UsageError, match=r"must end in \.pdf"):
        first.report(tmp_path / "mine.txt")
