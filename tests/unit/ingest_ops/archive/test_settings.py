import os
from pathlib import Path

import pytest

from ingest.core.errors import BadSettings
from ingest_ops.archive.settings import ArchiveSettings


def test_defaults_are_a_folder(tmp_path: Path) -> None:
    settings = ArchiveSettings.load({"K2_ARCHIVE_WAREHOUSE": str(tmp_path)})
    assert settings.catalog["warehouse"] == f"file://{tmp_path}"
    assert settings.catalog["uri"] == f"sqlite:///{tmp_path}/catalog.db"
    assert settings.certificates_location == f"file://{tmp_path}/certificates"
    assert settings.positions == "market.crypto.trades.binance.positions"


def test_values_are_read() -> None:
    settings = ArchiveSettings.load({
        "K2_ARCHIVE_WORKERS": "3", "K2_ARCHIVE_GRACE_SECONDS": "1.5", "K2_ARCHIVE_SIGNING_KEY": "/k.pem",
        "K2_ARCHIVE_KAFKA_OPTIONS": "a=1, b=2=3", "K2_ARCHIVE_FILES_URL": "",
    })  # fmt: skip
    assert (settings.workers, settings.grace_seconds, settings.signing_key) == (3, 1.5, Path("/k.pem"))
    assert (settings.kafka, settings.files_url) == ({"a": "1", "b": "2=3"}, "")


def test_every_problem_at_once() -> None:
    with pytest.raises(BadSettings) as caught:
        ArchiveSettings.load({
            "K2_ARCHIVE_WHEREHOUSE": "x", "K2_ARCHIVE_WORKERS": "many", "K2_ARCHIVE_REST_URL": "api",
            "K2_ARCHIVE_TABLE": "Trades;", "K2_ARCHIVE_WAREHOUSE": "s3://b", "K2_ARCHIVE_KAFKA_OPTIONS": "x",
        })  # fmt: skip
    text = "\n".join(caught.value.problems)
    for name in ("WHEREHOUSE", "WORKERS", "REST_URL", "TABLE", "CATALOG_URI", "KAFKA_OPTIONS"):
        assert f"K2_ARCHIVE_{name}" in text


def test_the_catalog_s_address_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql+psycopg2://a:b@c/d\n")
    stated = {"K2_ARCHIVE_CATALOG_URI_FILE": str(file)}
    assert ArchiveSettings.load(stated).catalog["uri"] == "postgresql+psycopg2://a:b@c/d"
    with pytest.raises(BadSettings, match="allowed is one of them"):
        ArchiveSettings.load(stated | {"K2_ARCHIVE_CATALOG_URI": "sqlite://"})
    with pytest.raises(BadSettings, match=r"cannot be read \(No such file"):
        ArchiveSettings.load({"K2_ARCHIVE_CATALOG_URI_FILE": str(tmp_path / "none")})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadSettings, match=r"pipe': cannot be read \(is no file\)"):
        ArchiveSettings.load({"K2_ARCHIVE_CATALOG_URI_FILE": str(tmp_path / "pipe")})


def test_secrets_come_from_files(tmp_path: Path) -> None:
    options, password = tmp_path / "options", tmp_path / "password"
    options.write_text("sasl.username=u\nsasl.password=a,CANARY=1\n\n")
    password.write_text("CANARY\n")
    settings = ArchiveSettings.load({
        "K2_ARCHIVE_KAFKA_OPTIONS_FILE": str(options), "K2_ARCHIVE_CATALOG_OPTIONS_FILE": str(options),
        "K2_ARCHIVE_SCHEMA_REGISTRY_PASSWORD_FILE": str(password),
    })  # fmt: skip
    assert settings.kafka == {"sasl.username": "u", "sasl.password": "a,CANARY=1"}
    assert settings.catalog["sasl.password"] == "a,CANARY=1"
    assert settings.schema_registry_password == "CANARY"  # noqa: S105


def test_a_secret_s_file_is_alone_and_can_be_read(tmp_path: Path) -> None:
    for name in ("KAFKA_OPTIONS", "CATALOG_OPTIONS", "SCHEMA_REGISTRY_PASSWORD"):
        file = {f"K2_ARCHIVE_{name}_FILE": str(tmp_path / "none")}
        with pytest.raises(BadSettings, match=rf"{name}_FILE='.*none': cannot be read \(No such file"):
            ArchiveSettings.load(file)
        with pytest.raises(BadSettings, match=f"{name} and K2_ARCHIVE_{name}_FILE: allowed is one"):
            ArchiveSettings.load(file | {f"K2_ARCHIVE_{name}": "a=b"})


def test_a_password_that_a_comma_cuts_is_not_shown() -> None:
    with pytest.raises(BadSettings, match="K2_ARCHIVE_KAFKA_OPTIONS: option 2 is not name=value") as caught:
        ArchiveSettings.load({"K2_ARCHIVE_KAFKA_OPTIONS": "sasl.password=a,CANARY"})
    assert "CANARY" not in str(caught.value)
