"""The landscape while Lightning's Trainer trains: one callback.

python examples/lightning_trainer.py          # needs the extra: pip install 'landscape-smoothness[integrations]'
"""

import lightning.pytorch as lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from landscape.integrations.lightning import LandscapeCallback


class Classifier(lightning.LightningModule):
    """A small network for images."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))

    def training_step(self, batch, index):
        loss = loss_fn(self, batch)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def loss_fn(module, batch):
    """The loss alone: what is probed must not log."""
    x, y = batch
    return nn.functional.cross_entropy(module.net(x), y)


lightning.seed_everything(0, verbose=False)
data = TensorDataset(torch.randn(256, 1, 8, 8), torch.randint(0, 10, (256,)))
callback = LandscapeCallback(loss_fn, ["gradient_path", "activations"], every=4, to="runs/lightning")
trainer = lightning.Trainer(
    max_epochs=2,
    callbacks=[callback],
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Classifier(), DataLoader(data, batch_size=32, shuffle=True))

print(callback.observer.frame().query("quantity == 'effective_smoothness'")[["step", "value"]].to_string(index=False))
print("measurements in runs/lightning")
