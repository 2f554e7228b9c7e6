"""Dependency locks: what one may say."""

import pytest

from shared.errors import FieldError
from shared.packages.locks import LOCK_NAME, MAX_LOCK_BYTES, lock_text, provided_problems, read_lock, unlocked

HASH = "--hash=sha256:" + "ab" * 32
OTHER_HASH = "--hash=sha256:" + "cd" * 32


def problems_of(text: str) -> str:
    packages, problems = read_lock(text)
    assert problems, packages
    assert all(problem.field == LOCK_NAME for problem in problems)
    return "\n".join(problem.message for problem in problems)


def test_every_spelling_of_a_lock_comes_to_the_same_text() -> None:
    one = f"# by uv\nidna==3.10 \\\n    {OTHER_HASH} \\\n    {HASH}\n    # via requests\nTides_API==1.0 {HASH}\n\n"
    other = f"tides-api==1.0 {HASH}\nidna == 3.10 {HASH} {OTHER_HASH}"

    texts = [lock_text(read_lock(text)[0]) for text in (one, other)]

    assert texts[0] == texts[1]
    assert texts[0] == f"idna==3.10 \\\n    {HASH} \\\n    {OTHER_HASH}\ntides-api==1.0 \\\n    {HASH}\n"
    assert lock_text(read_lock(texts[0])[0]) == texts[0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("--index-url https://evil.example/simple", "options are not allowed"),
        ("-r other.txt", "options are not allowed"),
        ("-e .", "options are not allowed"),
        (f"--hash=sha256:{'ab' * 32}", "options are not allowed"),
        (f"idna @ https://evil.example/idna.whl {HASH}", "not from a URL or a path"),
        (f"idna @ file:///etc/passwd {HASH}", "not from a URL or a path"),
        (f"./idna.whl {HASH}", "is not a line such as"),
        (f"https://evil.example/idna.whl {HASH}", "is not a line such as"),
        (f"idna>=3 {HASH}", "one exact version"),
        (f"idna==3.* {HASH}", "one exact version"),
        (f"idna==3,<4 {HASH}", "one exact version"),
        (f"idna {HASH}", "one exact version"),
        ("idna==3.10", "each package needs its hashes"),
        ("idna==3.10 --hash=md5:" + "ab" * 16, "each package needs its hashes"),
        (f"idna==3.10 {HASH} --no-binary=idna", "each package needs its hashes"),
        (f"idna==3.10 {HASH} --config-settings x=y", "each package needs its hashes"),
    ],
)
def test_a_lock_holds_exact_hashed_packages_of_the_index_and_nothing_else(line: str, reason: str) -> None:
    found = problems_of(f"fine==1.0 {HASH}\n{line}\n")

    assert reason in found
    assert "line 2" in found


def test_a_lock_has_a_size() -> None:
    assert "larger than" in problems_of("#" * (MAX_LOCK_BYTES + 1))
    assert "at most 200" in problems_of("\n".join(f"p{i}==1.0 {HASH}" for i in range(201)))


def test_what_the_platform_provides_is_never_taken_from_a_lock() -> None:
    packages, problems = read_lock(f"pydantic==1.0 {HASH}\ncadence_sdk==9.0 {HASH}\nidna==3.10 {HASH}")

    assert problems == []
    assert [package.name for package in packages] == ["idna"]


def test_a_lock_holds_what_is_declared() -> None:
    packages, _ = read_lock(f"idna==3.10 {HASH}\nonly-here==1.0 ; sys_platform == 'nowhere' {HASH}")
    requires = ("idna>=3", "idna<3", "tides", "pydantic>=2", "winreg ; sys_platform == 'nowhere'", "only-here")

    found = [problem.message for problem in unlocked(requires, packages)]

    assert found == [
        "requirements.lock: it has idna 3.10, which is not idna<3",
        "requirements.lock: the dependency tides is not in it",
        "requirements.lock: the dependency only-here is not in it",
    ]


def test_another_version_than_the_platforms_is_told_with_both() -> None:
    (problem,) = provided_problems(("pydantic<1", "pydantic>=2", "cadence-sdk", "tides<1"))

    assert isinstance(problem, FieldError)
    assert problem.message.startswith("the dependency pydantic<1 is not available: this platform has 2")
