"""Known answers: RFC 7677, the WAMP specification's message exchanges, Autobahn's test vectors. Whoever changes these breaks clients."""

import pytest

from holdfast.core.wamp.auth import cryptosign, scram, wampcra
from holdfast.core.wamp.auth.secrets import from_base64

# Autobahn's src/autobahn/wamp/test/test_wamp_cryptosign.py: (private key, challenge, channel id or None, answer).
CHANNEL = "62e935ae755f3d48f80d4d59f6121358c435722a67e859cc0caa8b539027f2ff"
SIGNED = [
    ("4d57d97a68f555696620a6d849c0ce582568518d729eb753dc7c732de2804510", "ff" * 32, None,
     "b32675b221f08593213737bef8240e7c15228b07028e19595294678c90d11c0cae80a357331bfc5cc9fb71081464e6e75013517c2cf067ad566a6b7b728e5d03" + "ff" * 32),
    ("d511fe78e23934b3dadb52fcd022974b80bd92bccc7c5cf404e46cc0a8a2f5cd", "b26c1f87c13fc1da14997f1b5a71995dff8fbe0a62fae8473c7bdbd05bfb607d", None,
     ("d4209ad10d5aff6bfbc009d7e924795de138a63515efc7afc6b01b7fe5201372190374886a70207b042294af5bd64ce725cd8dceb344e6d11c09d1aaaf4d660f"
     "b26c1f87c13fc1da14997f1b5a71995dff8fbe0a62fae8473c7bdbd05bfb607d")),
    ("4d57d97a68f555696620a6d849c0ce582568518d729eb753dc7c732de2804510", "ff" * 32, CHANNEL,
     ("9b6f41540c9b95b4b7b281c3042fa9c54cef43c842d62ea3fd6030fcb66e70b3e80d49d44c29d1635da9348d02ec93f3ed1ef227dfb59a07b580095c2b82f80f"
     "9d16ca518aa0c2b707f2b2a609edeca73bca8dd59817a633f35574ac6fd80d00")),
    ("6e1fde9cf9e2359a87420b65a87dc0c66136e66945196ba2475990d8a0c3a25b", "b05e6b8ad4d69abf74aa3be3c0ee40ae07d66e1895b9ab09285a2f1192d562d2", CHANNEL,
     ("ee3c7644fd8070532bc1fde3d70d742267da545d8c8f03e63bda63f1ad4214f4d2c4bfdb4eb9526def42deeb7e31602a6ff99eba893e0a4ad4d45892ca75e608"
     "d2b75e24a189a7f78ca776ba36fc53f6c3e31c32f251f2c524f0a44202f2902d")),
]  # fmt: skip

# WAMP specification, "Cryptosign-based Authentication", examples 1 and 2: both sides' keys, challenges and signatures.
CLIENT = "545efb0a2192db8d43f118e9bf9aee081466e1ef36c708b96ee6f62dddad9122"
ROUTER = "4a3838f6fe75251e613329d53fc69b262d5eac97fb1d73bebbaed4015b53c862"
PLAIN = {
    "client_challenge": "bbae60ea44cdd7b20dc7010a618b0f0803fab25a817520b4b7f057299b524deb",
    "router_says": "fd5128d2d207ba58a9d1d6f41b72c747964ad9d1294077b3b1eee6130b05843ab12c53c7f2519f73d4feb82db19d8ca0fc26b62bde6518e79a882f5795bc9f00"
    "bbae60ea44cdd7b20dc7010a618b0f0803fab25a817520b4b7f057299b524deb",
    "router_challenge": "0e9192bc08512c8198da159c1ae600ba91729215f35d56102ee318558e773537",
    "client_says": "a3a178fe792ed772a8fc092f8341e455de96670c8901264a7c312dbf940d5743626fe9fbc29b23dcd2169b308eca309de85a89ccd296b24835de3d95b16b7703"
    "0e9192bc08512c8198da159c1ae600ba91729215f35d56102ee318558e773537",
}
BOUND = {
    "channel_id": "e973bee24dcea9e20625f949c0e3cd28d632ccbefe4907c2fac2728710f7b160",
    "client_challenge": "4f861f12796c2972b7b0026522a687aa851d90355122a61d4f1fdce4d06b564f",
    "router_says": "aa05f4cd7747d36b79443f1d4703a681e107edc085d876b508714e2a3a8135bacaae1c018452c4acb3ad2818aa97a6d23e5ac7e3734c7b1f40e6232a70938205"
    "a6f5a1f034a28090b195fb2ce2454a82532f5c8baf6ba1dfb5ddae63c09ce72f",
    "router_challenge": "358625312c6c3bf64ed51d17d210ce21af1639c774cabf5735a9651d7d91fc6a",
    "client_says": "25114474580d6e99a6126b091b4565c23db567d686c5b8c3a94e3f2f09dc80300c5b40a124236733fa56396df721eb12ac092362379bd5b27b4db9e2beaa1408"
    "dcf59bd361a2921448f0e45e12f303097924f5798a83b895cf6b179a6d664d0a",
}


