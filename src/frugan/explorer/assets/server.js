/** Engines that compute on the server from which this page came. */

const page = crypto.randomUUID();

async function post(path, query, ...arrays) {
  const answer = await fetch(`${path}?${new URLSearchParams({page, ...query})}`, {method: "POST", body: new Blob(arrays)});
  if (!answer.ok) throw Object.assign(new Error(await answer.text()), {status: answer.status});
  return answer;
}

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
      const got = await post("render", query, ...(offset ? [ws, offset] : [ws]));
      const [count, h, w, channels] = got.headers.get("X-Shape").split(",").map(Number), buffer = await got.arrayBuffer();
      return {data: floats ? new Float32Array(buffer) : new Uint8Array(buffer), n: count, h, w, channels};
    },
  }));
}
