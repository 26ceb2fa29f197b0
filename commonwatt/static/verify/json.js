// JSON, exactly: integers stay exact, other numbers stay the text that they are, nothing is there twice, and a text has
// one way to be written.
class Decimal { constructor(text) { this.text = text; } }

function parseJson(text) {
  const token = /[ \n\r\t]*([{}[\]:,]|"[^"\\]*(?:\\.[^"\\]*)*"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?![0-9.eE])|true|false|null|$)/ysu;
  let now = null;
  const next = () => {
    const found = token.exec(text);
    need(found, "this is not JSON as a receipt has it");
    now = found[1];
  };
  const take = (what) => { need(now === what, `expected ${what}, found ${now.slice(0, 20)}`); next(); };
  function string() {
    let value = null;
    try { value = JSON.parse(now); } catch { /* It is told below. */ }
    need(typeof value === "string" && JSON.stringify(value) === now && !/[\ud800-\udfff]/u.test(value), "a text is written another way");
    next();
    return value;
  }
  function list() {
    const items = [];
    take("[");
    while (now !== "]") { if (items.length) take(","); items.push(item()); }
    next();
    return items;
  }
  function object() {
    const members = new Map();
    take("{");
    while (now !== "}") {
      if (members.size) take(",");
      const name = string();
      need(!members.has(name), `${name} is there twice`);
      take(":");
      members.set(name, item());
    }
    next();
    return members;
  }
  function item() {
    if (now === "[") return list();
    if (now === "{") return object();
    if (now.startsWith('"')) return string();
    const words = { true: true, false: false, null: null };
    const word = now;
    need(word in words || (/^-?[0-9]/.test(word) && word !== "-0"), `expected a value, found ${word.slice(0, 20)}`);
    next();
    if (word in words) return words[word];
    return word.includes(".") ? new Decimal(word) : BigInt(word);
  }
  next();
  const value = item();
  need(now === "", "something stands behind the end");
  return value;
}
