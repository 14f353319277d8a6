/** Runs the parts of a generator with onnxruntime-web in a thread of its own; in-page.js starts it and talks to it. */
let ort, provider;
const files = {}, sessions = {};

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
  /** part: its name; file: its ONNX file. */
  async load({part, file}) {
    files[part] = file;
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
