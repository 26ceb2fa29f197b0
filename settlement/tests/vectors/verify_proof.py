#!/usr/bin/env python3
"""Checks entries of Commonwatt's logs. Written from settlement/FORMAT.md and domain/FORMAT.md alone, in another
language than the platform, with cbor2 and cryptography from PyPI.

    verify_proof.py proofs.json     says for each vector whether it is valid; exit code 1 where one disagrees
"""

import base64
import hashlib
import io
import json
import sys

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "c2sp.org/tlog-proof@v1"
PROOF_MAX_BYTES = 1024 * 1024
KINDS = {1: "reading", 2: "order", 3: "trade", 4: "clearing", 5: "key", 6: "line", 7: "checkpoint", 8: "revocation", 9: "run", 10: "introduction", 11: "tokens", 12: "evidence"}
LOGS = {1: "readings", 2: "market", 3: "market", 4: "market", 5: "ledger", 6: "ledger", 7: "ledger", 8: "ledger", 9: "ledger", 10: "ledger", 11: "ledger", 12: "ledger"}
SIGNED = {"reading", "order", "key", "revocation", "introduction"}


class Invalid(Exception):
    """Why a proof is none."""


def need(condition, why):
    if not condition:
        raise Invalid(why)


def digest(*parts):
    total = hashlib.sha256()
    for part in parts:
        part = part.encode() if isinstance(part, str) else part
        total.update(len(part).to_bytes(8, "big") + part)
    return total.digest()


def strict_base64(text):
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Invalid(f"no base64: {error}")
    need(base64.b64encode(raw).decode() == text, "base64 is written another way")
    return raw


def decimal(text):
    need(text.isascii() and text.isdigit() and str(int(text)) == text, f"no number: {text!r}")
    return int(text)


def verifies(key, message, signature):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False


def checkpoint(note, community, key):
    """Origin, size and root of a note that the operator has signed."""
    need("\n\n" in note and note.endswith("\n"), "no signed note")
    body, signatures = note.split("\n\n", 1)
    lines = body.split("\n")
    need(len(lines) == 3, "no checkpoint")
    origin, size, root = lines[0], decimal(lines[1]), strict_base64(lines[2])
    need(len(root) == 32, "no root")
    parts = origin.split("/")
    need(len(parts) == 3 and parts[:2] == ["commonwatt", community], f"a log of somebody else: {origin}")
    identity = hashlib.sha256(origin.encode() + b"\n\x01" + key).digest()[:4]
    own = 0
    for line in signatures.removesuffix("\n").split("\n"):
        need(line.startswith("\u2014 ") and line.count(" ") == 2, "no signature line")
        name, signature = line[2:].split(" ")
        signature = strict_base64(signature)
        if name == origin and signature[:4] == identity:
            need(verifies(key, (body + "\n").encode(), signature[4:]), "the operator's signature does not hold")
            own += 1
    need(own == 1, "the operator has not signed it")
    return parts[2], size, root


def leads_to(leaf, index, size, path, root):
    """RFC 9162, 2.1.3.2."""
    if index >= size:
        return False
    fn, sn, r = index, size - 1, hashlib.sha256(b"\x00" + leaf).digest()
    for p in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = hashlib.sha256(b"\x01" + p + r).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = hashlib.sha256(b"\x01" + r + p).digest()
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def decoded(raw):
    stream = io.BytesIO(raw)
    try:
        value = cbor2.CBORDecoder(stream).decode()
    except Exception as error:
        raise Invalid(f"no CBOR: {error}")
    need(stream.tell() == len(raw), "bytes behind the end")
    return value


def message(content, kind):
    """Signer's kid, payload, and what was signed but for the community, of a COSE_Sign1."""
    tagged = decoded(content)
    need(isinstance(tagged, cbor2.CBORTag) and tagged.tag == 18, "no COSE_Sign1")
    protected, unprotected, payload, signature = tagged.value
    header = decoded(protected)
    need(unprotected == {} and header.get(1) == -8, "another kind of signature")
    need(header.get(3) == f"application/vnd.commonwatt.{kind}+cbor", "another kind of message")
    return header[4], decoded(payload), (protected, payload, signature)


def signed_by(parts, kind, community, key):
    protected, payload, signature = parts
    external = f"commonwatt/{community}/{kind}/v1".encode()
    return verifies(key, cbor2.dumps(["Signature1", protected, external, payload]), signature)


def run(content):
    record = decoded(content)
    need(isinstance(record, dict) and list(record) == sorted(record), "a run's keys do not ascend")
    need(set(record) == set(range(1, 10)), "a run lacks a claim, or has one more")
    need(record[2] in range(4) and isinstance(record[3], str), "no run")
    need(all(type(record[n]) is int and record[n] >= 0 for n in (5, 6, 7)), "a count is none")
    need(len(record[8]) == 32 and len(record[9]) == 32, "a digest is none")
    need({1, 2, 3} <= set(record[4]) <= set(range(1, 8)), "the rules lack a price")
    need(cbor2.dumps(record, canonical=True) == content, "not the one encoding")
    return record


