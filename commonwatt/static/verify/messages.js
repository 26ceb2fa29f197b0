// The claims of the signed messages that receipts show: domain/FORMAT.md as tables.

const whole = (low, high) => (value) => { need(typeof value === "bigint" && value >= low && value <= high, "a number is none"); return value; };
const U8 = whole(0n, 255n), U32 = whole(0n, 2n ** 32n - 1n), U64 = whole(0n, 2n ** 64n - 1n), I64 = whole(-(2n ** 63n), 2n ** 63n - 1n);
const raw = (length) => (value) => { need(value instanceof Uint8Array && value.length === length, `not ${length} bytes`); return value; };
const blob = (value) => { need(value instanceof Uint8Array, "no bytes"); return value; };
const id = (value) => { need(typeof value === "string" && ID.test(value), "no id"); return value; };
const idBytes = (value) => id(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(blob(value)));
const publicKey = (value) => { need(isPoint(raw(32)(value)), "not a usable public key"); return value; };
const yes = (value) => { need(value === true, "a claim is not as it is said"); return value; };
const reason = (value) => { need(typeof value === "string" && value && utf8(value).length <= 200, "no reason"); return value; };
const several = (least, most, of) => (value) => {
  need(Array.isArray(value) && value.length >= least && value.length <= most, "too few or too many");
  return value.map(of);
};
const tuple = (...types) => (value) => {
  need(Array.isArray(value) && value.length === types.length, "a list is none");
  return value.map((one, i) => types[i](one));
};
const ascending = (list) => list.every((one, i) => i === 0 || list[i - 1] < one);

/** Reads a map by a table of [key, name, type]; a name that ends in "?" may be absent. */
const claims = (...table) => (value) => {
  need(value instanceof Map, "no map");
  const read = {};
  for (const [key, name, type] of table) {
    const given = value.get(BigInt(key));
    if (given === undefined) { need(name.endsWith("?"), `${name} is missing`); continue; }
    value.delete(BigInt(key));
    read[name.replace("?", "")] = type(given);
  }
  need(value.size === 0, "a claim that no message has");
  return read;
};
const version = [1, "version", whole(1n, 1n)];
const REGISTER = tuple(U32, I64, I64, whole(0n, 0n), whole(30n, 30n));
const POINT = claims([1, "point", id], [2, "role", whole(0n, 2n)], [3, "participant?", id], [4, "ratingW", U32]);

const TABLES = {
  reading: claims(version, [2, "device", raw(16)], [3, "point", idBytes], [4, "sequence", U64], [5, "startS", I64], [6, "lengthS", U32],
    [7, "registers", several(1, 16, REGISTER)], [8, "era", U32], [9, "quality", whole(1n, 2047n)], [10, "clock", tuple(I64, whole(0n, 3n), U32)],
    [11, "meter", raw(8)], [12, "class", whole(0n, 1n)], [14, "previous", raw(32)], [15, "profile", raw(8)]),
  order: claims(version, [2, "participant", id], [3, "point", id], [4, "sequence", U64], [5, "startS", I64], [6, "lengthS", U32],
    [7, "side", whole(0n, 1n)], [8, "energyWh", whole(1n, 2n ** 63n - 1n)], [9, "limit", I64], [10, "replaces?", U64],
    [11, "partners?", several(1, 8, id)], [12, "sameFeeder?", yes], [13, "green?", yes], [14, "greenPremium?", whole(1n, 2n ** 63n - 1n)]),
  key: claims(version, [2, "key", publicKey], [3, "validFromMs", I64], [4, "gateway?", id], [5, "points?", several(0, 1024, POINT)], [6, "participant?", id]),
  "key-request": claims(version, [2, "key", publicKey], [3, "gateway?", id], [4, "introducer", raw(8)],
    [5, "points?", several(1, 1024, tuple(id, U64, raw(32)))], [6, "madeAtMs", I64], [7, "participant?", id]),
  introduction: claims(version, [2, "key", publicKey], [3, "request", blob]),
  revocation: claims(version, [2, "key", raw(8)], [3, "gateway?", id], [4, "fromSequence", U64], [5, "fromMs", I64], [6, "reason", reason], [7, "issuedAtMs", I64],
    [8, "participant?", id]),
};

function isInterval({ startS, lengthS }) {
  return lengthS > 0n && 3600n % lengthS === 0n && startS % lengthS === 0n && fits64(startS + lengthS);
}

/** A key is a gateway's or a participant's. */
function isOfOne({ gateway, participant }) { return !gateway !== !participant; }

/** What the tables cannot say. */
const RULES = {
  reading: (m) => isInterval(m) && ascending(m.registers.map(([obis]) => obis)),
  order: (m) => isInterval(m) && m.replaces !== m.sequence && !m.partners?.includes(m.participant)
    && (m.side === 0n ? !m.green : !m.greenPremium && !m.sameFeeder),
  key: (m) => (m.participant === undefined ? m.gateway && m.points : !m.gateway && !m.points),
  "key-request": (m) => isOfOne(m) && !m.points === !m.gateway && ascending((m.points ?? []).map(([point]) => point)),
  introduction: () => true,
  revocation: isOfOne,
};

function claimsOf(kind, payload) {
  const message = TABLES[kind](payload);
  need(RULES[kind](message), `${kind}: its claims do not fit together`);
  return message;
}
