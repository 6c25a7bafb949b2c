// The page: what is shown of the figures, and what keys and clicks do.
// Names come from strangers: they are set as text, never as HTML.

import { Chart, clock, date, spark, sparkline, watts } from "./chart.js";
import { Feed, MAX_POINTS, Minutes, Sparks, history } from "./data.js";

const LEVELS = {
  process: ["Processes", (row) => [row.comm, row.pid || "several"]],
  container: ["Containers", (row) => [row.container_name || row.container_id.slice(0, 12), row.runtime]],
  pod: ["Pods", (row) => [row.pod_name || row.pod_id, row.pod_namespace]],
  vm: ["VMs", (row) => [row.vm_name || row.vm_id, row.hypervisor]],
  unit: ["Units", (row) => [row.unit, row.kind]],
};
const SORTS = ["watts", "joules", "cpu", "name"];
const FIGURES = new Set(["key", "start_ns", "state", "watts", "joules", "cpu_seconds"]);
const PARENTS = { container_id: "container", pod_id: "pod", vm_id: "vm" };
const ORDERS = { watts: "power", joules: "energy", cpu: "CPU", name: "name" };
const ESTIMATES = {
  estimate: "No energy counter works here: the watts are a model of CPU time. Compare workloads with each other.",
  fake: "The meter “fake” makes its watts up, to try this program out.",
};
const FIRST_ROWS = 20;
const SUMMARY_MS = 15000;

const $ = (id) => document.getElementById(id);
const minutes = new Minutes();
const sparks = new Sparks();
const nodeChart = new Chart($("node-chart"), "Power of the node over the last minutes");
const detailChart = new Chart($("detail-chart"), "Power of the workload over the last minutes");
const feed = new Feed(take, setState);
const rows = new Map();
const zoneButtons = new Map();
const tabs = new Map();

let route = { level: "process", key: "", sort: "watts", filter: "", zone: "" };
let top = FIRST_ROWS;
let shown = null;
let isPaused = false;
let detail = { times: [], values: [] };
let receivedAt = performance.now();
let summaryAt = -SUMMARY_MS;
let loads = 0;
let returning = "";

function say(id, value) {
  const element = $(id);
  if (element.textContent !== value) element.textContent = value;
}

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function percent(part, whole) {
  if (part === null || !whole) return "–";
  const share = (100 * part) / whole;
  return `${share > 1e-9 && share < 0.05 ? "<0.1" : share.toFixed(share < 9.95 ? 1 : 0)} %`;
}

function energy(joules) {
  if (joules === undefined) return "–";
  if (joules >= 3.6e5) return `${(joules / 3.6e6).toFixed(3)} kWh`;
  return joules >= 1e4 ? `${(joules / 1e3).toFixed(1)} kJ` : `${watts(joules)} J`;
}

const seconds = (value) => (value >= 60 ? `${(value / 60).toFixed(0)} min` : `${+value.toFixed(3)} s`);

// --- where we are -------------------------------------------------------------------------------

function readHash() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const slash = path.indexOf("/");
  const level = slash < 0 ? path : path.slice(0, slash);
  const given = new URLSearchParams(query);
  let key = "";
  try {
    key = slash < 0 ? "" : decodeURIComponent(path.slice(slash + 1));
  } catch {
    // Not one of ours: the list is shown.
  }
  return {
    level: level in LEVELS ? level : "process",
    key,
    sort: SORTS.includes(given.get("sort")) ? given.get("sort") : "watts",
    filter: (given.get("q") ?? "").slice(0, 100),
    zone: given.get("zone") ?? "",
  };
}

function address(changes) {
  const { level, key, sort, filter, zone } = { ...route, ...changes };
  const query = new URLSearchParams();
  if (sort !== "watts") query.set("sort", sort);
  if (filter) query.set("q", filter);
  if (zone) query.set("zone", zone);
  return `#/${level}${key ? `/${encodeURIComponent(key)}` : ""}${query.size ? `?${query}` : ""}`;
}

const go = (changes) => (location.hash = address(changes));

function follow() {
  const before = route;
  route = readHash();
  const isSame = before.level === route.level && before.zone === route.zone;
  if (before.level !== route.level || before.key !== route.key) top = FIRST_ROWS;
  if (!isSame || before.key !== route.key) sparks.clear();
  $("overview").hidden = $("list").hidden = Boolean(route.key);
  $("detail").hidden = !route.key;
  if ($("search").value !== route.filter) $("search").value = route.filter;
  if (route.key !== before.key) {
    detail = { times: [], values: [] };
    detailChart.set([], []);
    if (route.key) {
      say("detail-title", route.key);
      $("labels").replaceChildren();
      $("detail-title").focus();
    } else if (before.key) {
      returning = before.key;
    }
  }
  if (isPaused) setPaused(false);
  else load();
}

