"""What makes two models of the sentence-transformers library the same: weights, modules, tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# What a configuration says of where and when it was saved, which changes no vector.
_PROVENANCE = frozenset({"transformers_version", "architectures", "dtype", "torch_dtype"})


def weights_sha256(model: torch.nn.Module) -> str:
    """One digest over the parameters, whatever they are called: names change between library versions."""
    import torch

    digests = []
    for parameter in model.parameters():
        values = parameter.detach().cpu().reshape(-1).view(torch.uint8).numpy()
        digests.append(sha256(f"{tuple(parameter.shape)}".encode() + values.tobytes()).hexdigest())
    return sha256("".join(sorted(digests)).encode()).hexdigest()


def modules_description(modules: Iterable[Any]) -> str:
    """Each module's class and configuration: the architecture, the pooling, any further layer."""
    described = []
    for module in modules:
        config: Any = getattr(module, "config", None)
        settings = config.to_diff_dict() if hasattr(config, "to_diff_dict") else module.get_config_dict()
        kept = {key: value for key, value in settings.items() if key[0] != "_" and key not in _PROVENANCE}
        described.append([type(module).__name__, kept])
    return json.dumps(described, sort_keys=True, default=str)


def tokenizer_sha256(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        description = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    else:
        parts = json.loads(backend.to_str())
        # Set anew by every call, so part of a call and not of the tokenizer.
        description = json.dumps({**parts, "truncation": None, "padding": None}, sort_keys=True)
    return sha256(description.encode()).hexdigest()
