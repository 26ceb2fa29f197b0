#!/usr/bin/env python3
"""Checks whole receipts of Commonwatt by settlement/FORMAT.md and domain/FORMAT.md, without anything of the platform's
program, on the checkers of signed messages and of log entries beside it; with cbor2 and cryptography from PyPI.

    verify_receipt.py receipts.json             says for each vector where it fails; exit code 1 where one disagrees
    verify_receipt.py receipt.json [KEY]        checks one receipt, against the operator's key in base64 where it is given
"""

import base64
import datetime
import hashlib
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "domain/tests/vectors"))

import cbor2  # noqa: E402
import verify as messages  # noqa: E402
from verify_proof import checkpoint, digest, leads_to  # noqa: E402
import verify_proof  # noqa: E402

RECEIPT_MAX_BYTES = 4 * 1024 * 1024
PUBLIC = bytes(16)
KIND = {word: code for code, word in verify_proof.KINDS.items()}


class Invalid(Exception):
    """Why a receipt is none."""


REFUSED = (Invalid, messages.Invalid, verify_proof.Invalid)


def need(condition, why):
    if not condition:
        raise Invalid(why)


def fits(value):
    need(-(2**63) <= value < 2**63, "an amount does not fit 64 bits")
    return value


# Forms: each reads a value of JSON, and gives what stands for it in CBOR.


class Form:
    def __init__(self, read, cbor=lambda value: value):
        self.read, self.cbor = read, cbor


def text_that(pattern, convert=str, cbor=lambda value: value):
    def read(given):
        need(type(given) is str and re.fullmatch(pattern, given, re.S) is not None, f"not as it must be: {given!r}")
        return convert(given)

    return Form(read, cbor)


def number(low, high):
    def read(given):
        need(type(given) is int and low <= given <= high, f"not a number from {low} to {high}: {given!r}")
        return given

    return Form(read)


def scaled(places):
    def convert(given):
        need(not re.fullmatch(r"-[0.]+", given), "a zero below zero")
        return fits(int(given.replace(".", "")))

    return text_that(r"-?(0|[1-9][0-9]*)\.[0-9]{%d}" % places, convert)


def word(*words, first=0):
    codes = {name: code for code, name in enumerate(words, first)}

    def read(given):
        need(type(given) is str and given in codes, f"not a known word: {given!r}")
        return given

    return Form(read, codes.__getitem__)


def many(item):
    def read(given):
        need(type(given) is list, "not a list")
        return [item.read(one) for one in given]

    return Form(read, lambda values: [item.cbor(value) for value in values])


def part(*members):
    """Members in order: (name, key in CBOR, form, how none is told: None, "absent", "null" or "empty")."""

    def read(given):
        need(type(given) is dict, "not a part with members")
        value, names = {}, []
        for name, _, form, none in members:
            if none in ("absent", "empty") and name not in given:
                value[name] = None if none == "absent" else []
                continue
            need(name in given, f"{name} is missing")
            names.append(name)
            if none == "null" and given[name] is None:
                value[name] = None
                continue
            value[name] = form.read(given[name])
            need(none != "empty" or value[name], f"{name} is empty")
        need(list(given) == names, "other members, or in another order")
        return value

    def cbor(value):
        return {key: form.cbor(value[name]) for name, key, form, _ in members if key and value[name] is not None}

    return Form(read, cbor)


def columns(*rows):
    return part(*[(row + (None,))[:4] for row in rows])


def read_interval(given):
    found = re.fullmatch(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})Z/([1-9][0-9]{0,3})s", given)
    need(found is not None, f"not an interval: {given!r}")
    try:
        at = datetime.datetime.strptime(found[1] + "+0000", "%Y-%m-%dT%H:%M:%S%z")
    except ValueError as error:
        raise Invalid(str(error)) from None
    start, length = int(at.timestamp()), int(found[2])
    need(3600 % length == 0 and start % length == 0, "not an interval")
    return (start, length)


