"""Where a bus is: what a URL may say, and what it never shows."""

from __future__ import annotations

import pytest

from chimera.bus.settings import parse
from chimera.errors import InvalidRequest


def test_a_url_names_brokers_user_and_files():
    found = parse("kafka+ssl://le%40der:p%3Aw@one:1,[::1],two?ca=/ca.pem&mechanism=PLAIN")
    assert found.hosts == ("one:1", "[::1]:9093", "two:9093")
    assert (found.user, found.password, found.ca) == ("le@der", "p:w", "/ca.pem")
    assert found.tls
    assert found.mechanism == "PLAIN"


def test_a_virtual_host_is_the_path():
    found = parse("amqp://u:p@host/swarm%20one?heartbeat=7")
    assert (found.hosts, found.path, found.heartbeat) == (("host:5672",), "/swarm one", 7)
    assert not found.tls


def test_a_password_may_lie_in_a_file(tmp_path):
    path = tmp_path / "password"
    path.write_text("from-a-file\n")
    assert parse(f"amqps://u@host?password_file={path}").password == "from-a-file"


def test_a_password_is_never_shown():
    found = parse("kafka://user:secret-word@host")
    assert "secret-word" not in repr(found) + str(found) + found.shown
    assert found.shown == "kafka://user@host:9092"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://host", "not redis:"),
        ("", "not nothing:"),
        ("kafka://", "not HOST:PORT"),
        ("kafka://host:0", "not HOST:PORT"),
        ("kafka://host:x", "not HOST:PORT"),
        ("kafka://:secret-word@host", "no user"),
        ("kafka://host?colour=red", "has no option 'colour'"),
        ("kafka://host?ca=/x", "has no option 'ca'"),
        ("kafka+ssl://host?ca=/x&ca=/y", "given twice"),
        ("kafka://host?mechanism=GSSAPI", "mechanism is one of"),
        ("amqp://host?heartbeat=0", "heartbeat"),
        ("amqps://u@host?password_file=/no/such/file", "cannot be read"),
        ("embedded:relative", "absolute path"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url, said):
    with pytest.raises(InvalidRequest) as refused:
        parse(url)
    assert said in refused.value.message
    assert "secret-word" not in refused.value.message
