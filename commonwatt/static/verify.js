// Checks the receipt of this page in this browser, with nothing but the file and the operator's key: signatures
// (Ed25519), hashes (SHA-256) and sums. The page works without it; then the server's own check stands alone.
"use strict";
const list = document.getElementById("here");
const button = document.getElementById("check-here");
const utf8 = (text) => new TextEncoder().encode(text);
const base64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const unhex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
const same = (a, b) => a.length === b.length && a.every((byte, i) => byte === b[i]);
const need = (holds, why) => { if (!holds) throw new Error(why); };

function join(...parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}

const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));

async function signed(key, signature, text) {
  const known = await crypto.subtle.importKey("raw", key, { name: "Ed25519" }, false, ["verify"]);
  return crypto.subtle.verify({ name: "Ed25519" }, known, signature, text);
}

// CBOR, as far as it is used: integers, strings, lists, maps, tags.
function decode(bytes) {
  let at = 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  function head() {
    const first = bytes[at++];
    const [major, small] = [first >> 5, first & 31];
    if (small < 24) return [major, small];
    const size = 1 << (small - 24);
    let value = 0;
    for (let i = 0; i < size; i++) value = value * 256 + view.getUint8(at++);
    return [major, value];
  }
  function item() {
    const [major, value] = head();
    if (major === 0) return value;
    if (major === 1) return -1 - value;
    if (major === 2) return bytes.slice(at, (at += value));
    if (major === 3) return new TextDecoder().decode(bytes.slice(at, (at += value)));
    if (major === 4) return Array.from({ length: value }, item);
    if (major === 5) return new Map(Array.from({ length: value }, () => [item(), item()]));
    if (major === 6) return item();
    return [false, true, null][value - 20];
  }
  return item();
}

function text(major, bytes) {
  const n = bytes.length;
  const head = n < 24 ? [n] : n < 256 ? [24, n] : n < 65536 ? [25, n >> 8, n & 255] : [26, n >>> 24, (n >> 16) & 255, (n >> 8) & 255, n & 255];
  head[0] |= major << 5;
  return join(Uint8Array.from(head), bytes);
}

// A signed message (COSE_Sign1): its payload, where the signature of this key holds for this kind of message.
async function opened(bytes, key, community, kind) {
  const [header, , payload, signature] = decode(bytes);
  const about = utf8(`commonwatt/${community}/${kind}/v1`);
  const whole = join(Uint8Array.of(0x84), text(3, utf8("Signature1")), text(2, header), text(2, about), text(2, payload));
  need(await signed(key, signature, whole), `${kind}: signature`);
  return decode(payload);
}

// A signed note: its text, where the operator's signature is among those below it.
async function note(whole, key) {
  const [body, below] = [whole.slice(0, whole.indexOf("\n\n") + 1), whole.slice(whole.indexOf("\n\n") + 2)];
  const lines = below.split("\n").filter((line) => line.startsWith("— ")).map((line) => base64(line.split(" ")[2]));
  for (const line of lines) {
    if (line.length === 68 && (await signed(key, line.slice(4), utf8(body)))) {
      const [, size, root] = body.split("\n");
      return { size: Number(size), root: base64(root) };
    }
  }
  throw new Error("checkpoint: signature");
}

// RFC 6962: whether a leaf is under a root.
async function included(leaf, place, head) {
  let hash = await sha256(Uint8Array.of(0), leaf);
  let [index, last] = [place.index, head.size - 1];
  for (const sibling of place.path.map(unhex)) {
    const left = index % 2 === 1 || index === last;
    hash = left ? await sha256(Uint8Array.of(1), sibling, hash) : await sha256(Uint8Array.of(1), hash, sibling);
    if (left) while (index % 2 === 0 && index !== 0) [index, last] = [Math.floor(index / 2), Math.floor(last / 2)];
    [index, last] = [Math.floor(index / 2), Math.floor(last / 2)];
  }
  need(last === 0 && same(hash, head.root), "not under the root");
}

const long = (value) => { const bytes = new Uint8Array(8); new DataView(bytes.buffer).setBigInt64(0, BigInt(value)); return bytes; };

