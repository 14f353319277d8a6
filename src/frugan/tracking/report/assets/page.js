"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const short = (v) => (v == null ? "–" : Math.abs(v) >= 1e4 ? v.toLocaleString("en", {maximumFractionDigits: 0}) : String(+v.toPrecision(4)));
const tick = (v) => (v == null ? "" : Math.abs(v) >= 1e-3 && Math.abs(v) < 1e6 || v === 0 ? String(+v.toPrecision(6)) : v.toExponential(0));

// ---- charts ----

/** Rows of uPlot's data, its series and bands: a band becomes two invisible series that enclose it. */
function columns(chart) {
  const rows = [chart.x], series = [{label: chart.x_label, value: (_, v) => short(v)}], bands = [];
  const hidden = (values) => {
    rows.push(values);
    series.push({label: "", stroke: "transparent", width: 0, points: {show: false}, class: "edge"});
    return rows.length - 1;
  };
  for (const s of chart.series) {
    const stroke = color(s.color), histogram = chart.kind === "histogram";
    if (s.low) bands.push({series: [hidden(s.high), hidden(s.low)], fill: stroke + "22"});
    rows.push(s.values);
    series.push({
      label: s.label, stroke, width: 1.5, spanGaps: true, value: (_, v) => short(v),
      points: {show: s.values.length < 30 && !histogram, size: 5},
      ...(histogram && {paths: uPlot.paths.stepped({align: 1}), fill: stroke + "33"}),
    });
  }
  return {rows, series, bands};
}

