"""Where torch runs a model, and how exactly: the one word that the settings have for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

TorchPrecision = Literal["fp32", "bf16"]

_BF16 = ":bf16"


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchDevice:
    """`name` is a torch device, or None for the library's own choice."""

    name: str | None
    precision: TorchPrecision

    def settings(self) -> dict[str, Any]:
        """What a class of sentence-transformers is told."""
        import torch

        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        return {"device": self.name, "model_kwargs": {"dtype": dtype}}


def torch_device(text: str) -> TorchDevice:
    """ "auto" or a torch device, in fp32 unless ":bf16" follows it.

    >>> torch_device("auto")
    TorchDevice(name=None, precision='fp32')
    >>> torch_device("cuda:1:bf16")
    TorchDevice(name='cuda:1', precision='bf16')
    """
    name = text.removesuffix(_BF16)
    return TorchDevice(
        name=None if name == "auto" else name, precision="bf16" if text.endswith(_BF16) else "fp32"
    )
