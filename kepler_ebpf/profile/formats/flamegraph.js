"use strict";
// Draws the tree of frames that stands in the page. Nothing is loaded, and text from outside is
// only ever set as text.

const data = JSON.parse(document.getElementById("data").textContent);
// A row is drawn if a frame of it has ROW_PX; to zoom shows the others.
const ROW = 18, MIN_PX = 0.1, ROW_PX = 1, MIN_LABEL = 4, FUNCTIONS = 40;
const CLASSES = [
  ["user", "user code"], ["kernel", "kernel"], ["jit", "JIT"], ["none", "not named or not sampled"],
];
const COUNT = data.frame.length;
const LEVELS = Math.max(...new Set(data.depth)) + 1;

const byId = (id) => document.getElementById(id);
const canvas = byId("canvas"), cursorBox = byId("cursor"), tooltip = byId("tooltip");
const ink = canvas.getContext("2d");

// Of each node: its caller, the first node that is not below it, and the nodes of each level.
const parent = new Int32Array(COUNT), end = new Int32Array(COUNT).fill(COUNT);
const levels = Array.from({ length: LEVELS }, () => []);
{
  const open = [];
  for (let node = 0; node < COUNT; node++) {
    while (open.length > data.depth[node]) end[open.pop()] = node;
    parent[node] = open.length ? open[open.length - 1] : 0;
    open.push(node);
    levels[data.depth[node]].push(node);
  }
}

const state = { metric: data.metric, zoom: 0, cursor: 0, upward: false, order: "own" };
let values, start, own, rows = LEVELS, matched = null, colours = new Map();

const frameOf = (node) => {
  const [name, module, kind] = data.frames[data.frame[node]];
  return { name, module, kind };
};

// --- figures ------------------------------------------------------------------------------------

function energy(uj) {
  const [scale, unit] = [[1e9, "kJ"], [1e6, "J"], [1e3, "mJ"], [1, "µJ"]].find((u) => uj >= u[0]) ||
    [1, "µJ"];
  const value = uj / scale;
  return `${value.toFixed(Math.max(0, 4 - value.toFixed(0).length))} ${unit}`;
}

function figure(value, metric = state.metric) {
  const unit = data.metrics[metric].unit;
  if (unit === "uj") return energy(value);
  if (unit === "ns") return value < 1e8 ? `${(value / 1e6).toFixed(2)} ms` : `${(value / 1e9).toFixed(3)} s`;
  return value.toLocaleString("en");
}

const percent = (part, whole) => `${(whole ? (100 * part) / whole : 0).toFixed(2)} %`;

// Sums that follow the metric: where each node starts, and what is its own.
function measure() {
  values = data.values[state.metric];
  start = new Float64Array(COUNT);
  own = Float64Array.from(values);
  const next = new Float64Array(LEVELS + 1);
  for (let node = 0; node < COUNT; node++) {
    const depth = data.depth[node];
    start[node] = next[depth];
    next[depth] += values[node];
    next[depth + 1] = start[node];
    if (node) own[parent[node]] -= values[node];
  }
}

// --- drawing ------------------------------------------------------------------------------------

function hash(text) {
  let value = 7;
  for (let i = 0; i < text.length; i++) value = (value * 31 + text.charCodeAt(i)) % 9973;
  return value;
}

// A class has a hue; a file has a shade of it, and a function one of that.
function colour(index) {
  let found = colours.get(index);
  if (!found) {
    const [name, module, kind] = data.frames[index];
    const isMatch = matched && matched[index];
    const base = getComputedStyle(document.documentElement)
      .getPropertyValue(`--${isMatch ? "match" : kind}`);
    let [hue, saturation, light] = base.split(/[\s%]+/).filter(Boolean).map(Number);
    if (kind !== "program" && kind !== "none") {
      hue += (hash(module) % 15) - 7 + (hash(name) % 9) - 4;
      light += (hash(name) % 11) - 5;
    }
    found = `hsl(${hue} ${saturation}% ${light}%)`;
    colours.set(index, found);
  }
  return found;
}

const width = () => canvas.clientWidth;
const rowTop = (depth) => (state.upward ? rows - 1 - depth : depth) * ROW;
const isCaller = (node) => node <= state.zoom && end[node] > state.zoom;

