"""How Python itself was built. Without profile-guided optimisation a plain relay of tokens takes 15 % more CPU, engines
about 20 %, code that is all Python a third.

    eval "$(python -m deploy.stack.interpreter)"

lets what follows in a shell run on an optimised one, like that of our images, in an environment of its own.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

OLDEST = (3, 11)
_SYSTEM = Path("/usr/bin/python3")
_ENVIRONMENT = ".venv-optimised"


def is_optimised() -> bool:
    # Debian and its like optimise in their packaging, which the record of the build does not tell.
    is_packaged = sys.base_prefix == "/usr"
    return is_packaged or "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")


def better_one() -> Path | None:
    """The system's, where that is new enough and this one is not optimised."""
    if is_optimised() or not _SYSTEM.exists():
        return None
    question = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    answer = subprocess.run([_SYSTEM, "-c", question], capture_output=True, check=False)
    return _SYSTEM if answer.returncode == 0 else None


if __name__ == "__main__":
    # Whoever has chosen one means it.
    if "UV_PYTHON" not in os.environ and (better := better_one()):
        # Compiled as in our images: how long imports take is measured, too.
        options = {"UV_PYTHON": better, "UV_PROJECT_ENVIRONMENT": _ENVIRONMENT, "UV_COMPILE_BYTECODE": 1}
        sys.stdout.write("export " + " ".join(f"{name}={value}" for name, value in options.items()) + "\n")
