// The steps of a trade's receipt, in the order and by the names of `commonwatt verify`.

const alike = (what, of, a, b) => need(a === b || (a !== null && b !== null && same(of.cbor(a), of.cbor(b))), `${what} is another`);
const equal = (what, a, b) => need(a === b, `${what}: ${a} is not ${b}`);
const inTime = (message) => ({ startS: message.startS, lengthS: message.lengthS });
const named = async (what, check) => { try { return await check(); } catch (error) { throw new Invalid(`${what}: ${error.message}`); } };

async function keyRecord(entry, trust) {
  const record = await opened(entry.signed, trust.operator, trust.community, "key");
  await inLog("key", seconds(record.validFromMs), PUBLIC, entry.signed, entry.place, trust.ledger);
  return record;
}

async function soundTrade(trade, book) {
  equal("the trade's id", trade.id, await timedId(trade.interval.startS, 2, "trade", ...[book, trade.bid, trade.offer].map((part) => unhex(part, part.length / 2))));
  need(trade.energy_wh > 0n && trade.buyer !== trade.seller, "a trade moves energy from one participant to another");
  need((trade.network_fee ?? 0n) >= 0n, "the network pays for a trade");
}

const orderId = (order) => timedId(order.startS, 1, "order", utf8(order.participant), bigEndian(order.sequence, 8));
const lastLine = (receipt) => { need(receipt.lines.length, "there is no settlement line"); return receipt.lines.at(-1).content; };

async function checkLine(receipt, order, line) {
  const trade = receipt.trade.content;
  const { delivery, prices, pooled_wh: pooled, utility_wh: utility } = line;
  const terms = termsOf(prices.terms);
  checkTerms(terms);
  need(prices.network_fee >= 0n, "the network pays for local energy");
  equal("the price inside the community", prices.pool, poolPrice(prices, receipt.clearing.content.price, terms));
  need(prices.terms === null || !same(TERMS.cbor(terms), TERMS.cbor(PLAIN_TERMS)), "plain terms are written down");
  if (line.tiers) {
    need(areSteps(line.tiers.steps), "the tariff's steps do not rise from zero");
    equal("the tariff's first step", line.tiers.steps[0].retail, prices.retail);
  }
  equal("the line's participant", line.participant, receipt.participant);
  equal("the delivery's participant", delivery.participant, receipt.participant);
  alike("the line's interval", INTERVAL, line.interval, trade.interval);
  alike("the delivery's interval", INTERVAL, delivery.interval, trade.interval);
  equal("the order's point", order.point, delivery.point);
  need(line.trades.filter((one) => same(TRADE.cbor(one), TRADE.cbor(trade))).length === 1, "the trade is not settled in the line");
  let [bought, sold] = [0n, 0n];
  for (const one of line.trades) {
    await soundTrade(one, receipt.clearing.content.book);
    alike("the interval of a trade in the line", INTERVAL, one.interval, line.interval);
    need([one.buyer, one.seller].includes(line.participant), "a trade of others is in the line");
    if (one.buyer === line.participant) bought += one.energy_wh; else sold += one.energy_wh;
  }
  equal("energy bought", delivery.bought_wh, bought);
  equal("energy sold", delivery.sold_wh, sold);
  need(delivery.reading !== null || (delivery.quality & 8n), "metered values without a reading are not marked as substituted");
  const deviation = exact(exact(delivery.exported_wh - delivery.imported_wh) - exact(sold - bought));
  equal("what pool and utility served beside the deviation", exact(pooled + utility), deviation);
  need(!((pooled < 0n && utility > 0n) || (pooled > 0n && utility < 0n)), "pool and utility serve opposite deviations");
  const position = utility === 0n ? terms.position : utility < 0n ? "short" : "long";
  const fits = terms.policy === "single-price" ? position === terms.position : terms.position === "balanced" && (terms.policy === "pooled" || pooled === 0n);
  need(fits, `pool and utility do not serve the deviation as ${terms.policy} says`);
}

/** All lines of a receipt go by one tariff and one set of terms; only where the community stood may differ. */
const tariffOf = ({ prices, tariff, tiers }) => hex(cbor.list([
  ...[prices.retail, prices.feed_in, prices.network_fee].map(cbor.int), TERMS.cbor({ ...termsOf(prices.terms), position: "balanced" }),
  cbor.text(tariff ?? ""), cbor.int(tariff === null ? 0n : 1n), tiers ? STEPS.cbor(tiers.steps) : cbor.int(0n),
]));

