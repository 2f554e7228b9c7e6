"""Dependencies on an author's own machine. The platform never calls this: it builds locked environments itself."""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence

DEFAULT_INSTALL_TIMEOUT_SECONDS = 300

_NAME = re.compile(r"^\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")


def extract_package_name(spec: str) -> str:
    """`requests` for `requests[socks]>=2.28; python_version > "3"`."""
    match = _NAME.match(spec)
    return match.group(1) if match else spec.strip()


def check_dependency_installed(name: str) -> bool:
    """Whether a module of this name can be imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        # A missing parent package, or a module that hides its spec.
        return name in sys.modules


def get_installed_version(name: str) -> str:
    """The version of an installed distribution, "" when there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def install_dependencies(packages: Sequence[str], upgrade: bool = False, quiet: bool = True) -> tuple[bool, str]:
    """Run pip of this interpreter. Failure and time-out are a False with the reason, never an exception."""
    if not packages:
        return True, "No packages to install"
    command = [sys.executable, "-m", "pip", "install"]
    command += ["--upgrade"] if upgrade else []
    command += ["--quiet"] if quiet else []
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and "--" keeps a package name from being read as an option
            [*command, "--", *packages],
            capture_output=True,
            text=True,
            timeout=DEFAULT_INSTALL_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"pip did not finish within {DEFAULT_INSTALL_TIMEOUT_SECONDS} seconds"
    except OSError as error:
        return False, f"pip could not be started: {error}"
    if done.returncode != 0:
        return False, f"pip failed: {(done.stderr or done.stdout).strip()}"
    return True, f"Installed {', '.join(packages)}"


def check_plugin_dependencies(dependencies: Sequence[str], plugin_name: str) -> tuple[bool, list[str]]:
    """Whether all are there, and those that are not. A distribution counts as well as a module of that name."""
    missing = [spec for spec in dependencies if not _is_there(extract_package_name(spec))]
    return not missing, missing


def install_plugin_dependencies(
    dependencies: Sequence[str], plugin_name: str, auto_install: bool = True
) -> tuple[bool, list[str]]:
    """Install what is missing, and say what still is."""
    satisfied, missing = check_plugin_dependencies(dependencies, plugin_name)
    if satisfied or not auto_install:
        return satisfied, missing
    install_dependencies(missing)
    importlib.invalidate_caches()
    return check_plugin_dependencies(dependencies, plugin_name)


def _is_there(name: str) -> bool:
    return bool(get_installed_version(name)) or check_dependency_installed(name.replace("-", "_"))
