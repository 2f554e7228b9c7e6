"""The example plugin of the demo as a package."""

from pathlib import Path

from deploy.plugins.packing import pack

PLUGIN_DIRECTORY = Path(__file__).parent / "plugin"


def demo_package() -> bytes:
    return pack(PLUGIN_DIRECTORY)
