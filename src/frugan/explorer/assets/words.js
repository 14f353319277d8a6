/** A state in words, for captions, screen readers and files. */
import { isMoving } from "frugan/latent.js";

const signed = (x) => (x > 0 ? "+" : "−") + Math.abs(+x.toFixed(2));

function pointName(point) {
  const from = point.pad ? `between seeds ${point.pad.seeds.join(", ")}` : point.code ? `code ${point.code}` : `seed ${point.seed}`;
  return point.steps?.length ? `${from}, bred ${point.steps.length}×` : from;
}

/** Labels in words: "cat", "kind cat, year 1995". */
export function labelName(label, facts) {
  return facts.labels.map((part) => {
    const values = label.slice(...part.columns);
    const value = part.range || part.flag ? +values[0].toFixed(2) : part.classes[values.indexOf(Math.max(...values))];
    return part.name ? `${part.name} ${value}` : value;
  }).join(", ");
}

export function describe(state, facts) {
  if (isMoving(state)) return `key frames, at ${+state.time.toFixed(2)}`;
  const parts = [pointName(state.a)];
  if (state.mixed.length) parts.push(`levels ${state.mixed.map((l) => facts.levels[l]).join(", ")} of ${pointName(state.b)}`);
  if (state.label) parts.push(labelName(state.label, facts) + (state.blend ? ` with ${Math.round(100 * state.blend)} % ${labelName(state.label2, facts)}` : ""));
  parts.push(state.psis ? `truncation ${state.psis.map((psi) => +psi.toFixed(2)).join(" ")}` : `truncation ${+state.psi.toFixed(2)}`);
  for (const [name, strength] of Object.entries(state.edits)) parts.push(`${name} ${signed(strength)}`);
  if (state.noise !== "const") parts.push(state.noise === "none" ? "no noise" : `noise ${state.noise}`);
  return parts.join(" · ");
}
