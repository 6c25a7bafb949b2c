// Drawing: stacked areas over time with a cursor, and lines of the size of a word.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 58;
const BOTTOM = 20;
const TOP = 8;
const GAP_S = 60;
// What is smaller is what arithmetic with rounded numbers leaves of 0.
const MAX_ROUNDING = 1e-9;

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// To make a format takes long, and to use it does not.
const FULL = new Intl.DateTimeFormat([], { timeStyle: "medium" });
const DATED = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "short" });
const SHORT = new Intl.DateTimeFormat([], { timeStyle: "short" });

export const clock = (at) => FULL.format(1000 * at);
export const date = (at) => DATED.format(1000 * at);

export function watts(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size > MAX_ROUNDING && size < 0.0005) return "<0.001";
  // As many digits as the rounded value needs: 0.9999 is 1.00, not 1.000.
  const rounded = +size.toPrecision(3);
  const digits = rounded >= 100 ? 0 : rounded >= 10 ? 1 : rounded >= 1 ? 2 : 3;
  return (size > MAX_ROUNDING ? value : 0).toFixed(digits);
}

/** Runs of indexes without an unknown value and without a gap in time. */
function runs(times, values) {
  const found = [];
  let run = [];
  for (let index = 0; index < times.length; index++) {
    const isGap = index && times[index] - times[index - 1] > GAP_S;
    const isKnown = (values[index] ?? null) !== null;
    if (!isKnown || isGap) {
      if (run.length) found.push(run);
      run = [];
    }
    if (isKnown) run.push(index);
  }
  if (run.length) found.push(run);
  return found;
}

// Whole numbers make short text, quickly.
const line = (points) => points.map(([x, y]) => `${Math.round(x)} ${Math.round(y)}`).join("L");

function area(times, lower, upper, x, y) {
  return runs(times, upper)
    .map((run) => {
      const top = run.map((index) => [x(times[index]), y(upper[index])]);
      const base = run.map((index) => [x(times[index]), y(lower[index] ?? 0)]).reverse();
      return `M${line([...top, ...base])}Z`;
    })
    .join("");
}

/** A step of 1, 2 or 5 that divides `most` into four at most. */
function step(most) {
  const power = 10 ** Math.floor(Math.log10(most / 4 || 1));
  return power * ([1, 2, 5, 10].find((each) => each * power >= most / 4) ?? 10);
}

/** Draw the newest minutes of `values`: five of them, or as many as there are. */
export function spark(element, times, values, now) {
  const width = 1440;
  const height = 260;
  const seconds = Math.min(300, Math.max(30, now - times[0]));
  const first = Math.max(0, times.findIndex((at) => at >= now - seconds));
  const shown = times.slice(first);
  const known = (values ?? []).slice(first).map((each) => each ?? null);
  const most = Math.max(1e-9, ...known);
  const x = (at) => width - ((now - at) / seconds) * width;
  const y = (value) => height - 10 - (value / most) * (height - 30);
  const edges = runs(shown, known).map(
    (run) => `M${line(run.map((index) => [x(shown[index]), y(known[index])]))}`,
  );
  const [fill, edge] = element.children;
  fill.setAttribute("d", area(shown, known.map(() => 0), known, x, y));
  edge.setAttribute("d", edges.join(""));
}

export function sparkline() {
  const paths = [svg("path", { class: "area" }), svg("path", { class: "edge" })];
  const attributes = { class: "spark", viewBox: "0 0 1440 260", preserveAspectRatio: "none" };
  return svg("svg", { ...attributes, "aria-hidden": "true" }, ...paths);
}

