// What an interval costs: prices, amounts and postings, by the rules of settlement, in whole nano-tokens.

const PLAIN_TERMS = { policy: "pooled", spread: 0n, community_fee_bp: 0n, holdback_bp: 0n, position: "balanced" };
const termsOf = (terms) => terms ?? PLAIN_TERMS;
const times = (price, wh) => exact(price * wh);
const least = (a, b) => (a < b ? a : b);
const most = (a, b) => (a > b ? a : b);
const share = (amount, basisPoints) => floorDivide(amount * basisPoints, 10000n);

/** Nano-tokens as people read them. */
function tokens(amount) {
  const digits = String(most(amount, -amount)).padStart(10, "0");
  return `${amount < 0n ? "-" : ""}${digits.slice(0, -9)}.${digits.slice(-9)}`;
}

function checkTerms(terms) {
  need(terms.spread >= 0n && (terms.spread === 0n || terms.policy === "pooled"), "the spread makes no sense");
  need(terms.community_fee_bp <= 10000n && terms.holdback_bp <= 10000n, "a share is more than the whole");
}

/** The price inside the community that follows from tariff, terms and clearing price. */
function poolPrice({ retail, feed_in: feedIn, network_fee: fee }, clearing, { policy, position }) {
  const room = fits64(retail - fee) ? retail - fee : 0n;
  let local = clearing ?? (feedIn + room) >> 1n;
  if (room < feedIn) local = least(most(local, room), feedIn);
  if (policy !== "single-price" || position === "balanced") return local;
  return position === "short" ? room : feedIn;
}

const areSteps = (steps) => steps.length > 0 && steps.length <= 16 && steps[0].from_wh === 0n && ascending(steps.map((step) => step.from_wh));

/** What energy from the utility costs on a tiered tariff: each part at its step's price. */
function onSteps({ used_wh: used, steps }, wh) {
  need(used >= 0n && areSteps(steps), "the tariff's steps do not rise from zero");
  const end = exact(used + wh);
  let [at, cost] = [used, 0n];
  steps.forEach((step, i) => {
    const upTo = least(steps[i + 1]?.from_wh ?? end, end);
    if (upTo > at) [cost, at] = [exact(cost + times(step.retail, upTo - at)), upTo];
  });
  return cost;
}

function spreadOn({ pool, retail, feed_in: feedIn, network_fee: fee, terms }, pooled) {
  const spread = termsOf(terms).spread;
  if (spread === 0n) return 0n;
  const room = pooled < 0n ? exact(exact(retail - fee) - pool) : exact(pool - feedIn);
  return times(most(least(spread, room), 0n), most(pooled, -pooled));
}

/** Sums between two accounts, by what they are for. */
class Sums {
  constructor() { this.all = new Map(); }
  add(asset, purpose, from, to, amount, reference = "") {
    const before = ([a, b], [c, d]) => (a === c ? b <= d : Number(a) < Number(c));
    const forth = before(from.split("/"), to.split("/"));
    const [first, second] = forth ? [from, to] : [to, from];
    const key = [asset, purpose, first, second, reference].join(" ");
    const sum = exact((this.all.get(key) ?? 0n) + (forth ? amount : -amount));
    if (sum === 0n) this.all.delete(key); else this.all.set(key, sum);
  }
  /** What is in these sums beyond others. */
  minus(others) {
    const rest = new Sums();
    rest.all = new Map(this.all);
    for (const [key, sum] of others.all) {
      const [asset, purpose, first, second, reference] = key.split(" ");
      rest.add(asset, purpose, second, first, sum, reference);
    }
    return rest;
  }
  /** The postings that make these sums in a run, in the order of their ids. */
  async postings(interval, run) {
    const made = [];
    for (const [key, sum] of this.all) {
      const [asset, purpose, first, second, reference] = key.split(" ");
      const [debit, credit] = sum > 0n ? [first, second] : [second, first];
      const tag = 0x4000 | (RUNS[run] << 8) | PURPOSES[purpose];
      const parts = [Uint8Array.of(ASSETS[asset]), utf8(first), utf8(second), unhex(reference, reference.length / 2)];
      const id = await timedId(interval.startS, tag, "run-posting", ...parts);
      made.push({ id, asset, debit, credit, amount: most(sum, -sum), purpose, interval, run, reference: reference || null });
    }
    return made.sort((a, b) => (a.id < b.id ? -1 : 1));
  }
}

function addTrade(sums, line, trade) {
  const { community_fee_bp: fee, holdback_bp: held } = termsOf(line.prices.terms);
  const amount = times(trade.price, trade.energy_wh);
  const community = share(amount, fee);
  const [buyer, seller] = [`105/${trade.buyer}`, `100/${trade.seller}`];
  sums.add("token", "trade", buyer, seller, amount, trade.id);
  if (trade.buyer === line.participant) {
    sums.add("token", "network_fee", buyer, "220/-", times(trade.network_fee ?? line.prices.network_fee, trade.energy_wh), trade.id);
  }
  if (trade.seller === line.participant) {
    const kept = RUNS[line.run] < RUNS.final ? share(exact(amount - community), held) : 0n;
    sums.add("token", "community_fee", seller, "300/-", community, trade.id);
    sums.add("token", "holdback", seller, `110/${trade.seller}`, kept, trade.id);
  }
}

/** All that a line's trades, deviation and meter come to. */
function sumsOf(line) {
  const sums = new Sums();
  const { prices, pooled_wh: pooled, utility_wh: utility, delivery } = line;
  line.trades.forEach((trade) => addTrade(sums, line, trade));
  const statement = `130/${line.participant}`;
  const supplied = () => (line.tiers ? -onSteps(line.tiers, exact(-utility)) : times(prices.retail, utility));
  sums.add("token", "pool_deviation", "200/-", statement, times(prices.pool, pooled));
  sums.add("token", "spread", "300/-", statement, -spreadOn(prices, pooled));
  sums.add("token", "network_fee", "220/-", statement, times(prices.network_fee, least(pooled, 0n)));
  sums.add("token", "utility_deviation", "210/-", statement, utility < 0n ? supplied() : times(prices.feed_in, utility));
  sums.add("wh", "metered_energy", `800/${line.participant}`, "200/-", exact(delivery.exported_wh - delivery.imported_wh));
  return sums;
}
