"""What `connect` makes of its arguments, before anything is connected."""

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from actorstream import ConnectionOptions, connect, connecting, errors
from actorstream.options import Endpoint

URI = "rabbitmq-stream://localhost"
TLS_URI = "rabbitmq-stream+tls://localhost"


def nothing() -> Any:
    """A provider that is never asked."""


def resolve(
    uri: str | list[str],
    *,
    tls: ssl.SSLContext | None = None,
    tls_ca: str | Path | None = None,
    options: ConnectionOptions | None = None,
    **given: Any,
) -> tuple[list[Endpoint], ConnectionOptions]:
    nothing = {"username": None, "password": None}
    return connecting._resolve(uri, nothing | given, tls, tls_ca, options)


def test_a_uri_alone_has_everything() -> None:
    seeds, options = resolve("rabbitmq-stream://ann:s%40fe@broker:5000/orders%2Feu")
    assert seeds == [Endpoint("broker", 5000)]
    assert (options.username, options.password, options.vhost) == ("ann", "s@fe", "orders/eu")
    assert options.tls is None


def test_what_a_uri_leaves_out_has_defaults() -> None:
    seeds, options = resolve(URI)
    assert seeds == [Endpoint("localhost", 5552)]
    assert (options.username, options.password, options.vhost) == ("guest", "guest", "/")


def test_arguments_overrule_the_uri_which_overrules_the_options() -> None:
    options = ConnectionOptions(username="from-options", password="from-options", vhost="from-options", heartbeat_s=7)
    _, resolved = resolve("rabbitmq-stream://from-uri:from-uri@localhost", username="argument", options=options)
    assert (resolved.username, resolved.password, resolved.vhost) == ("argument", "from-uri", "from-options")
    assert resolved.heartbeat_s == 7


def test_an_empty_argument_is_one() -> None:
    _, options = resolve("rabbitmq-stream://ann:secret@localhost", password="")
    assert options.password == ""


def test_a_name_overrules_that_of_the_options_only_when_it_is_given() -> None:
    options = ConnectionOptions(name="mine")
    assert resolve(URI, options=options)[1].name == "mine"
    assert resolve(URI, options=options, name="other")[1].name == "other"
    assert resolve(URI)[1].name == "actorstream"


def test_several_uris_are_seeds_of_one_cluster() -> None:
    seeds, _ = resolve(["rabbitmq-stream://a", "rabbitmq-stream://b:99", "rabbitmq-stream://[::1]"])
    assert seeds == [Endpoint("a", 5552), Endpoint("b", 99), Endpoint("::1", 5552)]


def test_the_scheme_with_tls_verifies_against_the_systems_roots() -> None:
    seeds, options = resolve("rabbitmq-stream+tls://localhost")
    assert seeds == [Endpoint("localhost", 5551)]
    assert options.tls is not None
    assert options.tls.verify_mode is ssl.CERT_REQUIRED
    assert options.tls.check_hostname


def test_a_context_of_the_callers_is_taken_as_it_is() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _, options = resolve("rabbitmq-stream+tls://localhost", tls=context)
    assert options.tls is context
    _, options = resolve("rabbitmq-stream+tls://localhost", options=ConnectionOptions(tls=context))
    assert options.tls is context


def test_a_provider_takes_the_place_of_what_a_uri_says() -> None:
    uri = "rabbitmq-stream://ann:secret@localhost"
    assert resolve(uri, credentials=nothing)[1].credentials is not None
    assert resolve(uri, token_provider=nothing)[1].token_provider is not None


def test_an_authority_in_a_file_is_verified_against_and_against_nothing_else(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    _, options = resolve(TLS_URI, tls_ca=tmp_path / "ca.pem")
    assert options.tls is not None
    assert options.tls.verify_mode is ssl.CERT_REQUIRED
    assert options.tls.check_hostname
    assert len(options.tls.get_ca_certs()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"uri": []},
        {"uri": 5},
        {"uri": None},
        {"uri": URI, "username": 5},
        {"uri": URI, "password": 5},
        {"uri": URI, "vhost": 5},
        {"uri": URI, "options": {"name": "x"}},
        {"uri": URI, "close_timeout_s": -1},
        {"uri": URI, "close_timeout_s": "5"},
        {"uri": "amqp://localhost"},
        {"uri": "localhost"},
        {"uri": "rabbitmq-stream://"},
        {"uri": "rabbitmq-stream://localhost:0"},
        {"uri": "rabbitmq-stream://localhost:99999"},
        {"uri": "rabbitmq-stream://localhost?heartbeat=5"},
        {"uri": [URI, "rabbitmq-stream+tls://localhost"]},
        {"uri": ["rabbitmq-stream://ann@a", "rabbitmq-stream://bob@b"]},
        {"uri": ["rabbitmq-stream://a/one", "rabbitmq-stream://b/two"]},
        {"uri": ["rabbitmq-stream://x:one@a", "rabbitmq-stream://x:two@b"]},
        {"uri": URI, "tls": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
        {"uri": URI, "options": ConnectionOptions(tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))},
        {"uri": URI, "name": ""},
        {"uri": URI, "mechanism": "AMQPLAIN"},
        {"uri": URI, "mechanism": "EXTERNAL"},
        {"uri": URI, "mechanism": "ANONYMOUS", "username": "ann"},
        {"uri": URI, "mechanism": "ANONYMOUS", "credentials": nothing},
        {"uri": URI, "credentials": nothing, "token_provider": nothing},
        {"uri": URI, "credentials": nothing, "password": "secret"},
        {"uri": URI, "token_provider": "a token"},
        {"uri": URI, "load_balancer_mode": True, "address_resolver": nothing},
        {"uri": URI, "tls_ca": "ca.pem"},
        {"uri": TLS_URI, "tls_ca": "there is no such file"},
        {"uri": TLS_URI, "tls_ca": __file__},
        {"uri": TLS_URI, "tls_ca": "ca.pem", "tls": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
    ],
)
def test_f19_what_cannot_be_meant_is_refused_at_once_and_without_a_loop(arguments: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        connect(**arguments)
    assert "secret" not in str(caught.value)


def test_an_error_about_a_uri_does_not_show_its_password() -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        connect("amqp://ann:secret@localhost")
    assert "secret" not in str(caught.value)


def test_options_do_not_show_their_password() -> None:
    _, options = resolve("rabbitmq-stream://ann:secret@localhost")
    assert "secret" not in repr(options)
