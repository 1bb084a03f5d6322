"""Where the bus is, as a URL says it; passwords are never shown.

`memory:` · `embedded:/path/of/a/directory` · `kafka://HOST:PORT,HOST:PORT` ·
`amqp://HOST:PORT/VHOST`; with TLS `kafka+ssl://` and `amqps://`. A user stands before the host
(`kafka://user:password@…`; `%40` is an `@`), the password there or in a file:
`?password_file=PATH`. More options: `ca=PATH` (who signs the broker's certificate; else the
system's authorities), `cert=PATH` and `key=PATH` (who we are), `mechanism=SCRAM-SHA-512` (or
another of SASL, Kafka only), `heartbeat=SECONDS` (AMQP).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from chimera.errors import InvalidRequest

#: scheme → the port that its brokers have by default
_PORTS = {"kafka": 9092, "kafka+ssl": 9093, "amqp": 5672, "amqps": 5671}
_OPTIONS = {
    "memory": frozenset[str](),
    "embedded": frozenset[str](),
    "kafka": frozenset({"mechanism", "password_file"}),
    "kafka+ssl": frozenset({"mechanism", "password_file", "ca", "cert", "key"}),
    "amqp": frozenset({"password_file", "heartbeat"}),
    "amqps": frozenset({"password_file", "heartbeat", "ca", "cert", "key"}),
}
_MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN")
#: a consumer that cannot be reached is given up after twice that: its queue then goes to the next
_HEARTBEAT_S = 2


@dataclass(frozen=True, slots=True)
class BusSettings:
    """A parsed URL."""

    scheme: str
    hosts: tuple[str, ...] = ()  #: each HOST:PORT
    path: str = ""  #: the directory of an embedded bus, the virtual host of RabbitMQ
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    cert: str = ""
    key: str = ""
    mechanism: str = "SCRAM-SHA-512"
    heartbeat: int = _HEARTBEAT_S

    @property
    def tls(self) -> bool:
        return self.scheme in ("kafka+ssl", "amqps")

    @property
    def shown(self) -> str:
        """For messages: who connects where, without the password."""
        user = f"{self.user}@" if self.user else ""
        slashes = "//" if self.hosts else ""
        return f"{self.scheme}:{slashes}{user}{','.join(self.hosts)}{self.path}"


def parse(url: str) -> BusSettings:
    """Settings of a URL. Raises InvalidRequest, which never repeats a password."""
    parts = urlsplit(url)
    known = _OPTIONS.get(parts.scheme)
    if known is None:
        raise InvalidRequest(
            f"a bus is one of {', '.join(sorted(_OPTIONS))}, not {parts.scheme or 'nothing'}:"
        )
    options = _options(parts.scheme, parts.query, known)
    if parts.scheme in ("memory", "embedded"):
        path = unquote(parts.netloc + parts.path)
        if parts.scheme == "embedded" and not path.startswith("/"):
            raise InvalidRequest("embedded:/PATH needs the absolute path of a directory")
        return BusSettings(parts.scheme, path=path)
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    if "password_file" in options:
        password = _read_password(options.pop("password_file"))
    else:
        password = unquote(password)
    if password and not user:
        raise InvalidRequest("there is a password for the bus, but no user")
    heartbeat = options.pop("heartbeat", str(_HEARTBEAT_S))
    if not heartbeat.isdigit() or not 1 <= int(heartbeat) <= 600:
        raise InvalidRequest("heartbeat is a whole number of seconds, 1 to 600")
    if options.get("mechanism", _MECHANISMS[0]) not in _MECHANISMS:
        raise InvalidRequest(f"mechanism is one of {', '.join(_MECHANISMS)}")
    return BusSettings(
        parts.scheme,
        tuple(_host(one, _PORTS[parts.scheme]) for one in hosts.split(",")),
        unquote(parts.path) if parts.scheme in ("amqp", "amqps") else "",
        unquote(user),
        password,
        heartbeat=int(heartbeat),
        **options,
    )


def _options(scheme: str, query: str, known: frozenset[str]) -> dict[str, str]:
    """What stands after the question mark, each once and known."""
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if unknown := sorted(set(options) - known):
        may = f"it may have {', '.join(sorted(known))}" if known else "it has none"
        raise InvalidRequest(f"{scheme}: has no option {unknown[0]!r}; {may}")
    if len(options) < len(pairs):
        raise InvalidRequest("an option of the bus is given twice")
    return options


def _read_password(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the bus's password_file {path} cannot be read: {error}") from error


def _host(text: str, default_port: int) -> str:
    """HOST:PORT of what may lack the port."""
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):  # no port; an IPv6 address ends in ]
        name, port = text, str(default_port)
    if not name or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidRequest(f"{text!r} is not HOST:PORT of a broker")
    return f"{name}:{port}"
