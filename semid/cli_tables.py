"""The commands for the life of an ids table: what happens to IDs after they were assigned."""

from __future__ import annotations

import typer

commands = typer.Typer()
