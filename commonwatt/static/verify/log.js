// The public logs: signed heads (checkpoints), and that an entry stands under one.

const KINDS = ["reading", "order", "trade", "clearing", "key", "line", "checkpoint", "revocation", "run", "introduction", "tokens", "evidence"];
const PUBLIC = new Uint8Array(16);

/** A signed note: its text, and the signatures below it. */
function readNote(text) {
  const end = text.lastIndexOf("\n\n");
  need(end > 0 && utf8(text).length <= 16384 && !/[^\n\P{Cc}]/u.test(text), "no signed note");
  const lines = text.slice(end + 2).split("\n");
  need(lines.pop() === "" && lines.length >= 1 && lines.length <= 64, "no signed note");
  const signatures = lines.map((line) => {
    const [, name, bytes] = /^— ([^\s\p{Cc}+]+) ([A-Za-z0-9+/=]+)$/u.exec(line) ?? [];
    need(name && utf8(name).length <= 255 && unbase64(bytes).length > 4, "no signature line");
    return { name, id: unbase64(bytes).slice(0, 4), bytes: unbase64(bytes).slice(4) };
  });
  return { body: text.slice(0, end + 1), signatures };
}

/** A log's size and root, where the operator has signed them; with `cosigned`, others may have signed below. */
async function checkpoint(text, origin, operator, cosigned = false) {
  const { body, signatures } = readNote(text);
  const [, size, root] = /^[^\n]*\n(0|[1-9][0-9]*)\n([^\n]*)\n$/.exec(body) ?? [];
  need(body.startsWith(`${origin}\n`) && size && unbase64(root).length === 32, `no checkpoint of ${origin}`);
  need(cosigned || (signatures.length === 1 && utf8(text).length <= 1024), "more than the operator's signature");
  const [own] = signatures;
  const identity = (await sha256(utf8(`${origin}\n`), Uint8Array.of(1), operator)).slice(0, 4);
  need(own.name === origin && same(own.id, identity), "it is not signed with the operator's key");
  need(await verifies(operator, utf8(body), own.bytes), "the operator's signature does not hold");
  return { size: U64(BigInt(size)), root: unbase64(root) };
}

/** The 42 bytes of an entry. */
async function leafOf(kind, startS, salt, content) {
  const commitment = await digest("commonwatt/commitment/v1", salt, content);
  return join(Uint8Array.of(1, KINDS.indexOf(kind) + 1), bigEndian(startS, 8), commitment);
}

/** RFC 6962: that a leaf stands at its place under a root. */
async function included(leaf, { index, path }, { size, root }) {
  const missing = "it is not in the log under this root";
  need(index < size && path.length <= 64, missing);
  let [at, last] = [index, size - 1n];
  let hash = await sha256(Uint8Array.of(0), leaf);
  for (const sibling of path) {
    need(last > 0n, missing);
    const isRight = at % 2n === 1n || at === last;
    hash = isRight ? await sha256(Uint8Array.of(1), sibling, hash) : await sha256(Uint8Array.of(1), hash, sibling);
    if (isRight) while (at % 2n === 0n && at !== 0n) [at, last] = [at >> 1n, last >> 1n];
    [at, last] = [at >> 1n, last >> 1n];
  }
  need(last === 0n && same(hash, root), missing);
}

const inLog = async (kind, startS, salt, content, place, head) => included(await leafOf(kind, startS, salt, content), place, head);
