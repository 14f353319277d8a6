/** The engine that computes in this page: the generator as ONNX and onnxruntime-web, both inside the file. */
import { RandomState } from "frugan/random.js";

/** A string of codes below 256 → bytes. */
function bytesOf(text) {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Bytes of a block of the page, which is base64 of gzip. */
async function block(name) {
  const text = document.getElementById(name).textContent;
  document.getElementById(name).remove();
  const packed = Uint8Array.fromBase64?.(text) ?? bytesOf(atob(text));
  return new Uint8Array(await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

const text = async (name) => new TextDecoder().decode(await block(name));

/** A function (task, given, buffers that are handed over) → the worker's answer; `notice` hears why WebGPU is not used. */
async function startWorker(notice) {
  const source = new Blob([await text("worker")], {type: "text/javascript"}), waiting = new Map();
  const worker = new Worker(URL.createObjectURL(source)); // Chromium starts no module worker from a file
  let count = 0;
  worker.onmessage = ({data: {id, result, error, engine, reason}}) => {
    if (engine) {
      document.body.dataset.engine = engine;
      if (reason) notice(reason);
      return;
    }
    const {resolve, reject} = waiting.get(id);
    waiting.delete(id);
    error === undefined ? resolve(result) : reject(new Error(error));
  };
  worker.onerror = (event) => waiting.forEach(({reject}) => reject(new Error(event.message || "this browser runs no worker from a file")));
  return (task, given, handed = []) => new Promise((resolve, reject) => {
    waiting.set(++count, {resolve, reject});
    worker.postMessage({id: count, task, given}, handed);
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

/**
 * One engine for each network of the page, as soon as its facts are known, so that the page is built while the worker loads;
 * `ready` settles when everything is loaded, and what is asked of an engine before waits for it.
 */
export async function pageEngines() {
  const notices = [], status = document.getElementById("status");
  const ask = await startWorker((reason) => { notices.push(reason); status.textContent = reason; });
  const engines = [], opening = openRuntime(ask);
  for (let i = 0; document.getElementById(`${i}-facts`); i++) engines.push(pageEngine(i, ask, opening));
  const [first, ...others] = await Promise.all(engines);
  first.ready = first.ready.then(() => { first.facts.warnings.push(...notices); });
  return [first, ...others];
}

async function openRuntime(ask) {
  const [settings, runtime, wasm] = await Promise.all([text("settings"), text("runtime"), block("wasm")]);
  await ask("open", {runtime, wasm, ...JSON.parse(settings)}, [wasm.buffer]);
}

async function pageEngine(i, ask, opening) {
  const facts = JSON.parse(await text(`${i}-facts`));
  const loading = ["mapping", "styles", "render"].map(async (name) => {
    const part = `${i}-${name}`, packed = await block(part);
    await opening;
    await ask("load", {part, packed}, [packed.buffer]);
  });
  let constant;
  const ready = Promise.all([block(`${i}-noise`), ...loading]).then(([noise]) => { constant = new Float32Array(noise.buffer); });

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
  return {
    facts, ready,
    async map(z, c, n) {
      await ready;
      const inputs = {z: {values: z, shape: [n, facts.z_dim]}, ...(c && {c: {values: c, shape: [n, facts.label_size]}})};
      const ws = await ask("run", {part: `${i}-mapping`, inputs}), each = facts.num_ws * facts.w_dim, w = new Float32Array(n * facts.w_dim);
      for (let k = 0; k < n; k++) w.set(ws.subarray(k * each, k * each + facts.w_dim), k * facts.w_dim);
      return w;
    },
    async render({n, ws, offset, noise, floats = false}) {
      await ready;
      const styles = await ask("run", {part: `${i}-styles`, inputs: {ws: {values: ws, shape: [n, facts.num_ws, facts.w_dim]}}});
      if (offset) offset.forEach((x, i) => { styles[i] += x; });
      const inputs = {styles: {values: styles, shape: [n, facts.style_size]}, ...noiseInputs(noise, n)};
      return pixels(await ask("run", {part: `${i}-render`, inputs}), n, facts.channels, facts.resolution, floats);
    },
  };
}
