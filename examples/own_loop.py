"""The landscape of a network in a training loop of your own, written to a run folder.

python examples/own_loop.py
landscape report runs/own-loop
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import landscape

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
loader = DataLoader(TensorDataset(x, y), batch_size=128, shuffle=True, drop_last=True)

model = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def loss_fn(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


probes = ["gradient_path", "covariate_shift", "activations", "curvature"]
with landscape.Observer(model, loss_fn, probes, every=8, optimizer=optimizer, to="runs/own-loop") as observer:
    for _ in range(2):
        for batch in observer.watch(loader):
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()

smoothness = observer.frame().query("quantity == 'effective_smoothness'")
print(smoothness[["step", "value"]].to_string(index=False))
print("measurements in runs/own-loop: try `landscape show runs/own-loop`")
