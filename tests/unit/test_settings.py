"""Settings: defaults that work, wrong ones refused with what to do, secrets never shown."""

from __future__ import annotations

import os

import pytest

from multimail_server import settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from outside."""
    for name in list(os.environ):
        if name.startswith(("MULTIMAIL_", "MONGODB_")):
            monkeypatch.delenv(name)


def test_defaults() -> None:
    """Without any setting everything listens on this machine, on the embedded engine."""
    found = settings.from_environment()
    assert ("127.0.0.1", 50051, "127.0.0.1", 2525, "motor", "") == (
        found.host, found.port, found.smtp_host, found.smtp_port, found.mongo_driver,
        found.mongodb_uri.get_secret_value(),
    )  # fmt: skip
    assert [] == found.warnings
    assert found.data / "outbox" == found.outbox_folder


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MULTIMAIL_PROT", "1", "did you mean MULTIMAIL_PORT"),
        ("MULTIMAIL_PORT", "x", "MULTIMAIL_PORT"),
        ("MULTIMAIL_PORT", "70000", "MULTIMAIL_PORT"),
        ("MULTIMAIL_MONGO_DRIVER", "mysql", "MULTIMAIL_MONGO_DRIVER"),
        ("MULTIMAIL_TLS_CERT", "/x.pem", "go together"),
        ("MULTIMAIL_SMTP_URL", "relay.test:25", "smtp://user:password@host:587"),
        ("MULTIMAIL_SMTP_URL", "smtp://relay.test:port", "smtp://user:password@host:587"),
        ("MONGODB_URI", "postgres://x", "mongodb://"),
        ("MULTIMAIL_HTTP_PORT", "-1", "MULTIMAIL_HTTP_PORT"),
        ("MULTIMAIL_HTTP_PORT", "", "MULTIMAIL_HTTP_PORT"),
        ("MULTIMAIL_PUBLIC_URL", "http://mail.example", "MULTIMAIL_PUBLIC_URL must look like https://"),
        ("MULTIMAIL_PUBLIC_URL", "https://mail.example/>,<x", "MULTIMAIL_PUBLIC_URL"),
        ("MULTIMAIL_PUBLIC_URL", "https://[x", "MULTIMAIL_PUBLIC_URL must look like https://"),
        ("MULTIMAIL_CORS_ORIGINS", "app.example", "MULTIMAIL_CORS_ORIGINS must list origins"),
        ("MULTIMAIL_CORS_ORIGINS", "https://app.example/", "MULTIMAIL_CORS_ORIGINS"),
        ("MULTIMAIL_DEADLINE_S", "0", "MULTIMAIL_DEADLINE_S"),
        ("MULTIMAIL_WORKERS", "0", "MULTIMAIL_WORKERS: Input should be greater than or equal to 1"),
        ("MULTIMAIL_CONNECTION_AGE_S", "0", "MULTIMAIL_CONNECTION_AGE_S"),
    ],
)
def test_wrong_settings_say_what_to_do(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    """A wrong setting ends the start with a sentence that names it and what it should be."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        settings.from_environment()
    assert said in str(ended.value)


def test_the_command_line_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--workers` is checked like the variable and wins over it; several need a system that spreads connections."""
    monkeypatch.setenv("MULTIMAIL_WORKERS", "3")
    monkeypatch.setattr("sys.platform", "linux")
    assert (3, 2) == (settings.from_environment().workers, settings.from_environment(workers="2").workers)
    with pytest.raises(SystemExit, match="MULTIMAIL_WORKERS"):
        settings.from_environment(workers="many")
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(SystemExit, match="leave it at 1"):
        settings.from_environment()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The passwords in URLs are in no representation of the settings; the client's variables are left alone."""
    monkeypatch.setenv("MONGODB_URI", "mongodb://user:geheim@db.test/")
    monkeypatch.setenv("MULTIMAIL_SMTP_URL", "smtp://user:geheim@relay.test")
    monkeypatch.setenv("MULTIMAIL_API_KEY", "mm_live_geheim")
    found = settings.from_environment()
    assert "geheim" not in repr(found) + str(found)
    assert "geheim" in found.mongodb_uri.get_secret_value()


def test_plaintext_to_the_world_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listening to the network without TLS works, with a warning."""
    monkeypatch.setenv("MULTIMAIL_HOST", "0.0.0.0")
    (warning,) = settings.from_environment().warnings
    assert "MULTIMAIL_TLS_CERT" in warning
    monkeypatch.setenv("MULTIMAIL_HTTP_HOST", "::")
    assert ["gRPC", "HTTP"] == [each.split()[0] for each in settings.from_environment().warnings]


def test_a_port_for_this_machine_knows_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that only this machine reaches is known by its public name besides; one of the world's by any name."""
    for url, host, names in (
        ("", "127.0.0.1", []),
        ("https://mail.example.com:8443/x", "localhost", ["mail.example.com"]),
        ("https://mail.example.com", "0.0.0.0", ["*"]),
    ):
        monkeypatch.setenv("MULTIMAIL_PUBLIC_URL", url)
        monkeypatch.setenv("MULTIMAIL_HTTP_HOST", host)
        assert names == settings.from_environment().allowed_hosts
