"""URLs that are none of a ledger or a warehouse: what is said of them, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ledger import ConfigurationError, SessionLedger
from ledger.stores.sqlite.store import SqliteStore
from ledger.stores.urls import SqliteFile, parse_url
from ledger.warehouse.bigquery.settings import Dataset
from ledger.warehouse.urls import duckdb_file, parse_warehouse_url

PARSERS = [parse_url, parse_warehouse_url]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app:SECRET@db/app", "'postgresql://***@db/app'"),
        ("postgres+asyncpg://app:S@C/RET@db:5432/app", "'postgres+asyncpg://***@db:5432/app'"),
        ("mysql://SECRET@db", "'mysql://***@db'"),
        ("postgres://db/app?user=app&password=SECRET&sslmode=require", "?user=app&password=***&sslmode=require'"),
        ("postgres://db/app?sslPassword=S@CRET", "'postgres://db/app?sslPassword=***'"),
        ("app:SECRET@db/app", "'***@db/app'"),
        ("host=db password=SECRET", "'host=db password=***'"),
        ("https://db/?access_token=SECRET;x=1", "access_token=***;x=1'"),
    ],
)
def test_a_password_in_a_url_that_is_refused_is_not_shown(parse: Callable[[str], object], url: str, shown: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse(url)
    assert shown in str(refused.value)
    assert "CRET" not in str(refused.value)


def test_a_password_is_not_shown_either_where_the_url_is_no_text() -> None:
    with pytest.raises(ConfigurationError, match="not valid UTF-8") as refused:
        parse_warehouse_url("postgres://app:SECRET\ud800@db/app")
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("parse", PARSERS)
def test_who_names_a_postgres_database_is_told_how_to_bring_one_in(parse: Callable[[str], object]) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a Postgres database; `ledger import-store` imports"):
        parse("postgresql+psycopg://db/app")
    with pytest.raises(ConfigurationError) as refused:
        parse("ledger")
    assert str(refused.value).endswith(("begins with / or ./.", "(a path from the root)."))
    assert "'ledger'" in str(refused.value)


def test_a_warehouse_may_be_a_dataset_or_a_file() -> None:
    assert isinstance(parse_warehouse_url("bigquery://my-project/sessions"), Dataset)
    assert parse_warehouse_url("duckdb:////w.duckdb") == Path("/w.duckdb")


@pytest.mark.parametrize(
    ("location", "path", "read_only"),
    [
        ("sqlite:///ledger.db", "ledger.db", False),
        ("sqlite:///ledger.db?mode=ro", "ledger.db", True),
        ("sqlite:///ledger.db?mode=rw&synchronous=NORMAL", "ledger.db", False),
        ("sqlite:////srv/a b.db", "/srv/a b.db", False),
        ("sqlite:///~/app/ledger.db", "/home/ada/app/ledger.db", False),
        ("sqlite:///~.db", "~.db", False),
        ("sqlite:///./~/ledger.db", "~/ledger.db", False),
        ("sqlite:///./:memory:", ":memory:", False),
        (Path("ledger"), "ledger", False),
        (Path("/srv/app@1/ledger.db"), "/srv/app@1/ledger.db", False),
        ("ledger.db", "ledger.db", False),
        ("data/ledger.sqlite3", "data/ledger.sqlite3", False),
        ("/srv/app@1/ledger", "/srv/app@1/ledger", False),
        ("~/ledger", "/home/ada/ledger", False),
        ("./ledger.db?mode=ro", "./ledger.db", True),
        ("ledger.db?mode=ro", "ledger.db", True),
        ("../ledger", "../ledger", False),
    ],
)
def test_a_ledger_is_named_by_its_url_or_by_the_path_of_its_file(
    location: str | Path, path: str, read_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    parsed = parse_url(location)
    assert isinstance(parsed, SqliteFile)
    assert (parsed.path, parsed.read_only) == (Path(path), read_only)


def test_the_home_folder_is_known_in_a_warehouses_url_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert parse_warehouse_url("duckdb:///~/w.duckdb") == Path("/home/ada/w.duckdb")
    assert duckdb_file("duckdb:///~/w.duckdb") == Path("/home/ada/w.duckdb")


@pytest.mark.parametrize(
    "url",
    [
        ":memory:",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///:memory:?synchronous=NORMAL",
        "sqlite:///file::memory:?cache=shared",
        "file::memory:",
    ],
)
def test_a_database_in_memory_is_refused_with_what_to_use_in_a_test(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigurationError, match=r"a database in memory, and a ledger is a file \(sqlite:///ledger.db\).* tmp_path"
    ):
        SessionLedger(url)
    with pytest.raises(ConfigurationError, match=r"a database in memory, and a warehouse is a file"):
        SessionLedger("sqlite:///l.db", warehouse="duckdb:///:memory:")
    assert not (tmp_path / ":memory:").exists()


def test_a_ledger_in_the_home_folder_is_not_in_a_folder_named_by_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(ConfigurationError, match=f"There is no directory {tmp_path}/home for the ledger l.db"):
        SessionLedger("sqlite:///~/l.db")
    (tmp_path / "home").mkdir()
    with SessionLedger("sqlite:///~/l.db") as ledger:
        session_id = ledger.create_session("ada", "How many orders?")
    assert not (tmp_path / "~").exists()
    with SessionLedger(tmp_path / "home" / "l.db", create=False) as ledger:
        assert ledger.get_session(session_id).session_id == session_id
        assert ledger.url == f"sqlite:///{tmp_path}/home/l.db"


def test_a_path_or_a_mode_that_a_url_cannot_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="name cannot have a question mark"):
        parse_url(Path("/srv/what?.db"))
    with pytest.raises(ConfigurationError, match="has mode=memory; it must be ro"):
        parse_url("sqlite:///l.db?mode=memory")
    monkeypatch.setattr(Path, "expanduser", _homeless)
    with pytest.raises(ConfigurationError, match="the home folder is not known; set HOME, or write the folder"):
        parse_url("sqlite:///~/l.db")


def _homeless(path: Path) -> Path:
    raise RuntimeError(f"Could not determine home directory for {path}.")


def test_a_file_is_not_opened_with_a_setting_or_a_path_that_it_cannot_have(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="synchronous must be FULL or NORMAL, not 'OFF'"):
        SqliteStore(tmp_path / "l.db", synchronous="OFF")
    with pytest.raises(ConfigurationError, match="NUL character"):
        SqliteStore(f"{tmp_path}/l\0.db")
    assert not list(tmp_path.iterdir())


def test_a_path_with_dots_is_the_path_without_them_unless_a_link_leads_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "far" / "folder").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "folder")
    monkeypatch.chdir(tmp_path / "notebooks")
    for path in ("../w.duckdb", "./../notebooks/../w.duckdb", f"{tmp_path}/notebooks/.././w.duckdb"):
        assert parse_warehouse_url(f"duckdb:///{path}") == tmp_path / "w.duckdb"
        with closing(SqliteStore(path.replace(".duckdb", ".db"))) as store:
            assert store.path == tmp_path / "w.db"
    assert parse_warehouse_url("duckdb:///../link/w.duckdb") == tmp_path / "link" / "w.duckdb"
    assert parse_warehouse_url("duckdb:///../link/../w.duckdb") == tmp_path / "far" / "w.duckdb"
