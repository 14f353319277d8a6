"use strict";
/** The board: asks the server for all runs every ten seconds and draws them; text is always text, never HTML. */
const COLORS = ["#2f6fde", "#e06c1f", "#1f9d63", "#8a6fd1", "#c2356b", "#7a8b00", "#0093a8", "#8d6e63"];
const FIRST = /^(metric\/|p$|r_t$|r_v$|loss\/)/, EVERY = 10_000;
const $ = (id) => document.getElementById(id);
const hidden = new Set(), charts = new Map();
let told = {runs: [], cards: [], control: false};

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function" || name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
const color = (i) => COLORS[i % COLORS.length];
const size = (bytes) => (bytes > 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`);
const visible = () => told.runs.map((run, i) => ({...run, i})).filter((run) => !hidden.has(run.name));
function swatch(i) {
  const made = element("span", {class: "swatch"});
  made.style.background = color(i);
  return made;
}

async function act(i, what) {
  const answer = await fetch(`runs/${told.runs[i].id}/${what}`, {method: "POST"});
  $("status").textContent = answer.ok && !answer.headers.has("X-Refused") ? `${told.runs[i].name}: asked to ${what}` : await answer.text();
}

function table() {
  $("runs").tBodies[0].replaceChildren(...told.runs.map((run, i) => {
    const show = element("input", {type: "checkbox", checked: !hidden.has(run.name), "aria-label": `Show ${run.name}`, onchange: () => {
      show.checked ? hidden.delete(run.name) : hidden.add(run.name);
      draw();
    }});
    const buttons = !told.control || ["finished", "pending"].includes(run.status) ? [] : run.status === "running"
      ? [element("button", {type: "button", "aria-label": `Stop ${run.name}`, onclick: () => act(i, "stop")}, "Stop")]
      : [element("button", {type: "button", "aria-label": `Resume ${run.name}`, onclick: () => act(i, "resume")}, "Resume")];
    const progress = run.total_kimg ? `${+run.kimg.toFixed(run.kimg < 10 ? 3 : 1)} of ${run.total_kimg}` : `${run.kimg ?? "–"}`;
    return element("tr", {}, element("td", {}, show), element("td", {}, swatch(i), run.name), element("td", {}, run.sentence), element("td", {}, progress), element("td", {}, run.disk === undefined ? "–" : size(run.disk)), element("td", {}, ...buttons));
  }));
  $("warnings").replaceChildren(...visible().flatMap((run) => (run.warnings ?? []).map((text) => element("p", {class: "warning"}, `${run.name}: ${text}`))));
}

/** The newest sample grid of each run that is not later than the slider says. */
function samples() {
  const runs = visible().filter((run) => run.samples?.length), last = Math.max(0, ...runs.flatMap((run) => run.samples.map((s) => s.kimg)));
  const at = (+$("kimg").value / 1000) * last;
  $("at").textContent = at.toFixed(1);
  const figures = runs.map((run) => {
    const shown = run.samples.filter((s) => s.kimg <= at + 1e-9).at(-1) ?? run.samples[0];
    const old = document.querySelector(`#samples img[data-run="${run.i}"]`), src = `runs/${run.id}/${shown.src}`;
    if (old?.getAttribute("src") === src) return old.closest("figure");
    const image = element("img", {src, alt: `Samples of ${run.name}, ${shown.label}`, "data-run": String(run.i)});
    return element("figure", {}, element("figcaption", {}, swatch(run.i), `${run.name}, ${shown.label}`), image);
  });
  $("samples").replaceChildren(...figures); // cells at one place are of one seed in every run
}

/** The range of a vertical axis; what does not change is in its middle. */
const range = (_, low, high) => (low === high ? [low - 0.5, high + 0.5] : uPlot.rangeNum(low, high, 0.1, true));

function curves() {
  const runs = visible(), names = [...new Set(runs.flatMap((run) => Object.keys(run.curves ?? {})))];
  const words = $("search").value.toLowerCase();
  const wanted = names.filter((name) => (words ? name.toLowerCase().includes(words) : FIRST.test(name))).sort((a, b) => !/^metric/.test(a) - !/^metric/.test(b) || a.localeCompare(b));
  for (const [name, {box, chart}] of charts) {
    if (!wanted.includes(name)) {
      chart.destroy();
      box.remove();
      charts.delete(name);
    }
  }
  for (const name of wanted) {
    const having = runs.filter((run) => run.curves?.[name]), data = uPlot.join(having.map((run) => run.curves[name]));
    const key = having.map((run) => run.name).join("\n"), old = charts.get(name);
    if (old?.key === key) {
      old.chart.setData(data);
      $("curves").append(old.box);
      continue;
    }
    old?.chart.destroy();
    old?.box.remove();
    const box = element("figure", {role: "group", "aria-label": `Curves of ${name}`}, element("figcaption", {}, name));
    $("curves").append(box);
    const dim = getComputedStyle($("status")).color, axis = {stroke: dim, grid: {stroke: "#8884", width: 1}, ticks: {show: false}};
    const series = having.map((run) => ({label: run.name, stroke: color(run.i), width: 1.5, spanGaps: true, points: {show: run.curves[name][0].length < 30, size: 5}}));
    const chart = new uPlot({width: box.clientWidth - 22, height: 200, scales: {x: {time: false}, y: {range}}, axes: [axis, {...axis, size: 58}], series: [{label: "kimg"}, ...series], cursor: {sync: {key: "kimg"}}}, data, box);
    charts.set(name, {box, chart, key});
  }
}

function settings() {
  const runs = visible().filter((run) => run.settings), names = [...new Set(runs.flatMap((run) => Object.keys(run.settings)))];
  const differ = names.filter((name) => new Set(runs.map((run) => run.settings[name])).size > 1);
  $("settings").replaceChildren(
    element("thead", {}, element("tr", {}, element("th", {}, "setting"), ...runs.map((run) => element("th", {}, swatch(run.i), run.name)))),
    element("tbody", {}, ...differ.map((name) => element("tr", {}, element("th", {scope: "row"}, name), ...runs.map((run) => element("td", {}, run.settings[name] ?? "–"))))),
  );
}

function cards() {
  $("cards").replaceChildren(...told.cards.map(({rows, differs}) => {
    const names = [...new Set(rows.flatMap((row) => Object.keys(row.values)))];
    const head = element("tr", {}, ...["run", "checkpoint", ...names].map((name) => element("th", {}, name)));
    const body = rows.map((row) => element("tr", {}, element("td", {}, row.run), element("td", {}, row.card), ...names.map((name) => element("td", {}, String(row.values[name] ?? "–")))));
    const note = differs ? [element("p", {class: "warning"}, `Not measured as those above: ${differs}`)] : [];
    return element("div", {}, ...note, element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
  }));
  if (!told.cards.length) $("cards").textContent = "None yet; frugan evaluate makes them.";
}

function draw() {
  for (const part of [table, samples, curves, settings, cards]) part();
}

async function refresh() {
  try {
    const answer = await fetch("runs");
    if (!answer.ok || answer.headers.has("X-Refused")) throw new Error(await answer.text());
    told = await answer.json();
    $("status").textContent = `as of ${new Date().toLocaleTimeString()}`;
    draw();
  } catch (error) {
    $("status").textContent = `The runs cannot be shown: ${error.message}`;
  }
}

$("kimg").addEventListener("input", samples);
$("search").addEventListener("input", curves);
refresh();
setInterval(refresh, EVERY);