// --- figures ------------------------------------------------------------------------------------

async function load() {
  const number = ++loads;
  const query = new URLSearchParams({ level: route.level });
  if (route.zone) query.set("zone", route.zone);
  if (route.key) query.set("key", route.key);
  else query.set("sort", route.sort);
  const past = new URLSearchParams(query);
  past.delete("sort");
  if (!route.key) {
    query.set("top", top);
    if (route.filter) query.set("filter", route.filter);
  }
  feed.open(query);
  const found = await history(past);
  if (!found || number !== loads) return;
  minutes.load(found);
  sparks.load(found);
  if (route.key) {
    const [one] = found.workloads;
    detail = { times: [...found.points.at_s], values: one ? [...one.watts] : [] };
    if (!one) detail.times = [];
  }
  // What came meanwhile is newer than the history.
  if (!shown?.levels[route.level]) return;
  if (shown.at_s > (minutes.times.at(-1) ?? 0)) remember(shown);
  render();
}

function take(snapshot) {
  receivedAt = performance.now();
  document.body.classList.remove("old");
  const isRestarted = shown && shown.run !== snapshot.run;
  const isNew = !shown || isRestarted || snapshot.at_s !== shown.at_s;
  shown = snapshot;
  if (isRestarted) restarted(snapshot);
  const [level] = Object.keys(snapshot.running);
  if (!snapshot.levels[route.level]) {
    // This kind is not measured here.
    if (level) go({ level, key: "" });
    return;
  }
  if (isNew) remember(snapshot);
  render();
}

function remember(snapshot) {
  // The history may have it already; it has times to the millisecond.
  if (Math.abs(snapshot.at_s - (minutes.times.at(-1) ?? 0)) < 0.01) return;
  const level = snapshot.levels[route.level];
  minutes.add(snapshot);
  sparks.add(snapshot.at_s, level.rows, kindOf(snapshot), !level.other_rows && !route.filter);
  if (!route.key) return;
  const [row] = level.rows;
  detail.times.push(snapshot.at_s);
  detail.values.push(row ? (row.watts[kindOf(snapshot)] ?? null) : null);
  if (detail.times.length > MAX_POINTS) {
    detail.times.shift();
    detail.values.shift();
  }
}

function restarted(snapshot) {
  notice(`kepler-ebpf has started again at ${clock(snapshot.since_s)}: totals begin at 0.`);
  setTimeout(() => notice(""), 20000);
  load();
}

const kindOf = (snapshot) => snapshot.levels[route.level].zone.kind;

function notice(text) {
  $("notice").hidden = !text;
  say("notice", text);
}

function setState(text) {
  if (isPaused) return;
  say("state", text);
  $("state").className = text === "live" || text === "polling" ? "live" : "stale";
}

function setPaused(paused) {
  isPaused = paused;
  $("pause").setAttribute("aria-pressed", paused);
  say("pause", paused ? "Go on" : "Pause");
  if (paused) {
    feed.close();
    say("state", shown ? `paused at ${clock(shown.at_s)}` : "paused");
    $("state").className = "";
  } else {
    receivedAt = performance.now();
    say("state", "connecting");
    load();
  }
}

function watchAge() {
  const age = (performance.now() - receivedAt) / 1000;
  if (isPaused || document.hidden || age < Math.max(5, 3 * feed.interval)) return;
  if (shown) {
    document.body.classList.add("old");
    setState(`stale: no figures for ${seconds(Math.round(age))}`);
  }
}

// --- what is shown ------------------------------------------------------------------------------

function render() {
  const level = shown.levels[route.level];
  const kind = level.zone.kind;
  const node = sums(kind);
  say("node", shown.node);
  document.title = `${watts(node.watts)} W · ${shown.node || "kepler-ebpf"}`;
  for (const tag of document.querySelectorAll("[data-estimate]")) tag.hidden = !shown.estimate;
  $("estimate").hidden = !shown.estimate;
  say("estimate-why", ESTIMATES[shown.meter] ?? ESTIMATES.estimate);
  renderTabs();
  if (route.key) renderDetail(level, kind, node);
  else {
    renderZones(kind);
    renderNode(kind, node);
    renderFacts(kind, node);
    renderRows(level, kind, node);
    renderRest(level);
  }
  summarize(level, kind, node);
}

