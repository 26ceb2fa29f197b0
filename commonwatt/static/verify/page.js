// The page: takes a file that is dropped or chosen, checks it, and shows each step as it is done.

const box = document.getElementById("here");
const say = (name, places = {}) => Object.entries(places).reduce((text, [place, value]) => text.replace(`{${place}}`, () => value), box.dataset[name]);

/** The operator's key as the field has it; none where it is empty. */
function knownKey() {
  const text = document.getElementById("known").value.trim();
  const key = text ? unbase64(text) : null;
  need(!key || isPoint(key), say("noKey"));
  return key;
}

function showStep({ name, holds, told }) {
  const step = [...document.querySelectorAll("#meanings > li")].find((one) => one.dataset.step === name).cloneNode(true);
  step.classList.toggle("bad", !holds);
  step.querySelector("b").textContent = holds ? say("holds") : say("fails");
  const detail = step.querySelector("details");
  const code = document.createElement("code");
  code.className = "block";
  code.textContent = `${name}: ${told}`;
  if (!holds) detail.replaceWith(code); else if (told) detail.append(code); else detail.remove();
  document.getElementById("found").append(step);
}

function showVerdict(text, note, state) {
  const verdict = document.getElementById("verdict");
  verdict.className = `verdict ${state}`;
  verdict.querySelector("b").textContent = text;
  verdict.querySelector("span").textContent = note;
}

/** Checks bytes and shows what comes of it. */
async function check(bytes, name) {
  document.getElementById("result").hidden = false;
  document.getElementById("found").replaceChildren();
  showVerdict(name, "", "");
  if (!globalThis.crypto?.subtle) return showVerdict(say("cannot"), say("noCrypto"), "");
  try {
    const known = knownKey();
    const steps = await checkFile(bytes, known, showStep);
    const failed = steps.find((step) => !step.holds);
    const note = say("note", { n: steps.length, name });
    if (failed) showVerdict(say("bad", { step: failed.name }), `${failed.told}. ${note}`, "bad");
    else showVerdict(known ? say("good") : say("consistent"), note, "good");
  } catch (error) {
    showVerdict(say("cannot"), error.name === "NotSupportedError" ? say("noEd25519") : error.message, "");
  }
  document.getElementById("result").scrollIntoView({ block: "nearest" });
}

let last = null;
async function take(file) {
  if (!file) return;
  last = [new Uint8Array(await file.arrayBuffer()), file.name];
  await check(...last);
}

function begin() {
  const pick = document.getElementById("pick");
  const target = document.querySelector(".target");
  box.hidden = false;
  document.getElementById("second").open = false;
  pick.addEventListener("change", () => take(pick.files[0]));
  document.getElementById("known").addEventListener("change", () => last && check(...last));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      target.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files[0]);
    });
  }
  // A receipt of this platform may be named in the address: it is fetched, and checked here like any other.
  const path = new URLSearchParams(location.search).get("receipt");
  if (path?.startsWith("/receipts/")) {
    fetch(path).then(async (answer) => take(new File([await answer.blob()], path.split("/").pop())), () => {});
  }
}

if (box) begin();
