from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

MIN_VERSION_PARTS = 2
MAX_VERSION_PARTS = 3


@dataclass
class PluginMetadata:
    """Who a plugin is and what it needs.

    `pid` is a reverse domain name (`com.example.weather`), `version` has two or three dotted parts, `dependencies` are
    PEP 508 requirements, `sdk_version` the range of cadence-sdk it works with. A `stateless` plugin may be shared by
    all instances of an organization that give it equal settings.

    Raises ValueError when pid, name, version or description is empty, or the version has another shape.
    """

    pid: str
    name: str
    version: str
    description: str
    capabilities: list[str] = field(default_factory=list)
    dependencies: list[str] = field(default_factory=list)
    sdk_version: str = ">=2.0.0,<3.0.0"
    stateless: bool = True

    def __post_init__(self) -> None:
        for required in ("pid", "name", "version", "description"):
            if not getattr(self, required):
                raise ValueError(f"Plugin {required} cannot be empty")
        parts = self.version.split(".")
        if not MIN_VERSION_PARTS <= len(parts) <= MAX_VERSION_PARTS or not all(parts):
            raise ValueError(f"Invalid version format {self.version!r}: use MAJOR.MINOR or MAJOR.MINOR.PATCH")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "PluginMetadata":
        """The inverse of `to_dict`; keys it does not know are ignored, so that newer metadata still reads."""
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})
