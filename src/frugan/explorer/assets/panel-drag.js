/** Points to drag: handles on the image that are pulled to targets, picked by clicks or typed. */
import { button, element, numberField } from "frugan/dom.js";
import { fitControls, takeCode } from "frugan/fit.js";

const ENDS = ["From x", "From y", "To x", "To y"];

export function dragPanel(app) {
  if (!app.facts.can?.drag) return null;
  const {body, run} = fitControls(app, "drag"), [h, w] = app.facts.resolution, image = document.querySelector("#stage canvas");
  const list = element("div"), marks = element("div", {class: "marks", "aria-hidden": "true"});
  let points = [], started = null, count = 0;
  image.parentElement.append(marks);
  new ResizeObserver(showMarks).observe(image);

  function mark([x, y], kind) {
    const dot = element("span", {class: `dot ${kind}`});
    dot.style.left = `${image.offsetLeft + ((x + 0.5) / w) * image.clientWidth}px`;
    dot.style.top = `${image.offsetTop + ((y + 0.5) / h) * image.clientHeight}px`;
    return dot;
  }

  function showMarks() {
    marks.replaceChildren(...points.flatMap((p) => [mark(p.slice(0, 2), "handle"), mark(p.slice(2), "target")]), ...(started ? [mark(started, "handle")] : []));
  }

  function show() {
    showMarks();
    list.replaceChildren(...points.map((point, i) => element("div", {class: "bar"},
      ...ENDS.map((name, k) => numberField(`${name} of point ${i + 1}`, {max: (k % 2 ? h : w) - 1, value: point[k], tell: (x) => { point[k] = x; show(); }}).row),
      button("×", () => { points.splice(i, 1); show(); }, {"aria-label": `Remove point ${i + 1}`}))));
    start.disabled = !points.length;
  }

  const pick = button("Pick on the image", () => {
    const picking = pick.getAttribute("aria-pressed") !== "true";
    pick.setAttribute("aria-pressed", String(picking));
    started = null;
    show();
  }, {"aria-pressed": "false", title: "First the handle, then where it is to go"});
  image.addEventListener("click", (event) => {
    if (pick.getAttribute("aria-pressed") !== "true") return;
    const box = image.getBoundingClientRect(), at = (v, size) => Math.min(Math.max(Math.floor(v * size), 0), size - 1);
    const here = [at((event.clientX - box.left) / box.width, w), at((event.clientY - box.top) / box.height, h)];
    if (started) points.push([...started, ...here]);
    started = started ? null : here;
    show();
  });
  const add = button("Add a point", () => { points.push([w >> 1, h >> 1, w >> 1, h >> 1]); show(); });
  const start = button("Drag", () => run(async (fitting) => {
    const {ws, offset} = await app.latents[0].resolve([app.state]);
    if (offset) throw new Error("Edits of styles cannot be dragged along: reset those directions first.");
    return fitting.drag(ws, points.map((p) => p.slice(0, 2)), points.map((p) => p.slice(2)));
  }, takeCode(app, `dragged ${++count}`)));
  const clear = button("Remove all points", () => { points = []; started = null; show(); });
  show();
  return {title: "Drag points", body: [element("div", {class: "bar"}, pick, add, clear, start), list, ...body], update: show};
}
