"""A model with two inputs, batches that are dicts, a loss of its own, and only one block of it measured.

python examples/dict_batches.py
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

import landscape


@dataclass
class Output:
    score: Tensor
    loss: Tensor


class Recommender(nn.Module):
    """Users and items, embedded; a frozen table of item features; dropout."""

    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(50, 16), nn.Embedding(80, 16)
        self.features = nn.Embedding(80, 8)
        self.features.requires_grad_(False)
        self.head = nn.Sequential(nn.Linear(40, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 1))

    def forward(self, user, item, rating):
        z = torch.cat([self.users(user), self.items(item), self.features(item)], dim=1)
        score = self.head(z).squeeze(1)
        return Output(score, nn.functional.mse_loss(score, rating))


def loss_fn(model, batch):
    return model(**batch).loss


torch.manual_seed(0)
model = Recommender()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
ratings = torch.randn(50, 80)
batches = []
for _ in range(60):
    user, item = torch.randint(50, (64,)), torch.randint(80, (64,))
    batches.append({"user": user, "item": item, "rating": ratings[user, item]})

observer = landscape.Observer(
    model,
    loss_fn,
    ["gradient_path", "curvature", "updates"],
    every=landscape.Logarithmic(4),  # steps 0, 1, 2, 3, 6, 10, 18, 32, 56
    optimizer=optimizer,
    parameters="head.*",  # w is the head; leave this out for all parameters
)
for batch in batches:
    optimizer.zero_grad()
    loss_fn(model, batch).backward()
    observer.step(batch)  # the form by hand: after backward(), before optimizer.step()
    optimizer.step()

table = observer.frame().query("quantity in ['loss0', 'effective_smoothness', 'step_curvature']")
print(table.pivot_table(index="step", columns="quantity", values="value").round(4))
