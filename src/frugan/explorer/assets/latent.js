/**
 * Arithmetic of latents: from the page's state to what an engine renders.
 *
 * An engine is an object of
 *   facts                                  what network.py tells of the network
 *   map(z, c, n)                           z [n, z_dim], c [n, K] or null → w [n, w_dim]
 *   render({n, ws, offset, noise, …})      ws [n, num_ws, w_dim], offset [n, ΣC] or null → {data, n, h, w, channels}
 * whose arrays are Float32Array, asynchronously. Everything else is computed here, as frugan.latent does in Python.
 */
import { RandomState } from "frugan/random.js";

const CHILDREN = 2 ** 31;
/** Seeds from here on give the differences that breeding adds. */

/** Base64 of little-endian float32 → Float32Array. */
export function decoded(text) {
  return new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
}

/** a + t (b − a), elementwise. */
export const lerp = (a, b, t) => a.map((x, i) => x + t * (b[i] - x));

/** The two seeds whose difference is step n of breeding. */
const pair = (n) => [CHILDREN + 2 * (n % (CHILDREN / 2)), CHILDREN + 2 * (n % (CHILDREN / 2)) + 1];

/** The seeds that a point's w is made of. */
function seedsOf(point) {
  const own = point.pad ? point.pad.seeds : point.code ? [] : [point.seed];
  return [...own, ...(point.steps ?? []).flatMap(([n]) => pair(n))];
}

/** The first label of a network, one value for each column: class 0, numbers in the middle of their range. */
export function firstLabel(facts) {
  if (!facts.label_size) return null;
  const label = Array(facts.label_size).fill(0);
  for (const part of facts.labels) {
    if (part.range) label[part.columns[0]] = (part.range[0] + part.range[1]) / 2;
    else if (!part.flag) label[part.columns[0]] = 1;
  }
  return label;
}

export class Latents {
  #found = new Map();

  /** @param codes Map of names to {ws, offset}: latents that came from files, for points of the form {code: name} */
  constructor(engine, codes = new Map()) {
    [this.engine, this.facts, this.codes] = [engine, engine.facts, codes];
    this.average = decoded(this.facts.w_avg);
    this.ownLabel = firstLabel(this.facts);
    this.directions = new Map();
    this.facts.directions.forEach((d) => this.add(d));
  }

  /** Takes up a direction, as the facts tell of it. */
  add(direction) {
    this.directions.set(direction.name, {...direction, displacement: decoded(direction.displacement)});
  }