QUALITIES = """measured interpolated_edge estimated substituted gap stale reset roll_over out_of_range manual
clock_step""".split()
PURPOSES = """deposit hold release trade network_fee pool_deviation utility_deviation metered_energy lost_energy spread
community_fee holdback charging withdrawal_hold withdrawal withdrawal_release stake_issue bond unbond unbonded""".split()
CHART = "100 105 110 130 200 210 220 230 300 310 320 400 410 420 430 500 510 600 610 700 800 810 820".split()


def read_quality(given):
    names = given.split("+")
    need(all(name in QUALITIES for name in names), f"not a quality: {given!r}")
    bits = [QUALITIES.index(name) for name in names]
    need(all(a < b for a, b in zip(bits, bits[1:])), "qualities do not ascend")
    return sum(1 << bit for bit in bits)


def read_account(given):
    code, _, owner = given.partition("/")
    need(code in CHART and (owner == "-" or messages.ID.match(owner)), f"not an account: {given!r}")
    return given


def raw64(given):
    try:
        found = base64.b64decode(given, validate=True)
    except ValueError as error:
        raise Invalid(f"not base64: {error}") from None
    need(base64.b64encode(found).decode() == given, "base64 that is written another way")
    return found


TEXT, ID = text_that(".*"), text_that("[a-z0-9][a-z0-9._-]{0,63}")
HEX16, HEX32 = (text_that("[0-9a-f]{%d}" % n, bytes.fromhex) for n in (32, 64))
BASE64 = text_that(".*", raw64)
WH, COUNT, SIZE = number(-(2**63), 2**63 - 1), number(0, 2**32 - 1), number(0, 2**64 - 1)
PRICE = scaled(6)
INTERVAL = text_that(".*", read_interval, list)
QUALITY, ACCOUNT = text_that(".*", read_quality), text_that(".*", read_account)
RUN, ASSET = word("provisional", "initial", "final", "true_up"), word("token", "wh", "stake", first=1)
PURPOSE = word(*PURPOSES, first=1)

TRADE = columns(
    ("id", 1, HEX16), ("interval", 2, INTERVAL), ("bid", 3, HEX16), ("offer", 4, HEX16), ("buyer", 5, ID),
    ("seller", 6, ID), ("energy_wh", 7, WH), ("price", 8, PRICE), ("network_fee", 9, PRICE, "absent"),
)
CLEARING = columns(
    ("interval", 1, INTERVAL), ("mechanism", 2, TEXT), ("price_policy", 3, TEXT), ("price", 4, PRICE, "null"),
    ("price_low", 5, PRICE, "null"), ("price_high", 6, PRICE, "null"), ("volume_wh", 7, WH), ("orders", 8, COUNT),
    ("trades", 9, COUNT), ("book", 10, HEX32), ("public_book", 11, HEX32, "absent"),
)
DELIVERY = columns(
    ("interval", 1, INTERVAL), ("participant", 2, ID), ("point", 3, ID), ("imported_wh", 4, WH),
    ("exported_wh", 5, WH), ("bought_wh", 6, WH), ("sold_wh", 7, WH), ("quality", 8, QUALITY),
    ("reading", 9, HEX32, "null"),
)
TERMS = columns(
    ("policy", 1, word("pooled", "two-price", "single-price")), ("spread", 2, PRICE), ("community_fee_bp", 3, COUNT),
    ("holdback_bp", 4, COUNT), ("position", 5, word("balanced", "short", "long")),
)
PLAIN = {"policy": "pooled", "spread": 0, "community_fee_bp": 0, "holdback_bp": 0, "position": "balanced"}
PRICES = columns(
    ("pool", 1, PRICE), ("retail", 2, PRICE), ("feed_in", 3, PRICE), ("network_fee", 4, PRICE),
    ("terms", 5, TERMS, "absent"),
)
STEPS = many(columns(("from_wh", 1, WH), ("retail", 2, PRICE)))
TIERS = columns(("used_wh", 1, WH), ("steps", 2, STEPS))
BARE_POSTING = columns(
    ("id", 1, HEX16), ("asset", 2, ASSET), ("debit", 3, ACCOUNT), ("credit", 4, ACCOUNT),
    ("amount", 5, Form(lambda given: given)), ("purpose", 6, PURPOSE), ("interval", 7, INTERVAL, "null"),
    ("run", 8, RUN, "null"), ("reference", 9, HEX16, "null"),
)
WH_TEXT = text_that("0|-?[1-9][0-9]*", lambda given: fits(int(given)))


