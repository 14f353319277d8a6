/** Controls of a fit on the server: its progress and image so far, pause, stop; used by the panels that start one. */
import { button, draw, element } from "frugan/dom.js";

/**
 * {body, run(begin, done)}: `begin` starts a fit with the engine's `fitting`, `done` is given that fit to take what it found.
 *
 * image: whether it shows an image so far
 */
export function fitControls(app, what, {image = true} = {}) {
  const {fitting} = app.engines[0];
  const canvas = element("canvas", {role: "img", "aria-label": `${what} so far`, hidden: true});
  const progress = element("progress", {"aria-label": what, value: 0, max: 1}), words = element("p", {role: "status"});
  const pause = button("Pause", async () => show(await newest.tell(pause.textContent === "Pause" ? "pause" : "resume")));
  const stop = button("Stop", async () => show(await newest.tell("cancel")));
  let newest = null;

  function show({state, rung, step, steps, distance, notes, error}) {
    const going = state === "running" || state === "paused", far = distance === null ? "" : `, distance ${distance.toFixed(4)}`;
    progress.value = state === "done" ? 1 : steps ? step / steps : 0;
    words.textContent = state === "failed" ? error : going ? `${state}: ${rung}, step ${step} of ${steps}${far}. ${notes.join("; ")}` : `${state}${far}`;
    pause.textContent = state === "paused" ? "Resume" : "Pause";
    pause.disabled = stop.disabled = !going;
    return going;
  }

  async function follow(fit, done) {
    while (fit === newest) {
      const told = await fit.tell("state"), going = show(told);
      if (image) {
        draw(canvas, await fit.image());
        canvas.hidden = false;
      }
      if (!going) {
        if (told.state === "done") await done(fit);
        return;
      }
      await new Promise((resolve) => { setTimeout(resolve, 400); });
    }
  }

  async function run(begin, done) {
    words.textContent = "starting …";
    try {
      const told = await begin(fitting);
      newest = fitting.of(told.number);
      show(told);
      await follow(newest, done);
    } catch (error) {
      words.textContent = error.message;
      pause.disabled = stop.disabled = true;
    }
  }
  pause.disabled = stop.disabled = true;
  return {body: [element("div", {class: "bar"}, pause, stop, progress), words, canvas], run};
}

/** What to do at the end of a fit of ws: its code, under a name, becomes the current image. */
export const takeCode = (app, name) => async (fit) => {
  const found = await fit.code(), size = app.facts.num_ws * app.facts.w_dim;
  const code = app.addCode(name, {ws: found.subarray(0, size), ...(found.length > size && {offset: found.subarray(size)})});
  app.store.change({a: {code}, psi: 1, psis: null, edits: {}, mixed: []});
  app.say("Done. The new code is not part of the link: save it under “Save and open”.");
};
