// What is wrong with the page that is open: structure, names, contrast, width, size of what is touched.
const problems = [];
const say = (text) => problems.push(text);
const visible = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length > 0;
const describe = (e) => `<${e.tagName.toLowerCase()} class="${e.getAttribute("class") ?? ""}"> ${(e.textContent ?? "").trim().slice(0, 40)}`;

if (!document.documentElement.lang) say("no language");
if (!document.title.trim()) say("no title");
for (const landmark of ["main", "nav", "header", "footer"]) {
  if (!document.querySelector(landmark)) say(`no ${landmark}`);
}
const headings = [...document.querySelectorAll("h1,h2,h3,h4")].filter(visible);
if (headings.filter((h) => h.tagName === "H1").length !== 1) say("not exactly one h1");
let level = 0;
for (const heading of headings) {
  const own = Number(heading.tagName[1]);
  if (own > level + 1) say(`heading skips a level: ${describe(heading)}`);
  if (!heading.textContent.trim()) say("an empty heading");
  level = own;
}
const ids = new Set();
for (const e of document.querySelectorAll("[id]")) {
  if (ids.has(e.id)) say(`id twice: ${e.id}`);
  ids.add(e.id);
}

const name = (e) => e.getAttribute("aria-label") || e.textContent.trim() || e.getAttribute("title");
for (const e of document.querySelectorAll("a[href], button, summary")) if (!name(e)) say(`no name: ${describe(e)}`);
for (const e of document.querySelectorAll("svg[role=img], [role=region], nav, section[aria-label]")) {
  if (!e.getAttribute("aria-label") && e.tagName !== "NAV") say(`no label: ${describe(e)}`);
}
for (const e of document.querySelectorAll("svg:not([role]):not([aria-hidden])")) say(`a picture without a role: ${describe(e)}`);
for (const e of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
  if (!e.labels?.length && !e.getAttribute("aria-label")) say(`a field without a label: ${e.name}`);
}
for (const table of document.querySelectorAll("table")) if (!table.querySelector("th")) say("a table without heads");
for (const e of document.querySelectorAll("[style]")) say(`inline style: ${describe(e)}`);

const page = document.documentElement;
if (page.scrollWidth > page.clientWidth) {
  const wide = [...document.querySelectorAll("main *")].filter((e) => e.getBoundingClientRect().right > page.clientWidth + 1 && !e.closest(".scroll"));
  say(`scrolls sideways: ${page.scrollWidth} in ${page.clientWidth}: ${wide.slice(0, 3).map(describe).join("; ")}`);
}
if (page.clientWidth <= 400) {
  const answer = document.querySelector("h1").getBoundingClientRect();
  if (answer.bottom + scrollY > 600) say("the first line is not in sight on a phone");
  for (const e of document.querySelectorAll("nav a, button, summary, .row, .receipt")) {
    if (visible(e) && e.getBoundingClientRect().height < 43.5) say(`too small to touch: ${describe(e)}`);
  }
}

// Contrast of text with what is behind it.
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (text) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const over = ([r, g, b, a], below) => [r, g, b].map((c, i) => c * a + below[i] * (1 - a));
const behind = (e) => {
  const layers = [];
  for (let at = e; at; at = at.parentElement) {
    if (at instanceof SVGElement) continue;
    const colour = rgba(getComputedStyle(at).backgroundColor);
    if (colour[3] > 0) layers.unshift(colour);
    if (colour[3] === 1) break;
  }
  return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
};
const light = (colour) => {
  const [r, g, b] = colour.map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const poor = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const e = node.parentElement;
  if (!node.data.trim() || !visible(e) || e.closest(".skip, script, style")) continue;
  const style = getComputedStyle(e);
  const below = behind(e);
  const ink = over(rgba(e instanceof SVGElement ? style.fill : style.color), below);
  const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  const size = parseFloat(style.fontSize);
  const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
  if (ratio < least) poor.add(`contrast ${ratio.toFixed(2)} of ${describe(e)}`);
}
poor.forEach(say);

const entries = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
const foreign = entries.filter((entry) => !entry.name.startsWith(location.origin));
foreign.forEach((entry) => say(`asks somebody else: ${entry.name}`));
const weight = entries.filter((entry) => !entry.name.includes("/events")).reduce((sum, entry) => sum + (entry.decodedBodySize || 0), 0);
return { problems, weight };