async function leaf(kind, startS, salt, content) {
  const sized = (part) => join(long(part.length), part);
  const commitment = await sha256(sized(utf8("commonwatt/commitment/v1")), sized(salt), sized(content));
  return join(Uint8Array.of(1, kind), long(startS), commitment);
}

const nano = (text) => {
  const [whole, part = ""] = text.replace("-", "").split(".");
  return (text.startsWith("-") ? -1n : 1n) * BigInt(whole + part.padEnd(9, "0").slice(0, 9));
};

// What is checked of a charging session's receipt, step by step.
const charging = {
  async operator(file, key, whole) {
    const body = whole.slice(whole.indexOf("{", 1), whole.lastIndexOf(',"operator_key"'));
    need(same(base64(file.operator_key), key), "another key");
    const what = `commonwatt/${file.receipt.community}/charging-receipt/v1\n${body}`;
    need(await signed(key, base64(file.signature), utf8(what)), "signature");
  },
  async readings(file) {
    const { community, readings, station } = file.receipt;
    this.ends = [];
    for (const one of readings) {
      const reading = await opened(base64(one.reading), base64(one.key), community, "reading");
      need(new TextDecoder().decode(reading.get(3)) === station, "another meter");
      this.ends.push(reading.get(7)[0][2]);
    }
  },
  async energy(file) {
    const wh = Math.round(Number(file.receipt.bill.energy_kwh) * 1000);
    need(this.ends.length === 2 && this.ends[1] - this.ends[0] === wh, `${this.ends} and ${wh}`);
  },
  async sum(file) {
    const { bill, ceiling } = file.receipt;
    const lines = bill.lines.map((line) => nano(line.before_tax ?? "0") + nano(line.tax ?? "0"));
    need(lines.reduce((sum, line) => sum + line, 0n) === nano(bill.total), "sum");
    need(nano(bill.total) <= nano(ceiling), "ceiling");
  },
};

// What is checked of a trade's receipt.
const trade = {
  async checkpoints(file, key) {
    need(same(unhex(file.operator_key), key), "another key");
    this.ledger = await note(file.ledger_checkpoint, key);
    for (const name of ["readings", "market"]) {
      const entry = file[`${name}_checkpoint`];
      this[name] = await note(entry.note, key);
      await included(await leaf(7, 0, new Uint8Array(16), utf8(entry.note)), entry.place, this.ledger);
    }
  },
  async keys(file, key) {
    for (const name of ["participant_key", "gateway_key"]) {
      if (!file[name]) continue;
      const bytes = base64(file[name].signed);
      const record = await opened(bytes, key, file.community, "key");
      const from = Math.floor(record.get(3) / 1000);
      await included(await leaf(5, from, new Uint8Array(16), bytes), file[name].place, this.ledger);
      this[name] = record.get(2);
    }
  },
  async order(file) { await this.entry(file, "order", "participant_key", 2, this.market); },
  async meter(file) { if (file.reading) await this.entry(file, "reading", "gateway_key", 1, this.readings); },
  async entry(file, kind, key, code, head) {
    const entry = file[kind];
    const bytes = base64(entry.signed);
    const message = await opened(bytes, this[key], file.community, kind);
    const startS = kind === "reading" ? message.get(5) : Date.parse(list.dataset.start) / 1000;
    await included(await leaf(code, startS, unhex(entry.salt), bytes), entry.place, head);
  },
};

async function check() {
  button.disabled = true;
  list.hidden = false;
  const key = base64(list.dataset.key);
  const whole = (await (await fetch(list.dataset.file)).text()).trim();
  const file = JSON.parse(whole);
  const steps = file.receipt ? charging : trade;
  for (const step of list.children) {
    const mark = step.querySelector("b");
    try {
      await steps[step.dataset.step](file, key, whole);
      mark.textContent = mark.dataset.holds;
    } catch (error) {
      mark.textContent = error.name === "NotSupportedError" ? mark.dataset.cannot : mark.dataset.fails;
      step.classList.add("bad");
      step.querySelector("code").textContent = String(error.message);
      break;
    }
  }
  button.disabled = false;
}

if (list && button && globalThis.crypto?.subtle) {
  button.hidden = false;
  button.addEventListener("click", check);
}
