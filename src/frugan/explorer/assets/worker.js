/** Runs the parts of a generator with onnxruntime-web in a thread of its own; in-page.js starts it and talks to it. */
let ort;
const sessions = {};

const tasks = {
  /**
   * runtime: onnxruntime-web's module as text; wasm: its WebAssembly; parts: ONNX files by name; webgpu: whether to use WebGPU
   * where there is an adapter. → "webgpu" or "wasm", and why it is the latter.
   */
  async open({runtime, wasm, parts, webgpu}) {
    ort = await import(URL.createObjectURL(new Blob([runtime], {type: "text/javascript"})));
    Object.assign(ort.env.wasm, {wasmBinary: wasm, numThreads: 1});
    const start = async (provider) => {
      const options = {executionProviders: [provider], logSeverityLevel: 3}; // that parts of a graph stay on the CPU is no news
      for (const [name, file] of Object.entries(parts)) sessions[name] = await ort.InferenceSession.create(file, options);
      return provider;
    };
    if (!webgpu) return {engine: await start("wasm"), reason: null};
    try {
      if (!await navigator.gpu?.requestAdapter()) throw new Error("this browser offers no WebGPU adapter");
      return {engine: await start("webgpu"), reason: null};
    } catch (error) {
      return {engine: await start("wasm"), reason: String(error?.message ?? error)};
    }
  },
  /** inputs: {name: {values, shape}} → the values of the only output. */
  async run({part, inputs}) {
    const session = sessions[part];
    const given = Object.fromEntries(Object.entries(inputs).map(([name, {values, shape}]) => [name, new ort.Tensor("float32", values, shape)]));
    return (await session.run(given))[session.outputNames[0]].data;
  },
};

onmessage = async ({data: {id, task, given}}) => {
  try {
    postMessage({id, result: await tasks[task](given)});
  } catch (error) {
    postMessage({id, error: String(error?.message ?? error)});
  }
};