  /** States → {n, ws, offset, noise} to render at once; the noise is the first one's. */
  async resolve(states) {
    const stills = states.flatMap((state) => (isMoving(state) ? around(state) : [state]));
    await this.#prepare(stills);
    const composed = states.map((state) => {
      if (!isMoving(state)) return this.#compose(state);
      const [from, to] = around(state).map((still) => this.#compose(still)), t = state.time % 1;
      return {ws: lerp(from.ws, to.ws, t), offset: lerp(from.offset, to.offset, t)};
    });
    const offset = composed.some((c) => c.offset.some((x) => x !== 0)) ? joined(composed.map((c) => c.offset)) : null;
    return {n: states.length, ws: joined(composed.map((c) => c.ws)), offset, noise: states[0].noise};
  }

  /** Maps all seeds that the states need and that are not known yet, at once. */
  async #prepare(states) {
    const {z_dim, label_size, w_dim} = this.facts, wanted = new Map();
    for (const state of states) {
      for (const label of this.#labels(state)) {
        for (const seed of [state.a, state.b].flatMap(seedsOf)) {
          const key = this.#key(seed, label, state);
          if (!this.#found.has(key)) wanted.set(key, [seed, label, state]);
        }
      }
    }
    const asked = [...wanted];
    for (let at = 0; at < asked.length; at += 64) {
      const some = asked.slice(at, at + 64);
      const z = joined(some.map(([, [seed, , state]]) => this.#moved(new RandomState(seed).normal(z_dim), state)));
      const c = label_size ? joined(some.map(([, [, label]]) => Float32Array.from(label))) : null;
      const w = await this.engine.map(z, c, some.length);
      if (this.#found.size > 4000) this.#found.clear();
      some.forEach(([key], i) => this.#found.set(key, w.subarray(i * w_dim, (i + 1) * w_dim)));
    }
  }

  #key(seed, label, state) {
    return JSON.stringify([seed, label, this.#active(state, "z").map(([d, strength]) => [d.name, strength])]);
  }

  #labels(state) {
    const {label_size} = this.facts, labels = state.blend ? [state.label, state.label2] : [state.label];
    if (!label_size) return [null];
    return state.label?.length === label_size ? labels : [this.ownLabel]; // the state's are of the network that is edited
  }

  /** Directions of a space (and order) with the strengths that are not 0. */
  #active(state, space, order) {
    return Object.entries(state.edits)
      .map(([name, strength]) => [this.directions.get(name), strength])
      .filter(([d, strength]) => d && strength && d.space === space && (!order || d.order === order));
  }

  #moved(z, state) {
    for (const [d, strength] of this.#active(state, "z")) add(z, d.displacement, strength);
    return z;
  }

  #w(seed, state) {
    const [first, second] = this.#labels(state).map((label) => this.#found.get(this.#key(seed, label, state)));
    return second ? lerp(first, second, state.blend) : first;
  }

  /** A point → ws [num_ws · w_dim] before truncation. */
  #ws(point, state) {
    let ws;
    if (point.code) {
      ws = Float32Array.from(this.codes.get(point.code).ws);
      if (ws.length !== this.facts.num_ws * this.facts.w_dim) throw new Error(`${this.facts.name} has other ws than the code ${point.code}`);
    } else if (point.pad) {
      const {x, y} = point.pad, [p, q, r, s] = point.pad.seeds.map((seed) => this.#w(seed, state));
      ws = this.#broadcast(lerp(lerp(p, q, x), lerp(r, s, x), y));
    } else {
      ws = this.#broadcast(this.#w(point.seed, state));
    }
    for (const step of point.steps ?? []) ws = this.#child(ws, step, state);
    return ws;
  }

  /** w ← w̄ + √(1 − t²) (w − w̄) + t/√2 (w' − w″): a neighbour at distance t, with the mean and covariance that w has. */
  #child(ws, [n, t], state) {
    const [p, q] = pair(n).map((seed) => this.#w(seed, state)), D = this.facts.w_dim;
    const keep = Math.sqrt(1 - t * t), share = t / Math.SQRT2;
    return ws.map((x, i) => this.average[i % D] + keep * (x - this.average[i % D]) + share * (p[i % D] - q[i % D]));
  }

  #broadcast(w) {
    return joined(Array(this.facts.num_ws).fill(w));
  }

  /** ws after mixing, edits and truncation, and the offset of styles [ΣC]. */
  #compose(state) {
    const {w_dim: D, style_size} = this.facts;
    const ws = this.#ws(state.a, state);
    if (state.mixed.length) {
      const other = this.#ws(state.b, state), levels = this.facts.num_ws / 2;
      for (const level of state.mixed.filter((l) => l < levels)) {
        const [from, to] = [2 * level * D, 2 * (level + 1) * D];
        ws.set(other.subarray(from, to), from);
      }
    }
    for (const [d, strength] of this.#active(state, "w", "before")) add(ws, d.displacement, strength);
    for (let i = 0; i < ws.length; i++) {
      const psi = state.psis?.[Math.floor(i / (2 * D))] ?? state.psi, mean = this.average[i % D];
      ws[i] = mean + psi * (ws[i] - mean);
    }
    for (const [d, strength] of this.#active(state, "w", "after")) add(ws, d.displacement, strength);
    const offset = new Float32Array(style_size), kept = state.a.code && this.codes.get(state.a.code).offset;
    if (kept) offset.set(kept);
    for (const [d, strength] of this.#active(state, "style")) add(offset, d.displacement, strength);
    return {ws, offset};
  }

  /** What the edits of space w add, [num_ws · w_dim]: the sum of all their displacements. */
  edit(state) {
    const total = new Float32Array(this.facts.num_ws * this.facts.w_dim);
    for (const [d, strength] of this.#active(state, "w")) add(total, d.displacement, strength);
    return total;
  }
}

/** Whether a state shows a moment between key frames. */
export const isMoving = (state) => state.time !== null && state.frames.length > 1;

/** The key frames on either side of a state's time. */
function around(state) {
  const first = Math.min(Math.floor(state.time), state.frames.length - 1);
  return [first, Math.min(first + 1, state.frames.length - 1)].map((i) => ({...state, ...state.frames[i], time: null}));
}

function add(to, displacement, strength) {
  for (let i = 0; i < to.length; i++) to[i] += strength * displacement[i];
}

function joined(arrays) {
  const all = new Float32Array(arrays.reduce((sum, a) => sum + a.length, 0));
  let at = 0;
  for (const one of arrays) {
    all.set(one, at);
    at += one.length;
  }
  return all;
}