// Left edge and width of a node in pixels; null where it is not in what is shown.
function extent(node) {
  if (isCaller(node)) return [0, width()];
  if (node < state.zoom || node >= end[state.zoom]) return null;
  const scale = width() / (values[state.zoom] || 1);
  return [(start[node] - start[state.zoom]) * scale, values[node] * scale];
}

// Calls *each* with every node that is to be drawn, its left edge and its width.
function forVisible(each) {
  for (let node = 0; node < COUNT; node++) {
    const place = extent(node);
    if (place && place[1] >= MIN_PX) each(node, ...place);
    else if (!isCaller(node)) node = end[node] - 1; // what is below is narrower still, or outside
  }
}

// As much of a name as there is room for; the path of a package is what is missed least.
function fitting(name, room) {
  const short = name.length > room ? name.replace(/^[\w.-]+(\/[\w.-]+)*\//, "") : name;
  return short.length > room ? `${short.slice(0, room - 1)}…` : short;
}

function draw() {
  const ratio = window.devicePixelRatio || 1;
  rows = 1;
  forVisible((node, x, wide) => {
    if (wide >= ROW_PX) rows = Math.max(rows, data.depth[node] + 1);
  });
  canvas.style.height = `${rows * ROW}px`;
  canvas.width = Math.round(width() * ratio);
  canvas.height = rows * ROW * ratio;
  ink.scale(ratio, ratio);
  ink.font = "11.5px ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace";
  ink.textBaseline = "middle";
  const letter = ink.measureText("m").width;
  const styles = getComputedStyle(document.documentElement);
  const text = styles.getPropertyValue("--text"), dim = Number(styles.getPropertyValue("--dim"));
  forVisible((node, x, wide) => {
    const y = rowTop(data.depth[node]), index = data.frame[node];
    ink.globalAlpha = (matched && !matched[index]) || (node < state.zoom) ? dim : 1;
    ink.fillStyle = colour(index);
    ink.fillRect(x, y, Math.max(wide - (wide > 3 ? 1 : 0), 0.3), ROW - 1);
    const room = Math.floor((wide - 8) / letter);
    if (room >= MIN_LABEL) {
      const name = fitting(data.frames[index][0], room);
      ink.globalAlpha = Math.min(1, ink.globalAlpha * 2.4);
      ink.fillStyle = text;
      ink.fillText(name, x + 4, y + ROW / 2, wide - 6);
    }
  });
  ink.globalAlpha = 1;
  placeCursor();
}

function placeCursor() {
  const place = extent(state.cursor);
  cursorBox.hidden = !place || document.activeElement !== canvas && tooltip.hidden;
  if (place) {
    const box = { left: place[0], top: rowTop(data.depth[state.cursor]), width: Math.max(place[1], 2), height: ROW - 1 };
    for (const [side, pixels] of Object.entries(box)) cursorBox.style[side] = `${pixels}px`;
  }
}

function nodeAt(x, y) {
  const row = Math.floor(y / ROW);
  const level = levels[state.upward ? rows - 1 - row : row] || [];
  return level.find((node) => {
    const place = extent(node);
    return place && x >= place[0] && x < place[0] + Math.max(place[1], MIN_PX);
  });
}

// --- text ---------------------------------------------------------------------------------------

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

const CLASS_WORDS = Object.fromEntries(CLASSES);

function describe(node) {
  const { name, module, kind } = frameOf(node);
  return [name, module, CLASS_WORDS[kind], figure(values[node]), percent(values[node], values[0]),
    `level ${data.depth[node]}`].filter(Boolean).join(", ");
}

function setCursor(node) {
  state.cursor = node;
  const current = byId("current");
  current.setAttribute("aria-label", describe(node));
  current.setAttribute("aria-level", data.depth[node] + 1);
  current.setAttribute("aria-expanded", end[node] > node + 1);
  placeCursor();
}

function showTooltip(node, x, y) {
  const { name, module, kind } = frameOf(node);
  const rows = data.metrics.map((metric, index) => {
    const all = data.values[index], row = element("tr", "");
    const watts = metric.unit === "uj" && data.seconds
      ? energy(all[node] / data.seconds).replace("J", "W") : "";
    for (const cell of [metric.name, figure(all[node], index), percent(all[node], all[0]), watts]) {
      row.append(element("td", cell));
    }
    return row;
  });
  const mine = element("tr", "");
  for (const cell of ["own", figure(own[node]), percent(own[node], values[0]), ""]) {
    mine.append(element("td", cell));
  }
  const table = element("table", "");
  table.append(...rows, mine);
  const where = [module, CLASS_WORDS[kind]].filter(Boolean).join(" · ");
  tooltip.replaceChildren(element("b", name), element("i", where), table);
  tooltip.hidden = false;
  const { offsetWidth: wide, offsetHeight: high } = tooltip;
  tooltip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - wide - 8))}px`;
  tooltip.style.top = `${y + 18 + high > innerHeight ? Math.max(4, y - high - 12) : y + 18}px`;
}

function showPath() {
  const path = byId("path"), nodes = [];
  for (let node = state.zoom; node; node = parent[node]) nodes.unshift(node);
  path.replaceChildren();
  if (!nodes.length) return;
  for (const node of [0, ...nodes]) {
    if (node) path.append(element("span", " › "));
    const button = element("button", frameOf(node).name, { type: "button" });
    button.addEventListener("click", () => zoomTo(node));
    path.append(button);
  }
  path.append(element("span", `  ${figure(values[state.zoom])}, ${percent(values[state.zoom], values[0])}`));
}

function showTotals() {
  const metric = data.metrics[state.metric];
  byId("total").textContent = figure(values[0]);
  byId("what").textContent = metric.unit === "uj" ? `${metric.name} energy` : metric.name;
  const sums = {};
  for (let node = 0; node < COUNT; node++) {
    const kind = frameOf(node).kind;
    sums[kind] = (sums[kind] || 0) + own[node];
  }
  byId("legend").replaceChildren(...CLASSES.filter(([kind]) => sums[kind] > 0).map(([kind, words]) => {
    const item = element("li", "");
    item.append(element("i", "", { class: kind }), `${words} ${percent(sums[kind], values[0])}`);
    return item;
  }));
}

// Of each function its own and, once for each stack that it is in, all.
function showFunctions() {
  const sums = new Map(), onStack = new Uint16Array(data.frames.length), open = [];
  for (let node = 0; node < COUNT; node++) {
    while (open.length && end[open[open.length - 1]] <= node) onStack[data.frame[open.pop()]]--;
    const index = data.frame[node];
    const sum = sums.get(index) || { index, own: 0, all: 0 };
    sum.own += own[node];
    if (!onStack[index]) sum.all += values[node];
    sums.set(index, sum);
    onStack[index]++;
    open.push(node);
  }
  const rows = [...sums.values()]
    .filter(({ index }) => data.frames[index][2] !== "program" && (!matched || matched[index]))
    .sort((a, b) => b[state.order] - a[state.order]).slice(0, FUNCTIONS)
    .map((sum) => {
      const [name, module] = data.frames[sum.index];
      const row = element("tr", ""), cell = element("td", "");
      const button = element("button", name, { type: "button", title: "Search for it" });
      button.addEventListener("click", () => search(name));
      cell.append(button);
      row.append(cell, element("td", module.split("/").pop(), { title: module }));
      for (const value of [sum.own, sum.all]) {
        const part = percent(value, values[0]);
        // A line breaks between the two figures, and never before a unit.
        const bar = element("td", [figure(value), part].map((each) => each.replace(" ", "\u00a0")).join(" "));
        bar.style.backgroundSize = `${part.replace(" ", "")} 100%`;
        row.append(bar);
      }
      return row;
    });
  byId("functions").replaceChildren(...rows);
  for (const button of document.querySelectorAll("[data-order]")) {
    button.setAttribute("aria-pressed", button.dataset.order === state.order);
  }
}

function showFound() {
  const found = byId("found");
  found.replaceChildren();
  if (!matched) return;
  let sum = 0, counted = 0; // nodes before this one are in the sum
  const functions = new Set();
  for (let node = 0; node < COUNT; node++) {
    if (!matched[data.frame[node]]) continue;
    functions.add(data.frame[node]);
    if (node >= counted) {
      sum += values[node];
      counted = end[node];
    }
  }
  found.append(element("b", `${figure(sum)}, ${percent(sum, values[0])}`), ` in ${functions.size} matches`);
}

// --- actions ------------------------------------------------------------------------------------

function zoomTo(node) {
  state.zoom = node;
  byId("reset").disabled = node === 0;
  setCursor(node);
  showPath();
  draw();
}

function search(text) {
  byId("search").value = text;
  const wanted = text.toLowerCase();
  matched = wanted ? data.frames.map(([name, module]) => `${name}\n${module}`.toLowerCase().includes(wanted)) : null;
  colours.clear();
  showFound();
  showFunctions();
  draw();
}

function chooseMetric(index) {
  state.metric = index;
  measure();
  for (const button of byId("metrics").children) {
    const isChosen = Number(button.value) === index;
    button.setAttribute("aria-checked", isChosen);
    button.tabIndex = isChosen ? 0 : -1;
  }
  showTotals();
  showFound();
  showFunctions();
  zoomTo(state.zoom);
}

function flip() {
  state.upward = !state.upward;
  draw();
}

// The next node in a direction; callers and called ones change places when the graph is turned.
function moved(key) {
  const node = state.cursor;
  if (key === "Home") return 0;
  if (key === (state.upward ? "ArrowUp" : "ArrowDown")) return end[node] > node + 1 ? node + 1 : node;
  if (key === (state.upward ? "ArrowDown" : "ArrowUp")) return parent[node];
  const level = levels[data.depth[node]];
  const place = level.indexOf(node) + (key === "ArrowRight" ? 1 : -1);
  return level[place] !== undefined && extent(level[place]) ? level[place] : node;
}

canvas.addEventListener("keydown", (event) => {
  if (["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home"].includes(event.key)) {
    setCursor(moved(event.key));
    const box = cursorBox.getBoundingClientRect();
    cursorBox.scrollIntoView({ block: "nearest" });
    showTooltip(state.cursor, Math.max(box.left, 0), box.bottom);
  } else if (event.key === "Enter" || event.key === " ") {
    zoomTo(state.cursor);
  } else {
    return;
  }
  event.preventDefault();
});
canvas.addEventListener("pointermove", (event) => {
  const node = nodeAt(event.offsetX, event.offsetY);
  tooltip.hidden = node === undefined;
  if (node !== undefined) {
    showTooltip(node, event.clientX, event.clientY);
    setCursor(node);
  }
});
canvas.addEventListener("pointerleave", () => { tooltip.hidden = true; placeCursor(); });
canvas.addEventListener("focus", placeCursor);
canvas.addEventListener("blur", () => { tooltip.hidden = true; placeCursor(); });
canvas.addEventListener("click", (event) => {
  const node = nodeAt(event.offsetX, event.offsetY);
  if (node !== undefined) zoomTo(node);
});
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.tagName === "INPUT";
  if (event.key === "Escape") {
    if (isTyping || matched) search("");
    else zoomTo(0);
  } else if (event.key === "/" && !isTyping) {
    byId("search").focus();
    event.preventDefault();
  } else if (event.key === "i" && !isTyping && !event.ctrlKey && !event.metaKey) {
    flip();
  }
});
byId("metrics").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  chooseMetric((state.metric + step + data.metrics.length) % data.metrics.length);
  byId("metrics").children[state.metric].focus();
});
byId("search").addEventListener("input", (event) => search(event.target.value));
byId("flip").addEventListener("click", flip);
byId("reset").addEventListener("click", () => zoomTo(0));
for (const button of document.querySelectorAll("[data-order]")) {
  button.addEventListener("click", () => { state.order = button.dataset.order; showFunctions(); });
}
new ResizeObserver(draw).observe(byId("graph"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colours.clear(); draw(); });

data.metrics.forEach((metric, index) => {
  const button = element("button", metric.name, { type: "button", role: "radio", value: index });
  button.addEventListener("click", () => chooseMetric(index));
  byId("metrics").append(button);
});
if (data.pruned) {
  byId("pruned").textContent = ` Frames too narrow to be drawn: ${data.pruned.toLocaleString("en")}; ` +
    "what they used is in their callers.";
}
chooseMetric(state.metric);
if (rows * ROW < innerHeight * 0.6) flip(); // the flames stand up where all can be seen at once
