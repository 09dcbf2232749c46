"""``python -m fusetorch.demo``: train on real data eagerly and compiled, compare, and write a report."""
from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from fusetorch import config
from fusetorch.runtime.device import cuda_available, cuda_missing

MISSING = [name for name in ("sklearn", "rich") if importlib.util.find_spec(name) is None]


def main(argv: list[str] | None = None) -> int:
    """Runs the demonstration; 0, or 2 if something that it needs is missing."""
    parser = argparse.ArgumentParser(prog="python -m fusetorch.demo", description=(
        "Trains a digit classifier twice, eagerly and with the whole training step compiled, and compares."))
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is one, else cpu")
    parser.add_argument("--epochs", type=int, default=30, help="passes over the 1437 training images (default: 30)")
    parser.add_argument("--report", type=Path, default=Path("report.html"), help="file to write (default: report.html)")
    args = parser.parse_args(argv)
    if args.epochs < 2:
        parser.error("--epochs must be at least 2: the first one compiles and is not timed")
    if MISSING:
        print(f"The demo needs {' and '.join(MISSING)}: pip install 'fusetorch[demo]'", file=sys.stderr)
        return 2
    device = args.device or ("cuda" if cuda_available() and not config.simulate_cuda else "cpu")
    if device == "cuda" and not cuda_available():
        print(f"--device cuda cannot be used: {cuda_missing()}", file=sys.stderr)
        return 2
    run(device, args.epochs, args.report)
    return 0


def run(device: str, epochs: int, path: Path) -> None:
    """Measures with a progress bar, prints the table, writes the report."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table

    from fusetorch.demo import report, tables
    from fusetorch.demo.measure import measure

    console = Console()
    console.print(f"Training a digit classifier on [bold]{device}[/], eagerly and compiled: same data, same seed, same batches.",
                  soft_wrap=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[loss]}")
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("epochs", total=epochs, loss="")

        def show(epoch: int, eager: float, compiled: float) -> None:
            bar.update(task, completed=epoch, loss=f"loss {eager:.4f} eager, {compiled:.4f} compiled")

        outcome = measure(device, epochs, show)
    table = Table("", "eager", "compiled", title=f"Training on digits ({outcome.device})")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in tables.rows(outcome):
        table.add_row(*row)
    console.print(table)
    for what, value in tables.closing(outcome):
        console.print(f"{what}: [bold]{value}[/]", soft_wrap=True)
    report.write(outcome, path)
    console.print(f"Report with the generated code of every kernel: [bold]{path.resolve()}[/]", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