async function checkRun(receipt, { content: run, place }, { content: line, place: { index } }, trust) {
  await inLog("run", run.interval.startS, PUBLIC, RUN_RECORD.cbor(run), place, trust.ledger);
  alike("its interval", INTERVAL, run.interval, line.interval);
  equal("its number", run.run, line.run);
  need(index < place.index && place.index - index <= run.lines, "the line is not among those that it logged");
  equal("its tariff's version", run.rules.version, line.tariff);
  for (const price of ["retail", "feed_in", "network_fee"]) equal("its prices", run.rules[price], line.prices[price]);
  alike("its terms", TERMS, termsOf(run.rules.terms), { ...termsOf(line.prices.terms), position: "balanced" });
  alike("its tariff's steps", STEPS, run.rules.steps, line.tiers?.steps ?? []);
  const { reading } = receipt;
  need(!reading || line !== lastLine(receipt) || reading.place.index < run.readings_size, "the reading came into the log only after it");
}

const shown = ({ asset, amount, purpose, debit, credit }) => `${purpose} of ${asset === "wh" ? `${amount} Wh` : `${tokens(amount)} token`} from ${debit} to ${credit}`;

/** Where what was posted first differs from what is due; nothing where it does not. */
function unlike(due, posted) {
  const at = due.findIndex((one, i) => !posted[i] || !same(POSTING.cbor(one), POSTING.cbor(posted[i])));
  if (at < 0) return posted.length > due.length ? `nothing calls for the posting ${shown(posted[due.length])}` : null;
  const [one, other] = [shown(due[at]), posted[at] ? shown(posted[at]) : "nothing"];
  return `due is ${one}, posted is ${one === other ? "the same with another number, trade or run" : other}`;
}

