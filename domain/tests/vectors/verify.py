#!/usr/bin/env python3
"""Checks Commonwatt's signed messages. Written from domain/FORMAT.md alone, in another language than the platform,
with cbor2 and cryptography from PyPI.

    verify.py signed.json     says for each vector whether it is valid; exit code 1 where one disagrees
"""

import hashlib
import io
import json
import re
import sys

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MESSAGE_MAX_BYTES = 16384
POINTS_MESSAGE_MAX_BYTES = 163840
ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493

REASONS = """bad_signature unknown_key key_revoked wrong_network not_deterministic seq_replay equivocation
interval_overlap interval_unaligned future too_late value_regression implausible chain_break clock_unsynced gate_closed
over_limit insufficient_funds too_large rate_limited unknown_order wish_unheeded""".split()
REFUSALS = """claim_unknown claim_used claim_expired claim_exhausted key_revoked key_replaced key_taken wrong_network
bad_signature not_deterministic points_refused rate_limited""".split()
LIMITS = "max_charge_w max_discharge_w max_current_a min_current_a rating_w device_range".split()
COMMAND_REFUSALS = """bad_signature wrong_gateway seq_replay future expired lease_too_long retained unknown_device
not_allowed not_supported out_of_range no_lease unavailable""".split()
ENDS = "expired released replaced not_allowed".split()
REVERTS = "confirmed unconfirmed pending not_needed".split()


class Invalid(Exception):
    """Why a message is none."""


def need(condition, why):
    if not condition:
        raise Invalid(why)


# Types of claims: each is a function that returns or raises.


def integer(low, high):
    def check(value):
        need(type(value) is int and low <= value <= high, f"not an integer from {low} to {high}: {value!r}")

    return check


U8, U32, U64 = integer(0, 2**8 - 1), integer(0, 2**32 - 1), integer(0, 2**64 - 1)
I64 = integer(-(2**63), 2**63 - 1)
VERSION = integer(1, 1)


def raw(length):
    def check(value):
        need(type(value) is bytes and len(value) == length, f"not {length} bytes: {value!r}")

    return check


def ident(value):
    need(type(value) is str and ID.match(value), f"not an id: {value!r}")


