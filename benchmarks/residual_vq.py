"""vector-quantize-pytorch's ResidualVQ between semid's encoder and decoder.

The networks, optimiser, schedule, batches and number of steps are those of semid's defaults; only
what happens between encoder and decoder is the peer's. Shapes: n items, d input dims, z latent
dims, l levels.
"""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vector_quantize_pytorch import ResidualVQ

from semid.autoencoder import Autoencoder
from semid.fit_config import FitConfig
from semid.metrics.codes import relative_error
from semid.training import chosen_batch_size
from semid.training_data import ArrayData, Matrix


@dataclass
class ResidualVQRun:
    """One training run; afterwards it encodes and decodes as its best epoch did.

    Attributes
    ----------
    data, seed : what is learned from, and what is drawn from
    settings : of ResidualVQ
    weight : of its commitment losses, whose mean over levels is added to the reconstruction
    autoencoder_share : share of the steps before quantising starts
    warm : whether the first thing that is quantised is the whole catalog rather than a batch, so
        that k-means starts from it
    curve : seconds since the start and held-out error after every epoch that quantised
    """

    data: ArrayData
    seed: int
    settings: dict[str, Any]
    weight: float = 1.0
    autoencoder_share: float = 0.0
    warm: bool = False
    curve: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)  # the peer draws from torch's global generator
        config = FitConfig()
        self.plan = config.training
        self.network = Autoencoder(config.model, widths=(self.data.width,))
        sizes = {"num_quantizers": len(config.levels), "codebook_size": config.levels[0]}
        width = min(config.model.latent_dim, self.data.width)
        self.quantizer = ResidualVQ(dim=width, **sizes, **self.settings)
        parameters = [*self.network.parameters(), *self.quantizer.parameters()]
        plan = self.plan
        self.optimizer = torch.optim.AdamW(
            parameters, plan.learning_rate, (0.9, 0.99), weight_decay=plan.weight_decay, fused=True
        )
        self.chance = torch.Generator().manual_seed(self.seed)
        self.batch_rows = chosen_batch_size(self.data.train_rows)
        self.total_steps = plan.epochs * math.ceil(self.data.train_rows / self.batch_rows)
        self.start = round(self.total_steps * self.autoencoder_share)

    def train(self) -> None:
        """Train to the end and keep the epoch with the least held-out error, as semid does."""
        began, step, best = time.perf_counter(), 0, {}
        sample_nd = torch.from_numpy(self.data.train_nd)
        self.network.initialise(sample_nd, self.chance)
        held_out_nd = torch.from_numpy(self.data.held_out_sample(8_192, seed=self.seed))
        for epoch in range(self.plan.epochs):
            self.quantizer.train()
            for rows_nd in self.data.batches(self.batch_rows, seed=epoch):
                if step == self.start and self.warm:
                    with torch.no_grad():
                        self.quantizer(self.network.project(sample_nd)[None])
                self._step(torch.from_numpy(rows_nd), step)
                step += 1
            if step <= self.start:
                continue
            error = self._error(held_out_nd)
            if not self.curve or error <= min(error for _, error in self.curve):
                best = copy.deepcopy([self.network.state_dict(), self.quantizer.state_dict()])
            self.curve.append((time.perf_counter() - began, error))
        for module, state in zip((self.network, self.quantizer), best, strict=True):
            module.load_state_dict(state)
        self.quantizer.eval()

    def _step(self, rows_nd: Tensor, step: int) -> None:
        plan = self.plan
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.total_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = plan.learning_rate * min(1.0, (step + 1) / plan.warmup_steps) * cosine
        x_nd = self.network.standardise(rows_nd)
        latent_nz = self.network.encode(x_nd, self.chance)
        extra: Tensor | float = 0.0
        if step >= self.start:
            quantised_1nz, _, losses_1l = self.quantizer(latent_nz[None])
            latent_nz, extra = quantised_1nz[0], self.weight * losses_1l.mean()
        out_nd = self.network.decode(latent_nz, self.chance)
        loss = torch.nn.functional.mse_loss(out_nd, x_nd) + extra
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), plan.grad_clip)
        self.optimizer.step()

    def _error(self, x_nd: Tensor) -> float:
        out_nd = torch.from_numpy(self.decode(self.encode(x_nd.numpy())))
        error, deviation = (out_nd - x_nd).square().sum(), (x_nd - self.network.mean).square().sum()
        return relative_error(float(error), float(deviation)) or 0.0

    @torch.inference_mode()
    def encode(self, x_nd: Matrix) -> Any:
        """Return codes ``(n, l)`` of embeddings ``(n, d)``."""
        self.quantizer.eval()
        parts = []
        for rows_nd in torch.split(torch.from_numpy(x_nd), 2_048):
            _, codes_1nl, _ = self.quantizer(self.network.project(rows_nd)[None])
            parts.append(codes_1nl[0].numpy().astype(np.int32))
        return np.concatenate(parts)

    @torch.inference_mode()
    def decode(self, codes_nl: Any) -> Matrix:
        """Return the embeddings ``(n, d)`` that codes stand for."""
        codes_1nl = torch.from_numpy(codes_nl.astype(np.int64))[None]
        latent_1nz = self.quantizer.get_output_from_indices(codes_1nl)
        out_nd: Matrix = self.network.reconstruct(latent_1nz[0]).numpy()
        return out_nd
