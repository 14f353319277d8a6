/** Saving: the image, its code, and the edit as a Direction for frugan edit; and opening a code. */
import { button, element } from "frugan/dom.js";
import { download, fitsPng, npy, png, readSafetensors, safetensors, zip } from "frugan/files.js";
import { decoded } from "frugan/latent.js";
import { RandomState } from "frugan/random.js";
import { describe } from "frugan/words.js";

const text = (value) => new TextEncoder().encode(value);

/** A name for files: what the state is, without what file systems dislike. */
export const fileName = (app) => describe(app.state, app.facts).replace(/[^\w.+−-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 80);

/** The edits of w as the two files of a folder of directions, in a zip; they are one Direction, whose strength 1 is this edit. */
function directionFiles(app, name) {
  const {facts} = app, total = app.latents[0].edit(app.state), D = facts.w_dim;
  const norms = Array.from({length: facts.num_ws}, (_, i) => Math.hypot(...total.subarray(i * D, (i + 1) * D)));
  const sigma = Math.max(...norms);
  if (!sigma) return null;
  const {edits} = app.state;
  const direction = {name, space: "w", sigma, centre: 0, levels: null, order: "after", slider: [-2, 2], source: {method: "explorer", edits}};
  const header = {format: 1, generator: {digest: facts.digest, levels: facts.levels}, directions: [direction]};
  const probe = decoded(facts.probe);
  return {
    [`${name}/directions.json`]: text(JSON.stringify(header, null, 1)),
    [`${name}/directions.safetensors`]: safetensors({
      "vector.0": {shape: [facts.num_ws, D], values: total.map((x) => x / sigma)},
      probe: {shape: [probe.length / D, D], values: probe},
    }),
  };
}

/** The noise of a state as a code keeps it: [1, h, w] for each convolution. */
function noiseMaps(facts, noise) {
  const sizes = facts.noise.map(([h, w]) => h * w), total = sizes.reduce((sum, size) => sum + size, 0);
  const values = noise === "none" ? new Float32Array(total) : new RandomState(noise).normal(total);
  let at = 0;
  return sizes.map((size, i) => ({shape: [1, ...facts.noise[i]], values: values.subarray(at, at += size)}));
}

export function savePanel(app) {
  const {facts, store} = app;
  const about = () => ({Software: `frugan ${facts.version}`, Explorer: new URL(app.link).hash, ...(app.state.a.seed !== undefined && {Seed: String(app.state.a.seed)})});
  const {pixels, channels} = facts, needsArray = !fitsPng(pixels, channels);
  const saveImage = async () => {
    download(await png(await app.still(), {pixels, about: about()}), `${fileName(app)}.png`, "image/png");
    if (needsArray) app.say(`A PNG to look at: only the .npy holds all ${channels} channels as ${pixels.dtype} numbers of the data.`);
  };
  const saveArray = async () => download(npy(await app.still(), {pixels}), `${fileName(app)}.npy`);
  const saveCode = async () => {
    const {ws, offset} = await app.latents[0].resolve([app.state]), D = facts.w_dim, {label, label2, blend, noise} = app.state;
    const probe = decoded(facts.probe), tensors = {ws: {shape: [facts.num_ws, D], values: ws}, probe: {shape: [probe.length / D, D], values: probe}};
    if (label) tensors.label = {shape: [label.length], values: Float32Array.from(label, (x, i) => x + blend * (label2[i] - x))};
    if (noise !== "const") noiseMaps(facts, noise).forEach((map, i) => { tensors[`noise.${i}`] = map; });
    if (offset) tensors.offset = {shape: [facts.style_size], values: offset};
    const code = {name: fileName(app), digest: facts.digest, levels: facts.levels, facts: {source: "explorer", description: describe(app.state, facts), noise, truncation: 1}};
    download(safetensors(tensors, {format: "frugan code 1", code: JSON.stringify(code)}), `${fileName(app)}.safetensors`);
  };
  const name = element("input", {type: "text", value: "my-edit", "aria-label": "Name of the direction", maxlength: "40"});
  const saveDirection = () => {
    const files = directionFiles(app, name.value.replace(/[^\w-]+/g, "-") || "my-edit");
    if (!files) return app.say("There is no edit in w to save: move a slider of a direction of w first.");
    return download(zip(files), `${name.value || "my-edit"}.zip`, "application/zip");
  };
  const openCode = async (chosen) => {
    try {
      if (chosen.size > 64e6) throw new Error("it is larger than 64 MB");
      const {tensors: {ws, offset, ...others}, about} = readSafetensors(await chosen.arrayBuffer()), wanted = facts.num_ws * facts.w_dim;
      if (ws?.values.length !== wanted || (offset && offset.values.length !== facts.style_size)) throw new Error(`it holds no ws of ${facts.num_ws} × ${facts.w_dim}`);
      const code = app.addCode(chosen.name, {ws: ws.values, offset: offset?.values});
      const noise = JSON.parse(about.code ?? "{}").facts?.noise, known = noise === "none" || Number.isInteger(noise);
      store.change({a: {code}, psi: 1, psis: null, edits: {}, mixed: [], noise: known ? noise : "const"});
      app.say(`The code is open. It is not part of the link; keep its file.${"noise.0" in others && !known ? " Its own noise maps are left out: the constant noise is shown." : ""}`);
    } catch (error) {
      app.say(`${chosen.name} cannot be opened as a code: ${error.message}`);
    }
  };
  const file = element("input", {type: "file", accept: ".safetensors", "aria-label": "Open a code", onchange: async () => {
    if (file.files.length) await openCode(file.files[0]);
    file.value = "";
  }});
  app.drop = (dropped) => {
    if (dropped.name.endsWith(".safetensors")) return openCode(dropped);
    if (app.project) return app.project(dropped);
    return app.say(`${dropped.name}: this page opens codes (.safetensors) only; own images are for frugan explore, where its server projects them.`);
  };
  return {title: "Save and open", open: true, body: [
    element("div", {class: "bar"}, button("Save PNG", saveImage), needsArray ? button("Save all as .npy", saveArray) : null, button("Save code", saveCode)),
    element("div", {class: "bar"}, name, button("Save edit as direction", saveDirection)),
    element("label", {class: "bar"}, "Open a code ", file),
  ], update() {}};
}
