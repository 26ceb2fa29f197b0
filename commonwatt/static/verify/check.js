// A file, whatever it is, checked step by step.

const longest = { trade: 4 * 1024 * 1024, charging: 1024 * 1024, proof: 1024 * 1024 };
const kindOf = (text) => (text.startsWith("c2sp.org/tlog-proof@v1") ? "proof" : text.slice(0, 200).includes("commonwatt-charging-receipt/v1") ? "charging" : "trade");

const READERS = {
  trade(text) {
    const receipt = RECEIPT.read(parseJson(text));
    need(receipt.format === "commonwatt-receipt/v1", "the format is not commonwatt-receipt/v1");
    return receipt;
  },
  charging: readCharging,
  proof: readProof,
};
const STEPS_OF = { trade: TRADE_STEPS, charging: CHARGING_STEPS, proof: PROOF_STEPS };

/** Checks a file against the operator's key, if one is known. Tells of each step by name what it found, or why it
    failed; those after a failed one are not tried. */
async function checkFile(bytes, known, tell = () => {}) {
  const done = [];
  const trust = { known };
  let [kind, file] = ["trade", null];
  const step = async (name, check) => {
    const one = { name, holds: true };
    try { one.told = (await check()) ?? ""; } catch (error) {
      if (error.name === "NotSupportedError" || error instanceof ReferenceError) throw error;
      Object.assign(one, { holds: false, told: error instanceof Invalid ? error.message : String(error) });
    }
    done.push(one);
    tell(one);
    return one.holds;
  };
  const isRead = await step("format", () => {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes).replace(/^\ufeff+/, "");
    kind = kindOf(text);
    need(bytes.length <= longest[kind], "too long");
    file = READERS[kind](text);
  });
  if (isRead) for (const [name, check] of Object.entries(STEPS_OF[kind])) if (!(await step(name, () => check(file, trust)))) break;
  return done;
}
