/** Style mixing: the levels of A that come from B. */
import { button, element, numberField } from "frugan/dom.js";
import { newSeed } from "frugan/random.js";

export function mixingPanel(app) {
  const {store, facts} = app, count = facts.levels.length;
  const canvases = ["A", "B"].map((name) => {
    const canvas = element("canvas", {role: "img", "aria-label": `Image ${name}`});
    return {canvas, figure: element("figure", {class: "cell"}, canvas, element("span", {}, name))};
  });
  const seed = numberField("Seed of B", {value: 1, tell: (value) => store.change({b: {seed: value}})});
  const boxes = facts.levels.map((name, level) => {
    const box = element("input", {type: "checkbox", onchange: () => {
      const others = app.state.mixed.filter((l) => l !== level);
      store.change({mixed: box.checked ? [...others, level].sort((x, y) => x - y) : others});
    }});
    return {box, label: element("label", {}, box, ` ${name}`)};
  });
  const levels = element("fieldset", {class: "bar"}, element("legend", {}, "Levels from B"), ...boxes.map(({label}) => label));
  const bar = element("div", {class: "bar"}, seed.row,
    button("Random B", () => store.change({b: {seed: newSeed()}})),
    button("Use current as B", () => store.change({b: app.state.a})),
    button("Swap A and B", () => store.change({a: app.state.b, b: app.state.a})),
    button("Coarse from B", () => store.change({mixed: facts.levels.map((_, l) => l).slice(0, Math.ceil(count / 2))})),
    button("Fine from B", () => store.change({mixed: facts.levels.map((_, l) => l).slice(Math.ceil(count / 2))})),
    button("Nothing from B", () => store.change({mixed: []})),
  );
  let drawn = "";
  return {title: "Mixing", body: [element("div", {class: "grid small"}, ...canvases.map(({figure}) => figure)), bar, levels], update(state) {
    if (state.b.seed !== undefined) seed.show(state.b.seed);
    boxes.forEach(({box}, level) => { box.checked = state.mixed.includes(level); });
    const plain = {...state, mixed: [], edits: {}, time: null}, key = JSON.stringify([plain.a, plain.b, plain.psi, plain.psis, plain.label, plain.label2, plain.blend, plain.noise]);
    if (key === drawn) return;
    drawn = key;
    app.thumbnails("mixing", [{canvas: canvases[0].canvas, state: plain}, {canvas: canvases[1].canvas, state: {...plain, a: state.b}}]);
  }};
}
