/** The class or label of a conditional network, and a second one to mix it with. */
import { choice, element, numberField, slider } from "frugan/dom.js";

/** Controls of one label: a choice for classes, a number for what was measured. */
function controls(facts, prefix, read, write) {
  const set = (columns, values) => {
    const label = [...read()];
    values.forEach((value, i) => { label[columns[0] + i] = value; });
    write(label);
  };
  return facts.labels.map(({name, columns, classes, flag, range}) => {
    const title = [prefix, name || "class"].join(" ");
    if (range) {
      const field = numberField(`${title} (${+range[0].toPrecision(4)} to ${+range[1].toPrecision(4)})`, {min: -1e6, max: 1e6, step: "any", value: 0, tell: (x) => set(columns, [x])});
      return {row: field.row, show: (label) => field.show(+label[columns[0]].toPrecision(6))};
    }
    if (flag) {
      const field = choice(title, [[0, "no"], [1, "yes"]], (x) => set(columns, [+x]));
      return {row: field.row, show: (label) => field.show(Math.round(label[columns[0]]))};
    }
    const field = choice(title, classes.map((text, i) => [i, text]), (x) => set(columns, classes.map((_, i) => Number(i === +x))));
    return {row: field.row, show: (label) => field.show(label.slice(...columns).indexOf(1))};
  });
}

export function labelsPanel(app) {
  const {store, facts} = app;
  if (!facts.label_size) return null;
  const first = controls(facts, "First", () => app.state.label, (label) => store.change({label}));
  const second = controls(facts, "Second", () => app.state.label2, (label2) => store.change({label2}));
  const blend = slider("Share of the second", {min: 0, max: 1, value: 0, tell: (share, done) => store.change({blend: share}, {done})});
  const rows = (fields) => element("div", {class: "bar"}, ...fields.map(({row}) => row));
  return {title: "Classes", open: true, body: [rows(first), rows(second), blend.row], update(state) {
    first.forEach(({show}) => show(state.label));
    second.forEach(({show}) => show(state.label2));
    blend.show(state.blend);
  }};
}
