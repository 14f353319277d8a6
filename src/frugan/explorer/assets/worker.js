/** Runs the parts of a generator with onnxruntime-web in a thread of its own; in-page.js starts it and talks to it. */
let ort, provider;
const files = {}, sessions = {};

/** The float32 of each of the 65,536 float16. */
const halves = Float32Array.from({length: 65536}, (_, bits) => {
  const sign = bits >> 15 ? -1 : 1, exponent = bits >> 10 & 31, fraction = (bits & 1023) / 1024;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
});

/** A packed ONNX file (weights.py tells of its form) → the file. */
function unpack(packed) {
  let from = 4 + new DataView(packed.buffer).getUint32(0, true), to = 0;
  const {size, tensors} = JSON.parse(new TextDecoder().decode(packed.subarray(4, from))), file = new Uint8Array(size);
  const take = (length) => packed.slice(from, from += length);
  for (const {at, count, scales, inner} of tensors) {
    file.set(take(at - to), to);
    const values = new Float32Array(count);
    if (scales) {
      const scale = new Float32Array(take(4 * scales).buffer), whole = new Int8Array(take(count).buffer);
      for (let i = 0; i < count; i++) values[i] = whole[i] * scale[Math.floor(i / inner) % scales];
    } else {
      const bits = new Uint16Array(take(2 * count).buffer);
      for (let i = 0; i < count; i++) values[i] = halves[bits[i]];
    }
    file.set(new Uint8Array(values.buffer), at);
    to = at + 4 * count;
  }
  file.set(packed.subarray(from), to);
  return file;
}

async function create(part) {
  const options = {executionProviders: [provider], logSeverityLevel: 3}; // that parts of a graph stay on the CPU is no news
  sessions[part] = await ort.InferenceSession.create(files[part], options);
}

/** Does what WebGPU may fail at; if it does, all goes on with WebAssembly. */
async function surely(work) {
  try {
    return await work();
  } catch (error) {
    if (provider === "wasm") throw error;
    compute("wasm", `Computed with WebAssembly, not WebGPU: ${error?.message ?? error}.`);
    for (const part of Object.keys(files)) await create(part);
    return work();
  }
}

function compute(engine, reason = "") {
  provider = engine;
  postMessage({engine, reason});
}

const tasks = {
  /** runtime: onnxruntime-web's module as text; wasm: its WebAssembly; webgpu: whether to use WebGPU where there is an adapter. */
  async open({runtime, wasm, webgpu}) {
    ort = await import(URL.createObjectURL(new Blob([runtime], {type: "text/javascript"})));
    Object.assign(ort.env.wasm, {wasmBinary: wasm, numThreads: 1});
    compute(webgpu ? "webgpu" : "wasm");
    await surely(async () => {
      if (provider === "webgpu" && !await navigator.gpu?.requestAdapter()) throw new Error("this browser offers no WebGPU adapter");
    });
  },
  /** part: its name; packed: its ONNX file, packed. */
  async load({part, packed}) {
    files[part] = unpack(packed);
    await surely(() => create(part));
    if (provider === "wasm") files[part] = null; // it is in the runtime's memory
  },
  /** inputs: {name: {values, shape}} → the values of the only output. */
  run({part, inputs}) {
    return surely(async () => {
      const session = sessions[part];
      const given = Object.fromEntries(Object.entries(inputs).map(([name, {values, shape}]) => [name, new ort.Tensor("float32", values, shape)]));
      return (await session.run(given))[session.outputNames[0]].data;
    });
  },
};

let last = Promise.resolve();
onmessage = ({data: {id, task, given}}) => {
  last = last.then(async () => { // in the order of asking
    try {
      postMessage({id, result: await tasks[task](given)});
    } catch (error) {
      postMessage({id, error: String(error?.message ?? error)});
    }
  });
};
