// What a receipt holds, as tables: each part has one text in JSON and one encoding in CBOR, to which the logs commit.

const form = (read, write) => ({ read, cbor: write });
const texts = (check, write = cbor.text) => form((json) => { need(typeof json === "string", "expected a text"); return check(json); }, write);
const integers = (type) => form(type, cbor.int);
/** A text like 0.132000 as a whole number of its last place. */
const scaled = (places) => texts((text) => {
  need(new RegExp(`^-?(0|[1-9][0-9]*)\\.[0-9]{${places}}$`).test(text) && !/^-[0.]+$/.test(text), `no number with ${places} decimals`);
  return exact(BigInt(text.replace(".", "")));
}, cbor.int);
const wordOf = (codes) => texts((word) => { need(Object.hasOwn(codes, word), `unknown word ${word}`); return word; }, (word) => cbor.int(BigInt(codes[word])));
const listOf = (item) => form((json) => { need(Array.isArray(json), "expected a list"); return json.map(item.read); }, (items) => cbor.list(items.map(item.cbor)));
const hexOf = (length) => texts((text) => hex(unhex(text, length)), (text) => cbor.bytes(unhex(text, length)));

/** A part with named members in one order: [name, key in CBOR, form], and where a member may be none, how that is
    told: "null", or "absent"; an "empty" list is absent too. */
function part(...members) {
  const read = (json) => {
    need(json instanceof Map, "expected members");
    const [value, names] = [{}, []];
    for (const [name, , of, none] of members) {
      const given = json.get(name);
      const isNone = none === "null" ? given === null : none && given === undefined;
      if (!isNone || none === "null") names.push(name);
      need(isNone || given !== undefined, `${name} is missing`);
      try { value[name] = isNone ? null : of.read(given); } catch (error) { throw new Invalid(`${name}: ${error.message}`); }
      if (none === "empty") need((value[name] ??= []).length > 0 || isNone, `${name} is empty`);
    }
    need([...json.keys()].join() === names.join(), "other members, or in another order");
    return value;
  };
  const shown = (value) => members.filter(([name, key]) => key && value[name] !== null).map(([name, key, of]) => [key, of.cbor(value[name])]);
  return form(read, (value) => cbor.map(shown(value)));
}

const RUNS = { provisional: 0, initial: 1, final: 2, true_up: 3 };
const ASSETS = { token: 1, wh: 2, stake: 3 };
const PURPOSES = Object.fromEntries(["deposit", "hold", "release", "trade", "network_fee", "pool_deviation", "utility_deviation", "metered_energy", "lost_energy",
  "spread", "community_fee", "holdback", "charging", "withdrawal_hold", "withdrawal", "withdrawal_release", "stake_issue", "bond", "unbond", "unbonded"]
  .map((word, i) => [word, i + 1]));
const CHART = [100, 105, 110, 130, 200, 210, 220, 230, 300, 310, 320, 400, 410, 420, 430, 500, 510, 600, 610, 700, 800, 810, 820];
const QUALITIES = ["measured", "interpolated_edge", "estimated", "substituted", "gap", "stale", "reset", "roll_over", "out_of_range", "manual", "clock_step"];

const TEXT = texts((text) => text), ID_TEXT = texts(id);
const ID16 = hexOf(16), DIGEST = hexOf(32), PRICE = scaled(6), WH = integers(I64);
const BASE64 = texts(unbase64), HASHES = listOf(texts((text) => unhex(text, 32)));
const RUN = wordOf(RUNS);
const INTERVAL = texts((text) => {
  const [, start, length] = /^([0-9]{4}-[0-9T:-]{14}Z)\/([1-9][0-9]{0,3})s$/.exec(text) ?? [];
  const ms = Date.parse(start ?? "");
  need(!Number.isNaN(ms) && new Date(ms).toISOString() === start.replace("Z", ".000Z"), "no interval");
  const interval = { startS: BigInt(ms / 1000), lengthS: BigInt(length) };
  need(isInterval(interval), "no interval");
  return interval;
}, ({ startS, lengthS }) => cbor.list([cbor.int(startS), cbor.int(lengthS)]));
const QUALITY = texts((text) => {
  const bits = text.split("+").map((word) => QUALITIES.indexOf(word));
  need(!bits.includes(-1) && ascending(bits), "no quality");
  return bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
}, cbor.int);
const ACCOUNT = texts((text) => {
  const [, code, owner] = /^([0-9]{3})\/(.+)$/s.exec(text) ?? [];
  need(CHART.includes(Number(code)) && (owner === "-" || ID.test(owner)), "no account");
  return text;
});

const TRADE = part(["id", 1, ID16], ["interval", 2, INTERVAL], ["bid", 3, ID16], ["offer", 4, ID16], ["buyer", 5, ID_TEXT], ["seller", 6, ID_TEXT],
  ["energy_wh", 7, WH], ["price", 8, PRICE], ["network_fee", 9, PRICE, "absent"]);
const CLEARING = part(["interval", 1, INTERVAL], ["mechanism", 2, TEXT], ["price_policy", 3, TEXT], ["price", 4, PRICE, "null"], ["price_low", 5, PRICE, "null"],
  ["price_high", 6, PRICE, "null"], ["volume_wh", 7, WH], ["orders", 8, integers(U32)], ["trades", 9, integers(U32)], ["book", 10, DIGEST], ["public_book", 11, DIGEST, "absent"]);
