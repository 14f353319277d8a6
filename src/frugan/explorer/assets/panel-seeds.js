/** Seeds: a grid to choose from, by chance, one after the other, or typed. */
import { button, element, numberField } from "frugan/dom.js";
import { newSeed } from "frugan/random.js";

const COUNT = 24, LAST = 2 ** 32 - COUNT;

export function seedsPanel(app) {
  const {store} = app, choose = (seed) => store.change({a: {seed}});
  const first = numberField("First seed", {max: LAST, value: 0, tell: (seed) => store.change({first: seed})});
  const typed = numberField("Seed", {value: 0, tell: choose});
  const bar = element("div", {class: "bar"},
    typed.row,
    button("Next seed", () => choose(((app.state.a.seed ?? -1) + 1) % 2 ** 32)),
    button("Random seed", () => choose(newSeed())),
    first.row,
    button("Earlier", () => store.change({first: Math.max(app.state.first - COUNT, 0)}), {"aria-label": "Earlier seeds in the grid"}),
    button("Later", () => store.change({first: Math.min(app.state.first + COUNT, LAST)}), {"aria-label": "Later seeds in the grid"}),
    button("Random grid", () => store.change({first: newSeed() % LAST})),
  );
  const cells = Array.from({length: COUNT}, (_, i) => {
    const canvas = element("canvas", {"aria-hidden": "true"}), name = element("span");
    return {canvas, name, button: element("button", {type: "button", class: "cell", onclick: () => choose(app.state.first + i)}, canvas, name)};
  });
  const grid = element("div", {class: "grid", role: "group", "aria-label": "images by seed"}, ...cells.map((cell) => cell.button));
  let drawn = "";
  return {title: "Seeds", open: true, body: [bar, grid], update(state) {
    first.show(state.first);
    if (state.a.seed !== undefined) typed.show(state.a.seed);
    const plain = {...state, mixed: [], edits: {}, time: null, a: {seed: 0}, b: {seed: 0}, distance: 0, locked: []};
    cells.forEach((cell, i) => {
      const seed = state.first + i, current = state.a.seed === seed && !state.a.steps;
      cell.name.textContent = String(seed);
      cell.button.setAttribute("aria-label", `Seed ${seed}`);
      cell.button.setAttribute("aria-pressed", String(current));
    });
    const key = JSON.stringify(plain);
    if (key === drawn) return;
    drawn = key;
    app.thumbnails("grid", cells.map(({canvas}, i) => ({canvas, state: {...plain, a: {seed: state.first + i}}})));
  }};
}