function sums(kind) {
  const found = { watts: 0, active: 0, idle: 0, unattributed: 0 };
  for (const zone of shown.zones) {
    if (zone.zone !== kind) continue;
    for (const part of Object.keys(found)) {
      const value = part === "watts" ? zone.watts : zone[`${part}_watts`];
      found[part] = value === null || found[part] === null ? null : found[part] + value;
    }
  }
  return found;
}

function renderZones(kind) {
  const kinds = [...new Set(shown.zones.map((zone) => zone.zone))];
  for (const each of kinds) {
    if (!zoneButtons.has(each)) {
      const [name, value, line] = [make("b", { textContent: each }), make("span"), sparkline()];
      const button = make("button", { type: "button" }, name, value, line);
      button.addEventListener("click", () => go({ zone: each }));
      zoneButtons.set(each, { button, value, line });
      $("zones").append(button);
    }
    const { button, value, line } = zoneButtons.get(each);
    button.setAttribute("aria-pressed", each === kind);
    value.textContent = `${watts(sums(each).watts)} W`;
    const lists = minutes.kinds[each];
    const all = lists?.active.map((active, index) =>
      active === null || lists.idle[index] === null ? null : active + lists.idle[index],
    );
    spark(line, minutes.times, all, shown.at_s);
  }
}

function renderNode(kind, node) {
  say("watts", watts(node.watts));
  say("active", watts(node.active));
  say("idle", watts(node.idle));
  say("busy", percent(shown.usage_ratio, 1));
  const lists = minutes.kinds[kind] ?? { active: [], idle: [] };
  nodeChart.set(minutes.times, [
    { name: "idle", values: lists.idle },
    { name: "active", values: lists.active },
  ]);
}

function renderFacts(kind, node) {
  const own = minutes.own(kind);
  const elapsed = Math.max(1, shown.at_s - shown.since_s);
  say("own", watts(own));
  const ownCpu = ((100 * shown.own.cpu_seconds) / elapsed).toFixed(2);
  say("own-more", `${percent(own, node.watts)} of the node; ${energy(shown.own.joules[kind])} and ${ownCpu} % of a CPU since start`);
  say("unattributed", watts(node.unattributed));
  say("unattributed-more", `${percent(node.unattributed, node.active)} of what is active`);
  const { lost } = shown;
  say("lost", seconds(lost.cpu_seconds));
  say("lost-more", `${lost.events} events, ${lost.meter_errors} faults of the meter, ${lost.failed_intervals} failed intervals`);
  const isBad = lost.events + lost.meter_errors + lost.failed_intervals > 0 || lost.cpu_seconds > elapsed / 1000;
  $("lost").parentElement.parentElement.classList.toggle("warn", isBad);
  say("interval", `${watts(shown.interval_s)} s`);
  say("interval-more", `ended ${clock(shown.at_s)}; meter ${shown.meter}, since ${date(shown.since_s)}`);
}

function renderTabs() {
  for (const [level, [title]] of Object.entries(LEVELS)) {
    if (!(level in shown.running)) {
      tabs.get(level)?.tab.remove();
      tabs.delete(level);
      continue;
    }
    if (!tabs.has(level)) {
      const count = make("span");
      const tab = make("button", { type: "button", id: `tab-${level}` }, title, " ", count);
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", "panel");
      tab.addEventListener("click", () => go({ level, key: "" }));
      tabs.set(level, { tab, count });
      $("tabs").append(tab);
    }
    const { tab, count } = tabs.get(level);
    const isChosen = level === route.level;
    tab.setAttribute("aria-selected", isChosen);
    tab.tabIndex = isChosen ? 0 : -1;
    count.textContent = shown.running[level];
  }
  $("panel").setAttribute("aria-labelledby", `tab-${route.level}`);
}

function rowOf(key) {
  const found = rows.get(key);
  if (found) return found;
  const [link, more, line] = [make("a"), make("small"), sparkline()];
  const cells = {};
  for (const name of ["watts", "share", "joules", "cpu"]) {
    cells[name] = make("td", { className: name === "watts" ? "number" : "number wide" });
  }
  const trend = make("td", { className: "trend" }, line);
  const name = make("td", {}, link, " ", more);
  const element = make("tr", {}, name, cells.watts, trend, cells.share, cells.joules, cells.cpu);
  const row = { element, link, more, line, cells };
  rows.set(key, row);
  return row;
}