def read_posting(given):
    posting = BARE_POSTING.read(given)
    posting["amount"] = (WH_TEXT if posting["asset"] == "wh" else scaled(9)).read(posting["amount"])
    return posting


POSTING = Form(read_posting, BARE_POSTING.cbor)
LINE = columns(
    ("interval", 1, INTERVAL), ("participant", 2, ID), ("run", 3, RUN), ("delivery", 4, DELIVERY),
    ("trades", 5, many(TRADE)), ("pooled_wh", 6, WH), ("utility_wh", 7, WH), ("prices", 8, PRICES),
    ("postings", 9, many(POSTING)), ("tariff", 10, TEXT, "absent"), ("tiers", 11, TIERS, "absent"),
)
RULES = columns(
    ("retail", 1, PRICE), ("feed_in", 2, PRICE), ("network_fee", 3, PRICE), ("terms", 4, TERMS, "absent"),
    ("version", 5, TEXT, "absent"), ("steps", 6, STEPS, "empty"), ("month_from_s", 7, WH, "absent"),
)
RECORD = columns(
    ("interval", 1, INTERVAL), ("run", 2, RUN), ("program", 3, TEXT), ("rules", 4, RULES), ("readings_size", 5, SIZE),
    ("lines", 6, COUNT), ("postings", 7, COUNT), ("inputs", 8, HEX32), ("outcome", 9, HEX32),
)
PLACE = columns(("index", 0, SIZE), ("path", 0, many(HEX32)))
SIGNED = columns(("signed", 0, BASE64), ("salt", 0, HEX16), ("place", 0, PLACE))
KEY = columns(("signed", 0, BASE64), ("place", 0, PLACE))
HEAD = columns(("note", 0, TEXT), ("place", 0, PLACE))
CHANGE = columns(("key", 0, KEY), ("introduction", 0, KEY, "absent"))
BEFORE = columns(("checkpoint", 0, HEAD), ("place", 0, PLACE))
REVOCATION = columns(("word", 0, KEY), ("reading_before", 0, BEFORE, "absent"))
HISTORY = columns(
    ("before", 0, CHANGE, "absent"), ("after", 0, CHANGE, "absent"), ("revocations", 0, many(REVOCATION), "empty")
)


def salted(content):
    return columns(("content", 0, content), ("salt", 0, HEX16), ("place", 0, PLACE))


def unsalted(content):
    return columns(("content", 0, content), ("place", 0, PLACE))


RECEIPT = columns(
    ("format", 0, TEXT), ("community", 0, TEXT), ("operator_key", 0, HEX32), ("participant", 0, ID),
    ("side", 0, word("bid", "offer")), ("trade", 0, salted(TRADE)), ("clearing", 0, unsalted(CLEARING)),
    ("order", 0, SIGNED), ("reading", 0, SIGNED, "null"), ("participant_key", 0, KEY), ("gateway_key", 0, KEY, "null"),
    ("participant_key_history", 0, HISTORY, "absent"), ("gateway_key_history", 0, HISTORY, "absent"),
    ("lines", 0, many(salted(LINE))), ("runs", 0, many(unsalted(RECORD)), "empty"), ("readings_checkpoint", 0, HEAD),
    ("market_checkpoint", 0, HEAD), ("ledger_checkpoint", 0, TEXT),
)


def encoded(form, value):
    return cbor2.dumps(form.cbor(value), canonical=True)


def without_space(text):
    """JSON without the white space between its parts."""
    return "".join(re.findall(r'"(?:[^"\\]|\\.)*"|[^ \t\n\r"]+', text))


def read(text):
    need(len(text.encode()) <= RECEIPT_MAX_BYTES, "too long")

    def no_number(given):
        raise Invalid(f"not a whole number: {given}")

    try:
        given = json.loads(text, parse_float=no_number, parse_constant=no_number)
        again = json.dumps(given, ensure_ascii=False, separators=(",", ":"))
        again.encode()
    except ValueError as error:
        raise Invalid(f"not JSON: {error}") from None
    need(without_space(text) == again, "written another way")
    receipt = RECEIPT.read(given)
    need(receipt["format"] == "commonwatt-receipt/v1", "another format")
    return receipt


