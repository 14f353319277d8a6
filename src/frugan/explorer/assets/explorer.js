/** The explorer: the large image, the panels, and what connects them to the engines. */
import { draw, button, element } from "frugan/dom.js";
import { Latents } from "frugan/latent.js";
import { Scheduler } from "frugan/scheduler.js";
import { Store, fromFragment, missingCodes, toFragment } from "frugan/state.js";
import { breedPanel } from "frugan/panel-breed.js";
import { copiesPanel } from "frugan/panel-copies.js";
import { directionsPanel } from "frugan/panel-directions.js";
import { dragPanel } from "frugan/panel-drag.js";
import { framesPanel } from "frugan/panel-frames.js";
import { labelsPanel } from "frugan/panel-labels.js";
import { mixingPanel } from "frugan/panel-mixing.js";
import { padPanel } from "frugan/panel-pad.js";
import { projectPanel } from "frugan/panel-project.js";
import { savePanel } from "frugan/panel-save.js";
import { seedsPanel } from "frugan/panel-seeds.js";
import { truncationPanel } from "frugan/panel-truncation.js";
import { wordsPanel } from "frugan/panel-words.js";
import { describe } from "frugan/words.js";

const PANELS = [seedsPanel, truncationPanel, directionsPanel, labelsPanel, mixingPanel, padPanel, breedPanel, framesPanel, wordsPanel, projectPanel, dragPanel, copiesPanel, savePanel];
const CHUNK = 8, PATIENCE = 250, THUMBNAIL = 128;  // small images at once; milliseconds that a slider may wait for them

/** What the panels see. */
class App {
  constructor(engines) {
    this.codes = new Map();
    this.engines = engines;
    this.facts = engines[0].facts;
    this.chunk = 1;
    this.latents = engines.map((engine) => new Latents(engine, this.codes));
    this.store = new Store(fromFragment(location.hash, this.facts, this.codes));
    this.scheduler = new Scheduler([...engines.map((_, network) => `image${network}`), "result", "children", "frames", "mixing", "pad", "grid", "words"], {
      failed: (error) => this.say(error.status === 409 || error.status === 503 ? "" : `Failed: ${error.message}`),
      idle: (is) => document.body.setAttribute("aria-busy", String(!is)),
    });
  }

  get state() { return this.store.state; }

  /** Tells what happened, to screen readers too; without a text what holds of the network anyway. */
  say(text) {
    const status = document.getElementById("status"), said = text || this.facts.warnings.join(" ");
    if (status.textContent !== said) status.textContent = said;
  }

