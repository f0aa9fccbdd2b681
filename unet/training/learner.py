"""The network in training: its optimiser, the running mean of its weights, one step."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.base.network_outputs import CLASSES, NetworkOutputs

from ..losses.registry import loss_of
from ..network.config import UNetConfig
from ..network.dropout import key_dropout
from ..network.model import UNet
from ..predict.forward import scores_of_logits
from ..predict.runtime import settle_precision
from ..recipe.schedule import StepSchedule
from ..recipe.training_config import TrainingConfig
from ..samples.maker import Batch
from .checkpoint import Checkpoint
from .parallel.idle_biases import fix_idle_biases
from .parallel.parts import Parts
from .parallel.sums import share_state, sum_gradients
from .parallel.sync_norm import synchronise_norms
from .start.frozen import freeze_layers, keep_statistics


class Learner:
    """A network in training on one device; with several ranks, each holds the same weights."""

    def __init__(
        self,
        network: UNetConfig,
        training: TrainingConfig,
        *,
        device: str,
        world_size: int = 1,
        outputs: NetworkOutputs = CLASSES,
        schedule: StepSchedule | None = None,
    ) -> None:
        self.training = training
        self.schedule = schedule or StepSchedule.of(training)
        self._loss = loss_of(training.loss, outputs.kind)
        self.device = torch.device(device)
        self.world_size = world_size
        self.precision: Literal["bf16", "fp32"] = settle_precision(training.precision, self.device)
        if self.precision == "fp32":  # else cuDNN rounds to TF32, and ranks differ by 1e-3
            torch.backends.cudnn.allow_tf32 = False
        torch.manual_seed(training.seed)
        self.model = UNet(network, outputs).to(self.device)
        freeze_layers(self.model, training.freeze)
        if self.precision == "bf16":
            layout = torch.channels_last if network.dims == 2 else torch.channels_last_3d
            self.model.to(memory_format=layout)  # type: ignore[call-overload]  # stubs lack it
        if world_size > 1:
            share_state(self.model)
            synchronise_norms(self.model)
        self.optimiser = make_optimiser(self.model, training)
        fix_idle_biases(self.model)  # the optimiser keeps them: its state is that of older versions
        self.ema = _copied(self.model) if training.ema else None
        self._parts = Parts(self.model, device=self.device)

    def step(self, batch: Batch, *, step: int, batch_size: int) -> Tensor:
        """Compute gradients from this rank's part of a batch; return its share of the loss.

        batch_size: patches of all ranks. The losses of all ranks add up to the batch's, and so do
        their gradients, which are the same on every rank afterwards.
        """

        def part_loss(part: Batch) -> Tensor:
            key_dropout(self.model, seed=self.training.seed, step=step, numbers=part.numbers)
            with self._autocast():
                logits = self.model(self._laid_out(part.x))
            loss = self._loss(logits, part.targets, part.weights)
            return loss * (len(part.x) / batch_size)

        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate_at(step)
        self.model.train()
        keep_statistics(self.model, self.training.freeze)
        self.optimiser.zero_grad(set_to_none=True)
        loss = self._parts.gradients(batch, part_loss)
        sum_gradients(self.model.parameters(), world_size=self.world_size)
        if self.training.gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.training.gradient_norm)
        return loss

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.schedule.learning_rate_at(step, self.training)

    def update(self, step: int) -> None:
        """Apply the gradients; called only after the loss was checked to be finite."""
        self.optimiser.step()
        if self.ema is None:
            return
        decay = min(self.training.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                if value.is_floating_point():
                    self.ema[name].lerp_(value, 1 - decay)
                else:
                    self.ema[name].copy_(value)

    def best(self) -> UNet:
        """Return a copy of the network as it is validated and saved: with the mean weights."""
        model = UNet(self.model.config, self.model.outputs).to(self.device)
        model.load_state_dict(self.ema or self.model.state_dict())
        if self.precision == "bf16":
            layout = torch.channels_last if self.model.config.dims == 2 else torch.channels_last_3d
            model.to(memory_format=layout)  # type: ignore[call-overload]
        return model.eval()

    def probabilities(self, model: UNet, x: Tensor) -> Tensor:
        """Return the scores of a network of :meth:`best`, (n, classes, *output) float32."""
        with torch.inference_mode(), self._autocast():
            logits: Tensor = model(self._laid_out(x.to(self.device)))
        return scores_of_logits(logits, model.outputs.activation)

    def checkpoint(self, step: int, record: dict[str, Any]) -> Checkpoint:
        """Return the state after ``step`` steps."""
        return Checkpoint(
            step=step,
            model=_copied(self.model),
            ema=self.ema,
            optimiser=self.optimiser.state_dict(),
            record=record,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the state of a checkpoint."""
        self.model.load_state_dict(checkpoint.model)
        if self.ema is not None and checkpoint.ema is not None:
            for name, value in checkpoint.ema.items():
                self.ema[name].copy_(value)
        self.optimiser.load_state_dict(dict(checkpoint.optimiser))

    def _autocast(self) -> Any:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _laid_out(self, x: Tensor) -> Tensor:
        if self.precision == "fp32":
            return x
        layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        return x.contiguous(memory_format=layout)


def make_optimiser(model: nn.Module, training: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimiser of what is not frozen; biases and norms are not decayed."""
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim > 1]
    others = [p for p in trained if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    rate = training.learning_rate
    if training.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(training.momentum, 0.999))
    return torch.optim.SGD(
        groups, lr=rate, momentum=training.momentum, nesterov=training.optimiser == "nesterov"
    )


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