# What is checked, step by step.


def in_log(kind, start, salt, content, place, log):
    leaf = bytes([1, KIND[kind]]) + start.to_bytes(8, "big", signed=True) + digest("commonwatt/commitment/v1", salt, content)
    _, size, root = log
    need(len(place["path"]) <= 64, "a path that is too long")
    need(leads_to(leaf, place["index"], size, place["path"], root), f"the {kind} is not in the log under this root")


def timed_id(start, tag, name, *parts):
    return (start * 1000).to_bytes(8, "big", signed=True)[2:] + tag.to_bytes(2, "big") + digest(name, *parts)[:8]


class Check:
    def __init__(self, receipt, known):
        self.r, self.known = receipt, known
        self.trade, self.clearing = receipt["trade"]["content"], receipt["clearing"]["content"]
        self.lines = [entry["content"] for entry in receipt["lines"]]

    def operator_key(self):
        need(messages.ID.match(self.r["community"]), "the community has no name")
        self.community, self.operator = self.r["community"], self.r["operator_key"]
        messages.public_key(self.operator)
        need(self.known in (None, self.operator), "another key than the one that is known")

    def open_note(self, note, log, cosigned):
        lines = note.split("\n\n", 1)[-1].removesuffix("\n").split("\n")
        origin = f"commonwatt/{self.community}/{log}"
        need(lines[0].startswith(f"\u2014 {origin} "), "the first signature is not the operator's")
        need(cosigned or (len(lines) == 1 and len(note.encode()) <= 1024), "more than the operator's signature")
        found = checkpoint(note, self.community, self.operator)
        need(found[0] == log, "another log's checkpoint")
        return found

    def checkpoints(self):
        self.ledger = self.open_note(self.r["ledger_checkpoint"], "ledger", True)
        for log in ("readings", "market"):
            entry = self.r[f"{log}_checkpoint"]
            setattr(self, log, self.open_note(entry["note"], log, False))
            in_log("checkpoint", 0, PUBLIC, entry["note"].encode(), entry["place"], self.ledger)

    def record(self, entry):
        claims = messages.verify("key", entry["signed"], self.operator, self.community)
        in_log("key", claims[3] // 1000, PUBLIC, entry["signed"], entry["place"], self.ledger)
        return claims

    def keys(self):
        self.participant = self.record(self.r["participant_key"])
        need(self.participant[3] <= self.trade["interval"][0] * 1000, "the participant's key is valid only later")
        need(self.participant.get(6) == self.r["participant"], "the participant's key is somebody else's")
        key = self.r["gateway_key"]
        self.gateway = self.record(key) if key else None
        need((key is None) == (self.r["reading"] is None), "a gateway's key belongs to a reading")

    def sound(self, trade):
        made = timed_id(trade["interval"][0], 2, "trade", self.clearing["book"], trade["bid"], trade["offer"])
        need(trade["id"] == made, "another id than the trade's")
        need(trade["energy_wh"] > 0 and trade["buyer"] != trade["seller"], "no energy moves")
        need((trade["network_fee"] or 0) >= 0, "the network pays for a trade")

    def the_trade(self):
        entry, trade = self.r["trade"], self.trade
        in_log("trade", trade["interval"][0], entry["salt"], encoded(TRADE, trade), entry["place"], self.market)
        self.sound(trade)
        me = trade["buyer" if self.r["side"] == "bid" else "seller"]
        need(me == self.r["participant"], "somebody else's trade")

    def the_order(self):
        return messages.verify("order", self.r["order"]["signed"], self.participant[2], self.community)

    def the_clearing(self):
        clearing, place = self.clearing, self.r["clearing"]["place"]
        in_log("clearing", clearing["interval"][0], PUBLIC, encoded(CLEARING, clearing), place, self.market)
        need(clearing["interval"] == self.trade["interval"], "another interval's clearing")
        try:
            about_green = {13, 14} & set(self.the_order())
        except REFUSED:
            about_green = False
        free = clearing["price"] is None or about_green
        need(free or clearing["price"] == self.trade["price"], "another price than the clearing's")
        enough = clearing["volume_wh"] >= self.trade["energy_wh"] and clearing["trades"] > 0
        need(enough, "the trade is larger than all that was cleared")

    def order_signature(self):
        order, entry, trade = self.the_order(), self.r["order"], self.trade
        in_log("order", order[5], entry["salt"], entry["signed"], entry["place"], self.market)
        need(order[2] == self.r["participant"], "somebody else's order")
        need(order[7] == ("bid", "offer").index(self.r["side"]), "the other side")
        need((order[5], order[6]) == trade["interval"], "another interval's order")
        self.own = timed_id(order[5], 1, "order", order[2], order[4].to_bytes(8, "big"))
        need(trade[self.r["side"]] == self.own, "the trade names another order")
        if order[7] == 0:
            need(trade["price"] <= fits(order[9] + order.get(14, 0)), "above the limit")
        else:
            need(trade["price"] >= order[9], "below the limit")
        need(trade["energy_wh"] <= order[8], "more than was ordered")
        self.order = order

    def settlement_lines(self):
        need(self.lines, "there is no line")
        last = self.lines[-1]
        own = sum(t["energy_wh"] for t in last["trades"] if self.own in (t["bid"], t["offer"]))
        need(own <= self.order[8], "the order is overfilled")
        before = -1
        for entry in self.r["lines"]:
            line = entry["content"]
            start = line["interval"][0]
            in_log("line", start, entry["salt"], encoded(LINE, line), entry["place"], self.ledger)
            need(RUN.cbor(line["run"]) > before, "the runs do not ascend")
            before = RUN.cbor(line["run"])
            need(line["trades"] == last["trades"], "other trades than the last line's")
            need(tariff_of(line) == tariff_of(last), "another tariff than the last line's")
            self.line(line)

    def line(self, line):
        prices, delivery, trade = line["prices"], line["delivery"], self.trade
        terms = prices["terms"] or PLAIN
        need(prices["terms"] != PLAIN, "plain terms are written")
        need(terms["spread"] >= 0 and prices["network_fee"] >= 0, "a price below zero")
        need(terms["spread"] == 0 or terms["policy"] == "pooled", "a spread without a pool")
        need(terms["community_fee_bp"] <= 10000 and terms["holdback_bp"] <= 10000, "a share above the whole")
        need(prices["pool"] == pool_price(prices, terms, self.clearing["price"]), "another price in the pool")
        if line["tiers"]:
            steps = line["tiers"]["steps"]
            need(are_steps(steps), "the steps do not rise from zero")
            need(steps[0]["retail"] == prices["retail"], "the first step has another price")
        for one in (line, delivery):
            need(one["participant"] == self.r["participant"], "somebody else's line")
            need(one["interval"] == trade["interval"], "another interval's line")
        need(self.order[3] == delivery["point"], "the order is for another point")
        need(line["trades"].count(trade) == 1, "the trade is not settled once")
        bought = sold = 0
        for one in line["trades"]:
            self.sound(one)
            need(one["interval"] == line["interval"], "a trade of another interval")
            need(line["participant"] in (one["buyer"], one["seller"]), "a trade of others")
            if one["buyer"] == line["participant"]:
                bought += one["energy_wh"]
            else:
                sold += one["energy_wh"]
        need((delivery["bought_wh"], delivery["sold_wh"]) == (bought, sold), "other energy than the trades'")
        need(delivery["reading"] or delivery["quality"] & 8, "a substitute that is not marked")
        pooled, utility = line["pooled_wh"], line["utility_wh"]
        deviation = fits(fits(delivery["exported_wh"] - delivery["imported_wh"]) - fits(sold - bought))
        need(pooled + utility == deviation, "pool and utility serve another deviation")
        need(pooled * utility >= 0, "pool and utility serve opposite deviations")
        position = terms["position"]
        if terms["policy"] == "single-price":
            need(utility == 0 or position == ("short" if utility < 0 else "long"), "another position")
        else:
            need(position == "balanced" and (terms["policy"] == "pooled" or pooled == 0), "not as the policy says")

    def runs_inputs(self):
        runs = self.r["runs"]
        without = len(self.lines) - len(runs)
        need(without >= 0, "more runs than lines")
        for entry, line_entry in zip(runs, self.r["lines"][without:]):
            run, line = entry["content"], line_entry["content"]
            in_log("run", run["interval"][0], PUBLIC, encoded(RECORD, run), entry["place"], self.ledger)
            need((run["interval"], run["run"]) == (line["interval"], line["run"]), "another run than the line's")
            behind = entry["place"]["index"] - line_entry["place"]["index"]
            need(0 < behind <= run["lines"], "the line is not among the run's")
            rules, prices = run["rules"], line["prices"]
            need(rules["version"] == line["tariff"], "another tariff")
            names = ("retail", "feed_in", "network_fee")
            need(all(rules[name] == prices[name] for name in names), "other prices")
            need((rules["terms"] or PLAIN) == {**(prices["terms"] or PLAIN), "position": "balanced"}, "other terms")
            need(rules["steps"] == (line["tiers"]["steps"] if line["tiers"] else []), "other steps")
            reading = self.r["reading"]
            if reading and line is self.lines[-1]:
                need(reading["place"]["index"] < run["readings_size"], "the run could not know the reading")

    def meter_signature(self):
        entry, delivery = self.r["reading"], self.lines[-1]["delivery"]
        for line in self.lines:
            names = ("reading", "imported_wh", "exported_wh", "quality")
            same = all(line["delivery"][name] == delivery[name] for name in names)
            need(line["delivery"]["reading"] is None or same, "an earlier run had another reading")
        if entry is None:
            need(delivery["reading"] is None, "the reading is not shown")
            return
        reading = messages.verify("reading", entry["signed"], self.gateway[2], self.community)
        in_log("reading", reading[5], entry["salt"], entry["signed"], entry["place"], self.readings)
        need(self.gateway[3] <= (reading[5] + reading[6]) * 1000, "the gateway's key is valid only later")
        point = reading[3].decode()
        own = [p for p in self.gateway.get(5, []) if p[1] == point and p[2] == 0 and p.get(3) == self.r["participant"]]
        need(own, "the gateway does not sign for this point")
        need(delivery["reading"] == hashlib.sha256(entry["signed"]).digest(), "the line names another reading")
        need(delivery["interval"] == (reading[5], reading[6]), "another interval's reading")
        need((delivery["point"], delivery["quality"]) == (point, reading[9]), "another point or quality")
        counted = {row[0]: max(row[2] - row[1], 0) for row in reading[7]}
        metered = (counted.get(67584, 0), counted.get(133120, 0))
        need((delivery["imported_wh"], delivery["exported_wh"]) == metered, "other energy than the reading's")

    def key_changes(self):
        for who, reading in (("participant", None), ("gateway", self.r["reading"])):
            history = self.r[f"{who}_key_history"]
            if history is None:
                continue
            record = getattr(self, who)
            need(record, "a history of a key that is not there")
            need(history["before"] or history["after"] or history["revocations"], "an empty history")
            own = (record, self.r[f"{who}_key"]["place"]["index"])
            for side in ("before", "after"):
                change = history[side]
                if change:
                    other = (self.record(change["key"]), change["key"]["place"]["index"])
                    older, newer = (other, own) if side == "before" else (own, other)
                    self.changed(older, newer, change["introduction"])
            places = [one["word"]["place"]["index"] for one in history["revocations"]]
            need(all(a < b for a, b in zip(places, places[1:])), "revocations do not stand in order")
            for one in history["revocations"]:
                self.revoked(one, record, reading)

    def changed(self, older, newer, introduction):
        (old, old_index), (new, new_index) = older, newer
        need((old.get(4), old.get(6)) == (new.get(4), new.get(6)), "keys of two holders")
        need(old[2] != new[2] and old_index < new_index, "the key does not follow the other")
        if introduction is None:
            return
        signed = introduction["signed"]
        protected, _, payload, _ = messages.decode(signed).value
        signer, claims = messages.decode(protected)[4], messages.decode(payload)
        messages.TABLES["introduction"](claims)
        request = messages.verify("key-request", claims[3], claims[2], self.community)
        need(request[2] == claims[2] == new[2], "another key is introduced")
        in_log("introduction", request[6] // 1000, PUBLIC, signed, introduction["place"], self.ledger)
        held = (request.get(3), request.get(7)) == (new.get(4), new.get(6))
        need(held and request[4] == signer, "another holder's, or signed by another key")
        if signer == messages.kid_of(old[2]):
            messages.verify("introduction", signed, old[2], self.community)

    def revoked(self, entry, record, reading):
        signed, place = entry["word"]["signed"], entry["word"]["place"]
        said = messages.verify("revocation", signed, self.operator, self.community)
        in_log("revocation", said[5] // 1000, PUBLIC, signed, place, self.ledger)
        need(reading and said[2] == messages.kid_of(record[2]), "another key's revocation")
        claims = messages.verify("reading", reading["signed"], record[2], self.community)
        covers = claims[4] >= said[4] or (claims[5] + claims[6]) * 1000 > said[5]
        before = entry["reading_before"]
        if before is None:
            return
        need(covers, "it is shown without need when the reading came")
        head = before["checkpoint"]
        earlier = head["place"]["index"] < place["index"] and before["place"]["index"] == reading["place"]["index"]
        need(earlier, "revoked before the reading came")
        in_log("checkpoint", 0, PUBLIC, head["note"].encode(), head["place"], self.ledger)
        log = self.open_note(head["note"], "readings", False)
        in_log("reading", claims[5], reading["salt"], reading["signed"], before["place"], log)

    def postings(self):
        posted = {}
        for line in self.lines:
            sums = sums_of(line)
            due = dict(sums)
            for key, amount in posted.items():
                due[key] = fits(due.get(key, 0) - amount)
            need(made_of(due, line) == line["postings"], f"the {line['run']} run posted something else")
            posted = sums


STEPS_OF_CHECK = (
    ("operator key", Check.operator_key), ("checkpoints", Check.checkpoints), ("keys", Check.keys),
    ("trade", Check.the_trade), ("clearing", Check.the_clearing), ("order signature", Check.order_signature),
    ("settlement lines", Check.settlement_lines), ("runs' inputs", Check.runs_inputs),
    ("meter signature", Check.meter_signature), ("key changes", Check.key_changes), ("postings", Check.postings),
)


def tariff_of(line):
    prices = line["prices"]
    flat = [prices[name] for name in ("retail", "feed_in", "network_fee")]
    terms = {**(prices["terms"] or PLAIN), "position": "balanced"}
    return flat, terms, line["tariff"], line["tiers"] and line["tiers"]["steps"]


def pool_price(prices, terms, clearing):
    feed_in, room = prices["feed_in"], prices["retail"] - prices["network_fee"]
    room = room if -(2**63) <= room < 2**63 else 0
    local = (feed_in + room) // 2 if clearing is None else clearing
    if room < feed_in:
        local = min(max(local, room), feed_in)
    if terms["policy"] != "single-price":
        return local
    return {"short": room, "long": feed_in, "balanced": local}[terms["position"]]


def are_steps(steps):
    froms = [step["from_wh"] for step in steps]
    return 1 <= len(froms) <= 16 and froms[0] == 0 and all(a < b for a, b in zip(froms, froms[1:]))


def on_steps(tiers, wh):
    steps, at = tiers["steps"], tiers["used_wh"]
    need(at >= 0 and are_steps(steps), "no steps")
    end, cost = fits(at + wh), 0
    for i, step in enumerate(steps):
        upto = min(steps[i + 1]["from_wh"] if i + 1 < len(steps) else end, end)
        if upto > at:
            cost, at = fits(cost + fits(step["retail"] * (upto - at))), upto
    return cost


def sums_of(line):
    """Sums between two accounts, by asset, purpose, accounts and reference; above zero from the first to the second."""
    sums, me, prices = {}, line["participant"], line["prices"]
    terms = prices["terms"] or PLAIN

    def add(purpose, source, target, amount, reference=b"", asset="token"):
        place = lambda account: (int(account.split("/")[0]), account.split("/")[1])  # noqa: E731
        if place(source) > place(target):
            source, target, amount = target, source, -amount
        key = (asset, purpose, source, target, reference)
        sums[key] = fits(sums.get(key, 0) + fits(amount))

    for trade in line["trades"]:
        buyer, seller = trade["buyer"], trade["seller"]
        amount = fits(trade["energy_wh"] * trade["price"])
        add("trade", f"105/{buyer}", f"100/{seller}", amount, trade["id"])
        if buyer == me:
            fee = prices["network_fee"] if trade["network_fee"] is None else trade["network_fee"]
            add("network_fee", f"105/{buyer}", "220/-", fee * trade["energy_wh"], trade["id"])
        if seller == me:
            community = amount * terms["community_fee_bp"] // 10000
            add("community_fee", f"100/{seller}", "300/-", community, trade["id"])
            if RUN.cbor(line["run"]) < RUN.cbor("final"):
                held = (amount - community) * terms["holdback_bp"] // 10000
                add("holdback", f"100/{seller}", f"110/{seller}", held, trade["id"])
    pooled, utility, own = line["pooled_wh"], line["utility_wh"], f"130/{me}"
    add("pool_deviation", "200/-", own, prices["pool"] * pooled)
    spread = 0
    if terms["spread"]:
        lacks = prices["retail"] - prices["network_fee"] - prices["pool"]
        spread = max(min(terms["spread"], lacks if pooled < 0 else prices["pool"] - prices["feed_in"]), 0)
    add("spread", "300/-", own, -spread * abs(pooled))
    add("network_fee", "220/-", own, prices["network_fee"] * min(pooled, 0))
    if utility >= 0:
        paid = prices["feed_in"] * utility
    else:
        paid = -on_steps(line["tiers"], -utility) if line["tiers"] else prices["retail"] * utility
    add("utility_deviation", "210/-", own, paid)
    net = line["delivery"]["exported_wh"] - line["delivery"]["imported_wh"]
    add("metered_energy", f"800/{me}", "200/-", net, asset="wh")
    return sums


def made_of(sums, line):
    """The postings that make these sums."""
    made, start = [], line["interval"][0]
    for (asset, purpose, first, second, reference), amount in sums.items():
        if amount == 0:
            continue
        tag = 0x4000 + 256 * RUN.cbor(line["run"]) + PURPOSE.cbor(purpose)
        parts = (bytes([ASSET.cbor(asset)]), first, second, reference)
        debit, credit = (first, second) if amount > 0 else (second, first)
        made.append({
            "id": timed_id(start, tag, "run-posting", *parts), "asset": asset, "debit": debit, "credit": credit,
            "amount": abs(amount), "purpose": purpose, "interval": line["interval"], "run": line["run"],
            "reference": reference or None,
        })
    return sorted(made, key=lambda posting: posting["id"])


def check(text, known=None):
    """None where the receipt is genuine, else the step at which it fails, and why."""
    try:
        one = Check(read(text), known)
    except REFUSED as error:
        return "format", str(error)
    for name, step in STEPS_OF_CHECK:
        try:
            step(one)
        except REFUSED as error:
            return name, str(error)
    return None


def main(file, key=None):
    text = Path(file).read_text(encoding="utf-8")
    known = base64.b64decode(key) if key else None
    try:
        vectors = json.loads(text)
    except ValueError:
        vectors = None
    if not isinstance(vectors, dict) or "receipts" not in vectors:
        failed = check(text, known)
        print("genuine" if not failed else f"not genuine: {failed[0]}: {failed[1]}")
        return 1 if failed else 0
    known, wrong = base64.b64decode(vectors["operator_key"]), 0
    for vector in vectors["receipts"]:
        failed = check(vector["text"], known)
        agrees = (failed[0] if failed else None) == vector["fails"]
        wrong += not agrees
        told = f"{failed[0]}: {failed[1]}" if failed else "genuine"
        print(f"{vector['name']}: {told}{'' if agrees else '  DISAGREES'}")
    print(f"{len(vectors['receipts'])} receipts, {wrong} not as expected")
    return 1 if wrong or not vectors["receipts"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