/** Horizontal lines to compare with, and the mark on the best value. */
function marks(chart) {
  return (u) => {
    const {ctx, bbox} = u, ratio = devicePixelRatio || 1;
    ctx.save();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    [ctx.textAlign, ctx.textBaseline] = ["left", "alphabetic"];
    for (const line of chart.lines) {
      const y = u.valToPos(line.y, "y", true);
      ctx.strokeStyle = ctx.fillStyle = line.label ? color(line.color) : color("dim");
      ctx.globalAlpha = line.label ? 0.8 : 0.4;
      ctx.lineWidth = ratio;
      ctx.setLineDash([5 * ratio, 4 * ratio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      ctx.fillText(line.label, bbox.left + 6 * ratio, y - 4 * ratio);
    }
    if (chart.best) {
      const [x, y] = [u.valToPos(chart.best[0], "x", true), u.valToPos(chart.best[1], "y", true)];
      ctx.globalAlpha = 1;
      ctx.setLineDash([]);
      ctx.lineWidth = 2 * ratio;
      ctx.strokeStyle = color("good");
      ctx.beginPath();
      ctx.arc(x, y, 6 * ratio, 0, 2 * Math.PI);
      ctx.stroke();
    }
    ctx.restore();
  };
}

/** The y range: all that is drawn, the lines to compare with too, and a little air. */
function range(chart) {
  const levels = [...chart.lines.map((l) => l.y), ...(chart.at_least ?? [])];
  return (_, low, high) => {
    if (low == null) return [0, 1];
    [low, high] = [Math.min(low, ...levels), Math.max(high, ...levels)];
    const air = (high - low || Math.abs(high) || 1) * 0.06;
    return [chart.kind === "histogram" ? 0 : low - air, high + air];
  };
}

function plot(chart, box, log) {
  const {rows, series, bands} = columns(chart);
  const axis = {stroke: color("dim"), grid: {stroke: color("grid"), width: 1}, ticks: {show: false}, font: "11px system-ui, sans-serif"};
  return new uPlot({
    width: box.clientWidth, height: 230, series, bands,
    scales: {x: {time: false}, y: log ? {distr: 3} : {range: range(chart)}},
    axes: [
      {...axis, size: 30, values: (_, ticks) => ticks.map(tick)},
      {...axis, size: 58, values: (_, ticks) => ticks.map(tick)},
    ],
    cursor: {focus: {prox: 24}, ...(chart.kind === "curve" && {sync: {key: "kimg"}})},
    legend: {markers: {width: 0, fill: (u, i) => u.series[i].stroke(u, i)}},
    hooks: {
      draw: [marks(chart)],
      // Away from the pointer the legend tells the newest values.
      setCursor: [(u) => { if (u.cursor.idx == null && chart.kind === "curve") u.setLegend({idx: chart.x.length - 1}, false); }],
      ready: [(u) => { if (chart.kind === "curve") u.setLegend({idx: chart.x.length - 1}, false); }],
      init: [(u) => u.root.querySelectorAll(".u-series.edge").forEach((row) => { row.hidden = true; })],
    },
  }, rows, box);
}

function figure(chart) {
  const root = document.createElement("figure"), caption = root.appendChild(document.createElement("figcaption"));
  caption.appendChild(document.createElement("h2")).textContent = chart.title;
  const positive = chart.kind === "curve" && !chart.lines.length
    && chart.series.every((s) => !s.low && s.values.every((v) => v == null || v > 0));
  let log = chart.log && positive, drawn;
  if (positive) {
    const button = caption.appendChild(document.createElement("button"));
    button.textContent = "log";
    button.title = "logarithmic scale";
    button.setAttribute("aria-pressed", log);
    button.onclick = () => { log = !log; button.setAttribute("aria-pressed", log); draw(); };
  }
  if (chart.note) caption.appendChild(document.createElement("p")).textContent = chart.note;
  const box = root.appendChild(document.createElement("div"));
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", `Chart: ${chart.title}. ${chart.note}`);
  const draw = () => { drawn?.destroy(); drawn = plot(chart, box, log); };
  document.getElementById("charts").append(root);
  new ResizeObserver(() => { if (box.clientWidth !== drawn.width) drawn.setSize({width: box.clientWidth, height: 230}); }).observe(box);
  draw();
  return draw;
}

const redraw = data.charts.map(figure);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw.forEach((draw) => draw()));

// ---- images ----

const sample = document.getElementById("sample"), slider = document.getElementById("sample-slider");
const thumbnails = [...document.querySelectorAll(".thumbnails a")];
function show(index) {
  const {src, label} = data.samples[index];
  sample.src = document.getElementById("sample-link").href = src;
  sample.alt = `Images made by the generator, ${label}`;
  document.getElementById("sample-label").textContent = label;
  slider.value = index;
  thumbnails.forEach((a) => a.classList.toggle("shown", +a.dataset.index === index));
}
if (slider) {
  slider.hidden = false;
  slider.addEventListener("input", () => show(+slider.value));
  thumbnails.forEach((a) => a.addEventListener("click", (e) => { e.preventDefault(); show(+a.dataset.index); }));
  show(data.samples.length - 1);
}
// Small images keep their pixels when they are enlarged; large ones are shrunk smoothly.
const sharpen = (img) => img.classList.toggle("enlarged", img.naturalWidth < img.clientWidth);
for (const img of document.querySelectorAll(":is(.images, .nearest) img")) {
  img.addEventListener("load", () => sharpen(img));
  if (img.complete) sharpen(img);
}

// A click enlarges an image by whole factors, pixel for pixel; without this script the link opens the file.
const dialog = document.getElementById("zoom"), large = dialog.appendChild(document.createElement("img")), factor = document.getElementById("factor");
let times = 1;
function zoom(to) {
  times = Math.min(Math.max(to, 1), 16);
  large.style.width = `${large.naturalWidth * times}px`;
  factor.textContent = `${times}×`;
}
for (const link of document.querySelectorAll("figure > a")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const image = link.querySelector("img");
    large.onload = () => zoom(Math.max(1, Math.floor((innerWidth * 0.9) / large.naturalWidth)));
    large.src = image.src;
    large.alt = image.alt;
    dialog.showModal();
  });
}
document.getElementById("zoom-in").onclick = () => zoom(times * 2);
document.getElementById("zoom-out").onclick = () => zoom(Math.floor(times / 2));
document.getElementById("zoom-close").onclick = () => dialog.close();
large.onclick = () => zoom(times < 16 ? times * 2 : 1);

// ---- looking on while it trains ----

// ---- signs of life ----

/** As duration() in tracking/text.py: the two largest units in words. */
function duration(seconds) {
  const units = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
  let left = Math.max(Math.floor(seconds), 0), words = [];
  for (const [size, name] of units) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count && words.length < 2) words.push(`${count} ${name}${count === 1 ? "" : "s"}`);
    else if (words.length) break;
  }
  return words.join(" ") || "0 seconds";
}

/** A run writes one a minute, and the slowest step is some minutes: longer silence is said, and is not called running. */
const life = document.getElementById("life"), SILENCE = 15 * 60;
function look() {
  const age = (Date.now() - Date.parse(life.dateTime)) / 1000, status = document.querySelector(".status");
  life.title = life.dateTime;
  life.textContent = `${duration(age)} ago`;
  if (age < SILENCE) return;
  const line = life.parentElement;
  line.textContent = `no sign of life for ${duration(age)}: if it was killed, frugan resume continues it`;
  line.classList.add("lost");
  status.textContent = "no sign of life";
  status.className = "status failed";
  clearInterval(looking);
}
const looking = life && setInterval(look, 10_000);
if (life) look();

const reload = document.getElementById("reload");
if (document.querySelector(".status.running")) {
  reload.parentElement.hidden = false;
  reload.checked = location.hash === "#live";
  reload.onchange = () => { location.hash = reload.checked ? "live" : ""; };
  setInterval(() => { if (reload.checked) location.reload(); }, 60_000);
}
