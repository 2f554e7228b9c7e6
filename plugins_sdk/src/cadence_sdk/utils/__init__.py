from cadence_sdk.utils.installers import check_dependency_installed, install_dependencies
from cadence_sdk.utils.validation import (
    validate_plugin_structure,
    validate_plugin_structure_shallow,
    validate_sdk_version_compatibility,
)

__all__ = [
    "check_dependency_installed",
    "install_dependencies",
    "validate_plugin_structure",
    "validate_plugin_structure_shallow",
    "validate_sdk_version_compatibility",
]
