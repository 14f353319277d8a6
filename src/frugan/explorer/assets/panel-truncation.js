/** Truncation ψ, of all levels or of each; and the noise. */
import { button, element, numberField, slider } from "frugan/dom.js";
import { newSeed } from "frugan/random.js";
import { PSI } from "frugan/state.js";

export function truncationPanel(app) {
  const {store, facts} = app, range = {min: PSI[0], max: PSI[1], value: 0.7};
  const whole = slider("Truncation ψ", {...range, tell: (psi, done) => store.change({psi, psis: null}, {done})});
  const levels = facts.levels.map((name, level) => slider(`ψ of level ${name}`, {...range, tell: (psi, done) => {
    const psis = [...(app.state.psis ?? facts.levels.map(() => app.state.psi))];
    psis[level] = psi;
    store.change({psis}, {done});
  }}));
  const each = element("details", {class: "inner"}, element("summary", {}, "Of each level"), ...levels.map((level) => level.row));
  const same = button("Same ψ for all levels", () => store.change({psis: null}));
  each.append(same);
  const noise = element("fieldset", {class: "bar"}, element("legend", {}, "Noise"));
  const kinds = {const: "constant", none: "none", drawn: "drawn"};
  const radios = Object.entries(kinds).map(([value, text]) => {
    const radio = element("input", {type: "radio", name: "noise", value, onchange: () => store.change({noise: value === "drawn" ? newSeed() : value})});
    noise.append(element("label", {}, radio, ` ${text}`));
    return radio;
  });
  const drawnSeed = numberField("Seed of the noise", {value: 0, tell: (seed) => store.change({noise: seed})});
  noise.append(button("New noise", () => store.change({noise: newSeed()})), drawnSeed.row);
  return {title: "Truncation and noise", open: true, body: [whole.row, each, facts.noise.length ? noise : null].filter(Boolean), update(state) {
    whole.show(state.psi);
    levels.forEach((level, i) => level.show(state.psis ? state.psis[i] : state.psi));
    same.disabled = !state.psis;
    const kind = typeof state.noise === "number" ? "drawn" : state.noise;
    radios.forEach((radio) => { radio.checked = radio.value === kind; });
    drawnSeed.input.disabled = kind !== "drawn";
    if (kind === "drawn") drawnSeed.show(state.noise);
  }};
}
