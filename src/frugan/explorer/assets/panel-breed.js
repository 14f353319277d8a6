/** Breeding: eight children of the current image at a chosen distance; the chosen one has children in turn. */
import { button, element, slider } from "frugan/dom.js";
import { newSeed } from "frugan/random.js";

const CHILDREN = 8;

export function breedPanel(app) {
  const {store} = app;
  let litter = newSeed() % 2 ** 30, drawn = "";
  const child = (i) => {
    const {a, distance} = app.state;
    return {...a, steps: [...(a.steps ?? []), [(litter + i) % 2 ** 30, distance]]};
  };
  const distance = slider("Distance", {min: 0.05, max: 1, value: 0.4, tell: (value, done) => store.change({distance: value}, {done})});
  const cells = Array.from({length: CHILDREN}, (_, i) => {
    const canvas = element("canvas", {"aria-hidden": "true"});
    const choose = () => {
      const a = child(i);
      litter = newSeed() % 2 ** 30;
      store.change({a});
    };
    return {canvas, button: element("button", {type: "button", class: "cell", "aria-label": `Child ${i + 1}`, onclick: choose}, canvas)};
  });
  const show = (state) => {
    distance.show(state.distance);
    back.disabled = !state.a.steps?.length;
    const {first: _, frames: __, ...rest} = state, key = JSON.stringify([rest, litter]);
    if (key === drawn) return;
    drawn = key;
    app.thumbnails("children", cells.map(({canvas}, i) => ({canvas, state: {...state, time: null, a: child(i)}})));
  };
  const others = button("Other children", () => { litter = newSeed() % 2 ** 30; show(app.state); });
  const back = button("Back to the parent", () => {
    const {steps, ...a} = app.state.a;
    store.change({a: steps.length > 1 ? {...a, steps: steps.slice(0, -1)} : a});
  });
  const grid = element("div", {class: "grid", role: "group", "aria-label": "children"}, ...cells.map((cell) => cell.button));
  return {title: "Breed", body: [distance.row, element("div", {class: "bar"}, others, back), grid], update: show};
}
