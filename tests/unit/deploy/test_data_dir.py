"""The data directory: private, locked by one, and honest when it is damaged."""

import os
import stat
from pathlib import Path

import pytest

from deploy.errors import AlreadyRunning, DataDirectoryUnusable
from deploy.stack.data_dir import DataDirectory, StackState
from deploy.stack.environment import completed, plane_environment
from deploy.stack.secrets import load_or_create
from shared.settings import read_control_plane_settings


def made(path: Path) -> DataDirectory:
    directory = DataDirectory(path)
    directory.create()
    return directory


def test_only_its_owner_can_read_the_directory_and_the_secrets(tmp_path: Path) -> None:
    directory = made(tmp_path / "data")
    load_or_create(directory)
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(directory.secrets_file.stat().st_mode) == 0o600


def test_secrets_are_invented_once(tmp_path: Path) -> None:
    directory = made(tmp_path)
    assert load_or_create(directory) == load_or_create(directory)
    assert load_or_create(directory) != load_or_create(made(tmp_path / "other"))


@pytest.mark.parametrize("content", [b"", b"{", b'{"secret_key": 1}', b"\xff"])
def test_damaged_secrets_are_reported_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    directory = made(tmp_path)
    directory.secrets_file.write_bytes(content)
    with pytest.raises(DataDirectoryUnusable, match=r"secrets\.json is damaged") as caught:
        load_or_create(directory)
    assert "\n" not in str(caught.value)


def test_lost_secrets_are_not_replaced_beside_data_that_they_sealed(tmp_path: Path) -> None:
    directory = made(tmp_path)
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("18")
    with pytest.raises(DataDirectoryUnusable, match="put the file back"):
        load_or_create(directory)


def test_a_file_in_place_of_the_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(DataDirectoryUnusable, match="--data-dir"):
        made(tmp_path / "data")


def test_one_stack_at_a_time_and_the_second_learns_where_the_first_is(tmp_path: Path) -> None:
    directory = made(tmp_path)
    with directory.locked():
        directory.write_state(StackState(pid=os.getpid(), url="http://127.0.0.1:8000", processes=(), backing={}))
        with pytest.raises(AlreadyRunning, match=r"already running at http://127\.0\.0\.1:8000"), directory.locked():
            pass
        assert directory.state() is not None
    assert directory.state() is None
    with directory.locked():
        pass


def test_a_state_left_by_a_killed_stack_is_not_believed(tmp_path: Path) -> None:
    directory = made(tmp_path)
    directory.write_state(StackState(pid=1, url="http://127.0.0.1:8000", processes=(), backing={}))
    (directory.run / "up.owner").write_text("1")
    assert directory.state() is None
    assert directory.owner_pid() is None


def test_the_invented_settings_are_acceptable_to_the_control_plane(tmp_path: Path) -> None:
    directory = made(tmp_path)
    urls = {
        "CADENCE_POSTGRES_URL": "postgresql://cadence@127.0.0.1:1/cadence",
        "CADENCE_REDIS_URL": "redis://127.0.0.1:1/0",
        "CADENCE_BROKER_URL": "nats://127.0.0.1:1",
    }
    environment = plane_environment(directory, load_or_create(directory), urls)
    assert not read_control_plane_settings(environment).process.is_production
    # They would do in production too.
    assert read_control_plane_settings({**environment, "CADENCE_ENVIRONMENT": "production"}).process.is_production


def test_a_command_beside_a_running_stack_uses_its_settings_unless_the_operator_has_a_database_of_their_own(
    tmp_path: Path,
) -> None:
    directory = made(tmp_path)
    with directory.locked():
        backing = {"CADENCE_POSTGRES_URL": "postgresql://ours"}
        directory.write_state(StackState(pid=os.getpid(), url="http://127.0.0.1:8000", processes=(), backing=backing))
        assert completed({}, directory)["CADENCE_POSTGRES_URL"] == "postgresql://ours"
        assert "CADENCE_SECRET_KEY" not in completed({"CADENCE_SECRET_KEY": "mine"}, directory)
        assert completed({"CADENCE_POSTGRES_URL": "postgresql://mine"}, directory) == {}
    assert completed({}, directory) == {}
