const NAME = 0, ITEM = 1, COUNTS = 2, CHANGES = 3, MORE = 4;
const KIND = 0, FIRST = 1, SECOND = 2, IOU = 3;

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
  const made = element("figure"), image = element("img"), note = element("p", "", "note");
  image.decoding = "async";
  show(2 * number + side, image, `${pair[NAME]} with the annotations of the ${side ? "second" : "first"} set`, note);
  made.append(element("figcaption", side ? "Second" : "First"), image, note);
  return made;
}

function entry(pair, number) {
  const item = element("li");
  item.append(isolated("h3", pair[NAME]));
  if (pair[ITEM] && pair[ITEM] !== pair[NAME]) item.append(element("p", pair[ITEM], "kind"));
  pair[COUNTS].forEach((count, kind) => {
    if (count) item.append(element("span", `${counted(count)} ${index.kinds[kind]}`, "badge"));
  });
  const sides = element("div", undefined, "sides");
  sides.append(figure(pair, number, 0), figure(pair, number, 1));
  const details = element("details");
  const changes = element("ul");
  changes.append(...pair[CHANGES].map((change) => isolated("li", inWords(change))));
  if (pair[MORE]) changes.append(element("li", `and ${counted(pair[MORE])} more`));
  details.append(element("summary", "Changes"), changes);
  item.append(sides, details);
  return item;
}

if (index.pairs.length) {
  gallery({
    list: byId("pairs"), entries: index.pairs, noun: "images", perPage: 12, item: entry,
    choices: {kind: index.kinds, category: index.categories},
    text: (pair) => [pair[NAME], pair[ITEM]],
    // Both filters must match the same change.
    matches: (wanted, _, number) => wanted.kind === "" && wanted.category === "" || index.pairs_of[number].some(
      ([kind, place]) => (wanted.kind === "" || kind === Number(wanted.kind)) &&
        (wanted.category === "" || place === Number(wanted.category))),
  });
}
