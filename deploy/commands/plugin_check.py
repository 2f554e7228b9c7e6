"""`cadence plugin check`."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from deploy.commands.options import JsonOption
from deploy.plugins.packing import package_of

if TYPE_CHECKING:
    from deploy.plugins.checking import Finding
    from shared.packages.inspection.preparation import PreparedPackage

IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index-url", envvar="CADENCE_PLUGIN_INDEX_URL", help="Where dependencies come from; PyPI if left out."
    ),
]


def check(
    path: Annotated[Path, typer.Argument(help="The plugin's folder, or a zip.")],
    index_url: IndexOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a plugin as its upload would, and list everything that is wrong.

    Its code is run in a process that is thrown away. Exit code 1 when it would be refused.

    Example: cadence plugin check weather
    """
    # Here, so that no other command waits for these to be loaded.
    from deploy.plugins.checking import Checks
    from shared.logging import configure_logging

    configure_logging("WARNING", "console")
    checked = asyncio.run(Checks(index_url=index_url).check(package_of(path)))
    if isinstance(checked, list):
        _tell_findings(path, checked, as_json=as_json)
        raise typer.Exit(1)
    if as_json:
        typer.echo(
            msgspec.json.encode(
                {"manifest": checked.manifest, "digest": checked.digest, "lock": checked.lock, "findings": []}
            )
        )
    else:
        _tell_manifest(checked)


def _tell_findings(path: Path, findings: "list[Finding]", *, as_json: bool) -> None:
    if as_json:
        typer.echo(msgspec.json.encode({"findings": findings}))
        return
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[red]✗[/] {escape(str(path))} would be refused:")
    for finding in findings:
        where = f"{path / finding.file}:{finding.line}" if finding.file and path.is_dir() else finding.field
        console.print(f"  [red]·[/] [dim]{escape(where)}[/] {escape(finding.message)}")


def _tell_manifest(checked: "PreparedPackage") -> None:
    manifest = checked.manifest
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[green]✓[/] {escape(manifest.pid)}@{escape(manifest.version)} would be taken")
    kinds = [
        kind for kind, holds in (("specialized", manifest.is_specialized), ("scoped", manifest.is_scoped)) if holds
    ]
    described = {
        "tools": ", ".join(tool.name for tool in manifest.tools),
        "agent": ", ".join(kinds),
        "settings": ", ".join(str(setting["key"]) for setting in manifest.settings_schema),
        "dependencies": ", ".join(line.partition(" ")[0] for line in checked.lock.splitlines() if "==" in line),
    }
    for name, text in described.items():
        if text:
            console.print(f"  [dim]{name:<13}[/] {escape(text)}")
