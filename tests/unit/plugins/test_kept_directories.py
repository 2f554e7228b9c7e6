"""Directories that are kept while somebody uses them, and temporary ones that outlive nobody."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.packages.kept import KeptDirectories
from shared.packages.workplaces import Workplaces

OLD, NEW, BASE = "0" * 40, "1" * 64, f"base-{'2' * 40}"
DAY = 86400.0


@pytest.fixture
def kept(tmp_path: Path) -> KeptDirectories:
    return KeptDirectories(tmp_path / "kept")


def made(kept: KeptDirectories, name: str, *, unused_days: float = 0.0) -> Path:
    home = kept.root / name
    (home / "inside").mkdir(parents=True)
    (home / "inside" / "file").write_text("x")
    (home / "inside").chmod(0o555)
    home.chmod(0o555)
    at = time.time() - unused_days * DAY
    os.utime(home, (at, at))
    return home


def test_what_nobody_used_for_two_weeks_is_removed_and_nothing_else(kept: KeptDirectories) -> None:
    old, new, base = made(kept, OLD, unused_days=15), made(kept, NEW, unused_days=13), made(kept, BASE, unused_days=15)
    foreign = made(kept, "photos", unused_days=1000)

    assert sorted(kept.prune(())) == [OLD, BASE]

    assert (old.exists(), base.exists(), new.exists(), foreign.exists()) == (False, False, True, True)
    assert [entry.name for entry in kept.root.iterdir() if entry.name.startswith(".")] == [".locks"]


def test_using_a_directory_and_holding_it_both_keep_it(kept: KeptDirectories) -> None:
    made(kept, OLD, unused_days=15)
    made(kept, NEW, unused_days=15)
    other_process = KeptDirectories(kept.root)

    assert kept.use(OLD) == kept.root / OLD
    assert kept.prune([NEW]) == []
    # The other one does not know what this one holds, and sees that it was used.
    assert other_process.prune(()) == []


def test_a_cache_that_cannot_be_written_to_can_be_used(kept: KeptDirectories) -> None:
    home = made(kept, OLD)
    (kept.root / ".locks").write_text("no directory, so that no lock can be made, whoever asks")

    assert (kept.use(OLD), kept.use(NEW)) == (home, None)
    with pytest.raises(OSError, match=r"\.locks"):
        kept.check(NEW)


def test_what_is_not_there_is_not_used(kept: KeptDirectories) -> None:
    assert kept.use(OLD) is None


async def test_what_is_being_made_stays_and_what_a_dead_process_left_goes(kept: KeptDirectories) -> None:
    kept.root.mkdir()
    left = kept.workplace(OLD)
    async with kept.alone(NEW):
        making = kept.workplace(NEW)

        removed = await asyncio.to_thread(KeptDirectories(kept.root).prune, ())

    assert removed == [left.name]
    assert making.is_dir()


async def test_what_is_being_removed_is_waited_for_and_made_again(kept: KeptDirectories) -> None:
    made(kept, OLD, unused_days=15)
    async with kept.alone(OLD):
        # As if another process were about to remove it: it is not handed out any more.
        assert await asyncio.to_thread(KeptDirectories(kept.root).use, OLD) is None
        assert await asyncio.to_thread(KeptDirectories(kept.root).prune, ()) == []
    assert kept.use(OLD)


def test_temporary_directories_end_with_their_process_however_that_ends(tmp_path: Path) -> None:
    program = "import sys, os; from pathlib import Path; from shared.packages.workplaces import Workplaces\n"
    program += "own = Workplaces(Path(sys.argv[1])); print(own.make('host-'), flush=True); os.kill(os.getpid(), 9)"
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False
    )
    left = Path(ended.stdout.strip())
    assert left.is_dir()

    first, second = Workplaces(tmp_path), Workplaces(tmp_path)
    ours, others = first.make("host-"), second.make("host-")

    assert not left.parent.exists()
    assert ours.is_dir()
    assert others.stat().st_mode & 0o777 == 0o700
    first.close()
    assert (ours.exists(), others.exists()) == (False, True)
    second.close()
    assert list(tmp_path.glob("process-*")) == []
