/** A pad between four images: the point between them, on straight lines in w. */
import { button, element, numberField, slider } from "frugan/dom.js";
import { newSeed } from "frugan/random.js";

const CORNERS = ["upper left", "upper right", "lower left", "lower right"];

export function padPanel(app) {
  const {store} = app;
  const pad = () => app.state.a.pad ?? {seeds: [0, 1, 2, 3], x: 0.5, y: 0.5};
  const set = (patch, done = true) => store.change({a: {pad: {...pad(), ...patch}}}, {done});
  const fields = CORNERS.map((name, i) => {
    const canvas = element("canvas", {"aria-hidden": "true"});
    const field = numberField(`Seed ${name}`, {value: i, tell: (seed) => set({seeds: pad().seeds.with(i, seed)})});
    return {canvas, field};
  });
  const dot = element("span", {class: "dot"});
  const area = element("div", {class: "pad", "aria-hidden": "true"}, ...fields.map(({canvas}) => canvas), dot);
  const at = (event) => {
    const {left, top, width, height} = area.getBoundingClientRect(), part = (v) => +Math.min(Math.max(v, 0), 1).toFixed(3);
    return {x: part((event.clientX - left) / width), y: part((event.clientY - top) / height)};
  };
  area.addEventListener("pointerdown", (event) => { area.setPointerCapture(event.pointerId); set(at(event), false); });
  area.addEventListener("pointermove", (event) => { if (area.hasPointerCapture(event.pointerId)) set(at(event), false); });
  area.addEventListener("pointerup", (event) => set(at(event)));
  const [x, y] = ["x", "y"].map((axis) => slider(axis === "x" ? "Left to right" : "Top to bottom", {min: 0, max: 1, value: 0.5, tell: (value, done) => set({[axis]: value}, done)}));
  const bar = element("div", {class: "bar"}, ...fields.map(({field}) => field.row), button("Random corners", () => set({seeds: CORNERS.map(newSeed)})));
  let drawn = "";
  return {title: "Between four", body: [area, x.row, y.row, bar], update(state) {
    const current = pad(), {seeds} = current;
    fields.forEach(({field}, i) => field.show(seeds[i]));
    x.show(current.x);
    y.show(current.y);
    dot.style.left = `${100 * current.x}%`;
    dot.style.top = `${100 * current.y}%`;
    dot.hidden = !state.a.pad;
    const plain = {...state, mixed: [], edits: {}, time: null, a: {seed: 0}}, key = JSON.stringify([seeds, plain.psi, plain.psis, plain.label, plain.label2, plain.blend, plain.noise]);
    if (key === drawn) return;
    drawn = key;
    app.thumbnails("pad", fields.map(({canvas}, i) => ({canvas, state: {...plain, a: {seed: seeds[i]}}})));
  }};
}