def ident_bytes(value):
    need(type(value) is bytes, f"not bytes: {value!r}")
    try:
        ident(value.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Invalid(str(error)) from None


def text(least, most):
    def check(value):
        need(type(value) is str and least <= len(value.encode()) <= most, f"not a text of {least} to {most} bytes")

    return check


def one_of(words):
    def check(value):
        need(value in words, f"not a known word: {value!r}")

    return check


def several(item, least, most):
    def check(value):
        need(type(value) is list and least <= len(value) <= most, f"not {least} to {most} items")
        for one in value:
            item(one)

    return check


def row(*items):
    def check(value):
        need(type(value) is list and len(value) == len(items), f"not a row of {len(items)}")
        for item, one in zip(items, value):
            item(one)

    return check


def table(claims, optional=()):
    def check(value):
        need(type(value) is dict, "not a map")
        for key in value:
            need(key in claims, f"an unknown claim {key!r}")
        for key, item in claims.items():
            if key in value:
                item(value[key])
            else:
                need(key in optional, f"claim {key} is missing")

    return check


def public_key(value):
    raw(32)(value)
    y = int.from_bytes(value, "little") & (2**255 - 1)
    need(y < P, "a public key that is not canonical")
    # The y coordinates of the eight points of small order.
    order_8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
    need(y not in (0, 1, P - 1, order_8, P - order_8), "a public key of small order")


def meter_key(value):
    """A SubjectPublicKeyInfo of an uncompressed point on secp256r1 or secp384r1."""
    heads = {91: "3059301306072a8648ce3d020106082a8648ce3d030107034200", 120: "3076301006072a8648ce3d020106052b81040022036200"}
    head = heads.get(len(value)) if type(value) is bytes else None
    need(head is not None and value.hex().startswith(head + "04"), f"not a meter's key: {value!r}")


def interval(start, length):
    need(0 < length <= 3600 and 3600 % length == 0 and start % length == 0, "not an interval")


def ascending(values, what):
    need(all(a < b for a, b in zip(values, values[1:])), f"{what} do not ascend")


def boolean(value):
    need(type(value) is bool, f"not a boolean: {value!r}")


NOT_BELOW_0, ABOVE_0 = integer(0, 2**63 - 1), integer(1, 2**63 - 1)
DEADLINE = table({1: ABOVE_0, 2: integer(1, 2**32 - 1), 3: I64, 4: boolean, 5: ident}, optional=(5,))
BATTERY = table(
    {1: NOT_BELOW_0, 2: ABOVE_0, 3: U32, 4: U32, 5: integer(0, 9999), 6: NOT_BELOW_0, 7: ABOVE_0}, optional=(7,)
)
REGISTER = row(U32, I64, I64, integer(0, 0), integer(30, 30))
POINT = table({1: ident, 2: integer(0, 2), 3: ident, 4: U32}, optional=(3,))

TABLES = {
    "reading": table(
        {
            1: VERSION,
            2: raw(16),
            3: ident_bytes,
            4: U64,
            5: I64,
            6: U32,
            7: several(REGISTER, 1, 16),
            8: U32,
            9: integer(1, 2**11 - 1),
            10: row(I64, integer(0, 3), U32),
            11: raw(8),
            12: integer(0, 1),
            14: raw(32),
            15: raw(8),
        }
    ),
    "order": table(
        {
            1: VERSION,
            2: ident,
            3: ident,
            4: U64,
            5: I64,
            6: U32,
            7: integer(0, 1),
            8: integer(1, 2**63 - 1),
            9: I64,
            10: U64,
            11: several(ident, 1, 8),
            12: boolean,
            13: boolean,
            14: ABOVE_0,
        },
        optional=(10, 11, 12, 13, 14),
    ),
    "cancel": table({1: VERSION, 2: ident, 4: U64, 5: I64, 6: U32}),
    "standing-order": table(
        {1: VERSION, 2: ident, 3: ident, 4: U64, 5: U64, 6: NOT_BELOW_0, 7: I64, 8: DEADLINE, 9: BATTERY},
        optional=(5, 8, 9),
    ),
    "standing-cancel": table({1: VERSION, 2: ident, 4: U64}),
    "order-query": table({1: VERSION, 2: ident, 3: I64, 4: I64, 5: I64}),
    "receipt": table(
        {
            1: VERSION,
            2: ident,
            3: ident,
            4: U64,
            5: several(row(U64, U64), 0, 64),
            6: several(row(U64, one_of(REASONS)), 0, 64),
            7: I64,
        },
        optional=(4,),
    ),
    "command": table(
        {1: VERSION, 2: ident, 3: text(1, 64), 4: U64, 5: I64, 6: integer(0, 3), 7: I64, 8: I64}, optional=(7, 8)
    ),
    "ack": table(
        {1: VERSION, 2: ident, 3: raw(32), 4: I64, 5: text(0, 64), 6: I64, 7: text(0, 64), 8: text(0, 64)},
        optional=(6, 7, 8),
    ),
    "charger-record": table(
        {1: VERSION, 2: ident, 3: ident, 4: I64, 5: I64, 6: text(1, 12288), 7: several(meter_key, 0, 8)}, optional=(5,)
    ),
    "charger-receipt": table({1: VERSION, 2: ident, 3: raw(32), 4: I64, 5: text(1, 200)}, optional=(5,)),
    "key": table(
        {1: VERSION, 2: public_key, 3: I64, 4: ident, 5: several(POINT, 0, 1024), 6: ident}, optional=(4, 5, 6)
    ),
    "claim": table({1: VERSION, 2: ident, 3: public_key, 4: I64, 5: I64, 6: ident}, optional=(2, 6)),
    "key-request": table(
        {1: VERSION, 2: public_key, 3: ident, 4: raw(8), 5: several(row(ident, U64, raw(32)), 1, 1024), 6: I64, 7: ident},
        optional=(3, 5, 7),
    ),
    "introduction": table({1: VERSION, 2: public_key, 3: lambda value: need(type(value) is bytes, "not bytes")}),
    "key-refusal": table({1: VERSION, 2: ident, 3: raw(32), 4: one_of(REFUSALS), 5: text(0, 300), 6: I64}),
    "revocation": table(
        {1: VERSION, 2: raw(8), 3: ident, 4: U64, 5: I64, 6: text(1, 200), 7: I64, 8: ident}, optional=(3, 8)
    ),
    "record-word": table({1: VERSION, 2: raw(8), 3: I64, 4: raw(32), 5: I64, 6: U64, 7: U64, 8: I64}),
}


def check_claims(kind, claims, signer, community):
    """The rules of a kind that are about more than one claim."""
    if kind in ("reading", "order", "cancel"):
        interval(claims[5], claims[6])
    if kind == "order":
        need(claims.get(10) != claims[4], "an order that takes its own place")
        need(claims[2] not in claims.get(11, []), "an order that wishes to trade with itself")
        need(False not in (claims.get(12), claims.get(13)), "a wish that is said not to be one")
        others = {13} if claims[7] == 0 else {12, 14}
        need(not others & set(claims), "a wish of the other side")
    if kind == "standing-order":
        need(claims.get(5) != claims[4], "a standing order that takes its own place")
        need((8 in claims) != (9 in claims), "not a deadline or a battery")
        battery = claims.get(9)
        need(battery is None or battery[1] < battery[2] <= battery.get(7, battery[2]), "not a battery's bounds")
    if kind == "reading":
        ascending([register[0] for register in claims[7]], "registers")
    if kind == "command":
        need((7 in claims) == (8 in claims), "a value without an end, or an end without a value")
    if kind == "ack":
        check_outcome(*(claims.get(key) for key in (5, 6, 7, 8)))
    if kind == "key":
        holders = (4 in claims, 5 in claims, 6 in claims)
        need(holders in ((True, True, False), (False, False, True)), "a key is held by a gateway or a participant")
    if kind == "record-word":
        need(claims[6] < claims[7] and claims[5] <= claims[3], "a record that cannot have counted")
    if kind == "claim":
        need((2 in claims) != (6 in claims), "a claim is a gateway's or a participant's")
    if kind == "revocation":
        need((3 in claims) != (8 in claims), "a revoked key is a gateway's or a participant's")
    if kind == "key-request":
        holders = (3 in claims, 5 in claims, 7 in claims)
        need(holders in ((True, True, False), (False, False, True)), "a gateway asks with points, a participant without")
        ascending([point[0] for point in claims.get(5, [])], "points")
    if kind == "introduction":
        request = verify("key-request", claims[3], claims[2], community)
        need(request[2] == claims[2], "the request is for another key")
        need(request[4] == kid_of(signer), "the request names another key to vouch for it")


def check_outcome(outcome, value, reason, revert):
    fits = {
        "accepted": (reason is None or (value is not None and reason in LIMITS)) and revert is None,
        "refused": value is None and reason in COMMAND_REFUSALS and revert is None,
        "confirmed": value is not None and (reason is None or reason in LIMITS) and revert is None,
        "not_confirmed": reason is None and revert is None,
        "ended": value is None and reason in ENDS and revert in REVERTS,
    }
    need(fits.get(outcome, False), f"not an outcome: {outcome!r} with {value!r}, {reason!r}, {revert!r}")


def kid_of(key):
    return hashlib.sha256(key).digest()[:8]


def decode(encoded):
    """Decodes deterministic CBOR, and nothing else."""
    stream = io.BytesIO(encoded)
    try:
        value = cbor2.CBORDecoder(stream).decode()
    except Exception as error:
        raise Invalid(f"not CBOR: {error}") from None
    need(stream.tell() == len(encoded), "bytes behind the end")
    need(cbor2.dumps(value, canonical=True) == encoded, "not the deterministic encoding")
    return value


def verify(kind, message, key, community):
    """The claims of a message, if it is one of this kind, signer and community."""
    lists_points = kind in ("key", "key-request", "introduction")
    need(len(message) <= (POINTS_MESSAGE_MAX_BYTES if lists_points else MESSAGE_MAX_BYTES), "too long")
    public_key(key)
    envelope = decode(message)
    need(isinstance(envelope, cbor2.CBORTag) and envelope.tag == 18, "not a tagged COSE_Sign1")
    need(isinstance(envelope.value, (list, tuple)) and len(envelope.value) == 4, "not a COSE_Sign1")
    protected, unprotected, payload, signature = envelope.value
    need(all(type(part) is bytes for part in (protected, payload, signature)), "not byte strings")
    need(unprotected == {}, "an unprotected header")
    header = {1: -8, 3: f"application/vnd.commonwatt.{kind}+cbor", 4: kid_of(key)}
    need(decode(protected) == header, "another header than this kind and key have")
    need(len(signature) == 64, "not a signature")
    need(int.from_bytes(signature[32:], "little") < ORDER, "a signature that is not canonical")
    public_key(signature[:32])
    claims = decode(payload)
    TABLES[kind](claims)
    external = f"commonwatt/{community}/{kind}/v1".encode()
    signed = cbor2.dumps(["Signature1", protected, external, payload], canonical=True)
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except InvalidSignature:
        raise Invalid("the signature does not verify") from None
    check_claims(kind, claims, key, community)
    return claims


def main(path):
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    wrong = 0
    for vector in vectors:
        message, key = bytes.fromhex(vector["message"]), bytes.fromhex(vector["public_key"])
        try:
            verify(vector["kind"], message, key, vector["community"])
            valid, why = True, "valid"
        except Invalid as error:
            valid, why = False, str(error)
        agrees = valid == vector["valid"]
        wrong += not agrees
        print(f"{'ok  ' if agrees else 'FAIL'}  {vector['name']}: {why}")
    print(f"{len(vectors)} vectors, {wrong} of them not as expected")
    return 1 if wrong or not vectors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
