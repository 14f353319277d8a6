/** Engines that compute on the server from which this page came. */

const page = crypto.randomUUID();

async function post(path, query, ...arrays) {
  const answer = await fetch(`${path}?${new URLSearchParams({page, ...query})}`, {method: "POST", body: new Blob(arrays)});
  if (!answer.ok || answer.headers.has("X-Refused")) throw Object.assign(new Error(await answer.text()), {status: answer.status});
  return answer;
}

/** uint8 or float32 images of an answer, with their shape. */
async function images(answer, Kind = Uint8Array) {
  const [n, h, w, channels] = answer.headers.get("X-Shape").split(",").map(Number);
  return {data: new Kind(await answer.arrayBuffer()), n, h, w, channels};
}

/** Projection of an own image, dragging of points and words, of which the server does one at a time. */
const fitting = (network) => ({
  project: async (file, space) => (await post("project", {network, space}, file)).json(),
  drag: async (ws, handles, targets) => (await post("drag", {network, points: handles.length}, ws, Float32Array.from([...handles, ...targets].flat()))).json(),
  tell: async (what) => (await post(`fit/${what}`, {})).json(),
  words: async (text, label, query) => (await post("words", {network, text, ...query}, ...(label ? [Float32Array.from(label)] : []))).json(),
  result: async () => (await post("fit/result", {})).json(),
  image: async () => images(await post("fit/image", {})),
  code: async () => new Float32Array(await (await post("fit/code", {})).arrayBuffer()),
});

/** One engine for each network of the server. */
export async function serverEngines() {
  const answer = await fetch("networks");
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
