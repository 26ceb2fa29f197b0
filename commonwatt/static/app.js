// Replaces a section of the page when the server sends a newer one. Without this script the page is
// complete as of the moment it was loaded.
"use strict";
const body = document.body;
const link = document.getElementById("link");
const openDetails = (root) => [...root.querySelectorAll("details")].map((d) => d.open);

function replace(event) {
  const section = document.getElementById(event.type);
  if (!section) return;
  const open = openDetails(section);
  const held = section.contains(document.activeElement) && document.activeElement.tagName !== "BODY";
  if (held) return; // Somebody is reading or typing here: the next version comes soon enough.
  section.innerHTML = event.data;
  section.querySelectorAll("details").forEach((d, i) => { d.open = open[i] === true; });
}

function show(text, live) {
  link.textContent = text;
  link.classList.toggle("off", !live);
}

if (body.dataset.live && !new URLSearchParams(location.search).has("live")) {
  const source = new EventSource(body.dataset.live);
  for (const section of document.querySelectorAll("section[id]")) {
    source.addEventListener(section.id, replace);
  }
  source.onopen = () => show(body.dataset.on, true);
  source.onerror = () => show(body.dataset.lost, false);
}
