"""What every embedded server has in common."""

from abc import ABC
from pathlib import Path

from deploy.local.service import Service


class Server(Service, ABC):
    """A server with its data under `home`, reachable from this machine only.

    `is_durable=False` trades safety of the data for speed, for tests.
    """

    def __init__(self, home: Path, *, port: int | None = None, is_durable: bool = True) -> None:
        super().__init__(home, port=port)
        self.data = home / self.slug
        self.is_durable = is_durable

    def prepare(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)

    def failure(self, what: str) -> str:
        return (
            super().failure(f"{what}, with its data in {self.data}")
            + "\nIf that data is damaged, restore it, or start anew with another --data-dir."
        )
