// Figures as they come, and the last minutes of them. Every list here is bounded.

export const MAX_POINTS = 600;
const MAX_SPARK_POINTS = 300;
const MAX_SPARKS = 200;
const POLL_FOR_MS = 20000;
const PARTS = ["active", "idle", "unattributed", "own"];

const mean = (list) => {
  const known = list.filter((each) => each !== null);
  return known.length ? known.reduce((sum, each) => sum + each, 0) / known.length : null;
};

/** The node by kind of zone: lists of watts, in step with `times` (Unix seconds). */
export class Minutes {
  constructor() {
    this.times = [];
    this.kinds = {};
    this.last = null;
  }

  load(history) {
    this.times = [...history.points.at_s];
    this.kinds = {};
    for (const [kind, zone] of Object.entries(history.zones)) {
      this.kinds[kind] = Object.fromEntries(PARTS.map((part) => [part, [...zone[`${part}_watts`]]]));
    }
    this.last = null;
  }

  add(snapshot) {
    const now = {};
    for (const zone of snapshot.zones) {
      const sums = (now[zone.zone] ??= { active: 0, idle: 0, unattributed: 0, own: null });
      for (const part of ["active", "idle", "unattributed"]) {
        const watts = zone[`${part}_watts`];
        sums[part] = watts === null || sums[part] === null ? null : sums[part] + watts;
      }
    }
    const last = this.last;
    if (last && last.run === snapshot.run) {
      const length = snapshot.at_s - last.at_s;
      for (const kind of Object.keys(now)) {
        now[kind].own = (snapshot.own.joules[kind] - (last.own.joules[kind] ?? 0)) / length;
      }
    }
    this.last = snapshot;
    const known = this.times.length;
    this.times.push(snapshot.at_s);
    for (const kind of new Set([...Object.keys(this.kinds), ...Object.keys(now)])) {
      const lists = (this.kinds[kind] ??= Object.fromEntries(
        PARTS.map((part) => [part, new Array(known).fill(null)]),
      ));
      for (const part of PARTS) lists[part].push(now[kind]?.[part] ?? null);
    }
    if (this.times.length > MAX_POINTS) {
      this.times.shift();
      for (const lists of Object.values(this.kinds)) PARTS.forEach((part) => lists[part].shift());
    }
  }

  /** Mean watts that kepler-ebpf itself used in the newest points. */
  own(kind) {
    return mean((this.kinds[kind]?.own ?? []).slice(-30));
  }
}

/** The watts of workloads by key, in step with `times`; null where they are not known. */
export class Sparks {
  constructor() {
    this.clear();
  }

  clear() {
    this.times = [];
    this.values = new Map();
  }

  load(history) {
    this.clear();
    const skipped = Math.max(0, history.points.at_s.length - MAX_SPARK_POINTS);
    this.times = history.points.at_s.slice(skipped);
    for (const each of history.workloads) this.values.set(each.key, each.watts.slice(skipped));
  }

  add(at, rows, kind, areAll) {
    const known = this.times.length;
    this.times.push(at);
    for (const row of rows) {
      const list = this.values.get(row.key) ?? new Array(known).fill(null);
      list.push(row.watts[kind] ?? null);
      // The newest stand last, so that the first are those that have not run for longest.
      this.values.delete(row.key);
      this.values.set(row.key, list);
    }
    for (const list of this.values.values()) {
      // What is not listed where all that ran are listed did not run.
      if (list.length <= known) list.push(areAll ? 0 : null);
    }
    if (this.times.length > MAX_SPARK_POINTS) {
      this.times.shift();
      for (const list of this.values.values()) list.shift();
    }
    for (const key of this.values.keys()) {
      if (this.values.size <= MAX_SPARKS) break;
      this.values.delete(key);
    }
  }
}

/** Reads one query after another: as a stream, or by polling where no stream is to be had. */
export class Feed {
  constructor(figures, state) {
    this.figures = figures;
    this.state = state;
    this.query = null;
    this.turn = 0;
    this.source = null;
    this.interval = 1;
  }

  open(query) {
    this.close();
    this.query = query;
    this.#listen(this.turn);
  }

  close() {
    this.turn += 1;
    this.source?.close();
    this.source = null;
  }

  #listen(turn) {
    const source = (this.source = new EventSource(`api/v1/stream?${this.query}`));
    source.onmessage = (event) => this.#got(turn, event.data, "live");
    source.onerror = () => {
      if (turn !== this.turn) return;
      // A browser tries again by itself, but not after an answer such as 401 or 503.
      if (source.readyState === EventSource.CLOSED) this.#poll(turn);
      else this.state("connecting again");
    };
  }

  #got(turn, text, state) {
    if (turn !== this.turn) return;
    const snapshot = typeof text === "string" ? JSON.parse(text) : text;
    this.interval = Math.max(snapshot.interval_s, 1);
    this.state(state);
    this.figures(snapshot);
  }

  async #poll(turn) {
    const until = Date.now() + POLL_FOR_MS;
    let wait = 1;
    while (turn === this.turn && Date.now() < until) {
      try {
        const answer = await fetch(`api/v1/snapshot?${this.query}`, { cache: "no-cache" });
        if (answer.ok) {
          this.#got(turn, await answer.json(), "polling");
          wait = this.interval;
        } else if (turn === this.turn) {
          this.state(answer.status === 503 ? "waiting for the first interval" : await answer.text());
          wait = Math.min(2 * wait, 10);
        }
      } catch {
        if (turn === this.turn) this.state("connecting again");
        wait = Math.min(2 * wait, 10);
      }
      await new Promise((done) => setTimeout(done, 1000 * wait));
    }
    if (turn === this.turn) this.#listen(turn);
  }
}

export async function history(query) {
  try {
    const answer = await fetch(`api/v1/history?${query}`, { cache: "no-cache" });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}
