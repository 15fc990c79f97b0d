"""Training that can be resumed: what a checkpoint contains, and how it is loaded.

python resumable.py --epochs 2000        # Ctrl-C, then the command that it prints
"""

from dataclasses import dataclass

import torch

import labs


@dataclass(frozen=True)
class Trial:
    learning_rate: float = 0.05
    epochs: int = 200
    seed: int = 0


def train(config: Trial, resume=None):
    torch.manual_seed(config.seed)
    x = torch.randn(256, 8)
    y = x @ torch.randn(8) + 0.1 * torch.randn(256)
    model = torch.nn.Linear(8, 1)
    sgd = torch.optim.SGD(model.parameters(), config.learning_rate, momentum=0.9)
    if resume is not None:  # the last checkpoint of this trial
        model.load_state_dict(resume["model"])
        sgd.load_state_dict(resume["optimizer"])
    first = 1 if resume is None else resume["epoch"] + 1
    for epoch in range(first, config.epochs + 1):
        loss = (model(x).squeeze(1) - y).square().mean()
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        state = {"model": model.state_dict(), "optimizer": sgd.state_dict(), "epoch": epoch}
        yield labs.Report(epoch, {"train/loss": loss.item()}, lambda: state)


if __name__ == "__main__":
    labs.main(train, Trial, metric="train/loss", mode="min")
