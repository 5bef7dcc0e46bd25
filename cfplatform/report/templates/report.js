"use strict";
(() => {
  const ID = 0, BATCH = 1, CLASSES = 2, LABELS = 3, CODES = 4, FINDINGS = 5, FILE = 6;
  const PER_PAGE = 24;
  const find = (id) => document.getElementById(id);
  const index = JSON.parse(find("index").textContent);
  const samples = index.samples;
  if (!samples.length) return;
  const form = find("filters");
  const cards = find("cards");
  const dialog = find("larger");
  const texts = samples.map((sample) => [
    sample[ID], index.batches[sample[BATCH]], sample[FILE], ...sample[FINDINGS],
    ...pairs(sample).map(([place]) => index.classes[place]),
  ].join("\n").toLowerCase());
  let chosen = samples.map((_, number) => number);
  let page = 1;
  let open = 0;

  function pairs(sample) {
    const found = [];
    for (let at = 0; at < sample[CLASSES].length; at += 2) found.push(sample[CLASSES].slice(at, at + 2));
    return found;
  }

  function inWords(sample) {
    const named = pairs(sample).map(([place, count]) => `${count} × ${index.classes[place]}`);
    return sample[LABELS] ? named.join(", ") || `${sample[LABELS]} annotations without a class` : "no annotations";
  }

  // An image that the browser has not parsed yet is shown when the page is complete.
  function show(image, number) {
    const block = find(`p${number}`);
    const data = block ? block.textContent : "";
    if (data) image.src = `data:${index.kind};base64,${data}`;
    else image.removeAttribute("src");
    image.alt = block && !data ? "No image" : `Image with ${inWords(samples[number])}`;
    return block ? block.dataset.note || "" : "";
  }

  function element(name, text, className) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function card(number) {
    const sample = samples[number];
    const button = element("button");
    button.type = "button";
    button.dataset.number = number;
    const image = element("img");
    image.decoding = "async";
    show(image, number);
    const name = element("span", undefined, "name");
    name.append(element("bdi", sample[ID]));
    const what = element("span", undefined, "what");
    what.append(element("bdi", inWords(sample)));
    button.append(image, name, what);
    const errors = sample[CODES].some((place) => index.codes[place][1] === "error");
    if (sample[CODES].length) {
      const severity = errors ? "error" : "warning";
      button.append(element("span", severity, `badge ${severity}`));
    }
    const item = element("li");
    item.append(button);
    return item;
  }

  function last() {
    return Math.max(1, Math.ceil(chosen.length / PER_PAGE));
  }

  function turn(to) {
    page = Math.min(Math.max(1, to || 1), last());
    cards.replaceChildren(...chosen.slice((page - 1) * PER_PAGE, page * PER_PAGE).map(card));
    find("page").value = page;
    find("page").max = last();
    find("last").textContent = last().toLocaleString("en");
    find("earlier").disabled = page === 1;
    find("later").disabled = page === last();
    find("pages").hidden = last() === 1;
    const of = `${chosen.length.toLocaleString("en")} of ${samples.length.toLocaleString("en")} samples`;
    find("shown").textContent = last() === 1 ? of : `${of}, page ${page} of ${last()}`;
  }

  function matches(wanted) {
    const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
    return (sample, number) =>
      (wanted.class === "" || sample[CLASSES].some((place, at) => at % 2 === 0 && place === Number(wanted.class))) &&
      (wanted.batch === "" || sample[BATCH] === Number(wanted.batch)) &&
      (wanted.finding === "" || (wanted.finding === "some" ? sample[CODES].length > 0
        : wanted.finding === "none" ? sample[CODES].length === 0
        : sample[CODES].includes(Number(wanted.finding)))) &&
      (wanted.labels === "" || (wanted.labels === "some") === (sample[LABELS] > 0)) &&
      words.every((word) => texts[number].includes(word));
  }

  function filter() {
    const test = matches(Object.fromEntries(new FormData(form)));
    chosen = [];
    samples.forEach((sample, number) => { if (test(sample, number)) chosen.push(number); });
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

  function fact(name, text) {
    const value = element("dd");
    value.append(element("bdi", text));
    return text ? [element("dt", name), value] : [];
  }

  function enlarge(at) {
    open = Math.min(Math.max(0, at), chosen.length - 1);
    const number = chosen[open];
    const sample = samples[number];
    find("larger-title").firstElementChild.textContent = sample[ID];
    find("larger-note").textContent = show(find("larger-image"), number);
    find("larger-facts").replaceChildren(
      ...fact("Batch", index.batches[sample[BATCH]]),
      ...fact("File", sample[FILE]),
      ...fact("Annotations", inWords(sample)),
    );
    find("larger-findings").replaceChildren(...sample[FINDINGS].map((text) => element("li", text)));
    find("before").disabled = open === 0;
    find("after").disabled = open === chosen.length - 1;
    if (!dialog.open) dialog.showModal();
  }

  fill(form.elements.class, index.classes);
  fill(form.elements.batch, index.batches);
  fill(form.elements.finding, index.codes.map(([code]) => code));
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  find("earlier").addEventListener("click", () => turn(page - 1));
  find("later").addEventListener("click", () => turn(page + 1));
  find("page").addEventListener("change", (event) => turn(Number(event.target.value)));
  cards.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) enlarge(chosen.indexOf(Number(button.dataset.number)));
  });
  find("before").addEventListener("click", () => enlarge(open - 1));
  find("after").addEventListener("click", () => enlarge(open + 1));
  find("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") enlarge(open - 1);
    if (event.key === "ArrowRight") enlarge(open + 1);
  });
  turn(1);
  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", () => {
      for (const button of cards.querySelectorAll("button")) {
        show(button.firstElementChild, Number(button.dataset.number));
      }
      if (dialog.open) enlarge(open);
    });
  }
})();
