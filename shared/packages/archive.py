"""Reading a plugin's zip: every rule of the package contract about the archive itself.

Nothing is written to disk here, and nothing of a package is trusted: sizes are counted while reading, names are checked
as the archive spells them. All reasons for a refusal are told at once as far as they can be found without unpacking.
"""

import io
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from shared.errors import BodyTooLarge, FieldError, PluginRefused

MAX_PACKAGE_BYTES = 5 * 1024 * 1024
MAX_ENTRIES = 500
MAX_UNPACKED_BYTES = 20 * 1024 * 1024
MAX_NAME_CHARS = 200
ENTRY_POINT = "plugin.py"

_MAGIC = b"PK\x03\x04"
_EMPTY_MAGIC = b"PK\x05\x06"
_CHUNK_BYTES = 64 * 1024
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED_FLAG = 0x1
# PKWARE's APPNOTE 4.5.7: times and owner, and after these where a hard or symbolic link leads, or a device's numbers.
_UNIX_FIELD, _UNIX_FIELD_OF_A_FILE = 0x000D, 12
# What macOS and Python leave behind in zips; no part of the plugin.
_LITTER = ("__MACOSX", "__pycache__", ".DS_Store")
# These act on an interpreter by merely lying in the right place, or are not Python source at all.
_HOOK_NAMES = ("sitecustomize.py", "usercustomize.py")
_FOREIGN_SUFFIXES = (".pth", ".so", ".pyd", ".dll", ".dylib", ".pyc")


class PackageFiles(msgspec.Struct, frozen=True):
    """A package's files by their path beside `plugin.py`. `folder` is the top folder they were in, "" for none."""

    files: dict[str, bytes]
    folder: str

    def write_to(self, directory: Path) -> None:
        """Unpack below `directory`, which must exist; the names were checked when the archive was read."""
        for name, content in self.files.items():
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def read_package(data: bytes) -> PackageFiles:
    """Raises BodyTooLarge above 5 MiB and PluginRefused, with all reasons, for anything that breaks a rule."""
    if len(data) > MAX_PACKAGE_BYTES:
        raise BodyTooLarge(f"a package has at most {MAX_PACKAGE_BYTES // 1024**2} MiB")
    if data.startswith(_EMPTY_MAGIC):
        raise refusal("no_plugin", "the zip is empty")
    if not data.startswith(_MAGIC):
        raise refusal("not_a_zip", "this is not a zip file")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _read(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OverflowError, ValueError) as error:
        # What zipfile raises for damaged archives; its words ("Bad CRC-32 for file 'x'") are good enough for an author.
        raise refusal("broken_zip", f"the zip is damaged: {str(error) or type(error).__name__}") from None


def refusal(code: str, message: str, *, field: str = "file") -> PluginRefused:
    return PluginRefused(message, errors=(FieldError(field, code, message),))


def _read(archive: zipfile.ZipFile) -> PackageFiles:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise refusal("too_many_entries", f"the zip has {len(entries)} entries, at most {MAX_ENTRIES} are allowed")
    if problems := [*_entry_problems(entries), *_name_collisions(entries)]:
        raise PluginRefused("the zip breaks the package rules", errors=tuple(problems))
    kept = [e for e in entries if not e.is_dir() and not _is_litter(e.filename)]
    folder = _plugin_folder([e.filename for e in kept])
    prefix = f"{folder}/" if folder else ""
    budget = MAX_UNPACKED_BYTES
    files: dict[str, bytes] = {}
    for entry in kept:
        content = _unpacked(archive, entry, budget)
        budget -= len(content)
        if entry.filename.startswith(prefix):
            files[entry.filename.removeprefix(prefix)] = content
    return PackageFiles(files, folder)


