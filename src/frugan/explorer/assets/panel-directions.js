/** A slider for each direction of the network, in its own range: search, reset, lock. */
import { button, element, slider } from "frugan/dom.js";

export function directionsPanel(app) {
  const {store, facts} = app;
  if (!facts.directions.length && !facts.can?.words) return null;
  const edited = (name, strength) => {
    const {[name]: _, ...others} = app.state.edits;
    return {edits: strength ? {...others, [name]: strength} : others};
  };
  const rows = [], list = element("div");
  const addRow = ({name, slider: [min, max]}) => {
    const made = slider(name, {min, max, step: (max - min) / 200, value: 0, tell: (strength, done) => store.change(edited(name, strength), {done})});
    const reset = button("0", () => store.change(edited(name, 0)), {"aria-label": `Reset ${name}`});
    const lock = button("Lock", () => {
      const {locked} = app.state;
      store.change({locked: locked.includes(name) ? locked.filter((other) => other !== name) : [...locked, name]});
    }, {"aria-label": `Lock ${name}`});
    made.row.append(reset, lock);
    list.append(made.row);
    rows.push({...made, name, reset, lock});
  };
  facts.directions.forEach(addRow);
  const search = element("input", {type: "search", "aria-label": "Search directions", placeholder: "Search directions"});
  const count = element("span", {class: "dim"});
  const sift = () => {
    const words = search.value.toLowerCase();
    for (const {row, name} of rows) row.hidden = !name.toLowerCase().includes(words);
    count.textContent = `${rows.filter(({row}) => !row.hidden).length} of ${rows.length}`;
  };
  search.addEventListener("input", sift);
  const keep = (state) => Object.fromEntries(Object.entries(state.edits).filter(([name]) => state.locked.includes(name)));
  const bar = element("div", {class: "bar"}, search, count,
    button("Reset all", () => store.change({edits: keep(app.state)}), {title: "Locked directions stay as they are"}),
    button("Surprise me", () => {
      const edits = keep(app.state);
      for (const {name, slider: [min, max]} of facts.directions) {
        if (!app.state.locked.includes(name) && Math.random() < 0.5) edits[name] = +(min + Math.random() * (max - min)).toFixed(2);
      }
      store.change({edits});
    }, {title: "Draws strengths of the directions that are not locked"}),
  );
  sift();
  return {title: "Directions", open: true, body: [bar, list], update(state) {
    if (rows.length < facts.directions.length) {
      facts.directions.slice(rows.length).forEach(addRow);
      sift();
    }
    for (const {name, show, input, reset, lock} of rows) {
      const strength = state.edits[name] ?? 0, locked = state.locked.includes(name);
      show(strength);
      input.disabled = locked;
      reset.disabled = locked || !strength;
      lock.setAttribute("aria-pressed", String(locked));
    }
  }};
}
