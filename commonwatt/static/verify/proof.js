// A single entry of a log: a *.tlog-proof (C2SP).

const LOG_OF = ["readings", "market", "market", "market", "ledger", "ledger", "ledger", "ledger", "ledger", "ledger", "ledger", "ledger"];

function readProof(text) {
  const end = text.indexOf("\n\n");
  const lines = text.slice(0, end).split("\n");
  const [, extra] = /^extra (.*)$/.exec(lines[1] ?? "") ?? [];
  const [, index] = /^index (0|[1-9][0-9]*)$/.exec(lines[2] ?? "") ?? [];
  need(end > 0 && extra && index, "not a proof with an entry in it");
  const path = lines.slice(3).map(unbase64);
  need(path.every((hash) => hash.length === 32), "a hash is none");
  const note = text.slice(end + 2);
  return { entry: unbase64(extra), place: { index: U64(BigInt(index)), path }, note, origin: note.slice(0, note.indexOf("\n")) };
}

/** An operator's request for tokens in or out, or a step of it. */
function isTokens(asked) {
  const read = claims([1, "kind", whole(1n, 3n)], [2, "participant", id], [3, "amount", I64], [4, "reference", words], [5, "payout?", words],
    [6, "step", whole(0n, 3n)], [7, "by", words], [8, "atMs", I64]);
  return read(asked) !== null;
}
const words = (value) => { need(typeof value === "string", "no text"); return value; };

/** What a case is of. Whether it proves that is for `commonwatt judge`. */
function evidenceOf(content) {
  let read = null;
  try { read = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(content)); } catch { /* no text, or no JSON */ }
  need(read?.format === "commonwatt-evidence/v1" && typeof read.kind === "string", "it opens to no evidence of a format that this page reads");
  return `evidence of ${read.kind}`;
}

const PROOF_STEPS = {
  async "operator key"(proof, trust) {
    need(trust.known, "a single entry carries no key: give the operator's");
    need(isPoint(trust.known), "not a usable public key");
    [, trust.community] = /^commonwatt\/([^/]+)\/(?:readings|market|ledger)$/.exec(proof.origin) ?? [];
    need(ID.test(trust.community ?? ""), "its last part is no checkpoint of such a log");
    return base64(trust.known);
  },
  async checkpoint(proof, trust) {
    trust.head = await checkpoint(proof.note, proof.origin, trust.known, true);
    return `${proof.origin}: ${trust.head.size}`;
  },
  async entry(proof, trust) {
    const kind = KINDS[proof.entry[1] - 1];
    need(proof.entry.length >= 42 && proof.entry[0] === 1 && kind, "the extra data are no entry of such a log");
    await included(proof.entry.slice(0, 42), proof.place, trust.head);
    need(proof.origin.endsWith(`/${LOG_OF[proof.entry[1] - 1]}`), "an entry of another log");
    return kind;
  },
  async content(proof, trust) {
    const kind = KINDS[proof.entry[1] - 1];
    const [leaf, salt, content] = [proof.entry.slice(0, 42), proof.entry.slice(42, 58), proof.entry.slice(58)];
    if (!salt.length) return "sealed: the proof shows that it is there, not what it says";
    need(salt.length === 16, "no salt");
    need(same(await digest("commonwatt/commitment/v1", salt, content), leaf.slice(10)), "salt and content are not what the entry commits to");
    if (kind in TABLES) { envelope(content, kind); return kind; }
    if (kind === "checkpoint") return new TextDecoder("utf-8", { fatal: true }).decode(content).split("\n")[0];
    if (kind === "evidence") return evidenceOf(content);
    const parts = parseCbor(content);
    need(kind !== "tokens" || isTokens(parts), "it opens to no request for tokens");
    return kind;
  },
};
