"""The `cadence` command."""

import sys

import typer

from deploy.commands import address, chat, inspection, planes, plugin, plugin_check, plugin_push, secrets, stack, stores
from deploy.errors import DeployError

app = typer.Typer(
    name="cadence",
    help="Run Cadence on this machine, or one of its processes anywhere.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

_STACK, _PLANES, _LOOK = "The whole stack on this machine", "Single processes and jobs", "Looking inside"

app.command("up", rich_help_panel=_STACK)(stack.up)
app.command("down", rich_help_panel=_STACK)(stack.down)
app.command("status", rich_help_panel=_STACK)(stack.status)
app.command("logs", rich_help_panel=_STACK)(stack.logs)
app.command("chat", rich_help_panel=_STACK)(chat.chat)
app.command("token", rich_help_panel=_STACK)(chat.token)
app.command("url", rich_help_panel=_STACK)(address.url)

app.command("bootstrap", rich_help_panel=_PLANES)(planes.bootstrap)
app.command("migrate", rich_help_panel=_PLANES)(planes.migrate)
app.command("control-plane", rich_help_panel=_PLANES)(planes.control_plane)
app.command("worker", rich_help_panel=_PLANES)(planes.worker)
app.command("relay", rich_help_panel=_PLANES)(planes.relay)
app.command("openapi", rich_help_panel=_PLANES)(planes.openapi)

app.command("health", rich_help_panel=_LOOK)(inspection.health)
app.command("stats", rich_help_panel=_LOOK)(inspection.stats)
# What these do not know belongs to the program that they open.
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command("psql", rich_help_panel=_LOOK, context_settings=_PASS_ON)(stores.psql)
app.command("mongo", rich_help_panel=_LOOK, context_settings=_PASS_ON)(stores.mongo)
app.command("redis", rich_help_panel=_LOOK, context_settings=_PASS_ON)(stores.redis)

plugins = typer.Typer(
    help="Write a plugin: start it, check it, talk to it, pack it, upload it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
plugins.command("new")(plugin.new)
plugins.command("check")(plugin_check.check)
plugins.command("run")(plugin.run)
plugins.command("pack")(plugin.pack)
plugins.command("push")(plugin_push.push)
app.add_typer(plugins, name="plugin", rich_help_panel="Plugins")


audit = typer.Typer(help="Who changed what.", no_args_is_help=True, rich_markup_mode="rich")
audit.command("verify")(planes.audit_verify)
app.add_typer(audit, name="audit", rich_help_panel=_LOOK)

keys = typer.Typer(help="The keys that secrets are sealed with.", no_args_is_help=True, rich_markup_mode="rich")
keys.command("rotate")(secrets.rotate)
app.add_typer(keys, name="secrets", rich_help_panel=_LOOK)


def main() -> None:
    """Exit codes: 0 done, 1 it could not be done, 2 the command or the settings are wrong, 3 nothing is running."""
    try:
        app()
    except DeployError as error:
        sys.stderr.write(f"cadence: {error}\n")
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