function renderRows(level, kind, node) {
  const body = $("rows");
  const focused = document.activeElement;
  const kept = new Set();
  const titleOf = LEVELS[route.level][1];
  level.rows.forEach((figures, index) => {
    kept.add(figures.key);
    const row = rowOf(figures.key);
    const [title, more] = titleOf(figures);
    const isEnded = figures.state !== "running";
    row.link.textContent = title;
    row.link.href = address({ key: figures.key });
    row.more.textContent = [more, isEnded ? "ended" : ""].filter(String).join(" · ");
    row.element.className = isEnded ? "ended" : "";
    row.cells.watts.textContent = `${watts(figures.watts[kind])} W`;
    row.cells.share.textContent = percent(figures.watts[kind], node.watts);
    row.cells.joules.textContent = energy(figures.joules[kind]);
    row.cells.cpu.textContent = percent(figures.cpu_seconds, shown.interval_s);
    spark(row.line, sparks.times, sparks.values.get(figures.key), shown.at_s);
    const there = body.children[index];
    if (there !== row.element) body.insertBefore(row.element, there ?? null);
  });
  for (const [key, row] of rows) {
    if (kept.has(key)) continue;
    row.element.remove();
    rows.delete(key);
  }
  // A row that moves loses the focus.
  if (focused !== document.activeElement && body.contains(focused)) focused.focus({ preventScroll: true });
  if (returning) rows.get(returning)?.link.focus();
  returning = "";
  for (const header of document.querySelectorAll("th[data-sort]")) {
    if (header.dataset.sort !== route.sort) header.removeAttribute("aria-sort");
    else header.setAttribute("aria-sort", route.sort === "name" ? "ascending" : "descending");
  }
  const [title] = LEVELS[route.level];
  const found = `${level.found} that ran in the last interval${route.filter ? " and match" : ""}`;
  say("caption", `${title} by ${ORDERS[route.sort]}, in zone ${kind}: ${level.rows.length} of ${found}`);
  $("more").hidden = level.rows.length >= level.found || top >= 320;
}

function renderRest(level) {
  const { zone } = level;
  const [title] = LEVELS[route.level];
  const others = level.other_rows === 1 ? "1 other row" : `${level.other_rows} other rows`;
  const none = route.filter ? `none matches; ${others}` : "none ran in the last interval";
  const rest = [
    [level.found ? others : none, zone.other_rows_watts],
    [`in none of these ${title === "VMs" ? title : title.toLowerCase()}`, zone.outside_watts],
    ["without an owner", zone.no_owner_watts],
    ["idle", zone.idle_watts],
    [`= ${zone.kind}, as the meter has it`, zone.watts],
  ];
  const body = $("rest");
  while (body.children.length < rest.length) {
    const blank = ["trend", "wide", "wide", "wide"].map((name) => make("td", { className: name }));
    body.append(make("tr", {}, make("td"), make("td", { className: "number" }), ...blank));
  }
  rest.forEach(([name, value], index) => {
    const { cells } = body.rows[index];
    cells[0].textContent = name;
    cells[1].textContent = `${watts(value)} W`;
    body.rows[index].className = index === rest.length - 1 ? "sum" : "";
    // Processes are never outside of processes.
    body.rows[index].hidden = index === 1 && route.level === "process";
  });
}

