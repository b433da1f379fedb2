"""Settings of what people see: console, metrics, alarms, audit trail, log."""

from pathlib import Path
from typing import Annotated, Self
from zoneinfo import available_timezones

from pydantic import Field, SecretStr, field_validator, model_validator

from dicom_node.config.values import Port, Seconds, Section


class OidcSettings(Section):
    """Log in at the hospital's identity provider (OpenID Connect)."""

    issuer: Annotated[str, Field(pattern=r"^https?://")]
    """URL of the provider, without `/.well-known/openid-configuration`."""
    client_id: str
    """Name of this console at the provider."""
    client_secret_file: Path | None = None
    """File with the secret of this console; a public client with PKCE when absent."""
    role_claim: str = "groups"
    """Claim of the ID token with the groups of a person."""
    operators: tuple[str, ...] = ()
    """Groups whose people may act."""
    viewers: tuple[str, ...] = ()
    """Groups whose people may look."""


class ConsoleSettings(Section):
    """The web page for administrators."""

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs TLS here or an https `url`."""
    port: Port = 8080
    """TCP port."""
    url: Annotated[str, Field(pattern=r"^https?://[^/]+$")] | None = None
    """How browsers reach it through a proxy, as `https://psoas.example.org`."""
    tls_certificate: Path | None = None
    """Certificate chain in PEM."""
    tls_key: Path | None = None
    """Its key in PEM."""
    session_idle_s: Seconds = 1800.0
    """Whoever does nothing for so long is logged out."""
    session_longest_s: Seconds = 36000.0
    """Everybody logs in again after so long."""
    oidc: OidcSettings | None = None
    """Log in at an identity provider too; with names and passwords alone when absent."""

    @property
    def reached_at(self) -> str:
        """How browsers reach it."""
        scheme = "http" if self.tls_certificate is None else "https"
        return self.url or f"{scheme}://{self.host}:{self.port}"

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> Self:
        loopback = self.host in {"127.0.0.1", "::1", "localhost"}
        if not loopback and not self.reached_at.startswith("https://"):
            raise ValueError(
                f"console.host {self.host} is open to the network, so passwords need TLS: set "
                "tls_certificate and tls_key, or url when a proxy speaks https"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("console.tls_certificate and tls_key belong together")
        return self


class MetricsSettings(Section):
    """Where Prometheus reads metrics, and whoever starts us again reads health."""

    host: str = "127.0.0.1"
    """Address to listen on. Metrics name AE titles and destinations, never patients."""
    port: Port | None = None
    """TCP port of `psoas serve`; no metrics when absent."""
    worker_port: Port | None = None
    """TCP port of `psoas worker --queue gpu`: disk and GPU of its host; none when absent."""
    node_worker_port: Port | None = None
    """TCP port of `psoas worker --queue node`: whether it works; none when absent."""


class AlarmSettings(Section):
    """What is worth an alarm, and who is told."""

    webhook: SecretStr | None = None
    """Address that takes alarms as JSON; it often holds a secret."""
    webhook_file: Path | None = None
    """Holds that address instead."""
    mail_to: tuple[str, ...] = ()
    """Addresses that get alarms by e-mail."""
    mail_from: str = "psoas@localhost"
    """Sender of the e-mails."""
    smtp_host: str = "localhost"
    """Mail server."""
    smtp_port: Port = 25
    """Its TCP port."""
    smtp_tls: bool = False
    """Encrypt with STARTTLS."""
    working_hours: Annotated[
        str,
        Field(
            pattern=r"^(?i:(mon|tue|wed|thu|fri|sat|sun)-(mon|tue|wed|thu|fri|sat|sun)) "
            r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"
        ),
    ] = "Mon-Fri 08:00-17:00"
    """When scanners are expected to send."""
    time_zone: str = "UTC"
    """Of the working hours, as `Europe/Berlin`."""
    silence_s: Seconds = 14400.0
    """A source that sends nothing for so long in working hours is silent."""
    delivery_age_s: Seconds = 1800.0
    """A destination refuses when a result has waited for it so long."""
    free_space_mib: int = Field(default=10240, ge=0)
    """The disk is nearly full below this much free space."""
    certificate_days: int = Field(default=21, ge=1)
    """A certificate is about to expire so many days before it does."""

    @field_validator("webhook")
    @classmethod
    def _webhook_is_an_address(cls, webhook: SecretStr | None) -> SecretStr | None:
        if webhook and not webhook.get_secret_value().startswith(("https://", "http://")):
            raise ValueError("an address begins with https:// or http://")
        return webhook

    @field_validator("time_zone")
    @classmethod
    def _time_zone_is_known(cls, time_zone: str) -> str:
        if time_zone not in available_timezones():
            raise ValueError(f"there is no time zone {time_zone}")
        return time_zone


class AuditSettings(Section):
    """The audit trail (PS3.15 A.5)."""

    source_id: Annotated[str, Field(min_length=1, max_length=64)] = "psoas"
    """How the audit repository names this node (AuditSourceID)."""
    keep_days: int = Field(default=365, ge=1)
    """Daily files of the trail are deleted after so many days."""
    repository: str | None = None
    """Host of a syslog server with TLS (RFC 5425) that gets the trail instead; needs `[tls]`."""
    repository_port: Annotated[int, Field(ge=1, le=65535)] = 6514
    """Its TCP port."""


class LogSettings(Section):
    """What is logged; never patient data."""

    level: Annotated[str, Field(pattern=r"^(debug|info|warning|error)$")] = "info"
    """Least important level that is written."""
    json_lines: bool = False
    """One JSON object a line instead of text."""
