/**
 * What the page shows, as one plain object: it is the address, the history, and a key frame.
 *
 * a, b: points, each {seed}, {pad: {seeds, x, y}} or {code}, with steps of breeding [[n, distance], …]
 * mixed: levels that come from b · psi, psis: truncation, of all levels or of each · edits: strengths by direction
 * label, label2, blend: labels and how much of the second · noise: "const", "none" or a seed · frames, time: key frames
 */
import { firstLabel, isMoving } from "frugan/latent.js";

const START = {
  a: {seed: 0}, b: {seed: 1}, mixed: [], psi: 0.7, psis: null, edits: {}, locked: [],
  label: null, label2: null, blend: 0, noise: "const", frames: [], time: null, first: 0, distance: 0.4,
};
/** The part of a state that a key frame keeps. */
const FRAME = ["a", "b", "mixed", "psi", "psis", "edits", "label", "label2", "blend"];
const MOST_FRAMES = 50, MOST_STEPS = 200, LARGEST_SEED = 2 ** 32 - 1;
export const PSI = [-1, 1.5];

const number = (value, low, high, otherwise) =>
  typeof value === "number" && Number.isFinite(value) ? Math.min(Math.max(value, low), high) : otherwise;
const seed = (value, otherwise = 0) => Math.floor(number(value, 0, LARGEST_SEED, otherwise));
const list = (value) => (Array.isArray(value) ? value : []);

/** A state from whatever an address or a file says: unknown things are left out, numbers brought into their ranges. */
export function checked(given, facts, codes = new Map()) {
  const from = given && typeof given === "object" ? given : {}, levels = facts.levels.length, first = firstLabel(facts);
  const label = (value) => (first && list(value).length === first.length ? value.map((v, i) => number(v, -1e6, 1e6, first[i])) : first);
  const state = {
    a: point(from.a, START.a, codes),
    b: point(from.b, START.b, codes),
    mixed: [...new Set(list(from.mixed))].filter((l) => Number.isInteger(l) && l >= 0 && l < levels).sort((x, y) => x - y),
    psi: number(from.psi, ...PSI, START.psi),
    psis: list(from.psis).length === levels ? from.psis.map((psi) => number(psi, ...PSI, 1)) : null,
    edits: {},
    locked: facts.directions.map((d) => d.name).filter((name) => list(from.locked).includes(name)),
    label: label(from.label),
    label2: label(from.label2),
    blend: number(from.blend, 0, 1, 0),
    noise: from.noise === "none" ? "none" : typeof from.noise === "number" ? seed(from.noise) : "const",
    frames: [],
    time: null,
    first: seed(from.first),
    distance: number(from.distance, 0.05, 1, START.distance),
  };
  for (const {name} of facts.directions) {
    const strength = from.edits && Object.hasOwn(from.edits, name) ? number(from.edits[name], -100, 100, 0) : 0;
    if (strength) state.edits[name] = strength;
  }
  state.frames = list(from.frames).slice(0, MOST_FRAMES).map((frame) => frameOf(checked({...frame, frames: []}, facts, codes)));
  state.time = from.time === null ? null : number(from.time, 0, Math.max(state.frames.length - 1, 0), null);
  if (!isMoving(state)) state.time = null;
  return state;
}

function point(given, otherwise, codes) {
  if (!given || typeof given !== "object") return otherwise;
  const steps = list(given.steps).filter(Array.isArray).slice(0, MOST_STEPS).map(([n, t]) => [seed(n), number(t, 0, 1, 0)]);
  let found = {seed: seed(given.seed)};
  if (given.pad && list(given.pad.seeds).length === 4) {
    found = {pad: {seeds: given.pad.seeds.map((s) => seed(s)), x: number(given.pad.x, 0, 1, 0.5), y: number(given.pad.y, 0, 1, 0.5)}};
  } else if (typeof given.code === "string" && codes.has(given.code)) {
    found = {code: given.code};
  }
  return steps.length ? {...found, steps} : found;
}

/** What a key frame keeps of a state. */
export const frameOf = (state) => Object.fromEntries(FRAME.map((name) => [name, state[name]]));

/** A state as the fragment of an address: what differs from the start. */
export function toFragment(state, facts) {
  const start = checked({}, facts);
  const changed = Object.entries(state).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(start[name]));
  return changed.length ? `#${encodeURIComponent(JSON.stringify(Object.fromEntries(changed)))}` : "#";
}

export const fromFragment = (fragment, facts, codes) => checked(parsed(fragment), facts, codes);

/** What a fragment says, whatever that is; nothing where it is damaged. */
function parsed(fragment) {
  try {
    return JSON.parse(decodeURIComponent(fragment.replace(/^#/, "")) || "{}") ?? {};
  } catch {
    return {};
  }
}

/** Names of the codes that an address shows and that are not open. */
export function missingCodes(fragment, codes) {
  const {a, b, frames} = parsed(fragment), states = [{a, b}, ...list(frames)];
  const named = states.flatMap((state) => [state?.a?.code, state?.b?.code]);
  return [...new Set(named)].filter((name) => typeof name === "string" && !codes.has(name));
}

/** The state with its history. Listeners hear of each change; `done: false` is a change in the midst of a drag. */
export class Store {
  #past = [];
  #future = [];
  #settled;
  #listeners = [];

  constructor(state) {
    this.state = this.#settled = state;
  }

  listen(listener) {
    this.#listeners.push(listener);
  }

  change(patch, {done = true} = {}) {
    this.state = {...this.state, time: null, ...patch};
    if (done && JSON.stringify(this.state) !== JSON.stringify(this.#settled)) {
      this.#past.push(this.#settled);
      if (this.#past.length > 500) this.#past.shift();
      this.#future = [];
      this.#settled = this.state;
    }
    this.#tell();
  }

  get canUndo() { return this.#past.length > 0; }
  get canRedo() { return this.#future.length > 0; }
  undo() { this.#step(this.#past, this.#future); }
  redo() { this.#step(this.#future, this.#past); }

  #step(from, to) {
    if (!from.length) return;
    to.push(this.#settled);
    this.state = this.#settled = from.pop();
    this.#tell();
  }

  #tell() {
    for (const listener of this.#listeners) listener(this.state);
  }
}
