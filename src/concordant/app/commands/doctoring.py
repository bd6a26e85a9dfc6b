"""Is this machine ready?"""

from __future__ import annotations

import argparse
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

PACKAGES = ("torch", "transformers", "peft", "datasets", "pydantic", "sqlalchemy", "matplotlib")


def doctor(_arguments: argparse.Namespace, console: Console) -> int:
    """Versions, device, threads and disk, each with what it means for a run."""
    import torch

    from concordant.models.config import MachineConfig
    from concordant.models.hardware import probe

    table = Table(title="This machine", title_justify="left")
    table.add_column("what")
    table.add_column("found")
    table.add_row("python", platform.python_version())
    missing = []
    for package in PACKAGES:
        try:
            table.add_row(package, version(package))
        except PackageNotFoundError:
            missing.append(package)
            table.add_row(package, "[red]missing[/]: pip install concordant")
    table.add_row("computes on", str(probe(MachineConfig())))
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        table.add_row("GPU memory", f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free")
    disk = shutil.disk_usage(Path.cwd())
    room = f"{disk.free / 2**30:.1f} GiB free here"
    table.add_row("disk", room if disk.free > 2**30 else f"[red]{room}[/]: a run needs more")
    console.print(table)
    return 2 if missing else 0
