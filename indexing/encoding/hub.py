"""Models by name or folder: from disk where they are, else from the model hub if it can be reached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from indexing.errors import EncoderError

Model = TypeVar("Model")

PROBE_SECONDS = 5.0


def load_model(load: Callable[..., Model], name: str, settings: dict[str, Any]) -> Model:
    """What `load(name, **settings)` gives, a class or function of sentence-transformers.

    A folder is never looked for on the hub. The hub is asked whether it is there before anything is fetched:
    the library would try again for more than a minute where it is not.

    Raises:
        EncoderError: there is no such model, or it cannot be fetched or read.
    """
    try:
        folder = Path(name).expanduser()
        if folder.is_dir():
            return load(str(folder), local_files_only=True, **settings)
        if name.startswith(("/", ".", "~")):
            raise FileNotFoundError(f"there is no folder {folder}")
        try:
            return load(name, local_files_only=True, **settings)
        except Exception:  # errors of many families all say that a file is absent
            _check_hub()
        return load(name, **settings)
    except Exception as exc:  # the hub, transformers and torch raise errors of many families
        raise EncoderError(
            f"The model {name!r} cannot be loaded: {exc}. Check its name, let this machine reach the "
            "model hub once, or give the folder of a model that is already here."
        ) from exc


def _check_hub() -> None:
    """Raises ConnectionError unless the hub answers, whatever it says, within `PROBE_SECONDS`."""
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("it is not here, and HF_HUB_OFFLINE is set")
    try:
        httpx.head(constants.ENDPOINT, timeout=PROBE_SECONDS)
    except (httpx.HTTPError, OSError) as exc:
        raise ConnectionError(
            f"it is not here, and the model hub {constants.ENDPOINT} cannot be reached ({exc})"
        ) from exc
