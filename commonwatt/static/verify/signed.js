// Signatures: Ed25519 by the browser's own cryptography, and messages in their envelope (COSE_Sign1).

const FIELD = 2n ** 255n - 19n;
const CURVE_D = 37095705934669439343138083508754565189542113879843219016388785533085940283555n;
// The points of small order have these y. A key among them would verify signatures that nobody made.
const EIGHTH = 2707385501144840649318225287225658788936804267575313519463743609750303402022n;
const SMALL_Y = [0n, 1n, FIELD - 1n, EIGHTH, FIELD - EIGHTH];

function power(base, exponent) {
  let [value, square] = [1n, base % FIELD];
  for (let rest = exponent; rest > 0n; rest >>= 1n, square = (square * square) % FIELD) if (rest & 1n) value = (value * square) % FIELD;
  return value;
}

/** Whether 32 bytes are a point of the curve, written the one way, and not of small order. */
function isPoint(bytes) {
  const y = BigInt(`0x${hex(bytes.slice().reverse())}`) & (2n ** 255n - 1n);
  if (bytes.length !== 32 || y >= FIELD || SMALL_Y.includes(y)) return false;
  const [above, below] = [y * y - 1n, CURVE_D * y * y + 1n].map((value) => ((value % FIELD) + FIELD) % FIELD);
  return power(above * below, (FIELD - 1n) / 2n) === 1n;
}

async function verifies(key, text, signature) {
  if (!isPoint(key) || signature.length !== 64 || !isPoint(signature.slice(0, 32))) return false;
  const known = await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
  return crypto.subtle.verify({ name: "Ed25519" }, known, signature, text);
}

const keyId = async (key) => hex((await sha256(key)).slice(0, 8));

/** A signed message's parts, before anything of it is believed. */
function envelope(bytes, kind) {
  const longest = ["key", "key-request", "introduction"].includes(kind) ? 163840 : 16384;
  need(bytes.length <= longest, `${kind}: too long`);
  const parts = parseCbor(bytes).signed;
  need(Array.isArray(parts) && parts.length === 4, `${kind}: no signed message`);
  const [header, unprotected, payload, signature] = parts;
  need(unprotected instanceof Map && unprotected.size === 0, `${kind}: no signed message`);
  need([header, payload, signature].every((part) => part instanceof Uint8Array), `${kind}: no signed message`);
  const claims = parseCbor(header);
  need(claims instanceof Map && claims.get(4n) instanceof Uint8Array && claims.get(4n).length === 8, `${kind}: no signed message`);
  const type = cbor.text(`application/vnd.commonwatt.${kind}+cbor`);
  const expected = cbor.map([[1, cbor.int(-8n)], [3, type], [4, cbor.bytes(claims.get(4n))]]);
  need(same(header, expected), `${kind}: another kind of message, or of signature`);
  return { header, payload, signature, signer: hex(claims.get(4n)), message: claimsOf(kind, parseCbor(payload)) };
}

/** The message, where the signature of this key holds for this community and kind. */
async function opened(bytes, key, community, kind) {
  const { header, payload, signature, signer, message } = envelope(bytes, kind);
  need(signer === (await keyId(key)), `${kind}: signed by another key`);
  const about = utf8(`commonwatt/${community}/${kind}/v1`);
  const whole = cbor.list([cbor.text("Signature1"), ...[header, about, payload].map(cbor.bytes)]);
  need(await verifies(key, whole, signature), `${kind}: the signature does not hold`);
  return message;
}
