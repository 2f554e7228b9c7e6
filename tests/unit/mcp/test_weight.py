"""What a process pays that has no MCP plugin."""

import subprocess
import sys


def test_the_library_is_loaded_with_the_first_mcp_plugin_and_not_before() -> None:
    program = (
        "import sys, control_plane.app, runtime_worker.app\n"
        "print([name for name in ('mcp', 'mcp_types', 'httpx2', 'starlette', 'uvicorn') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.strip() == "[]"
