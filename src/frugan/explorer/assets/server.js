/** Engines that compute on the server from which this page came. */

/** This page's own name; `crypto.randomUUID` is missing where the address is not this machine's own. */
const page = [...crypto.getRandomValues(new Uint32Array(4))].join("-");

/** An answer; where there is none, a sentence for that. */
async function ask(...request) {
  try {
    return await fetch(...request);
  } catch {
    throw new Error("the server does not answer. If it has ended, start it again, and open the address that it prints");
  }
}

async function post(path, query, ...arrays) {
  const answer = await ask(`${path}?${new URLSearchParams({page, ...query})}`, {method: "POST", body: new Blob(arrays)});
  if (!answer.ok || answer.headers.has("X-Refused")) throw Object.assign(new Error(await answer.text()), {status: answer.status});
  return answer;
}

/** uint8 or float32 images of an answer, with their shape. */
async function images(answer, Kind = Uint8Array) {
  const [n, h, w, channels] = answer.headers.get("X-Shape").split(",").map(Number);
  return {data: new Kind(await answer.arrayBuffer()), n, h, w, channels};
}

/** Projection of an own image, dragging of points and words, of which the server does one at a time; `of` a fit's number asks after it. */
const fitting = (network) => ({
  project: async (file, space) => (await post("project", {network, space}, file)).json(),
  drag: async (ws, handles, targets) => (await post("drag", {network, points: handles.length}, ws, Float32Array.from([...handles, ...targets].flat()))).json(),
  words: async (text, label, query) => (await post("words", {network, text, ...query}, ...(label ? [Float32Array.from(label)] : []))).json(),
  of: (fit) => ({
    tell: async (what) => (await post(`fit/${what}`, {fit})).json(),
    result: async () => (await post("fit/result", {fit})).json(),
    image: async () => images(await post("fit/image", {fit})),
    code: async () => new Float32Array(await (await post("fit/code", {fit})).arrayBuffer()),
  }),
});

/** One engine for each network of the server. */
export async function serverEngines() {
  const answer = await ask("networks");
  if (!answer.ok) throw new Error(await answer.text());
  return (await answer.json()).map((facts, network) => ({
    facts,
    async map(z, c, n) {
      const parts = c ? [z, c] : [z];
      return new Float32Array(await (await post("map", {network, n, lane: `map${network}`}, ...parts)).arrayBuffer());
    },
    async render({n, ws, offset, noise, lane = "image", floats = false, side = null}) {
      const query = {network, n, noise, lane: `${lane}${network}`, ...(offset && {offset: 1}), ...(floats && {floats: 1}), ...(side && {side})};
      return images(await post("render", query, ...(offset ? [ws, offset] : [ws])), floats ? Float32Array : Uint8Array);
    },
    nearest: async (image) => (await post("nearest", {network}, image.data)).json(),
    fitting: fitting(network),
  }));
}
