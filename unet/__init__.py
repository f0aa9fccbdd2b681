"""The U-Net of Ronneberger, Fischer and Brox (2015), in 2-D and 3-D.

Names are loaded when they are first used: reading a weights file's header needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .network.config import UNetConfig
    from .network.model import UNet
    from .predict.predictor import UNetPredictor
    from .recipe.config_file import read_config
    from .recipe.training_config import Recipe, TrainingConfig
    from .training.run import train_unet
    from .weights.file import WeightsInfo, load_weights, read_weights_info, save_weights

__all__ = [
    "Recipe",
    "TrainingConfig",
    "UNet",
    "UNetConfig",
    "UNetPredictor",
    "WeightsInfo",
    "load_weights",
    "read_config",
    "read_weights_info",
    "save_weights",
    "train_unet",
]

_HOME = {
    "Recipe": "recipe.training_config",
    "TrainingConfig": "recipe.training_config",
    "UNet": "network.model",
    "UNetConfig": "network.config",
    "UNetPredictor": "predict.predictor",
    "WeightsInfo": "weights.file",
    "load_weights": "weights.file",
    "read_config": "recipe.config_file",
    "read_weights_info": "weights.file",
    "save_weights": "weights.file",
    "train_unet": "training.run",
}


def __getattr__(name: str) -> object:
    """Load ``name`` from its module (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
