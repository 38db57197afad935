"""The package's shape: imports run one way, modules stay short, the model is pure, `import ledger` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ledger"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)

# Lowest first. A module may import from its own layer and from any below; a longer name wins over a shorter one.
LAYERS: list[tuple[str, ...]] = [
    ("ledger.errors",),
    ("ledger.model",),
    ("ledger.clock", "ledger.stores.base", "ledger.warehouse.base"),
    ("ledger.stores", "ledger.warehouse", "ledger.projection", "ledger.relay"),
    ("ledger.opened", "ledger.profiles", "ledger.sdk", "ledger.sessions", "ledger.aio", "ledger.aio_iteration"),
    (
        "ledger.exchange",
        "ledger.recording",
        "ledger.openai_chat",
        "ledger.wide_table",
        "ledger.lifecycle",
        "ledger.analytics",
    ),
    # The edges, and what others build upon; `ledger` itself only names what lies below.
    (
        "ledger.compat",
        "ledger.adapters",
        "ledger.api",
        "ledger.web",
        "ledger.mcp",
        "ledger.cli",
        "ledger.testing",
    ),
    ("ledger",),
]
# A module that stands beside the chain must say where: a name in no layer but the last fails below.
EDGES = len(LAYERS) - 1

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
    "decimal",
    "enum",
    "functools",
    "hashlib",
    "hmac",
    "heapq",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "string",
    "struct",
    "types",
    "typing",
    "unicodedata",
    "uuid",
    # other people's, as pure
    "orjson",
    "pydantic",
    "uuid_utils",
}
# Pure modules have impure corners.
IMPURE_NAMES = {
    "datetime": {"now", "utcnow", "today"},
    "uuid": {"uuid1", "uuid4", "uuid6", "uuid7", "getnode"},
    "uuid_utils": {"uuid1", "uuid4", "uuid6", "uuid7", "getnode"},
}
SOFT, HARD = 400, 600


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> int:
    matches = [
        (len(prefix), index)
        for index, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if module == prefix or module.startswith(prefix + ".")
    ]
    return max(matches)[1]


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
    module = name_of(path)
    assert module == "ledger" or layer_of(module) < EDGES, f"{module} has no place in LAYERS"
    upward = {
        imported
        for imported in imports_of(path)
        if imported.split(".")[0] == "ledger" and imported != "ledger" and layer_of(imported) > layer_of(module)
    }
    assert not upward, f"{module} imports from a higher layer: {sorted(upward)}"


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_modules_import_from_where_a_name_lives(path):
    """Below the edges, `from ledger import X` would load the public names while they are being made."""
    if layer_of(name_of(path)) < EDGES - 1:
        assert "ledger" not in imports_of(path)


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