def _entry_problems(entries: list[zipfile.ZipInfo]) -> Iterator[FieldError]:
    for entry in entries:
        # zipfile cuts names at a NUL and turns separators around, so the name as written is what is checked.
        name = entry.orig_filename
        shown = name[:MAX_NAME_CHARS].encode("unicode_escape").decode()
        if problem := _name_problem(name):
            yield FieldError("file", "name", f"{shown}: {problem}")
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR) or _leads_elsewhere(entry.extra):
            yield FieldError("file", "special_file", f"{shown}: only plain files are allowed, no links and no devices")
        if entry.flag_bits & _ENCRYPTED_FLAG:
            yield FieldError("file", "encrypted", f"{shown}: the entry is encrypted")
        if entry.compress_type not in _METHODS:
            yield FieldError("file", "compression", f"{shown}: only stored and deflated entries are allowed")
        path = PurePosixPath(name)
        if not _is_litter(name) and (path.name in _HOOK_NAMES or path.suffix in _FOREIGN_SUFFIXES):
            yield FieldError("file", "not_source", f"{shown}: a package holds Python source and data files only")


def _leads_elsewhere(extra: bytes) -> bool:
    """Whether the extra fields name a file that this one is a link to, or what is not a plain file at all."""
    while len(extra) >= 4:
        kind, size = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        if kind == _UNIX_FIELD and size > _UNIX_FIELD_OF_A_FILE:
            return True
        extra = extra[4 + size :]
    return False


def _name_problem(name: str) -> str | None:
    if not name or len(name) > MAX_NAME_CHARS:
        return f"a name has 1 to {MAX_NAME_CHARS} characters"
    if "\\" in name or not name.isprintable():
        return "backslashes and control characters are not allowed in names"
    if name.startswith("/") or name[1:2] == ":":
        return "the path is absolute"
    if any(part in ("", ".", "..") for part in name.removesuffix("/").split("/")):
        return "the path leaves the package or holds an empty part"
    return None


def _name_collisions(entries: list[zipfile.ZipInfo]) -> Iterator[FieldError]:
    """Names that some file system would take for one: equal, or equal but for case or Unicode form; and a file where
    another entry needs a folder.
    """
    seen: dict[str, str] = {}
    for entry in entries:
        name = entry.filename.removesuffix("/")
        folded = _folded(name)
        if other := seen.get(folded):
            yield FieldError(
                "file", "duplicate", f"{name}: there is also {other}, and some systems cannot tell them apart"
            )
        seen[folded] = name
    files = {_folded(e.filename) for e in entries if not e.is_dir()}
    for name in seen:
        for parent in PurePosixPath(name).parents:
            if str(parent) in files:
                yield FieldError("file", "duplicate", f"{seen[name]}: {parent} is a file and a folder at once")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _is_litter(name: str) -> bool:
    return any(part in _LITTER for part in name.split("/"))


def _plugin_folder(names: list[str]) -> str:
    """ "" when `plugin.py` is at the root, else the single top folder it is in."""
    found = [name for name in names if PurePosixPath(name).name == ENTRY_POINT]
    if not found:
        raise refusal("no_plugin", "there is no plugin.py in the zip")
    if len(found) > 1:
        raise refusal("several_plugins", f"there must be exactly one plugin.py, found {', '.join(sorted(found))}")
    folder, _, _ = found[0].rpartition("/")
    if "/" in folder:
        raise refusal("no_plugin", f"plugin.py must be at the root or in one top folder, it is at {found[0]}")
    if folder and (outside := sorted(n for n in names if not n.startswith(f"{folder}/"))):
        raise refusal("several_folders", f"everything must be in the folder {folder}, but {outside[0]} is not")
    return folder


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, budget: int) -> bytes:
    """The entry's bytes, never reading more than one chunk past what is left of the budget: the sizes an archive states
    about itself are not believed.
    """
    parts: list[bytes] = []
    with archive.open(entry) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            budget -= len(chunk)
            if budget < 0:
                raise refusal("too_large", f"the package unpacks to more than {MAX_UNPACKED_BYTES // 1024**2} MiB")
            parts.append(chunk)
    return b"".join(parts)
