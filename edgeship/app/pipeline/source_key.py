"""The user's own code that a configuration runs: which modules, a hash of each, and a fresh import of what was edited.

A cached result is current only while the code that made it is. What a factory makes is hashed too, but code that acts
in training alone (a layer's `call(training=True)`, a custom gradient) shows in its source only.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from edgeship.core.config import ModelConfig
from edgeship.core.files import sha256_of_file

# Named by the version in every key.
OWN_PACKAGES = ("edgeship", "quantize", "export", "validate")
INSTALLED_FOLDERS = frozenset({"site-packages", "dist-packages"})
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))

# Module name -> the module, and the hash of its file when it was first seen here, that is right after it was imported.
_imported: dict[str, tuple[ModuleType, str]] = {}


def named_modules(config: ModelConfig, *functions: str | None) -> tuple[str, ...]:
    """The modules of the user's that a configuration names; none for the home model.

    `functions` are further names of the form "module:function".
    """
    named = [name for name in (config.factory, *functions) if name and ":" in name]
    return (*(name.partition(":")[0] for name in named), *config.custom_objects)


def put_first(folder: Path) -> None:
    """Make the modules in a folder importable, before those of the same name elsewhere."""
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))


def forget_edited_modules(names: Iterable[str], folder: Path | None) -> None:
    """Let Python import anew what it has imported once and is not what would be imported now.

    That is the user's modules when the file of any of them has changed, and a module of this name that came from
    another folder than the one that comes first now. (A session that stays open, a notebook, runs many configurations.)
    """
    for name in [name for name, (module, _) in _imported.items() if sys.modules.get(name) is not module]:
        del _imported[name]
    if any(_hash_of(module) != known for module, known in _imported.values()):
        for name in list(_imported):
            sys.modules.pop(name, None)
        _imported.clear()
    for top in {name.partition(".")[0] for name in names}:
        loaded, beside = _file_of(sys.modules.get(top)), None if folder is None else _beside(folder, top)
        if loaded is not None and beside is not None and loaded.resolve() != beside.resolve():
            for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
                sys.modules.pop(name)
                _imported.pop(name, None)
    importlib.invalidate_caches()


def source_key(names: Iterable[str], folder: Path | None) -> dict[str, str]:
    """Module name -> SHA-256 of its file, of every module of the user's that is imported by now.

    These are the named modules wherever they are, every imported module from the folder of the configuration, and what
    all of them import, other installed distributions left out. To be called after the factory was, which may import
    more.
    """
    named = tuple(names)
    packages = {name.partition(".")[0] for name in named}
    pending = [*named, *(name for name, module in list(sys.modules.items()) if _is_beside(module, folder))]
    found: dict[str, ModuleType] = {}
    while pending:
        name = pending.pop()
        module = sys.modules.get(name)
        if module is None or name in found:
            continue
        found[name] = module
        pending += [
            other for other in (*_parents(name), *_imports_of(module))
            if _is_users(sys.modules.get(other)) or other.partition(".")[0] in packages
        ]
    hashes = {name: _hash_of(module) for name, module in sorted(found.items())}
    key = {name: value for name, value in hashes.items() if value is not None}
    for name, value in key.items():
        if name not in _imported or _imported[name][0] is not found[name]:
            _imported[name] = found[name], value
    return key


def _imports_of(module: ModuleType) -> Iterator[str]:
    """The full names of the modules that a module's source imports, in functions too."""
    path = _file_of(module)
    try:
        tree = ast.parse(path.read_bytes()) if path is not None and path.suffix == ".py" else ast.Module([], [])
    except (OSError, SyntaxError, ValueError):
        return
    package = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:
                continue
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))


def _is_beside(module: ModuleType | None, folder: Path | None) -> bool:
    if folder is None or not _is_users(module):
        return False
    path = _file_of(module)
    return path is not None and path.resolve().is_relative_to(folder.resolve())


def _is_users(module: ModuleType | None) -> bool:
    """Not of Python, of an installed distribution, or of edgeship; `__main__` is the program that asks."""
    file = getattr(module, "__file__", None)
    if module is None or not isinstance(file, str):
        return False
    # Nearly all of thousands of modules are installed: with a Path for each the key would take a fifth of a second.
    if not INSTALLED_FOLDERS.isdisjoint(file.split(os.sep)):  # noqa: PTH206
        return False
    if module.__name__.partition(".")[0] in (*OWN_PACKAGES, "__main__"):
        return False
    return not Path(file).is_relative_to(STANDARD_LIBRARY)


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if isinstance(file, str) else None


def _hash_of(module: ModuleType | None) -> str | None:
    path = _file_of(module)
    return sha256_of_file(path) if path is not None and path.is_file() else None


def _beside(folder: Path, top: str) -> Path | None:
    candidates = (folder / f"{top}.py", folder / top / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)
