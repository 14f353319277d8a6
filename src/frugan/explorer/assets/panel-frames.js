/** Key frames: moments of a path, scrubbed through and saved as a video. */
import { button, draw, element, slider } from "frugan/dom.js";
import { download } from "frugan/files.js";
import { frameOf } from "frugan/state.js";

const RATE = 24, KINDS = ["video/mp4;codecs=avc1", "video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"];

/** Plays images drawn by `paint(i)` at `RATE` and records them; the browser decides between WebM and MP4. */
async function recorded(canvas, count, paint) {
  const type = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind)), parts = [];
  const recorder = new MediaRecorder(canvas.captureStream(RATE), {mimeType: type, videoBitsPerSecond: 8e6});
  const ended = new Promise((resolve) => { recorder.onstop = resolve; });
  recorder.ondataavailable = (event) => parts.push(event.data);
  recorder.start();
  const begun = performance.now();
  for (let i = 0; i < count; i++) {
    paint(i);
    await new Promise((resolve) => { setTimeout(resolve, Math.max(begun + ((i + 1) * 1000) / RATE - performance.now(), 1)); });
  }
  recorder.stop();
  await ended;
  return new Blob(parts, {type: type.split(";")[0]});
}

export function framesPanel(app) {
  const {store, facts} = app;
  const time = slider("Time", {min: 0, max: 1, value: 0, step: 0.01, tell: (t, done) => store.change({time: t}, {done})});
  const seconds = slider("Seconds between frames", {min: 0.5, max: 10, step: 0.5, value: 2, tell() {}});
  const strip = element("div", {class: "grid small", role: "group", "aria-label": "key frames"});
  let saving = false, drawn = "";
  const save = button("Save video", async () => {
    if (saving) { saving = false; return; }
    saving = true;
    save.textContent = "Stop";
    try {
      const {frames} = app.state, count = Math.round((frames.length - 1) * +seconds.input.value * RATE) + 1, images = [];
      for (let i = 0; i < count && saving; i++) {
        const moment = {...app.state, frames, time: (i / (count - 1)) * (frames.length - 1)};
        images.push(await app.scheduler.result("result", () => app.render([moment], {lane: "result"})));
        app.say(`Video: ${i + 1} of ${count} images`);
      }
      if (!saving) return;
      const factor = Math.max(1, Math.floor(512 / Math.max(...facts.resolution))), [small, large] = [element("canvas"), element("canvas")];
      [large.height, large.width] = facts.resolution.map((side) => side * factor);
      const context = large.getContext("2d");
      const video = await recorded(large, count, (i) => {
        draw(small, images[i]);
        context.imageSmoothingEnabled = false;
        context.drawImage(small, 0, 0, large.width, large.height);
      });
      download(video, `frames.${video.type.includes("mp4") ? "mp4" : "webm"}`);
      app.say(`The video has ${count} images.`);
    } finally {
      saving = false;
      save.textContent = "Save video";
    }
  });
  const add = button("Add key frame", () => store.change({frames: [...app.state.frames, frameOf(app.state)].slice(0, 50)}));
  const cell = (frame, i, frames) => {
    const canvas = element("canvas", {"aria-hidden": "true"});
    const show = element("button", {type: "button", class: "cell", "aria-label": `Key frame ${i + 1}`, onclick: () => store.change({...frame})}, canvas);
    const remove = button("×", () => store.change({frames: frames.filter((_, j) => j !== i)}), {"aria-label": `Remove key frame ${i + 1}`});
    return {canvas, element: element("div", {}, show, remove)};
  };
  return {title: "Key frames", body: [element("div", {class: "bar"}, add, save), strip, time.row, seconds.row], update(state) {
    const {frames} = state, key = JSON.stringify([frames, state.noise]);
    save.disabled = frames.length < 2 || typeof MediaRecorder === "undefined";
    time.input.disabled = frames.length < 2;
    time.input.max = String(Math.max(frames.length - 1, 1));
    time.show(state.time ?? 0);
    if (key === drawn) return;
    drawn = key;
    const cells = frames.map((frame, i) => cell(frame, i, frames));
    strip.replaceChildren(...cells.map((c) => c.element));
    if (cells.length) app.thumbnails("frames", cells.map(({canvas}, i) => ({canvas, state: {...state, ...frames[i], time: null}})));
  }};
}
