/** Small helpers for elements; text is always text, never HTML. */

/** element("button", {type: "button", onclick: f, "aria-label": "…"}, "text", child, …) */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

export const button = (label, onclick, attributes = {}) => element("button", {type: "button", onclick, ...attributes}, label);

let count = 0;

/** A labelled control: {row, input, output}; `tell(value, done)` hears of changes, `show(value)` sets it. */
export function slider(label, {min, max, step = 0.01, value, tell, attributes = {}}) {
  const id = `control-${count++}`;
  const input = element("input", {type: "range", id, min: String(min), max: String(max), step: String(step), ...attributes});
  const output = element("output", {for: id});
  const show = (x) => {
    input.value = String(x);
    output.textContent = String(+Number(x).toFixed(2));
  };
  input.addEventListener("input", () => { output.textContent = String(+Number(input.value).toFixed(2)); tell(+input.value, false); });
  input.addEventListener("change", () => tell(+input.value, true));
  show(value);
  return {row: element("div", {class: "slider"}, element("label", {for: id}, label), input, output), input, output, show};
}

/** A labelled number: as `slider`, for whole numbers that one types. */
export function numberField(label, {min = 0, max = 2 ** 32 - 1, step = 1, value, tell}) {
  const id = `control-${count++}`;
  const input = element("input", {type: "number", id, min: String(min), max: String(max), step: String(step), value: String(value)});
  input.addEventListener("change", () => { if (input.value !== "" && input.reportValidity()) tell(+input.value); });
  return {row: element("span", {class: "field"}, element("label", {for: id}, label), input), input, show: (x) => { if (document.activeElement !== input) input.value = String(x); }};
}

/** A labelled choice among [value, text]. */
export function choice(label, options, tell) {
  const id = `control-${count++}`;
  const input = element("select", {id}, ...options.map(([value, name]) => element("option", {value: String(value)}, name)));
  input.addEventListener("change", () => tell(input.value));
  return {row: element("span", {class: "field"}, element("label", {for: id}, label), input), input, show: (x) => { input.value = String(x); }};
}

/** Draws image i of {data, h, w, channels} (uint8) into a canvas. */
export function draw(canvas, image, i = 0) {
  const {h, w, channels} = image;
  canvas.width = w;
  canvas.height = h;
  canvas.getContext("2d").putImageData(rgba(image, i), 0, 0);
}

/** Image i as ImageData: grey, grey and alpha, RGB or RGBA; of more channels the first three. */
function rgba({data, h, w, channels}, i) {
  const pixels = new Uint8ClampedArray(4 * h * w), start = i * h * w * channels, grey = channels < 3;
  for (let p = 0; p < h * w; p++) {
    const at = start + p * channels;
    for (let c = 0; c < 3; c++) pixels[4 * p + c] = data[at + (grey ? 0 : c)];
    pixels[4 * p + 3] = channels === 2 || channels === 4 ? data[at + channels - 1] : 255;
  }
  return new ImageData(pixels, w, h);
}
