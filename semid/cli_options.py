"""Options that several commands share, each with its help, and what reads their values."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from semid.errors import SemidError

Json = Annotated[bool, typer.Option("--json", help="Print a machine-readable summary on stdout.")]
ItemId = Annotated[str, typer.Option("--item-id", help="Name of the item id column.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an output made by other settings.")
]
Output = Annotated[str, typer.Option("--output", "-o", help="What to write.")]
ModelDir = Annotated[str, typer.Option("--model", "-m", help="Model directory.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<number>.")]
Columns = Annotated[
    str | None,
    typer.Option(help="Embedding columns: one of another name, or several to fuse, as text,image."),
]
Config = Annotated[str | None, typer.Option("--config", "-c", help="TOML file of settings.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, such as training.epochs=50.")
]

EncoderSet = Annotated[
    list[str] | None, typer.Option("--set", help="One encoder setting, such as dim=128.")
]
Gates = Annotated[
    list[str] | None,
    typer.Option(
        "--gate",
        help="What a figure must be, such as 'uniqueness >= 0.9'; may be repeated. Exit code 3 "
        "when one fails.",
    ),
]


def read_names(text: str) -> list[str]:
    """Read names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def read_sizes(text: str) -> list[int]:
    """Read the codewords of each level, separated by commas.

    Raises
    ------
    SemidError
        When one is no whole number.
    """
    try:
        return [int(size) for size in text.split(",")]
    except ValueError as error:
        raise SemidError(
            f"--levels {text!r}: expected whole numbers separated by commas, such as 256,256,256"
        ) from error


def read_given(config: str | None, overrides: list[str] | None) -> dict[str, Any]:
    """Read the settings of --config and --set."""
    from semid.config import apply_overrides, read_toml

    return apply_overrides(read_toml(config) if config else {}, overrides or [])
