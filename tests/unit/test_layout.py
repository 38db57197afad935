"""The package's shape: imports run one way, modules stay short, the model is pure, `import ledger` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
import tokenize
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ledger"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)

# The rooms, lowest first, each with the rooms that it stands on directly; it may import from those, from whatever they
# stand on, and from itself. docs/architecture.md draws the same. Two rooms of which neither stands on the other, such
# as `relay` and `stores`, know nothing of one another.
STANDS_ON: dict[str, tuple[str, ...]] = {
    "errors": (),
    "extras": ("errors",),
    "forking": ("errors",),
    "files": ("errors",),
    "holding": ("errors",),
    "settings": ("errors",),
    "model": ("errors",),
    "clock": ("model",),
    "outbox": ("model",),
    "relay": ("outbox", "clock", "forking", "holding", "extras"),
    "warehouse": ("outbox", "clock", "forking", "holding", "settings", "extras", "files"),
    "stores": ("warehouse",),
    "tiers": ("stores", "relay"),
    "formats": ("tiers",),
    "sdk": ("tiers",),
    "analytics": ("formats", "sdk"),
    "compat": ("analytics",),
    "adapters": ("analytics",),
    "testing": ("analytics", "public"),
    "server": ("compat",),
    "mcp": ("compat",),
    "console": ("compat",),
    "cli": ("compat", "server", "mcp", "console"),
    # `ledger` itself, which names what others may rely on.
    "public": ("sdk",),
}


def below(room: str) -> set[str]:
    """Every room that one may import from."""
    found = {room}
    for lower in STANDS_ON[room]:
        found |= below(lower)
    return found


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "public"


# What the model may take from the standard library: nothing that reads a file, a socket, a clock or chance.
PURE = {
    "__future__",
    "abc",
    "base64",
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "difflib",
    "decimal",
    "enum",
    "functools",
    "hashlib",
    "hmac",
    "heapq",
    "html",
    "ipaddress",
    "itertools",
    "json",
    "math",
    "operator",
    "pathlib",
    "pydantic_core",
    "re",
    "signal",
    "string",
    "struct",
    "sys",
    "types",
    "typing",
    "unicodedata",
    "uuid",
    "warnings",
    # other people's, as pure
    "orjson",
    "pydantic",
    "uuid_utils",
}
# Pure modules have impure corners.
IMPURE_NAMES = {
    "pathlib": {"Path", "PosixPath", "WindowsPath"},
    "sys": {"argv", "exit", "path", "stderr", "stdin", "stdout"},
    "datetime": {"now", "utcnow", "today"},
    "signal": {"alarm", "pause", "raise_signal", "set_wakeup_fd", "setitimer", "signal"},
    "uuid": {"uuid1", "uuid4", "uuid6", "uuid7", "getnode"},
    "uuid_utils": {"uuid1", "uuid4", "uuid6", "uuid7", "getnode"},
}
SOFT, HARD = 400, 600


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Every module a file imports, at the top or inside a function, by its absolute name; typing-only ones too."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")
                above = above[: len(above) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                # `from ledger.model import ids` imports a module, `from ledger.errors import InvalidInput` a name.
                whole = f"{base}.{alias.name}"
                found.add(whole if is_module(whole) else base)
    return found


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def ids(path: Path) -> str:
    return name_of(path)


def test_there_are_modules_to_check():
    assert MODULES


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_imports_run_one_way(path):
    room = room_of(name_of(path))
    assert room in STANDS_ON, f"ledger/{room} has no place in STANDS_ON"
    own = {imported for imported in imports_of(path) if imported.split(".")[0] == "ledger"}
    upward = {imported for imported in own if room_of(imported) not in below(room)}
    assert not upward, f"ledger/{room} does not stand on what {name_of(path)} imports: {sorted(upward)}"


def test_no_modules_import_one_another():
    """Imports inside functions and those for typing count: a circle is one whenever it is closed."""
    known = {name_of(path): path for path in MODULES}
    graph = {name: (imports_of(path) & known.keys()) - {name} for name, path in known.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' -> '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_no_module_is_too_long(path):
    code: set[int] = set()
    with tokenize.open(path) as file:
        previous = tokenize.NEWLINE
        for token in tokenize.generate_tokens(file.readline):
            if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
                continue
            # A string that is a whole statement is a docstring: long promises are welcome.
            docstring = token.type == tokenize.STRING and previous == tokenize.NEWLINE
            if token.type != tokenize.NEWLINE and not docstring:
                code.update(range(token.start[0], token.end[0] + 1))
            previous = token.type
    assert len(code) <= HARD, f"{name_of(path)} has {len(code)} lines of code: split it by idea (over {SOFT} is long)"


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path).startswith("ledger.model")], ids=ids)
def test_the_model_is_pure(path):
    imported = {name for name in imports_of(path) if name.split(".")[0] != "ledger"}
    impure = {name for name in imported if name.split(".")[0] not in PURE}
    assert not impure, f"{name_of(path)} imports {sorted(impure)}"
    reached = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name | ast.Attribute)
        and node.attr in IMPURE_NAMES.get(node.value.id if isinstance(node.value, ast.Name) else node.value.attr, set())
    }
    assert not reached, f"{name_of(path)} asks the clock or chance: {sorted(reached)}"


def test_importing_ledger_loads_nothing_heavy():
    program = "import sys, ledger; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "ledger" in loaded
    heavy = {
        "google.cloud",
        "google.api_core",
        "grpc",
        "duckdb",
        "pandas",
        "pyarrow",
        "pydantic",
        "fastapi",
        "sqlglot",
    }
    assert not loaded & heavy
