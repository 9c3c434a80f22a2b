"""MultiVae's JMVAE (PyTorch) on MNIST-shaped data, for the benchmarks beside this folder.

    PEER/bin/python benchmarks/peers/multivae_jmvae.py --measure=step [--batch=100] [--steps=200]

`--measure` is `step` (forward, backward and optimiser on tensors in memory), `trainer` (MultiVae's
own BaseTrainer with its loader and callbacks) or `likelihood` (`compute_joint_nll` under
`no_grad`). Prints one object of JSON with `per_second`: examples, or importance samples. It runs in
an environment of its own, see README.md; this repository imports nothing of it.

The networks are MNIST's of the paper, but for the joint encoder, which is 784+10 -> 512 -> 512.
"""

import argparse
import contextlib
import io
import json
import logging
import tempfile
import time

import torch

# PyPI's torchvision is built for CUDA: beside a CPU's torch it imports once these are declared.
_library = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    with contextlib.suppress(RuntimeError):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from multivae.data.datasets.base import MultimodalBaseDataset
from multivae.models import JMVAE, JMVAEConfig
from multivae.models.nn.base_architectures import BaseJointEncoder
from multivae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn.base_architectures import BaseDecoder, BaseEncoder
from torch import nn

HIDDEN, LATENT = 512, 64
SIZES = {"image": 784, "label": 10}


def trunk(size: int) -> nn.Module:
    """Two hidden layers."""
    return nn.Sequential(nn.Linear(size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())


class Encoder(BaseEncoder):
    """q(z | one modality)."""

    def __init__(self, size: int):
        super().__init__()
        self.latent_dim = LATENT
        self.body = trunk(size)
        self.mean, self.log_variance = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)

    def forward(self, x):
        features = self.body(x)
        return ModelOutput(
            embedding=self.mean(features), log_covariance=self.log_variance(features)
        )


class JointEncoder(BaseJointEncoder):
    """q(z | both), of the modalities side by side."""

    def __init__(self):
        super().__init__()
        self.latent_dim = LATENT
        self.body = trunk(sum(SIZES.values()))
        self.mean, self.log_variance = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)

    def forward(self, x):
        features = self.body(torch.cat([x[name] for name in SIZES], dim=1))
        return ModelOutput(
            embedding=self.mean(features), log_covariance=self.log_variance(features)
        )


class Decoder(BaseDecoder):
    """p(one modality | z)."""

    def __init__(self, size: int):
        super().__init__()
        self.body = nn.Sequential(trunk(LATENT), nn.Linear(HIDDEN, size))

    def forward(self, z):
        return ModelOutput(reconstruction=self.body(z))


def jmvae() -> JMVAE:
    """JMVAE with alpha 0.1."""
    config = JMVAEConfig(
        n_modalities=2,
        latent_dim=LATENT,
        decoders_dist={"image": "bernoulli", "label": "categorical"},
        alpha=0.1,
        warmup=0,
    )
    encoders = {name: Encoder(size) for name, size in SIZES.items()}
    decoders = {name: Decoder(size) for name, size in SIZES.items()}
    model = JMVAE(config, encoders, decoders, JointEncoder())
    model.device = torch.device("cpu")
    return model


def examples(count: int) -> dict[str, torch.Tensor]:
    """Ten prototypes with noise: random, and yet there is something to learn."""
    generator = torch.Generator().manual_seed(0)
    prototypes = (torch.rand(10, SIZES["image"], generator=generator) < 0.2).float()
    label = torch.randint(0, 10, (count,), generator=generator)
    flipped = (torch.rand(count, SIZES["image"], generator=generator) < 0.05).float()
    return {
        "image": (prototypes[label] - flipped).abs(),
        "label": nn.functional.one_hot(label, 10).float(),
    }


def step(batch: int, steps: int) -> float:
    """Examples a second of forward, backward and Adam alone."""
    model = jmvae().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data = examples(20 * batch)
    batches = [
        MultimodalBaseDataset({k: v[start : start + batch] for k, v in data.items()})
        for start in range(0, 20 * batch, batch)
    ]

    def run(count: int) -> float:
        for number in range(count):
            loss = model(batches[number % len(batches)], epoch=1).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    first = run(20)
    started = time.perf_counter()
    last = run(steps)
    rate = steps * batch / (time.perf_counter() - started)
    if not last < first:
        raise RuntimeError(f"the loss did not fall: {first} to {last}")
    return rate


def trainer(batch: int, steps: int) -> float:
    """Examples a second of BaseTrainer's whole run of three epochs, `steps` each."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        run = BaseTrainer(
            model=jmvae(),
            train_dataset=MultimodalBaseDataset(examples(batch * steps)),
            training_config=BaseTrainerConfig(
                output_dir=folder,
                num_epochs=3,
                per_device_train_batch_size=batch,
                learning_rate=1e-3,
                no_cuda=True,
            ),
        )
        started = time.perf_counter()
        run.train()
        return 3 * batch * steps / (time.perf_counter() - started)


def likelihood(batch: int, steps: int) -> float:
    """Importance samples a second of `steps` examples, K = 1000 in chunks of `batch`."""
    model, data = jmvae().eval(), MultimodalBaseDataset(examples(steps))
    with torch.no_grad():
        started = time.perf_counter()
        model.compute_joint_nll(data, K=1000, batch_size_K=batch)
        return 1000 * steps / (time.perf_counter() - started)


MEASURES = {function.__name__: function for function in (step, trainer, likelihood)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--measure", choices=MEASURES, required=True)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    rate = MEASURES[given.measure](given.batch, given.steps)
    print(json.dumps({"measure": given.measure, "per_second": rate}))


if __name__ == "__main__":
    main()