/** Stacked areas in `host`. The cursor follows the pointer, or arrow keys where it has the focus. */
export class Chart {
  constructor(host, label) {
    this.host = host;
    this.data = { times: [], layers: [] };
    this.at = null;
    this.root = svg("svg", {
      role: "slider", tabindex: "0", "aria-label": label, "aria-valuemin": "0",
    });
    this.grid = svg("g");
    this.shapes = svg("g");
    this.cursor = svg("line", { class: "cursor", visibility: "hidden" });
    this.root.append(this.grid, this.shapes, this.cursor);
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.hidden = true;
    host.append(this.root, this.tip);
    this.root.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.root.addEventListener("pointerleave", () => this.#show(null));
    this.root.addEventListener("blur", () => this.#show(null));
    this.root.addEventListener("keydown", (event) => this.#press(event));
    this.width = this.height = 0;
    // To look for the size while drawing would make the browser lay out the page each time.
    new ResizeObserver(([{ contentRect }]) => {
      [this.width, this.height] = [contentRect.width, contentRect.height];
      this.draw();
    }).observe(host);
  }

  set(times, layers) {
    this.data = { times, layers };
    this.draw();
  }

  draw() {
    const { times, layers } = this.data;
    const { width, height } = this;
    if (!width || !times.length) {
      this.shapes.replaceChildren();
      this.grid.replaceChildren();
      this.#show(null);
      return;
    }
    this.root.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const [wide, high] = [(at) => 10 * x(at), (value) => 10 * y(value)];
    const sums = times.map((_, index) => {
      const values = layers.map((layer) => layer.values[index] ?? null);
      return values.includes(null) ? null : values.reduce((sum, each) => sum + each, 0);
    });
    const most = 1.05 * Math.max(0.001, ...sums);
    const first = Math.min(times[0], times.at(-1) - 60);
    const seconds = times.at(-1) - first;
    const x = (at) => LEFT + ((at - first) / seconds) * (width - LEFT - 2);
    const y = (value) => TOP + (1 - value / most) * (height - BOTTOM - TOP);
    this.x = x;
    this.#axes(width, height, most, first, seconds, x, y);
    let lower = times.map(() => 0);
    const shapes = layers.map((layer) => {
      const upper = sums.map((sum, index) =>
        sum === null ? null : lower[index] + layer.values[index],
      );
      const d = area(times, lower, upper, wide, high);
      const shape = svg("path", { class: `area ${layer.name}`, d, transform: "scale(0.1)" });
      lower = upper.map((each) => each ?? 0);
      return shape;
    });
    this.shapes.replaceChildren(...shapes);
    this.root.setAttribute("aria-valuemax", times.length - 1);
    if (this.at === null) this.#describe(times.length - 1);
    else this.#show(this.at);
  }

  #axes(width, height, most, first, seconds, x, y) {
    const parts = [];
    const by = step(most);
    for (let value = 0; value <= most; value += by) {
      const [x1, x2, at] = [LEFT, width, y(value)];
      parts.push(svg("line", { class: "grid", x1, x2, y1: at, y2: at }));
      const text = `${+value.toPrecision(3)} W`;
      parts.push(svg("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, text));
    }
    const most_labels = Math.max(2, Math.floor(width / 110));
    const every = [15, 30, 60, 120, 300, 600, 1800, 3600].find((each) => seconds / each <= most_labels);
    for (let at = Math.ceil(first / every) * every; at <= first + seconds; at += every || seconds) {
      if (x(at) > width - 30 || x(at) < LEFT + 20) continue;
      const label = (every < 60 ? FULL : SHORT).format(1000 * at);
      parts.push(svg("text", { x: x(at), y: height - 5, "text-anchor": "middle" }, label));
    }
    this.grid.replaceChildren(...parts);
  }

  #point(offset) {
    const { times } = this.data;
    if (!times.length) return;
    let nearest = 0;
    times.forEach((at, index) => {
      if (Math.abs(this.x(at) - offset) < Math.abs(this.x(times[nearest]) - offset)) nearest = index;
    });
    this.#show(times[nearest]);
  }

  #press(event) {
    const { times } = this.data;
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -1e9, End: 1e9 }[event.key];
    if (!by || !times.length) return;
    event.preventDefault();
    const now = this.at === null ? times.length - 1 : this.#index();
    this.#show(times[Math.min(Math.max(now + by, 0), times.length - 1)]);
  }

  #index() {
    const found = this.data.times.findIndex((at) => at >= this.at);
    return found < 0 ? this.data.times.length - 1 : found;
  }

  #show(at) {
    this.at = at;
    this.tip.hidden = at === null;
    this.cursor.setAttribute("visibility", at === null ? "hidden" : "visible");
    if (at === null || !this.data.times.length) return;
    const index = this.#index();
    const x = this.x(this.data.times[index]);
    const { width, height } = this;
    for (const [name, value] of [["x1", x], ["x2", x], ["y1", TOP], ["y2", height - BOTTOM]]) {
      this.cursor.setAttribute(name, value);
    }
    this.tip.textContent = this.#describe(index).replaceAll(", ", "\n");
    const isRight = x > width / 2;
    this.tip.style.left = isRight ? "auto" : `${x + 8}px`;
    this.tip.style.right = isRight ? `${width - x + 8}px` : "auto";
  }

  #describe(index) {
    const { times, layers } = this.data;
    const values = layers.map((layer) => layer.values[index] ?? null);
    const parts = layers.map((layer, each) => `${layer.name} ${watts(values[each])} W`);
    if (layers.length > 1) {
      const sum = values.includes(null) ? null : values.reduce((all, each) => all + each, 0);
      parts.push(`together ${watts(sum)} W`);
    }
    const text = [clock(times[index]), ...parts.reverse()].join(", ");
    this.root.setAttribute("aria-valuenow", index);
    this.root.setAttribute("aria-valuetext", text);
    return text;
  }
}
