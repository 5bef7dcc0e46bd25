"use strict";
// For all pages: elements, images, filters, and paging.
const byId = (id) => document.getElementById(id);
const index = JSON.parse(byId("index").textContent);
const counted = (count) => count.toLocaleString("en");

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Returns an element around text that may run from right to left.
function isolated(name, text, className) {
  const made = element(name, undefined, className);
  made.append(element("bdi", text));
  return made;
}

// Shows an image of the page, and its note. If the browser has not parsed it yet, it follows when the page is complete.
function show(number, image, alt, note) {
  const block = byId(`p${number}`);
  const data = block ? block.src || block.textContent && `data:${index.kind};base64,${block.textContent}` : "";
  if (data) image.src = data;
  else image.removeAttribute("src");
  image.alt = block && !data ? "No image" : alt;
  image.dataset.number = number;
  if (note) note.textContent = block && block.dataset.note || "";
  if (!block && document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", () => {
      if (image.dataset.number === String(number)) show(number, image, alt, note);
    });
  }
}

// Lists the entries that match the filters, a page at a time. Returns a function that returns their numbers.
function gallery({list, entries, noun, perPage, choices, text, matches, item}) {
  const form = byId("filters");
  const texts = entries.map((entry) => text(entry).join("\n").toLowerCase());
  let chosen = entries.map((_, number) => number);
  let page = 1;

  function turn(to) {
    const last = Math.max(1, Math.ceil(chosen.length / perPage));
    page = Math.min(Math.max(1, to || 1), last);
    list.replaceChildren(...chosen.slice((page - 1) * perPage, page * perPage).map((number) => item(entries[number], number)));
    list.start = (page - 1) * perPage + 1;
    byId("page").value = page;
    byId("page").max = last;
    byId("last").textContent = counted(last);
    byId("earlier").disabled = page === 1;
    byId("later").disabled = page === last;
    byId("pages").hidden = last === 1;
    const of = `${counted(chosen.length)} of ${counted(entries.length)} ${noun}`;
    byId("shown").textContent = last === 1 ? of : `${of}, page ${page} of ${last}`;
  }

  function filter() {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
    chosen = [...entries.keys()].filter((number) =>
      words.every((word) => texts[number].includes(word)) && matches(wanted, entries[number], number));
    turn(1);
  }

  for (const [name, names] of Object.entries(choices)) {
    names.slice(0, index.choices).forEach((each, place) => {
      const option = element("option", each);
      option.value = place;
      option.dir = "auto";
      form.elements[name].append(option);
    });
  }
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  byId("earlier").addEventListener("click", () => turn(page - 1));
  byId("later").addEventListener("click", () => turn(page + 1));
  byId("page").addEventListener("change", (event) => turn(Number(event.target.value)));
  turn(1);
  return () => chosen;
}