const DELIVERY = part(["interval", 1, INTERVAL], ["participant", 2, ID_TEXT], ["point", 3, ID_TEXT], ["imported_wh", 4, WH], ["exported_wh", 5, WH],
  ["bought_wh", 6, WH], ["sold_wh", 7, WH], ["quality", 8, QUALITY], ["reading", 9, DIGEST, "null"]);
const TERMS = part(["policy", 1, wordOf({ pooled: 0, "two-price": 1, "single-price": 2 })], ["spread", 2, PRICE], ["community_fee_bp", 3, integers(U32)],
  ["holdback_bp", 4, integers(U32)], ["position", 5, wordOf({ balanced: 0, short: 1, long: 2 })]);
const PRICES = part(["pool", 1, PRICE], ["retail", 2, PRICE], ["feed_in", 3, PRICE], ["network_fee", 4, PRICE], ["terms", 5, TERMS, "absent"]);
const STEPS = listOf(part(["from_wh", 1, WH], ["retail", 2, PRICE]));
const TIERS = part(["used_wh", 1, WH], ["steps", 2, STEPS]);
const PLAIN_POSTING = part(["id", 1, ID16], ["asset", 2, wordOf(ASSETS)], ["debit", 3, ACCOUNT], ["credit", 4, ACCOUNT], ["amount", 5, form((json) => json, cbor.int)],
  ["purpose", 6, wordOf(PURPOSES)], ["interval", 7, INTERVAL, "null"], ["run", 8, RUN, "null"], ["reference", 9, ID16, "null"]);
const WH_TEXT = texts((text) => { need(/^(0|-?[1-9][0-9]*)$/.test(text), "no whole number"); return exact(BigInt(text)); });
const POSTING = form((json) => {
  const posting = PLAIN_POSTING.read(json);
  return { ...posting, amount: (posting.asset === "wh" ? WH_TEXT : scaled(9)).read(posting.amount) };
}, PLAIN_POSTING.cbor);
const LINE = part(["interval", 1, INTERVAL], ["participant", 2, ID_TEXT], ["run", 3, RUN], ["delivery", 4, DELIVERY], ["trades", 5, listOf(TRADE)], ["pooled_wh", 6, WH],
  ["utility_wh", 7, WH], ["prices", 8, PRICES], ["postings", 9, listOf(POSTING)], ["tariff", 10, TEXT, "absent"], ["tiers", 11, TIERS, "absent"]);
const RULES_OF_RUN = part(["retail", 1, PRICE], ["feed_in", 2, PRICE], ["network_fee", 3, PRICE], ["terms", 4, TERMS, "absent"], ["version", 5, TEXT, "absent"],
  ["steps", 6, STEPS, "empty"], ["month_from_s", 7, integers(I64), "absent"]);
const RUN_RECORD = part(["interval", 1, INTERVAL], ["run", 2, RUN], ["program", 3, TEXT], ["rules", 4, RULES_OF_RUN], ["readings_size", 5, integers(U64)],
  ["lines", 6, integers(U32)], ["postings", 7, integers(U32)], ["inputs", 8, DIGEST], ["outcome", 9, DIGEST]);

// Where each part stands in its log, and the receipt itself; these have no encoding.
const PLACE = part(["index", 0, integers(U64)], ["path", 0, HASHES]), SALT = texts((text) => unhex(text, 16));
const SIGNED = part(["signed", 0, BASE64], ["salt", 0, SALT], ["place", 0, PLACE]), KEY = part(["signed", 0, BASE64], ["place", 0, PLACE]);
const HEAD = part(["note", 0, TEXT], ["place", 0, PLACE]);
const CHANGE = part(["key", 0, KEY], ["introduction", 0, KEY, "absent"]);
const REVOCATION = part(["word", 0, KEY], ["reading_before", 0, part(["checkpoint", 0, HEAD], ["place", 0, PLACE]), "absent"]);
const HISTORY = part(["before", 0, CHANGE, "absent"], ["after", 0, CHANGE, "absent"], ["revocations", 0, listOf(REVOCATION), "empty"]);
const salted = (content) => part(["content", 0, content], ["salt", 0, SALT], ["place", 0, PLACE]);
const unsalted = (content) => part(["content", 0, content], ["place", 0, PLACE]);
const RECEIPT = part(["format", 0, TEXT], ["community", 0, TEXT], ["operator_key", 0, DIGEST], ["participant", 0, ID_TEXT], ["side", 0, wordOf({ bid: 0, offer: 1 })],
  ["trade", 0, salted(TRADE)], ["clearing", 0, unsalted(CLEARING)], ["order", 0, SIGNED], ["reading", 0, SIGNED, "null"], ["participant_key", 0, KEY],
  ["gateway_key", 0, KEY, "null"], ["participant_key_history", 0, HISTORY, "absent"], ["gateway_key_history", 0, HISTORY, "absent"],
  ["lines", 0, listOf(salted(LINE))], ["runs", 0, listOf(unsalted(RUN_RECORD)), "empty"], ["readings_checkpoint", 0, HEAD], ["market_checkpoint", 0, HEAD],
  ["ledger_checkpoint", 0, TEXT]);