def test_scram_computes_what_rfc_7677_says() -> None:
    """The only published exchange with SHA-256; the WAMP specification shows the same proof and verifier."""
    salt = from_base64("W22ZaJ0SNY7soEsUEjb6gQ==")
    assert salt is not None
    keys = scram.keys_of(scram.salted_password("pencil", salt, "pbkdf2", 4096, None))
    message = scram.auth_message(
        "user", "rOprNGfwEbeRWgbNEkqO", "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "W22ZaJ0SNY7soEsUEjb6gQ==", 4096
    )  # fmt: skip

    assert scram.proof(keys, message) == "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    assert (
        scram.server_signature(keys.server, message)
        == "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    )


def test_a_name_with_comma_and_equals_sign_is_escaped() -> None:
    """RFC 5802, section 5.1: unescaped, a name could pretend to be another field."""
    message = scram.auth_message("a=b,c", "Y2xpZW50", "Y2xpZW50c2VydmVy", "c2FsdA==", 4096)

    assert message.startswith(b"n=a=3Db=2Cc,r=Y2xpZW50,r=")


@pytest.mark.parametrize(
    ("given", "prepared"),
    [("I­X", "IX"), ("user", "user"), ("USER", "USER"), ("ª", "a"), ("Ⅸ", "IX")],
)
def test_names_are_prepared_as_rfc_4013_shows(given: str, prepared: str) -> None:
    """The examples of section 3: two keyboards have to give one password."""
    assert scram.saslprep(given) == prepared


@pytest.mark.parametrize("given", ["\x07", "ا1"])
def test_names_that_rfc_4013_forbids_are_refused(given: str) -> None:
    """The two bad examples of section 3: a control character, and mixed directions."""
    with pytest.raises(scram.ScramError):
        scram.saslprep(given)


def test_argon2_computes_what_the_reference_tool_does() -> None:
    """`argon2 1234567890abcdef -id -t 32 -m 9 -p 1 -l 32`, from Autobahn's tests."""
    pytest.importorskip("argon2")
    salted = scram.salted_password("p4ssw0rd", b"1234567890abcdef", "argon2id13", 32, 512)

    assert salted.hex() == "ee4a8acf9d5958354fb79a95ae20692d05e42591ba49fae85eb6700e8b0ed293"


def test_argon2_in_autobahns_dialect_gives_autobahns_proof() -> None:
    """Its salted password is the Base64 text of the hash, and its channel binding field is empty."""
    pytest.importorskip("argon2")
    salt = "31323334353637383930616263646566"
    raw = from_base64(salt)
    assert raw is not None
    keys = scram.keys_of(scram.salted_password("p4ssw0rd", raw, "argon2id-13", 32, 512))
    message = scram.auth_message_autobahn(
        "username", salt, "1234567890abcdeffedcba0987654321", salt, 32
    )

    assert scram.proof(keys, message) == "f5r3loERzGVSuimE+lvO0bWna2zyswBo0HrZkaaEy38="


