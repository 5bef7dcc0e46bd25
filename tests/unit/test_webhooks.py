from __future__ import annotations

import base64
import copy
import dataclasses
import http.client
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers as StarletteHeaders
from werkzeug.datastructures import EnvironHeaders
from werkzeug.datastructures import Headers as WerkzeugHeaders

from cfplatform import ConfigurationError, WebhookVerificationError, webhooks
from cfplatform.webhooks import MAX_BODY_BYTES, RecentDeliveries, SeenDeliveries, WebhookEvent, WebhookVerifier
from tests.deliveries import NOW, Clock, Signer, key_set, payload, unpadded
from tests.tools import case_id, outcome

SIGNER = Signer()
VERIFIER = WebhookVerifier(keys=key_set(SIGNER), clock=Clock())
BODY, HEADERS = SIGNER.deliver()


def refused(body, headers, verifier=VERIFIER):
    event, error = outcome(WebhookVerificationError, verifier.verify, body, headers)
    assert event is None
    return error.reason


# --- RFC 8032, section 7.1 -----------------------------------------------------------------------------------

#: Secret key, public key, message and signature of every Ed25519 vector.
RFC_8032 = {
    "TEST 1": (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    "TEST 2": (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    "TEST 3": (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
    "TEST 1024": (
        "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
        "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
        "08b8b2b733424243760fe426a4b54908632110a66c2f6591eabd3345e3e4eb98fa6e264bf09efe12ee50f8f54e9f77b1"
        "e355f6c50544e23fb1433ddf73be84d879de7c0046dc4996d9e773f4bc9efe5738829adb26c81b37c93a1b270b20329d"
        "658675fc6ea534e0810a4432826bf58c941efb65d57a338bbd2e26640f89ffbc1a858efcb8550ee3a5e1998bd177e93a"
        "7363c344fe6b199ee5d02e82d522c4feba15452f80288a821a579116ec6dad2b3b310da903401aa62100ab5d1a36553e"
        "06203b33890cc9b832f79ef80560ccb9a39ce767967ed628c6ad573cb116dbefefd75499da96bd68a8a97b928a8bbc10"
        "3b6621fcde2beca1231d206be6cd9ec7aff6f6c94fcd7204ed3455c68c83f4a41da4af2b74ef5c53f1d8ac70bdcb7ed1"
        "85ce81bd84359d44254d95629e9855a94a7c1958d1f8ada5d0532ed8a5aa3fb2d17ba70eb6248e594e1a2297acbbb39d"
        "502f1a8c6eb6f1ce22b3de1a1f40cc24554119a831a9aad6079cad88425de6bde1a9187ebb6092cf67bf2b13fd65f270"
        "88d78b7e883c8759d2c4f5c65adb7553878ad575f9fad878e80a0c9ba63bcbcc2732e69485bbc9c90bfbd62481d9089b"
        "eccf80cfe2df16a2cf65bd92dd597b0707e0917af48bbb75fed413d238f5555a7a569d80c3414a8d0859dc65a46128ba"
        "b27af87a71314f318c782b23ebfe808b82b0ce26401d2e22f04d83d1255dc51addd3b75a2b1ae0784504df543af8969b"
        "e3ea7082ff7fc9888c144da2af58429ec96031dbcad3dad9af0dcbaaaf268cb8fcffead94f3c7ca495e056a9b47acdb7"
        "51fb73e666c6c655ade8297297d07ad1ba5e43f1bca32301651339e22904cc8c42f58c30c04aafdb038dda0847dd988d"
        "cda6f3bfd15c4b4c4525004aa06eeff8ca61783aacec57fb3d1f92b0fe2fd1a85f6724517b65e614ad6808d6f6ee34df"
        "f7310fdc82aebfd904b01e1dc54b2927094b2db68d6f903b68401adebf5a7e08d78ff4ef5d63653a65040cf9bfd4aca7"
        "984a74d37145986780fc0b16ac451649de6188a7dbdf191f64b5fc5e2ab47b57f7f7276cd419c17a3ca8e1b939ae49e4"
        "88acba6b965610b5480109c8b17b80e1b7b750dfc7598d5d5011fd2dcc5600a32ef5b52a1ecc820e308aa342721aac09"
        "43bf6686b64b2579376504ccc493d97e6aed3fb0f9cd71a43dd497f01f17c0e2cb3797aa2a2f256656168e6c496afc5f"
        "b93246f6b1116398a346f1a641f3b041e989f7914f90cc2c7fff357876e506b50d334ba77c225bc307ba537152f3f161"
        "0e4eafe595f6d9d90d11faa933a15ef1369546868a7f3a45a96768d40fd9d03412c091c6315cf4fde7cb68606937380d"
        "b2eaaa707b4c4185c32eddcdd306705e4dc1ffc872eeee475a64dfac86aba41c0618983f8741c5ef68d3a101e8a3b8ca"
        "c60c905c15fc910840b94c00a0b9d0",
        "0aab4c900501b3e24d7cdf4663326a3a87df5e4843b2cbdb67cbf6e460fec350aa5371b1508f9f4528ecea23c436d94b"
        "5e8fcd4f681e30a6ac00a9704a188a03",
    ),
    "TEST SHA(abc)": (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd"
        "454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
        "3dca179c138ac17ad9bef1177331a704",
    ),
}


@pytest.mark.parametrize("vector", RFC_8032.values(), ids=RFC_8032)
def test_vectors_of_the_rfc(vector):
    secret, public, message, signature = map(bytes.fromhex, vector)
    key = Ed25519PrivateKey.from_private_bytes(secret)
    # Signing has one possible result, so this proves that the vectors were copied without a mistake.
    assert (key.public_key().public_bytes_raw(), key.sign(message)) == (public, signature)
    jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "rfc", "x": unpadded(public)}
    verifier = WebhookVerifier(keys={"keys": [jwk]}, clock=Clock())

    def reason(body, signed):
        headers = {
            "X-Payload-Signature": base64.b64encode(signed).decode(),
            "X-Payload-Key-Id": "rfc",
            "X-Payload-Timestamp": str(int(NOW)),
        }
        return refused(body, headers, verifier)

    # None of the messages is an event, which shows only once the signature is good.
    assert reason(message, signature) == "malformed"
    assert reason(message + b"\0", signature) == "signature"
    for byte in range(64):
        changed = signature[:byte] + bytes([signature[byte] ^ 1]) + signature[byte + 1 :]
        assert reason(message, changed) == "signature"


# --- Properties ----------------------------------------------------------------------------------------------


@given(st.integers(0, len(BODY) * 8 - 1))
def test_any_changed_bit_of_the_body_is_noticed(bit):
    changed = bytearray(BODY)
    changed[bit // 8] ^= 1 << bit % 8
    assert refused(bytes(changed), HEADERS) == "signature"


def test_any_changed_bit_of_the_signature_is_noticed():
    for bit in range(512):
        changed = bytearray(SIGNER.sign(BODY))
        changed[bit // 8] ^= 1 << bit % 8
        headers = {**HEADERS, "X-Payload-Signature": base64.b64encode(changed).decode()}
        assert refused(BODY, headers) in ("signature", "malformed"), bit


@given(st.integers(0, 87), st.characters())
def test_no_other_character_of_the_signature_will_do(position, character):
    good = HEADERS["X-Payload-Signature"]
    spelled = good[:position] + character + good[position + 1 :]
    # In the other alphabet it would be the same signature, but only if the whole of it is in that one.
    if spelled != good:
        assert refused(BODY, {**HEADERS, "X-Payload-Signature": spelled}) in ("signature", "malformed")


@given(st.binary(max_size=200))
def test_any_signed_body_is_an_event_or_refused(body):
    event, error = outcome(WebhookVerificationError, VERIFIER.verify, *SIGNER.deliver(body))
    assert event is not None or error.reason in ("malformed", "expired")


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.text()))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)
FIELDS = ["workItemID", "status", "assetType", "assetUrl", "createdAt", "updatedAt", "deliveredAt", "more"]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_signed_fields_of_any_kind_are_an_event_or_refused(fields):
    event, error = outcome(WebhookVerificationError, VERIFIER.verify, *SIGNER.deliver(payload(**fields)))
    if error is None:
        for name, value in fields.items():
            assert event.as_dict()[name] == value
        for text in (event.work_item_id, event.status):
            assert type(text) is str
        for when in (event.created_at, event.updated_at, event.delivered_at):
            assert when is None or when.tzinfo is not None


NAMES = st.one_of(VALUES.filter(lambda value: not isinstance(value, list)), st.sampled_from(list(HEADERS)))


@given(VALUES, st.dictionaries(NAMES, st.one_of(VALUES, st.sampled_from(list(HEADERS.values())))))
def test_odd_arguments_raise_nothing_else(body, headers):
    assert refused(body, headers) == "malformed"


@given(st.one_of(VALUES, st.builds(object)))
def test_headers_that_are_none_raise_nothing_else(headers):
    assert refused(BODY, headers) == "malformed"


# --- Headers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelled", [str.lower, str.upper, str.title, str])
@pytest.mark.parametrize("name_type", [str, str.encode])
@pytest.mark.parametrize("value_type", [str, str.encode])
def test_names_in_any_case_and_bytes(spelled, name_type, value_type):
    headers = {name_type(spelled(name)): value_type(value) for name, value in HEADERS.items()}
    assert VERIFIER.verify(BODY, headers).status == "COMPLETED"


def test_headers_of_the_usual_servers():
    lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    parsed = http.client.parse_headers(io.BytesIO(lines.encode() + b"\r\n"))
    environ = {"HTTP_" + name.upper().replace("-", "_"): value for name, value in HEADERS.items()}
    for headers in (parsed, WerkzeugHeaders(HEADERS), EnvironHeaders(environ), StarletteHeaders(HEADERS)):
        assert VERIFIER.verify(BODY, headers).status == "COMPLETED"


@pytest.mark.parametrize("name", ["X-Payload-Signature", "X-Payload-Key-Id", "X-Payload-Timestamp"])
def test_each_header_must_be_there_once_as_a_text(name):
    left = {key: value for key, value in HEADERS.items() if key != name}
    with pytest.raises(WebhookVerificationError, match=f"{name.lower()} is missing"):
        VERIFIER.verify(BODY, left)
    with pytest.raises(WebhookVerificationError, match="occurs twice"):
        VERIFIER.verify(BODY, {**HEADERS, name.lower(): HEADERS[name]})
    twice = WerkzeugHeaders(HEADERS)
    twice.add(name, HEADERS[name])
    with pytest.raises(WebhookVerificationError, match="occurs twice"):
        VERIFIER.verify(BODY, twice)
    for value in ([HEADERS[name]], (HEADERS[name],), None, 1785186000, {}):
        with pytest.raises(WebhookVerificationError, match="must be a string"):
            VERIFIER.verify(BODY, {**HEADERS, name: value})
    assert refused(BODY, {**HEADERS, name: f"{HEADERS[name]}, {HEADERS[name]}"}) == "malformed"


@pytest.mark.parametrize("key_id", ["", " KEY-1", "KEY 1", "KEY-1\n", "k" * 129, "ключ"])
def test_key_ids_that_can_be_none_are_refused(key_id):
    assert refused(BODY, {**HEADERS, "X-Payload-Key-Id": key_id}) == "malformed"


def test_key_ids_are_compared_exactly():
    assert refused(BODY, {**HEADERS, "X-Payload-Key-Id": "key-1"}) == "unknown_key"


# --- Events --------------------------------------------------------------------------------------------------


def test_an_event_has_every_field():
    event = VERIFIER.verify(*SIGNER.deliver(more={"kept": [1]}))
    assert event.work_item_id == "c2fe4a5d-ae6e-4005-8845-d10c59218302"
    assert (event.status, event.asset_type, event.key_id) == ("COMPLETED", "video", "KEY-1")
    assert event.asset_url == "some_asset_directory/d5f6a12b-59ab-406d-8182-2aeab782cc2a"
    zone = timezone(timedelta(hours=5, minutes=45))
    assert event.created_at == datetime(2026, 7, 11, 11, 52, 37, tzinfo=zone)
    assert event.updated_at.utcoffset() == timedelta(hours=5, minutes=45)
    assert event.delivered_at == datetime(2026, 7, 27, 21, tzinfo=timezone.utc)
    assert len(event.delivery_id) == 64
    assert event.as_dict()["more"] == {"kept": [1]}


def test_an_event_cannot_be_changed_and_its_dict_is_a_copy():
    event = VERIFIER.verify(*SIGNER.deliver(more={"kept": [1]}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.status = "OTHER"
    event.as_dict()["more"]["kept"].append(2)
    assert event.as_dict()["more"] == {"kept": [1]}


def test_events_are_equal_by_what_they_say_and_show_little():
    one, same, other = (VERIFIER.verify(*SIGNER.deliver(status=status)) for status in ("NEW", "NEW", "COMPLETED"))
    assert len({one, same, other}) == 2
    assert one == same == copy.copy(one) == copy.deepcopy(one)
    assert repr(one).startswith("WebhookEvent(work_item_id='c2fe4a5d-")
    assert "some_asset_directory" not in repr(one)


@pytest.mark.parametrize("status", ["COMPLETED", "CLIENT_REVIEW", "SOMETHING NEW", "", "ü"])
def test_any_status_is_kept(status):
    assert VERIFIER.verify(*SIGNER.deliver(status=status)).status == status


@pytest.mark.parametrize("value", [None, 7, [], "yesterday", "2026-07-27T20:36:59", "2026-02-30T00:00:00Z"])
def test_what_is_not_needed_may_be_missing_or_odd(value):
    fields = {"createdAt": value, "updatedAt": value, "assetType": None, "assetUrl": 7}
    event = VERIFIER.verify(*SIGNER.deliver(**fields))
    assert (event.created_at, event.updated_at, event.asset_type, event.asset_url) == (None,) * 4
    assert event.as_dict()["updatedAt"] == value


# --- Settings ------------------------------------------------------------------------------------------------


KEYS = key_set(SIGNER)
WRONG = [
    *(
        {"keys": KEYS, "tolerance": value}
        for value in (0, 0.5, -1, 604_801, float("nan"), float("inf"), True, "9", None)
    ),
    *({"keys": KEYS, "max_age": value} for value in (59, 86_401, float("nan"), False, "3600", None)),
    *({"keys": KEYS, "expected": value} for value in ("item-1", 7, iter(["item-1"]))),
    *({"keys": KEYS, "seen": value} for value in (set(), {}, 7)),
    *({"keys": value} for value in ({}, {"keys": []}, {"keys": {}}, {"keys": [{}]}, [], "key", 7)),
    {"base_url": "api.example"},
    {"base_url": "https://u:p@api.example/api/v1"},
    {"base_url": 7},
    {"base_url": "https://a.example/api/v1", "jwks_url": "https://a.example/k"},
    {"jwks_url": "https://a.example/k", "keys": KEYS},
]


@pytest.mark.parametrize("arguments", WRONG, ids=lambda arguments: case_id(list(arguments.items())[-1]))
def test_wrong_settings_are_refused(arguments):
    with pytest.raises(ConfigurationError):
        WebhookVerifier(**arguments)


@pytest.mark.parametrize(
    ("arguments", "environment", "url"),
    [
        ({}, None, "https://api.ai.cloudfactory.app/api/.well-known/jwks.json"),
        ({}, "https://api.staging.example/api/v1/", "https://api.staging.example/api/.well-known/jwks.json"),
        (
            {"base_url": "https://a.example:8443/api/v1"},
            "https://b.example/api/v1",
            "https://a.example:8443/api/.well-known/jwks.json",
        ),
        ({"base_url": "http://localhost:8080/api/v1"}, None, "http://localhost:8080/api/.well-known/jwks.json"),
        ({"jwks_url": "https://keys.example/set.json"}, "https://b.example/api/v1", "https://keys.example/set.json"),
    ],
)
def test_where_the_keys_are(monkeypatch, arguments, environment, url):
    if environment:
        monkeypatch.setenv("CF_PLATFORM_BASE_URL", environment)
    assert WebhookVerifier(**arguments).jwks_url == url


def test_a_longer_tolerance_can_be_set():
    verifier = WebhookVerifier(keys=key_set(SIGNER), tolerance=86_400, clock=Clock(NOW + 86_000))
    assert verifier.verify(BODY, HEADERS).status == "COMPLETED"


def test_the_clock_of_the_system_is_the_default():
    assert refused(BODY, HEADERS, WebhookVerifier(keys=key_set(SIGNER))) == "expired"


# --- Remembering ---------------------------------------------------------------------------------------------


def test_a_full_store_forgets_the_oldest():
    store = RecentDeliveries(max_entries=3)
    assert [store.remember(each, 600) for each in "abcda"] == [True] * 5
    assert len(store) == 3
    assert [store.remember(each, 600) for each in "cda"] == [False] * 3


def test_what_is_over_is_forgotten(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(webhooks.time, "monotonic", lambda: now[0])
    store = RecentDeliveries()
    assert store.remember("long", 100)
    assert store.remember("short", 10)
    now[0] = 10.0
    # Behind one that lasts longer, it is over all the same.
    assert store.remember("short", 10)
    assert not store.remember("long", 100)
    now[0] = 1000.0
    assert store.remember("new", 10)
    assert len(store) == 1


def test_a_store_is_safe_between_threads():
    store = RecentDeliveries()
    with ThreadPoolExecutor(16) as pool:
        new = list(pool.map(lambda number: store.remember(str(number % 100), 600), range(4000)))
    assert sum(new) == 100
    assert isinstance(store, SeenDeliveries)


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "1", None])
def test_a_store_of_no_size_is_refused(number):
    with pytest.raises(ConfigurationError, match="max_entries"):
        RecentDeliveries(number)


def test_forgetting_what_is_not_there_does_nothing():
    RecentDeliveries().forget("unknown")


# --- The extra -----------------------------------------------------------------------------------------------


def run(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.stdout.strip()


def test_without_the_extra_there_is_one_clear_error():
    script = (
        "import sys; sys.modules['cryptography'] = None\n"
        "import cfplatform.webhooks as webhooks\n"
        "try: webhooks.WebhookVerifier()\n"
        "except webhooks.ConfigurationError as error: print(error, error.__context__)"
    )
    assert run(script) == "Webhooks need cryptography: pip install 'cfplatform[webhooks]' None"


def test_importing_brings_no_cryptography_and_the_package_no_webhooks():
    assert run("import cfplatform.webhooks, sys; print('cryptography' in sys.modules)") == "False"
    assert run("import cfplatform, sys; print('cfplatform.webhooks' in sys.modules)") == "False"


def test_the_package_exports_what_is_documented():
    assert MAX_BODY_BYTES == 1_048_576
    assert {"WebhookEvent", "WebhookVerifier"} <= set(sys.modules["cfplatform.webhooks"].__all__)
    assert WebhookEvent.__doc__
