/** Controls of a fit on the server: its progress and image so far, pause, stop; used by the panels that start one. */
import { button, draw, element } from "frugan/dom.js";

/** {body, run(begin, name)}: `begin` starts a fit; at its end its code, under `name`, is the current image. */
export function fitControls(app, what) {
  const {fitting} = app.engines[0];
  const canvas = element("canvas", {role: "img", "aria-label": `${what} so far`, hidden: true});
  const progress = element("progress", {"aria-label": what, value: 0, max: 1}), words = element("p", {role: "status"});
  const pause = button("Pause", async () => show(await fitting.tell(pause.textContent === "Pause" ? "pause" : "resume")));
  const stop = button("Stop", async () => show(await fitting.tell("cancel")));
  let newest = 0;

  function show({state, rung, step, steps, distance, notes, error}) {
    const going = state === "running" || state === "paused";
    progress.value = state === "done" ? 1 : steps ? step / steps : 0;
    words.textContent = state === "failed" ? error : going ? `${state}: ${rung}, step ${step} of ${steps}, distance ${distance.toFixed(4)}. ${notes.join("; ")}` : `${state}, distance ${distance.toFixed(4)}`;
    pause.textContent = state === "paused" ? "Resume" : "Pause";
    pause.disabled = stop.disabled = !going;
    return going;
  }

  async function follow(mine, name) {
    while (mine === newest) {
      const told = await fitting.tell("state"), going = show(told);
      draw(canvas, await fitting.image());
      canvas.hidden = false;
      if (!going) {
        if (told.state === "done") await take(name);
        return;
      }
      await new Promise((resolve) => { setTimeout(resolve, 400); });
    }
  }

  async function take(name) {
    app.codes.set(name, {ws: await fitting.ws()});
    app.store.change({a: {code: name}, psi: 1, psis: null, edits: {}, mixed: []});
    app.say("Done. The new code is not part of the link: save it under “Save and open”.");
  }

  async function run(begin, name) {
    words.textContent = "starting …";
    try {
      show(await begin(fitting));
      await follow(++newest, name);
    } catch (error) {
      words.textContent = error.message;
    }
  }
  pause.disabled = stop.disabled = true;
  return {body: [element("div", {class: "bar"}, pause, stop, progress), words, canvas], run};
}