function renderDetail(level, kind, node) {
  $("back").href = address({ key: "" });
  const [row] = level.rows;
  detailChart.set(detail.times, [{ name: "active", values: detail.values }]);
  if (!row) {
    say("detail-note", "It is listed no longer: it has ended, or its retention is over.");
    for (const id of ["watts", "share", "active", "cpu"]) say(`detail-${id}`, "–");
    return;
  }
  const [title, more] = LEVELS[route.level][1](row);
  const isEnded = row.state !== "running";
  say("detail-title", `${title} ${more} ${isEnded ? "(ended)" : ""}`);
  say("detail-watts", watts(row.watts[kind]));
  say("detail-share", percent(row.watts[kind], node.watts));
  say("detail-active", percent(row.watts[kind], node.active));
  say("detail-cpu", percent(row.cpu_seconds, shown.interval_s));
  say("detail-joules", energy(row.joules[kind]));
  $("detail-meter").value = node.watts ? row.watts[kind] / node.watts : 0;
  const isKept = detail.values.filter((each) => each !== null).length > 1;
  say("detail-note", isKept ? `Power in zone ${kind}.` : "Its minutes are kept from now on.");
  const entries = Object.entries(row).filter(([name, value]) => !FIGURES.has(name) && value !== "");
  for (const each of Object.keys(row.watts)) {
    entries.push([`${each}`, `${watts(row.watts[each])} W, ${energy(row.joules[each])}`]);
  }
  const list = $("labels");
  while (list.children.length < 2 * entries.length) list.append(make("dt"), make("dd"));
  while (list.children.length > 2 * entries.length) list.lastChild.remove();
  entries.forEach(([name, value], index) => {
    list.children[2 * index].textContent = name.replace("_", " ");
    const field = list.children[2 * index + 1];
    if (field.textContent === String(value)) return;
    const parent = PARENTS[name];
    const isLink = parent && parent !== route.level && parent in shown.running;
    const link = make("a", { textContent: value, href: address({ level: parent, key: value }) });
    field.replaceChildren(isLink ? link : String(value));
  });
}

/** What a screen reader says, seldom enough to be listened to. */
function summarize(level, kind, node) {
  if (performance.now() - summaryAt < SUMMARY_MS) return;
  summaryAt = performance.now();
  const [first] = level.rows;
  const most = first && !route.key ? ` Most: ${LEVELS[route.level][1](first)[0]}, ${watts(first.watts[kind])} watts.` : "";
  const word = shown.estimate ? "Estimate: " : "";
  say("summary", `${word}${kind} ${watts(node.watts)} watts, ${watts(node.active)} active.${most}`);
}

// --- what keys and clicks do --------------------------------------------------------------------

function nextOf(list, now) {
  return list[(list.indexOf(now) + 1) % list.length];
}

function moveRow(by) {
  const links = [...document.querySelectorAll("#rows a")];
  const now = links.indexOf(document.activeElement);
  links[Math.min(Math.max(now + by, 0), links.length - 1)]?.focus();
}

function escape() {
  if (route.key) go({ key: "" });
  else if (route.filter || $("search").value) {
    $("search").value = "";
    go({ filter: "" });
  } else document.activeElement?.blur();
}

const KEYS = {
  "/": () => {
    if (route.key) window.history.pushState(null, "", address({ key: "" }));
    if (route.key) follow();
    returning = "";
    $("search").focus();
  },
  "?": () => $("help").showModal(),
  p: () => setPaused(!isPaused),
  s: () => go({ sort: nextOf(SORTS, route.sort) }),
  z: () => shown && go({ zone: nextOf([...zoneButtons.keys()], route.zone || zoneButtons.keys().next().value) }),
  j: () => moveRow(1),
  k: () => moveRow(-1),
  Escape: escape,
};

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const isTyping = event.target.tagName === "INPUT";
  if (isTyping && event.key !== "Escape") return;
  const level = [...tabs.keys()][Number(event.key) - 1];
  const action = level ? () => go({ level, key: "" }) : KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function moveTab(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  const levels = [...tabs.keys()];
  const level = levels.at((levels.indexOf(route.level) + by) % levels.length);
  go({ level, key: "" });
  tabs.get(level).tab.focus();
}

let typing = 0;
function search() {
  clearTimeout(typing);
  typing = setTimeout(() => {
    window.history.replaceState(null, "", address({ filter: $("search").value.trim() }));
    follow();
  }, 200);
}

document.addEventListener("keydown", press);
window.addEventListener("hashchange", follow);
$("tabs").addEventListener("keydown", moveTab);
$("search").addEventListener("input", search);
$("pause").addEventListener("click", () => setPaused(!isPaused));
// The address names the view, so it cannot name the place in it as well.
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $(route.key ? "detail-title" : "panel").focus();
});
$("help-button").addEventListener("click", KEYS["?"]);
$("help-close").addEventListener("click", () => $("help").close());
$("more").addEventListener("click", () => {
  top *= 2;
  load();
});
for (const header of document.querySelectorAll("th[data-sort] button")) {
  header.addEventListener("click", () => go({ sort: header.parentElement.dataset.sort }));
}
// A browser has few connections to one host: a page that nobody sees holds none.
document.addEventListener("visibilitychange", () => {
  if (isPaused) return;
  if (document.hidden) feed.close();
  else {
    receivedAt = performance.now();
    load();
  }
});
window.addEventListener("pagehide", () => feed.close());
setInterval(watchAge, 1000);
follow();
