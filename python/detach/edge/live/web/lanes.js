// The lanes: one SVG whose content moves to the left; it is drawn anew when there is news.
import { kindOf, nowS, stretches } from "./page.js";

const SPANS = [[60, "1 min", "minute"], [180, "3 min", "3 minutes"], [600, "10 min", "10 minutes"]];
const DELAY_S = 0.8; // the right edge is a little in the past, where all is known
const AXIS = 24, NARROW = 620, LABELS = 188, LABEL_LINE = 17;
const STEPS = [5, 10, 15, 30, 60, 120, 300];
const SPACE = "http://www.w3.org/2000/svg";

function svg(tag, attributes = {}, text = "") {
  const made = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

const plain = (name) => name.replaceAll("_", " ");

function without(name, place) { // "drawer1 any" under the heading "Drawer 1" is "any"
  const letters = [...(place ?? "").toLowerCase().replaceAll(/[ _-]/g, "")];
  let k = 0;
  while (letters.length && k < name.length) {
    if (name[k].toLowerCase() === letters[0]) letters.shift();
    else if (!/[ _-]/.test(name[k])) return name;
    k += 1;
  }
  const rest = name.slice(k);
  return place && !letters.length && /^[ _-]+\S/.test(rest) ? rest.replace(/^[ _-]+/, "") : name;
}

function folded(text, room, most) { // in lines of at most so many letters; none where it does not fit
  const lines = [""];
  for (const word of text.split(" ")) {
    if (!lines.at(-1)) lines[lines.length - 1] = word;
    else if (lines.at(-1).length + 1 + word.length <= room) lines[lines.length - 1] += ` ${word}`;
    else lines.push(word);
  }
  const cut = lines.slice(0, most).map((line) => (line.length <= room ? line : `${line.slice(0, room - 1)}…`));
  return room < 5 ? [] : cut;
}

export class Lanes {
  constructor(home, plot) {
    this.home = home;
    this.plot = plot;
    this.span = SPANS[0][0];
    this.rows = [];
    this.cursorX = null;
    [this.labels, this.tracks] = ["#labels", "#tracks"].map((name) => plot.querySelector(name));
    [this.rules, this.moving, this.cursor] = ["#rules", "#moving", "#cursor"].map((name) => plot.querySelector(name));
    this.offerSpans();
    new ResizeObserver(() => this.arrange()).observe(plot);
    this.tracks.addEventListener("pointermove", (event) => this.point(event));
    this.tracks.addEventListener("pointerdown", (event) => this.point(event));
    this.tracks.addEventListener("pointerleave", () => this.point(null));
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    const step = () => { if (!still.matches) this.move(); requestAnimationFrame(step); };
    requestAnimationFrame(step);
  }

  offerSpans() {
    const group = document.getElementById("spans");
    for (const [seconds, short, long] of SPANS) {
      const button = group.appendChild(document.createElement("button"));
      button.textContent = short;
      button.setAttribute("aria-pressed", seconds === this.span);
      button.addEventListener("click", () => {
        this.span = seconds;
        document.getElementById("span-name").textContent = long;
        for (const other of group.children) other.setAttribute("aria-pressed", other === button);
        this.draw();
      });
    }
  }

  arrange() { // one row for each lane, from top to bottom
    if (!this.home.about) return;
    const width = this.plot.clientWidth;
    this.narrow = width < NARROW;
    this.left = this.narrow ? 0 : LABELS;
    this.width = Math.max(10, width - this.left);
    this.rows = [];
    if (this.home.about.classes.length) {
      this.add({ name: "Activity", kind: "state", height: 40, first: true });
      this.add({ name: "Each window", kind: "windows", height: 16 });
    }
    if (this.home.about.places) this.add({ name: "Place", kind: "places", height: 20 });
    let place = null;
    for (const sensor of this.sensors()) {
      if (sensor.place !== place && sensor.place) this.add({ name: sensor.place, kind: "group", height: 18 });
      place = sensor.place;
      this.add(sensor);
    }
    const last = this.rows.at(-1);
    this.height = last.y + last.height + 8;
    for (const part of document.querySelectorAll(".axes")) part.hidden = !this.rows.some((r) => r.indices?.length > 1);
    this.label();
    this.draw();
  }

  add(row) {
    const last = this.rows.at(-1);
    const stacked = this.narrow && row.kind !== "group" ? LABEL_LINE : 0;
    const gap = !last ? 0 : row.kind === "group" ? 14 : last.first ? 5 : 8;
    row.top = (last ? last.y + last.height : AXIS) + gap;
    row.y = row.top + stacked;
    this.rows.push(row);
  }

  sensors() { // the lanes of one sensor's axes share a row; sensors of a place stand together
    const found = new Map();
    this.home.about.lanes.forEach((lane, i) => {
      if (!found.has(lane.sensor)) {
        const kind = lane.binary ? "binary" : lane.sampled ? "samples" : "steps";
        found.set(lane.sensor, { ...lane, name: without(plain(lane.sensor), lane.place), kind, height: kind === "binary" ? 14 : 32, indices: [] });
      }
      found.get(lane.sensor).indices.push(i);
    });
    const places = [...new Set([...found.values()].map((s) => s.place))];
    return [...found.values()].sort((a, b) => places.indexOf(a.place) - places.indexOf(b.place));
  }

  label() {
    this.labels.replaceChildren(...this.rows.map((row) => {
      const made = document.createElement("div");
      made.append(document.createElement("b"), document.createElement("i"));
      made.firstChild.textContent = row.name;
      made.style.top = `${row.top}px`;
      made.style.height = `${this.narrow ? LABEL_LINE : row.height}px`;
      if (row.kind === "group") made.classList.add("group");
      if (row.first) made.classList.add("first");
      row.label = made;
      return made;
    }));
  }

  draw() {
    if (!this.rows.length) return;
    this.tracks.setAttribute("height", this.height);
    this.tracks.setAttribute("viewBox", `0 0 ${this.left + this.width} ${this.height}`);
    const box = document.getElementById("inside-box");
    for (const [name, value] of [["x", this.left], ["width", this.width], ["height", this.height]]) box.setAttribute(name, value);
    this.anchor = nowS() - DELAY_S;
    this.scale = this.width / this.span;
    const from = this.anchor - this.span - 2;
    this.rules.replaceChildren(...this.rows.filter((r) => r.kind !== "group" && r.kind !== "state" && r.kind !== "windows")
      .map((r) => svg("rect", { x: this.left, y: r.y, width: this.width, height: r.height, rx: 3 })));
    const drawn = [this.ticks(from)];
    for (const row of this.rows) if (row.kind !== "group") drawn.push(this[row.kind](row, from));
    this.moving.replaceChildren(...drawn);
    this.move();
    this.showValues();
  }

  move() { // all of it, by as much as time went on
    if (!this.rows.length) return;
    const gone = (nowS() - DELAY_S - this.anchor) * this.scale;
    this.moving.setAttribute("transform", `translate(${(this.left + this.width - gone).toFixed(2)} 0)`);
  }

  x(t) { return (t - this.anchor) * this.scale; }

  ticks(from) {
    const group = svg("g");
    const least = this.narrow ? 70 : 90, step = STEPS.find((s) => s * this.scale >= least) ?? 600;
    const ahead = this.home.unix;
    for (let unix = Math.ceil((from + ahead) / step) * step; unix - ahead < this.anchor + 2; unix += step) {
      const x = this.x(unix - ahead).toFixed(1);
      group.append(svg("path", { class: "tick", d: `M${x} ${AXIS - 6}V${this.height}` }));
      const options = { hour: "2-digit", minute: "2-digit", hour12: false, ...(step < 60 ? { second: "2-digit" } : {}) };
      group.append(svg("text", { x, y: 12, "text-anchor": "middle" }, new Date(unix * 1000).toLocaleTimeString([], options)));
    }
    return group;
  }

  state(row, from) {
    const group = svg("g", { class: "activity" });
    for (const s of stretches()) {
      if (s.to < from) continue;
      const x = this.x(s.from), width = Math.max(1, (s.to - s.from) * this.scale - 1);
      const box = { x: x.toFixed(1), y: row.y, width: width.toFixed(1), height: row.height };
      if (s.state === null) {
        group.append(svg("rect", { ...box, class: "lost", rx: 4 }));
        continue;
      }
      const stretch = group.appendChild(svg("g", { class: kindOf(s.state), "data-state": s.state }));
      stretch.append(svg("title", {}, s.state), svg("rect", { ...box, class: "block", rx: 4 }), svg("rect", { ...box, width: Math.min(4, width).toFixed(1), class: "edge", rx: 2 }));
      const shown = Math.max(x, -this.width), lines = folded(s.state, Math.floor((x + width - shown - 11) / 7.8), 2);
      lines.forEach((line, k) => {
        const y = row.y + row.height / 2 + 4.5 + 15 * (k - (lines.length - 1) / 2);
        stretch.append(svg("text", { class: "name", x: (shown + 10).toFixed(1), y }, line));
      });
    }
    return group;
  }

  windows(row, from) {
    const group = svg("g"), hop = this.home.about.hop_s, gap = this.span > 200 ? 0 : 1;
    for (const o of this.home.outcomes) {
      if (o.end_s < from) continue;
      const width = Math.max(0.8, o.count * hop * this.scale - gap);
      const box = { x: this.x(o.end_s - o.count * hop).toFixed(1), y: row.y, width: width.toFixed(1), height: row.height, rx: Math.min(3, width / 3) };
      const [best, share] = o.likeliest?.[0] ?? [null, 0];
      if (o.kind === "skip") group.append(svg("rect", { ...box, class: "skip" }));
      else if (best === null || o.reason === "offline" || o.reason === "few_sensors" || o.reason === "silent_sensor") group.append(svg("rect", { ...box, class: "lost" }));
      else {
        const made = svg("rect", { ...box, class: `window ${kindOf(this.home.about.classes[best])}`, "fill-opacity": (o.kind === "decision" ? 0.25 + 0.65 * share : 0.13).toFixed(2) });
        made.append(svg("title", {}, `${this.home.about.classes[best]}, ${Math.round(100 * share)} %${o.kind === "decision" ? "" : ", not sure enough"}`));
        group.append(made);
      }
    }
    return group;
  }

  places(row, from) {
    const group = svg("g"), hop = this.home.about.hop_s, runs = [];
    for (const o of this.home.outcomes) {
      if (o.end_s < from) continue;
      const last = runs.at(-1), place = o.place ?? null;
      if (last && last.place === place) last.to = o.end_s;
      else runs.push({ place, from: o.end_s - o.count * hop, to: o.end_s });
    }
    for (const run of runs) {
      const width = Math.max(1, (run.to - run.from) * this.scale - 1), x = this.x(run.from);
      const box = { x: x.toFixed(1), y: row.y, width: width.toFixed(1), height: row.height, rx: 3 };
      if (run.place === null) group.append(svg("rect", { ...box, class: "lost" }));
      else {
        const made = group.appendChild(svg("g", { class: `k${(run.place + 3) % 12}` }));
        made.append(svg("rect", { ...box, class: "block" }));
        if (width > 18) made.append(svg("text", { class: "small", x: (Math.max(x, -this.width) + Math.min(x + width, 0)) / 2, y: row.y + row.height / 2 + 4 }, `${run.place}`));
      }
    }
    return group;
  }

  runs(points, from) { // of a lane of changes: value, from when, until when
    const found = [];
    points.forEach(([t, value], k) => {
      const to = points[k + 1]?.[0] ?? this.home.told; // later than that nothing is known
      if (to >= from) found.push({ value, from: t, to });
    });
    return found;
  }

  binary(row, from) {
    const group = svg("g", { "data-sensor": row.sensor });
    const parts = { on: "", off: "", lost: "" }, middle = row.y + row.height / 2;
    const points = this.home.lanes[row.indices[0]];
    const first = points[0]?.[0] ?? this.home.told;
    const bar = (r, half) => `M${this.x(Math.max(r.from, from)).toFixed(1)} ${middle - half}H${this.x(r.to).toFixed(1)}V${middle + half}H${this.x(Math.max(r.from, from)).toFixed(1)}z`;
    if (first > from) parts.lost += bar({ from, to: first }, row.height / 2);
    for (const r of this.runs(points, from)) {
      if (r.value === null) parts.lost += bar(r, row.height / 2);
      else if (r.value) parts.on += bar(r, row.height / 2);
      else parts.off += bar(r, 1);
    }
    for (const [kind, d] of Object.entries(parts)) if (d) group.append(svg("path", { class: kind, d }));
    return group;
  }

  steps(row, from) {
    const group = svg("g", { "data-sensor": row.sensor });
    const runs = this.runs(this.home.lanes[row.indices[0]], from), known = runs.filter((r) => r.value !== null);
    const low = Math.min(...known.map((r) => r.value)), high = Math.max(...known.map((r) => r.value));
    const y = (v) => row.y + row.height - 3 - (high > low ? (v - low) / (high - low) : 0.5) * (row.height - 6);
    const d = known.map((r, k) => `${k && known[k - 1].to === r.from ? "L" : "M"}${this.x(r.from).toFixed(1)} ${y(r.value).toFixed(1)}H${this.x(r.to).toFixed(1)}`).join("");
    if (d) group.append(svg("path", { class: "curve a0", d }));
    return group;
  }

  samples(row, from) {
    const group = svg("g", { "data-sensor": row.sensor }), step = this.home.about.bucket_s;
    const axes = row.indices.map((i) => this.home.lanes[i].filter((p) => p[0] >= from));
    const middles = axes.map((points) => {
      const sorted = points.map((p) => (p[1] + p[2]) / 2).sort((a, b) => a - b);
      return row.indices.length > 1 ? sorted[sorted.length >> 1] ?? 0 : 0; // an axis about its own middle
    });
    const ends = axes.flatMap((points, a) => points.flatMap((p) => [p[1] - middles[a], p[2] - middles[a]]));
    let low = Math.min(...ends), high = Math.max(...ends);
    if (row.indices.length > 1) { // noise stays small: a usual bucket takes a sixth of the height
      const widths = axes.flatMap((points) => points.map((p) => p[2] - p[1])).sort((a, b) => a - b);
      high = Math.max(Math.abs(low), high, 3 * (widths[widths.length >> 1] ?? 0));
      low = -high;
    }
    const y = (v) => (row.y + row.height - 2 - (high > low ? (v - low) / (high - low) : 0.5) * (row.height - 4)).toFixed(1);
    axes.forEach((points, a) => {
      for (const run of this.unbroken(points, step)) {
        const x = (p) => this.x(p[0] + step / 2).toFixed(1);
        const there = run.map((p) => `${x(p)} ${y(p[2] - middles[a])}`), back = run.map((p) => `${x(p)} ${y(p[1] - middles[a])}`).reverse();
        group.append(svg("path", { class: `band a${a % 3}`, d: `M${[...there, ...back].join("L")}z` }));
      }
    });
    return group;
  }

  unbroken(points, step) {
    const found = [];
    points.forEach((p, k) => {
      if (!k || p[0] - points[k - 1][0] > 4 * step) found.push([]);
      found.at(-1).push(p);
    });
    return found;
  }

  point(event) {
    const x = event === null ? null : event.clientX - this.tracks.getBoundingClientRect().left;
    this.cursorX = x === null || x < this.left ? null : x;
    this.showValues();
  }

  showValues() { // beside each name: at the cursor, or now
    const t = this.cursorX === null ? null : nowS() - DELAY_S - (this.left + this.width - this.cursorX) / this.scale;
    this.cursor.replaceChildren();
    if (t !== null) {
      const x = Math.min(Math.max(this.cursorX, this.left + 32), this.left + this.width - 32);
      const time = new Date((this.home.unix + t) * 1000).toLocaleTimeString([], { hour12: false });
      this.cursor.append(svg("path", { d: `M${this.cursorX} ${AXIS - 4}V${this.height}` }), svg("rect", { x: x - 32, y: 0, width: 64, height: 18, rx: 5 }), svg("text", { x, y: 13 }, time));
    }
    for (const row of this.rows) {
      const [text, kind] = this.valueOf(row, t);
      row.label.lastChild.textContent = text;
      row.label.classList.toggle("on", kind === "on");
      row.label.classList.toggle("lost", kind === "lost");
    }
  }

  valueOf(row, t) {
    if (row.kind === "group") return ["", ""];
    if (!row.indices) {
      const o = t === null ? this.home.outcomes.at(-1) : this.home.outcomes.find((found) => found.end_s >= t);
      if (!o || t === null && row.kind !== "places") return ["", ""];
      if (row.kind === "state") return [o.state ?? "unknown", ""];
      if (row.kind === "places") return [`${o.place ?? "–"}`, ""];
      return [o.likeliest ? `${Math.round(100 * o.likeliest[0]?.[1])} %` : "–", ""];
    }
    const points = this.home.lanes[row.indices[0]], when = t ?? Infinity;
    const last = points.findLast((p) => p[0] <= when);
    if (row.sampled && (!last || (t ?? nowS()) - last[0] > 5)) return ["silent", "lost"];
    if (!last || last[1] === null) return ["not known", "lost"];
    if (row.binary) return last[1] ? ["on", "on"] : ["off", ""];
    if (row.indices.length > 1) return [row.unit, ""];
    return [`${row.sampled ? ((last[1] + last[2]) / 2).toPrecision(3) : last[1]} ${row.unit}`, ""];
  }
}
