"use strict";
(() => {
  const NAME = 0, ITEM = 1, COUNTS = 2, CHANGES = 3, MORE = 4;
  const KIND = 0, FIRST = 1, SECOND = 2, IOU = 3;
  const PER_PAGE = 12;
  const find = (id) => document.getElementById(id);
  const index = JSON.parse(find("index").textContent);
  const pairs = index.pairs;
  if (!pairs.length) return;
  const form = find("filters");
  const list = find("pairs");
  let chosen = pairs.map((_, number) => number);
  let page = 1;

  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function named(place) {
    return place < 0 ? "no object" : index.categories[place];
  }

  function inWords(change) {
    const names = change[FIRST] === change[SECOND] || change[SECOND] < 0 ? named(change[FIRST])
      : change[FIRST] < 0 ? named(change[SECOND]) : `${named(change[FIRST])} → ${named(change[SECOND])}`;
    const kind = index.kinds[change[KIND]];
    return change[IOU] === null ? `${kind}: ${names}` : `${kind}: ${names}, IoU ${change[IOU].toFixed(3)}`;
  }

  function figure(pair, number, side) {
    const made = element("figure");
    made.append(element("figcaption", side ? "Second" : "First"));
    const block = find(`p${2 * number + side}`);
    const data = block ? block.textContent : "";
    const image = element("img");
    image.decoding = "async";
    image.alt = data ? `${pair[NAME]} with the labels of the ${side ? "second" : "first"} set` : "No image";
    if (data) image.src = `data:${index.kind};base64,${data}`;
    made.append(image);
    if (block && block.dataset.note) made.append(element("p", block.dataset.note, "note"));
    return made;
  }

  function entry(number) {
    const pair = pairs[number];
    const item = element("li");
    const title = element("h3");
    title.append(element("bdi", pair[NAME]));
    item.append(title);
    if (pair[ITEM] && pair[ITEM] !== pair[NAME]) item.append(element("p", pair[ITEM], "kind"));
    pair[COUNTS].forEach((count, kind) => {
      if (count) item.append(element("span", `${count.toLocaleString("en")} ${index.kinds[kind]}`, "badge"));
    });
    const sides = element("div", undefined, "sides");
    sides.append(figure(pair, number, 0), figure(pair, number, 1));
    const details = element("details");
    const changes = element("ul");
    changes.append(...pair[CHANGES].map((change) => {
      const line = element("li");
      line.append(element("bdi", inWords(change)));
      return line;
    }));
    if (pair[MORE]) changes.append(element("li", `and ${pair[MORE].toLocaleString("en")} more`));
    details.append(element("summary", "Changes"), changes);
    item.append(sides, details);
    return item;
  }

  function last() {
    return Math.max(1, Math.ceil(chosen.length / PER_PAGE));
  }

  function turn(to) {
    page = Math.min(Math.max(1, to || 1), last());
    list.replaceChildren(...chosen.slice((page - 1) * PER_PAGE, page * PER_PAGE).map(entry));
    list.start = (page - 1) * PER_PAGE + 1;
    find("page").value = page;
    find("page").max = last();
    find("last").textContent = last().toLocaleString("en");
    find("earlier").disabled = page === 1;
    find("later").disabled = page === last();
    find("pages").hidden = last() === 1;
    const of = `${chosen.length.toLocaleString("en")} of ${pairs.length.toLocaleString("en")} images`;
    find("shown").textContent = last() === 1 ? of : `${of}, page ${page} of ${last()}`;
  }

  function filter() {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
    const kind = wanted.kind === "" ? null : Number(wanted.kind);
    const category = wanted.category === "" ? null : Number(wanted.category);
    chosen = [];
    pairs.forEach((pair, number) => {
      const text = `${pair[NAME]}\n${pair[ITEM]}`.toLowerCase();
      const among = index.pairs_of[number];
      // A pair of filters is about one change.
      if (words.every((word) => text.includes(word)) && (kind === null && category === null || among.some(
        ([own, place]) => (kind === null || own === kind) && (category === null || place === category)))) {
        chosen.push(number);
      }
    });
    turn(1);
  }

  function fill(select, names) {
    names.slice(0, index.choices).forEach((name, place) => {
      const option = element("option", name);
      option.value = place;
      option.dir = "auto";
      select.append(option);
    });
  }

  fill(form.elements.kind, index.kinds);
  fill(form.elements.category, index.categories);
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  find("earlier").addEventListener("click", () => turn(page - 1));
  find("later").addEventListener("click", () => turn(page + 1));
  find("page").addEventListener("change", (event) => turn(Number(event.target.value)));
  turn(1);
  // Images that were not parsed yet.
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => turn(page));
})();
