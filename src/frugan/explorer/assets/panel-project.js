/** An own image, found in the network: dropped or chosen, projected on the server with progress, pause and stop. */
import { button, choice, draw, element } from "frugan/dom.js";

const SPACES = [["w", "w: edits best"], ["pn", "pn: between"], ["w+", "w+: fits closest"]];

export function projectPanel(app) {
  if (!app.facts.can?.project) return null;
  const {store} = app, {projection} = app.engines[0];
  const space = choice("Space", SPACES, () => {});
  space.show("pn");
  const canvas = element("canvas", {role: "img", "aria-label": "projection so far", hidden: true});
  const progress = element("progress", {"aria-label": "projection", value: 0, max: 1}), words = element("span", {role: "status"});
  const pause = button("Pause", async () => show(await projection.tell(pause.textContent === "Pause" ? "pause" : "resume")));
  const stop = button("Stop", async () => show(await projection.tell("cancel")));
  const file = element("input", {type: "file", accept: "image/*", "aria-label": "Image to project", onchange: () => begin(file.files[0])});
  const drop = element("div", {class: "drop"}, "Drop an image here, or choose one: ", file);
  let following = 0, name = "";

  function show({state, rung, step, steps, distance, notes, error}) {
    const going = state === "running" || state === "paused";
    progress.value = state === "done" ? 1 : steps ? step / steps : 0;
    words.textContent = going ? `${state}: ${rung}, step ${step} of ${steps}, distance ${distance.toFixed(4)}. ${notes.join("; ")}` : state === "failed" ? error : `${state}, distance ${distance.toFixed(4)}`;
    pause.textContent = state === "paused" ? "Resume" : "Pause";
    pause.disabled = stop.disabled = !going;
    return going;
  }

  async function follow(mine) {
    try {
      while (mine === following) {
        const told = await projection.tell("state"), going = show(told);
        draw(canvas, await projection.image());
        canvas.hidden = false;
        if (!going) {
          if (told.state === "done") await take();
          return;
        }
        await new Promise((resolve) => { setTimeout(resolve, 400); });
      }
    } catch (error) {
      words.textContent = error.message;
    }
  }

  async function take() {
    app.codes.set(name, {ws: await projection.ws()});
    store.change({a: {code: name}, psi: 1, psis: null, edits: {}, mixed: []});
    app.say("The image was projected. Its code is not part of the link: save it under “Save and open”.");
  }

  async function begin(chosen) {
    if (!chosen) return;
    file.value = "";
    name = chosen.name;
    words.textContent = "reading the image …";
    try {
      show(await projection.begin(chosen, space.input.value));
      follow(++following);
    } catch (error) {
      words.textContent = error.message;
    }
  }

  drop.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => { event.preventDefault(); begin(event.dataTransfer.files[0]); });
  pause.disabled = stop.disabled = true;
  return {title: "Own image", body: [drop, element("div", {class: "bar"}, space.row, pause, stop, progress), words, canvas], update() {}};
}
