/** Words: a direction towards a text for the current image, and the seeds that fit it, where the server has a joint model. */
import { button, element, numberField } from "frugan/dom.js";
import { fitControls } from "frugan/fit.js";

export function wordsPanel(app) {
  if (!app.facts.can?.words) return null;
  const {store} = app, {body, run} = fitControls(app, "words", {image: false});
  const text = element("input", {type: "text", maxlength: 300, "aria-label": "What the image is to show", placeholder: "What the image is to show"});
  const count = numberField("Seeds to look at", {min: 1, max: 10_000, value: 200, tell() {}});
  const found = element("div", {class: "grid", role: "group", "aria-label": "seeds that fit the text"});
  const ask = (query) => (fitting) => fitting.words(text.value, app.state.label, query);

  const edit = button("Edit by words", () => run(ask({}), async (fitting) => {
    const {direction, strength} = await fitting.result();
    app.addDirection(direction);
    store.change({edits: {...app.state.edits, [direction.name]: strength}});
    app.say(`Done: “${direction.name}” has a slider among the directions now.`);
  }));
  const find = button("Find seeds", () => run(ask({seeds: +count.input.value || 200, first: app.state.first, psi: app.state.psi}), async (fitting) => {
    const plain = {...app.state, mixed: [], edits: {}, time: null};
    const cells = (await fitting.result()).map(([seed, similarity]) => ({canvas: element("canvas", {"aria-hidden": "true"}), seed, similarity}));
    found.replaceChildren(...cells.map(({canvas, seed, similarity}) => element("button", {
      type: "button", class: "cell", "aria-label": `Seed ${seed}, similarity ${similarity}`, onclick: () => store.change({a: {seed}}),
    }, canvas, element("span", {}, `${seed}: ${similarity.toFixed(2)}`))));
    app.thumbnails("words", cells.map(({canvas, seed}) => ({canvas, state: {...plain, a: {seed}}})));
  }));
  text.addEventListener("keydown", (event) => { if (event.key === "Enter") edit.click(); });
  return {title: "Words", body: [element("div", {class: "bar"}, text, edit), element("div", {class: "bar"}, count.row, find), ...body, found], update() {}};
}