def tokens(content):
    asked = decoded(content)
    need(isinstance(asked, dict) and list(asked) == sorted(asked), "keys do not ascend")
    need({1, 2, 3, 4, 6, 7, 8} <= set(asked) <= set(range(1, 9)), "a request lacks a claim, or has one more")
    need(asked[1] in (1, 2, 3) and asked[6] in range(4), "an unknown kind or step")
    need(all(type(asked[n]) is int for n in (3, 8)), "a number is none")
    need(all(type(asked.get(n, "")) is str for n in (2, 4, 5, 7)), "a text is none")
    need(cbor2.dumps(asked, canonical=True) == content, "not the one encoding")
    return asked


def check(text, community, operator):
    """What a proof shows: kind, index, and the opened content."""
    need(len(text.encode()) <= PROOF_MAX_BYTES, "too long")
    need("\n\n" in text, "no proof")
    head, note = text.split("\n\n", 1)
    lines = head.split("\n")
    need(lines.pop(0) == FORMAT, "another format")
    need(lines and lines[0].startswith("extra "), "no extra data")
    extra = strict_base64(lines.pop(0).removeprefix("extra "))
    need(lines and lines[0].startswith("index "), "no index")
    index = decimal(lines.pop(0).removeprefix("index "))
    path = [strict_base64(line) for line in lines]
    need(len(path) <= 64 and all(len(p) == 32 for p in path), "no path")
    log, size, root = checkpoint(note, community, operator)
    entry, opening = extra[:42], extra[42:]
    need(len(entry) == 42 and entry[0] == 1 and entry[1] in KINDS, "no entry")
    need(leads_to(entry, index, size, path, root), "it is not in the log under this root")
    need(log == LOGS[entry[1]], "an entry of another log")
    kind = KINDS[entry[1]]
    if not opening:
        return kind, index, None
    need(len(opening) >= 16, "no salt")
    salt, content = opening[:16], opening[16:]
    need(digest("commonwatt/commitment/v1", salt, content) == entry[10:], "salt and content are not what it commits to")
    if kind in SIGNED:
        kid, payload, parts = message(content, kind)
        if kind in ("key", "revocation"):
            need(signed_by(parts, kind, community, operator), "the operator has not signed it")
        return kind, index, (kid, payload, parts)
    if kind == "run":
        return kind, index, run(content)
    if kind == "tokens":
        return kind, index, tokens(content)
    if kind == "checkpoint":
        checkpoint(content.decode(), community, operator)
        return kind, index, content.decode()
    if kind == "evidence":
        need(json.loads(content).get("format") == "commonwatt-evidence/v1", "another format of evidence")
        return kind, index, content.decode()
    return kind, index, decoded(content)


def together(shown, community):
    """What the proofs of one receipt say of each other."""
    keys = {}
    for kind, _, opened in shown:
        if kind == "key":
            record = opened[1]
            keys[hashlib.sha256(record[2]).digest()[:8]] = record[2]
    for kind, _, opened in shown:
        if kind in ("reading", "order"):
            kid, _, parts = opened
            need(kid in keys, f"the key of the {kind} is not shown")
            need(signed_by(parts, kind, community, keys[kid]), f"the {kind}'s signature does not hold")
    lines = {line[3]: (index, line) for kind, index, line in shown if kind == "line"}
    runs = [(index, record) for kind, index, record in shown if kind == "run"]
    for index, record in runs:
        at, line = lines[record[2]]
        need(index - record[6] <= at < index, "the line is not among the run's")
        need(list(line[1]) == list(record[1]), "line and run are of different intervals")
        prices = line[8]
        need([prices[n] for n in (2, 3, 4)] == [record[4][n] for n in (1, 2, 3)], "line and run have different prices")
    readings = [index for kind, index, _ in shown if kind == "reading"]
    for _, record in runs:
        need(all(index < record[5] for index in readings), "the run could not know the reading")
    return len(runs)


def main(file):
    vectors = json.load(open(file, encoding="utf-8"))
    community, operator = vectors["community"], base64.b64decode(vectors["operator_key"])
    wrong, shown = 0, []
    for vector in vectors["proofs"]:
        try:
            found = check(vector["text"], community, operator)
            valid, why = True, found[0]
            if vector["receipt"]:
                shown.append(found)
        except Invalid as error:
            valid, why = False, str(error)
        agrees = valid == vector["valid"]
        wrong += not agrees
        print(f"{vector['name']}: {'valid' if valid else 'invalid'} ({why}){'' if agrees else '  DISAGREES'}")
    try:
        runs = together(shown, community)
        print(f"together: valid ({len(shown)} entries, {runs} runs)")
        wrong += runs == 0
    except Invalid as error:
        print(f"together: invalid ({error})  DISAGREES")
        wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