const TRADE_STEPS = {
  async "operator key"(receipt, trust) {
    need(ID.test(receipt.community), "the community has no name");
    const key = unhex(receipt.operator_key, 32);
    need(isPoint(key), "not a usable public key");
    need(!trust.known || same(trust.known, key), "not the key that you know");
    Object.assign(trust, { operator: key, community: receipt.community });
    return base64(key);
  },
  async checkpoints(receipt, trust) {
    const origin = (log) => `commonwatt/${trust.community}/${log}`;
    trust.ledger = await checkpoint(receipt.ledger_checkpoint, origin("ledger"), trust.operator, true);
    for (const log of ["readings", "market"]) {
      const { note, place } = receipt[`${log}_checkpoint`];
      trust[log] = await checkpoint(note, origin(log), trust.operator);
      await inLog("checkpoint", 0n, PUBLIC, utf8(note), place, trust.ledger);
    }
    return ["readings", "market", "ledger"].map((log) => `${log} ${trust[log].size}`).join(", ");
  },
  async keys(receipt, trust) {
    trust.participant = await keyRecord(receipt.participant_key, trust);
    need(trust.participant.validFromMs <= receipt.trade.content.interval.startS * 1000n, "the participant's key is valid only later");
    equal("who holds the participant's key", trust.participant.participant, receipt.participant);
    trust.gateway = receipt.gateway_key && (await keyRecord(receipt.gateway_key, trust));
    need(!trust.gateway === !receipt.reading, "a gateway's key belongs to a reading, and only there");
    return [trust.participant.participant, trust.gateway?.gateway].filter(Boolean).join(", ");
  },
  async trade(receipt, trust) {
    const { content: trade, salt, place } = receipt.trade;
    await inLog("trade", trade.interval.startS, salt, TRADE.cbor(trade), place, trust.market);
    await soundTrade(trade, receipt.clearing.content.book);
    equal("the participant on this side of the trade", receipt.side === "bid" ? trade.buyer : trade.seller, receipt.participant);
    return `${trade.energy_wh} Wh, ${trade.price} micro-token per kWh`;
  },
  async clearing(receipt, trust) {
    const { content: clearing, place } = receipt.clearing;
    const trade = receipt.trade.content;
    await inLog("clearing", clearing.interval.startS, PUBLIC, CLEARING.cbor(clearing), place, trust.market);
    alike("the clearing's interval", INTERVAL, clearing.interval, trade.interval);
    const order = await opened(receipt.order.signed, trust.participant.key, trust.community, "order").catch(() => ({}));
    if (clearing.price !== null && !order.green && !order.greenPremium) equal("the trade's price beside the clearing price", trade.price, clearing.price);
    need(trade.energy_wh <= clearing.volume_wh && clearing.trades > 0n, "the trade is larger than all that was cleared");
    return `${clearing.mechanism}, ${clearing.volume_wh} Wh`;
  },
  async "order signature"(receipt, trust) {
    const { signed, salt, place } = receipt.order;
    const trade = receipt.trade.content;
    const order = await opened(signed, trust.participant.key, trust.community, "order");
    await inLog("order", order.startS, salt, signed, place, trust.market);
    equal("the order's participant", order.participant, receipt.participant);
    const isBid = order.side === 0n;
    equal("the order's side", isBid ? "bid" : "offer", receipt.side);
    alike("the order's interval", INTERVAL, inTime(order), trade.interval);
    equal("the order that the trade names", isBid ? trade.bid : trade.offer, await orderId(order));
    need(isBid ? trade.price <= exact(order.limit + (order.greenPremium ?? 0n)) : trade.price >= order.limit, "the price is not within the order's limit");
    need(trade.energy_wh <= order.energyWh, "more was traded than ordered");
    trust.order = order;
    return `${receipt.side} of ${order.energyWh} Wh, limit ${order.limit}`;
  },
  async "settlement lines"(receipt, trust) {
    const last = lastLine(receipt);
    const own = await orderId(trust.order);
    const traded = last.trades.filter(({ bid, offer }) => bid === own || offer === own).reduce((sum, one) => sum + one.energy_wh, 0n);
    need(traded <= trust.order.energyWh, "the order's trades come to more than it ordered");
    let before = -1;
    for (const { content: line, salt, place } of receipt.lines) {
      await named(line.run, () => inLog("line", line.interval.startS, salt, LINE.cbor(line), place, trust.ledger));
      need(RUNS[line.run] > before, "the lines do not follow the order of the runs");
      before = RUNS[line.run];
      alike("the trades of all lines", listOf(TRADE), line.trades, last.trades);
      need(tariffOf(line) === tariffOf(last), "the tariff of all lines is not the same");
      await named(line.run, () => checkLine(receipt, trust.order, line));
    }
    return receipt.lines.map(({ content }) => content.run).join(", ");
  },
  async "runs' inputs"(receipt, trust) {
    if (!receipt.runs.length) return "not logged";
    const without = receipt.lines.length - receipt.runs.length;
    need(without >= 0, "there are more runs than lines");
    for (const [i, run] of receipt.runs.entries()) await named(run.content.run, () => checkRun(receipt, run, receipt.lines[without + i], trust));
    return receipt.runs.at(-1).content.program;
  },
  async "meter signature"(receipt, trust) {
    const { delivery } = lastLine(receipt);
    // The books have at most one reading of a point and interval: earlier runs had this one, or none yet.
    for (const { content: { run, delivery: earlier } } of receipt.lines) {
      const isSame = ["reading", "imported_wh", "exported_wh", "quality"].every((name) => earlier[name] === delivery[name]);
      need(earlier.reading === null || isSame, `what the ${run} run had of the meter is another`);
    }
    if (!receipt.reading) { equal("the reading that the delivery names", delivery.reading, null); return "no reading: a substitute, and marked so"; }
    const { signed, salt, place } = receipt.reading;
    const { gateway: record } = trust;
    const reading = await opened(signed, record.key, trust.community, "reading");
    await inLog("reading", reading.startS, salt, signed, place, trust.readings);
    need(record.validFromMs <= (reading.startS + reading.lengthS) * 1000n, "the gateway's key is valid only later");
    const isOwn = (point) => point.point === reading.point && point.role === 0n && point.participant === receipt.participant;
    need(record.points?.some(isOwn), "the gateway does not sign for the participant's point");
    equal("the reading that the delivery names", delivery.reading, hex(await sha256(signed)));
    alike("the reading's interval", INTERVAL, inTime(reading), delivery.interval);
    equal("the reading's point", reading.point, delivery.point);
    equal("the delivery's quality", delivery.quality, reading.quality);
    const counted = (obis) => { const [, start, end] = reading.registers.find(([one]) => one === obis) ?? [0n, 0n, 0n]; return fits64(end - start) ? most(end - start, 0n) : 0n; };
    equal("the metered import", delivery.imported_wh, counted(67584n));
    equal("the metered export", delivery.exported_wh, counted(133120n));
    return `${delivery.imported_wh} Wh in, ${delivery.exported_wh} Wh out, ${record.gateway}`;
  },
  "key changes": (receipt, trust) => keyChanges(receipt, trust),
  async postings(receipt) {
    let [posted, count] = [new Sums(), 0];
    for (const { content: line } of receipt.lines) {
      const sums = sumsOf(line);
      const due = await sums.minus(posted).postings(line.interval, line.run);
      const why = unlike(due, line.postings);
      need(why === null, `${line.run}: ${why}`);
      [posted, count] = [sums, count + due.length];
    }
    return `${count}`;
  },
};
