/** The engine that computes in this page: the generator as ONNX and onnxruntime-web, both inside the file. */
import { RandomState } from "frugan/random.js";

/** Bytes of a block of the page, which is base64 of gzip. */
async function block(name) {
  const text = document.getElementById(name).textContent;
  document.getElementById(name).remove();
  const packed = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Uint8Array(await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

const text = async (name) => new TextDecoder().decode(await block(name));

/** A function (task, given) → the worker's answer. */
async function startWorker() {
  const source = new Blob([await text("worker")], {type: "text/javascript"}), waiting = new Map();
  const worker = new Worker(URL.createObjectURL(source)); // Chromium starts no module worker from a file
  let count = 0;
  worker.onmessage = ({data: {id, result, error}}) => {
    const {resolve, reject} = waiting.get(id);
    waiting.delete(id);
    error === undefined ? resolve(result) : reject(new Error(error));
  };
  worker.onerror = (event) => waiting.forEach(({reject}) => reject(new Error(event.message || "this browser runs no worker from a file")));
  return (task, given) => new Promise((resolve, reject) => {
    waiting.set(++count, {resolve, reject});
    worker.postMessage({id: count, task, given});
  });
}

/** Floats [n, C, h, w] → [n, h, w, C] within [-1, 1], or as uint8. */
function pixels(values, n, channels, [h, w], floats) {
  const size = h * w, data = floats ? new Float32Array(values.length) : new Uint8ClampedArray(values.length);
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < channels; c++) {
      const from = (i * channels + c) * size, to = i * size * channels + c;
      for (let p = 0; p < size; p++) {
        const value = Math.min(Math.max(values[from + p], -1), 1);
        data[to + p * channels] = floats ? value : (value + 1) * 127.5;
      }
    }
  }
  return {data, n, h, w, channels};
}

/** A list of the one engine. */
export async function pageEngines() {
  const facts = JSON.parse(await text("facts")), names = ["mapping", "styles", "render"];
  const files = await Promise.all(["wasm", "noise", ...names].map(block));
  const [wasm, noise, ...onnx] = files, constant = new Float32Array(noise.buffer);
  const ask = await startWorker();
  const parts = Object.fromEntries(names.map((name, i) => [name, onnx[i]]));
  const {engine, reason} = await ask("open", {runtime: await text("runtime"), wasm, parts, webgpu: facts.webgpu});
  document.body.dataset.engine = engine;
  if (reason) facts.warnings.push(`Computed with WebAssembly, not WebGPU: ${reason}.`);

  let drawn = {seed: null, values: null};
  const noiseValues = (choice) => {
    if (choice === "const") return constant;
    if (choice === "none") return new Float32Array(constant.length);
    if (drawn.seed !== choice) drawn = {seed: choice, values: new RandomState(choice).normal(constant.length)};
    return drawn.values;
  };
  /** noise_0, noise_1, …: the same for each of n images. */
  const noiseInputs = (choice, n) => {
    const all = noiseValues(choice), inputs = {};
    let at = 0;
    facts.noise.forEach(([h, w], i) => {
      const one = all.subarray(at, at += h * w), values = new Float32Array(n * h * w);
      for (let k = 0; k < n; k++) values.set(one, k * h * w);
      inputs[`noise_${i}`] = {values, shape: [n, 1, h, w]};
    });
    return inputs;
  };
  return [{
    facts,
    async map(z, c, n) {
      const inputs = {z: {values: z, shape: [n, facts.z_dim]}, ...(c && {c: {values: c, shape: [n, facts.label_size]}})};
      const ws = await ask("run", {part: "mapping", inputs}), each = facts.num_ws * facts.w_dim, w = new Float32Array(n * facts.w_dim);
      for (let i = 0; i < n; i++) w.set(ws.subarray(i * each, i * each + facts.w_dim), i * facts.w_dim);
      return w;
    },
    async render({n, ws, offset, noise, floats = false}) {
      const styles = await ask("run", {part: "styles", inputs: {ws: {values: ws, shape: [n, facts.num_ws, facts.w_dim]}}});
      if (offset) offset.forEach((x, i) => { styles[i] += x; });
      const inputs = {styles: {values: styles, shape: [n, facts.style_size]}, ...noiseInputs(noise, n)};
      return pixels(await ask("run", {part: "render", inputs}), n, facts.channels, facts.resolution, floats);
    },
  }];
}