  /** The address that restores the current state. */
  get link() { return location.href.replace(/#.*|$/, toFragment(this.state, this.facts)); }

  /** Keeps latents {ws, offset} under a name that no others have, so that earlier states keep theirs; returns the name. */
  addCode(name, code) {
    let free = name;
    for (let count = 2; this.codes.has(free); count++) free = `${name} (${count})`;
    this.codes.set(free, code);
    return free;
  }

  /** Takes up one more direction of the first network. */
  addDirection(direction) {
    this.facts.directions.push(direction);
    this.latents[0].add(direction);
  }

  /** Images of states, at once. */
  async render(states, options = {}, network = 0) {
    return this.engines[network].render({...(await this.latents[network].resolve(states)), ...options});
  }

  /** Draws small images of states into canvases, as many at a time as are made soon, where the lane is asked for nothing newer. */
  thumbnails(lane, items) {
    const some = items.slice(0, this.chunk), rest = items.slice(some.length);
    this.scheduler.request(lane, async () => {
      const began = performance.now(), made = await this.render(some.map(({state}) => state), {lane, side: THUMBNAIL});
      this.chunk = Math.max(1, Math.min(CHUNK, Math.floor(PATIENCE * some.length / (performance.now() - began))));
      some.forEach(({canvas}, i) => draw(canvas, made, i));
      if (rest.length) this.thumbnails(lane, rest);
    });
  }

  /** An image of the state in full, as floats. */
  still(state = this.state) {
    return this.scheduler.result("result", () => this.render([state], {floats: true, lane: "result"}));
  }
}

/** The large images, one for each network, on the same latents. */
function stage(app) {
  const canvases = app.engines.map(({facts}) => {
    const canvas = element("canvas", {role: "img", class: "image", "aria-label": "not made yet"});
    canvas.style.setProperty("--ratio", String(facts.resolution[1] / facts.resolution[0]));
    const caption = app.engines.length > 1 ? element("figcaption", {}, facts.name) : null;
    document.getElementById("stage").append(element("figure", {}, canvas, caption));
    new ResizeObserver(() => canvas.classList.toggle("enlarged", canvas.width < canvas.clientWidth)).observe(canvas);
    return canvas;
  });
  const description = element("p", {class: "description"});
  document.getElementById("stage").append(description);
  return (state) => {
    const words = describe(state, app.facts);
    canvases.forEach((canvas, network) => {
      app.scheduler.request(`image${network}`, async () => {
        draw(canvas, await app.render([state], {}, network));
        canvas.classList.toggle("enlarged", canvas.width < canvas.clientWidth);
        canvas.setAttribute("aria-label", words);
        description.textContent = words;
      });
    });
  };
}

function history(app) {
  const {store} = app, bar = document.getElementById("history");
  const undo = button("Undo", () => store.undo(), {"aria-keyshortcuts": "Control+Z"});
  const redo = button("Redo", () => store.redo(), {"aria-keyshortcuts": "Control+Shift+Z"});
  const link = button("Copy link", async () => {
    try {
      await navigator.clipboard.writeText(app.link);
      app.say("The link to this image is in the clipboard.");
    } catch {
      app.say("The address of this page is the link; copy it from the address bar.");
    }
  });
  bar.append(undo, redo, link);
  addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input[type=number], input[type=search], input[type=text]");
    if (typing || !(event.ctrlKey || event.metaKey)) return;
    const key = event.key.toLowerCase(), again = key === "y" || (key === "z" && event.shiftKey);
    if (!again && key !== "z") return;
    event.preventDefault();
    again ? store.redo() : store.undo();
  });
  return () => {
    undo.disabled = !store.canUndo;
    redo.disabled = !store.canRedo;
  };
}

function panels(app) {
  const made = PANELS.map((panel) => panel(app)).filter((panel) => panel !== null).map(({title, body, update, open}) => {
    const box = element("details", {open: open ?? false}, element("summary", {}, element("h2", {}, title)), ...body);
    const refresh = () => { if (box.open) update(app.state); };
    box.addEventListener("toggle", refresh);
    document.getElementById("panels").append(box);
    return refresh;
  });
  return () => made.forEach((refresh) => refresh());
}

/** What the page does in cases that no control thinks of: a promise that nobody waits for fails, a file is dropped beside its place. */
function catchAll(app) {
  addEventListener("unhandledrejection", (event) => {
    app.say(`Failed: ${event.reason?.message ?? event.reason}`);
    event.preventDefault();
  });
  for (const kind of ["dragover", "drop"]) {
    addEventListener(kind, (event) => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); }); // else the browser leaves the page for the file
  }
  addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    if (file) app.drop(file);
  });
}

/** Opens the page over engines (a promise of them): the first is edited, the others show the same latents. */
export async function start(opening) {
  try {
    const app = new App(await opening), {facts, store} = app;
    document.getElementById("title").textContent = app.engines.map((engine) => engine.facts.name).join(" · ");
    document.title = `${facts.name} · frugan explorer`;
    const parts = [stage(app), history(app), panels(app)];
    let saving = 0;
    const refresh = (state) => {
      parts.forEach((part) => part(state));
      clearTimeout(saving);
      saving = setTimeout(() => window.history.replaceState(null, "", toFragment(state, facts)), 150);
    };
    store.listen((state) => {
      app.say("");
      refresh(state);
    });
    const missing = () => {
      const names = missingCodes(location.hash, app.codes);
      return names.length ? `The link shows the code ${names.join(", ")}, which is not part of it: open its file under “Save and open”.` : "";
    };
    addEventListener("hashchange", () => {
      const lost = missing();
      store.change(fromFragment(location.hash, facts, app.codes));
      app.say(lost);
    });
    catchAll(app);
    const lost = missing();
    refresh(app.state);
    await Promise.all(app.engines.map((engine) => engine.ready));
    app.say([lost, ...facts.warnings].filter(Boolean).join(" "));
  } catch (error) {
    document.getElementById("status").textContent = `The network could not be opened: ${error.message}`;
    throw error;
  }
}
