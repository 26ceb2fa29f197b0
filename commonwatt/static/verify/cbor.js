// Deterministic CBOR: written, and read only where it is the one encoding of what it says.

const cbor = {
  head(major, value) {
    const n = BigInt(value);
    const size = n < 24n ? 0 : n < 256n ? 1 : n < 65536n ? 2 : n < 4294967296n ? 4 : 8;
    const first = (major << 5) | (size ? 24 + Math.log2(size) : Number(n));
    return join(Uint8Array.of(first), bigEndian(n, size));
  },
  int: (value) => (value < 0n ? cbor.head(1, -1n - value) : cbor.head(0, value)),
  bytes: (bytes) => join(cbor.head(2, bytes.length), bytes),
  text: (text) => join(cbor.head(3, utf8(text).length), utf8(text)),
  list: (items) => join(cbor.head(4, items.length), ...items),
  /** Pairs of a number and what is encoded already. */
  map: (pairs) => join(cbor.head(5, pairs.length), ...pairs.flatMap(([key, value]) => [cbor.int(BigInt(key)), value])),
};

function parseCbor(bytes) {
  let at = 0;
  const slice = (length) => {
    need(length <= bytes.length - at, "CBOR that ends too early");
    return bytes.slice(at, (at += length));
  };
  function head() {
    const [first] = slice(1);
    const [major, small] = [first >> 5, first & 31];
    need(small < 28, "CBOR of no fixed length");
    const value = small < 24 ? BigInt(small) : BigInt(`0x${hex(slice(1 << (small - 24)))}`);
    need(major === 7 || small < 24 || small === [...cbor.head(major, value)][0] % 32, "CBOR that is not the shortest");
    return [major, value];
  }
  function map(length) {
    const read = new Map();
    let before = -1n;
    for (let i = 0; i < length; i++) {
      const key = item();
      need(typeof key === "bigint" && key > before, "the keys of a map do not ascend");
      read.set((before = key), item());
    }
    return read;
  }
  function item() {
    const [major, value] = head();
    const length = Number(value);
    if (major === 0) return value;
    if (major === 1) return -1n - value;
    if (major === 2) return slice(length);
    if (major === 3) return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(slice(length));
    need(major > 5 || length <= bytes.length, "CBOR that ends too early");
    if (major === 4) return Array.from({ length }, item);
    if (major === 5) return map(length);
    if (major === 6) { need(value === 18n, "another tag than 18"); return { signed: item() }; }
    need(value === 20n || value === 21n, "a value that no message has");
    return value === 21n;
  }
  const value = item();
  need(at === bytes.length, "bytes behind the end");
  return value;
}
