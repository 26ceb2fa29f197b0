// The steps of a charging session's receipt. What the charger's own meter has signed, and whether tariff and record come
// to the bill, is for `commonwatt verify`: here the bill's lines are added up.

const nano = (value) => {
  const [, sign, kwh, part = ""] = /^(-?)([0-9]+)(?:\.([0-9]{1,9}))?$/.exec(value instanceof Decimal ? value.text : String(value)) ?? [];
  need(kwh, "no number");
  return (sign ? -1n : 1n) * BigInt(kwh + part.padEnd(9, "0"));
};
const plain = (json) => (json instanceof Map ? Object.fromEntries([...json].map(([name, value]) => [name, plain(value)])) : Array.isArray(json) ? json.map(plain) : json);
const atMs = (text) => { const ms = Date.parse(text); need(!Number.isNaN(ms), "no time"); return BigInt(ms); };

function readCharging(text) {
  // What is signed is the text of the receipt as it stands, so that very text is what is read.
  const [, body, rest] = /^\s*\{"receipt":(\{.*\})(,"operator_key":"[^"]*","signature":"[^"]*"\})\s*$/s.exec(text) ?? [];
  need(body, "not a charging receipt, or written another way");
  const receipt = plain(parseJson(body));
  need(receipt.format === "commonwatt-charging-receipt/v1", "not a charging receipt");
  const { operator_key: key, signature } = plain(parseJson(rest.replace(",", "{")));
  return { ...receipt, body, key: unbase64(key), signature: unbase64(signature) };
}

/** What a proof inside the receipt opens, where the operator's log holds it. */
async function openedProof(text, log, kind, trust) {
  const proof = readProof(text);
  need(proof.origin === `commonwatt/${trust.community}/${log}`, "a proof of another log");
  const head = await checkpoint(proof.note, proof.origin, trust.operator, true);
  await included(proof.entry.slice(0, 42), proof.place, head);
  const content = proof.entry.slice(58);
  const start = BigInt.asIntN(64, BigInt(`0x${hex(proof.entry.slice(2, 10))}`));
  need(same(proof.entry.slice(0, 42), await leafOf(kind, start, proof.entry.slice(42, 58), content)), "salt and content are not what an entry commits to");
  return content;
}

const CHARGING_STEPS = {
  async operator(receipt, trust) {
    need(ID.test(receipt.community), "the community has no name");
    need(!trust.known || same(trust.known, receipt.key), "signed with another key than the operator's");
    const text = utf8(`commonwatt/${receipt.community}/charging-receipt/v1\n${receipt.body}`);
    need(await verifies(receipt.key, text, receipt.signature), "the receipt was changed after the operator signed it");
    Object.assign(trust, { operator: receipt.key, community: receipt.community });
    return base64(receipt.key);
  },
  async readings(receipt, trust) {
    need(receipt.readings?.length === 2, "there must be two signed readings");
    trust.readings = [];
    for (const one of receipt.readings) {
      const reading = await opened(unbase64(one.reading), unbase64(one.key), trust.community, "reading");
      need(reading.point === receipt.station, "a reading of another meter");
      const imported = reading.registers.find(([obis]) => obis === 67584n);
      need(imported, "a reading has no register of imported energy");
      trust.readings.push({ era: reading.era, endMs: (reading.startS + reading.lengthS) * 1000n, wh: imported[2] });
    }
    const [first, last] = trust.readings;
    need(first.era === last.era, "the readings are of different meters");
    const { start_date_time: from, end_date_time: to } = receipt.record;
    need(first.endMs === atMs(from) && last.endMs === atMs(to), "the record does not begin and end with the readings");
    return `${first.wh} Wh → ${last.wh} Wh`;
  },
  async key(receipt, trust) {
    const holders = [];
    for (const [i, one] of receipt.readings.entries()) {
      if (!one.record) continue;
      const record = await opened(unbase64(one.record), trust.operator, trust.community, "key");
      need(same(record.key, unbase64(one.key)), "the key record is of another key than the one that signed");
      need(record.validFromMs <= trust.readings[i].endMs, "the key is valid only later");
      need(record.points?.some(({ point }) => point === receipt.station), "the key's holder does not sign for this station");
      holders.push(record.gateway);
    }
    return [...new Set(holders)].join() || "the operator's record of it is not shown";
  },
  async log(receipt, trust) {
    if (!receipt.readings.every((one) => one.log)) return "not shown";
    for (const one of receipt.readings) {
      const content = await openedProof(one.log, "readings", "reading", trust);
      need(same(content, unbase64(one.reading)), "the log's entry is another reading than the receipt's");
    }
    return "";
  },
  async energy(receipt, trust) {
    const [first, last] = trust.readings;
    trust.wh = last.wh - first.wh;
    const volumes = receipt.record.charging_periods.flatMap(({ dimensions }) => dimensions.filter(({ type }) => type === "ENERGY"));
    const charged = volumes.reduce((sum, { volume }) => sum + nano(volume), 0n);
    need(charged === trust.wh * 1000000n && nano(receipt.bill.energy_kwh) === charged, "the bill charges other energy than the meter counted");
    return `${trust.wh} Wh`;
  },
  async origin(receipt, trust) {
    if (!receipt.energy) return "not shown";
    let [told, local, before] = [0n, 0n, atMs(receipt.record.start_date_time)];
    for (const one of receipt.energy.intervals) {
      const line = parseCbor(await openedProof(one.proof, "ledger", "line", trust));
      const [startS, lengthS] = line.get(1n);
      const delivery = line.get(4n);
      need(delivery.get(3n) === receipt.station && startS * 1000n === atMs(one.start) && lengthS === one.length_s, "a line is of another meter or time");
      need(startS * 1000n >= before && (startS + lengthS) * 1000n <= atMs(receipt.record.end_date_time), "an interval is not of this session, or is there twice");
      before = (startS + lengthS) * 1000n;
      const energy = delivery.get(4n);
      const grid = least(most(-line.get(7n), 0n), most(energy, 0n));
      need(one.energy_wh === energy && one.grid_wh === grid && one.local_wh === energy - grid, "the origin that is told is not what was settled");
      [told, local] = [told + energy, local + energy - grid];
    }
    need(told + receipt.energy.not_settled_wh === trust.wh, "the origins do not come to what the meter counted");
    return `${local} / ${told} Wh`;
  },
  async sum(receipt) {
    const lines = receipt.bill.lines.map((line) => nano(line.before_tax ?? "0") + nano(line.tax ?? "0"));
    need(lines.reduce((sum, line) => sum + line, 0n) === nano(receipt.bill.total), "the lines do not add up");
    return receipt.bill.total;
  },
  async payment(receipt) {
    const [total, ceiling, paid, released, debt] = [receipt.bill.total, receipt.ceiling, receipt.paid, receipt.released, receipt.debt].map(nano);
    need(total <= ceiling, "more than the promised ceiling");
    need(paid + debt === total && paid + released === ceiling, "what was paid, given back and owed does not come to bill and ceiling");
    let stands = paid;
    for (const { credit_total: credit, new_total: rest, refund } of receipt.credits ?? []) {
      need(-nano(credit) === stands && nano(rest) <= stands && stands - nano(rest) === nano(refund) && nano(rest) >= 0n, "a correction does not take back what was charged before it");
      stands = nano(rest);
    }
    return "";
  },
};
