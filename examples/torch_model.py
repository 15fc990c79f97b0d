"""A PyTorch model of one's own: which learning rate and width classify scikit-learn's digits best?

python torch_model.py --learning-rate 1e-3 1e-2 --width 32 64 --seeds 5
"""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits

import labs


@dataclass(frozen=True)
class Trial:
    learning_rate: float = 1e-2
    """Step size of Adam."""
    width: int = 64
    seed: int = 0


def train(config: Trial, resume=None):
    torch.manual_seed(config.seed)
    inputs, labels = map(torch.tensor, load_digits(return_X_y=True))
    (x, x_val), (y, y_val) = (inputs / 16).float().split([1200, 597]), labels.split([1200, 597])
    first, last = torch.nn.Linear(64, config.width), torch.nn.Linear(config.width, 10)
    model = torch.nn.Sequential(first, torch.nn.ReLU(), last)
    adam = torch.optim.Adam(model.parameters(), config.learning_rate)
    for epoch in range(1, 31):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
        accuracy = (model(x_val).argmax(1) == y_val).float().mean()
        metrics = {"train/loss": loss.item(), "val/accuracy": accuracy.item()}
        yield labs.Report(epoch, metrics, lambda: {"model": model.state_dict()})


if __name__ == "__main__":
    labs.main(train, Trial, metric="val/accuracy", mode="max", last_step=30)
