const ID = 0, BATCH = 1, CLASSES = 2, LABELS = 3, CODES = 4, FINDINGS = 5, FILE = 6;

if (index.samples.length) {
  const samples = index.samples;
  const dialog = byId("larger");
  let row = [], open = 0;

  const pairs = (sample) => sample[CLASSES].flatMap((place, at, all) => at % 2 ? [] : [[place, all[at + 1]]]);

  function inWords(sample) {
    const named = pairs(sample).map(([place, count]) => `${count} × ${index.classes[place]}`);
    return sample[LABELS] ? named.join(", ") || `${sample[LABELS]} × no class` : "no annotations";
  }

  function card(sample, number) {
    const button = element("button");
    button.type = "button";
    button.dataset.number = number;
    const image = element("img");
    image.decoding = "async";
    show(number, image, `Image with ${inWords(sample)}`);
    button.append(image, isolated("span", sample[ID], "name"), isolated("span", inWords(sample), "what"));
    if (sample[CODES].length) {
      const severity = sample[CODES].some((place) => index.codes[place][1] === "error") ? "error" : "warning";
      button.append(element("span", severity, `badge ${severity}`));
    }
    const item = element("li");
    item.append(button);
    return item;
  }

  const chosen = gallery({
    list: byId("cards"), entries: samples, noun: "samples", perPage: 24, item: card,
    choices: {class: index.classes, batch: index.batches, finding: index.codes.map(([code]) => code)},
    text: (sample) => [
      sample[ID], index.batches[sample[BATCH]], sample[FILE], ...sample[FINDINGS],
      ...pairs(sample).map(([place]) => index.classes[place]),
    ],
    matches: (wanted, sample) =>
      (wanted.class === "" || pairs(sample).some(([place]) => place === Number(wanted.class))) &&
      (wanted.batch === "" || sample[BATCH] === Number(wanted.batch)) &&
      (wanted.finding === "" || (wanted.finding === "some" ? sample[CODES].length > 0
        : wanted.finding === "none" ? sample[CODES].length === 0
        : sample[CODES].includes(Number(wanted.finding)))) &&
      (wanted.labels === "" || (wanted.labels === "some") === (sample[LABELS] > 0)),
  });

  function fact(name, text) {
    return text ? [element("dt", name), isolated("dd", text)] : [];
  }

  function enlarge(at) {
    open = Math.min(Math.max(0, at), row.length - 1);
    const sample = samples[row[open]];
    byId("larger-title").firstElementChild.textContent = sample[ID];
    show(row[open], byId("larger-image"), `Image with ${inWords(sample)}`, byId("larger-note"));
    byId("larger-facts").replaceChildren(
      ...fact("Batch", index.batches[sample[BATCH]]),
      ...fact("File", sample[FILE]),
      ...fact("Annotations", inWords(sample)),
    );
    byId("larger-findings").replaceChildren(...sample[FINDINGS].map((text) => element("li", text)));
    byId("before").disabled = open === 0;
    byId("after").disabled = open === row.length - 1;
    if (!dialog.open) dialog.showModal();
  }

  // The larger view goes through the images of the list from which it was opened.
  for (const [list, numbers] of [["strip", () => index.strip], ["cards", chosen]]) {
    byId(list)?.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      row = numbers();
      enlarge(row.indexOf(Number(button.dataset.number)));
    });
  }
  byId("before").addEventListener("click", () => enlarge(open - 1));
  byId("after").addEventListener("click", () => enlarge(open + 1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") enlarge(open - 1);
    if (event.key === "ArrowRight") enlarge(open + 1);
  });
}