def test_scram_credentials_are_those_of_autobahns_tool() -> None:
    """Crossbar.io's configurations are made with it: they have to work here."""
    pytest.importorskip("argon2")
    made = scram.scram_credentials(
        "secret123", bytes.fromhex("ae1f0d2f422757809077785e660b62c6"), 4096, "argon2id-13", 512
    )

    assert made == {
        "kdf": "argon2id-13", "iterations": 4096, "memory": 512, "salt": "ae1f0d2f422757809077785e660b62c6",
        "server-key": "0d8e7e9222a7c0e54c9e979aa342115699ff5696c45dc379b5ee241338a5861d",
        "stored-key": "5f19358ff6f38e267b6ef1ea1d862514ec4e8745a84682259fd3894be09febb5",
    }  # fmt: skip


def test_wampcra_computes_what_autobahn_does() -> None:
    """Its test vectors for deriving and signing."""
    assert (
        wampcra.derive_wampcra("L3L1YUE8Txlw", "salt123")
        == "qzcdsr9uu/L5hnss3kjNTRe490ETgA70ZBaB5rvnJ5Y="
    )
    assert (
        wampcra.sign("L3L1YUE8Txlw", "[1, 2, 3]") == "1njQtmmeYO41N5EWEzD2kAjjEKRZ5kPZt/TzpYXOzR0="
    )


@pytest.mark.parametrize(
    ("unix_s", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1403454985.448, "2014-06-22T16:36:25.448Z"),
        (951_827_696.0, "2000-02-29T12:34:56.000Z"),
        (4_107_542_399.999, "2100-02-28T23:59:59.999Z"),
        (1_735_689_599.0, "2024-12-31T23:59:59.000Z"),
    ],
)
def test_moments_are_written_as_the_specification_shows(unix_s: float, text: str) -> None:
    """Rules have no datetime, so the calendar is computed by hand: leap years and their exceptions."""
    assert wampcra.utc(unix_s) == text


@pytest.mark.parametrize(("key", "challenge", "channel", "answer"), SIGNED)
def test_cryptosign_signs_as_autobahn_does(
    key: str, challenge: str, channel: str | None, answer: str
) -> None:
    """With and without channel binding."""
    pytest.importorskip("cryptography")
    signing = cryptosign.SigningKey(bytes.fromhex(key))
    binding = None if channel is None else "tls-unique"
    channel_id = None if channel is None else bytes.fromhex(channel)

    assert (
        signing.sign(cryptosign.message_of(bytes.fromhex(challenge), binding, channel_id)) == answer
    )


@pytest.mark.parametrize("exchange", [PLAIN, BOUND], ids=["plain", "bound"])
def test_both_signatures_of_the_specifications_examples_are_accepted(
    exchange: dict[str, str],
) -> None:
    """The client's for the router, and the router's for the client."""
    pytest.importorskip("cryptography")
    channel_id = bytes.fromhex(exchange["channel_id"]) if "channel_id" in exchange else None
    binding = None if channel_id is None else "tls-unique"

    for key, challenge, says in (
        (CLIENT, exchange["router_challenge"], exchange["client_says"]),
        (ROUTER, exchange["client_challenge"], exchange["router_says"]),
    ):
        message = cryptosign.message_of(bytes.fromhex(challenge), binding, channel_id)
        assert cryptosign.verify(bytes.fromhex(key), says, message)
        assert not cryptosign.verify(bytes.fromhex(key), "00" + says[2:], message)
        assert not cryptosign.verify(
            bytes.fromhex(ROUTER if key == CLIENT else CLIENT), says, message
        )
