// What the server sends, kept and put into words; lanes.js draws it.
import { Lanes } from "./lanes.js";

const at = (id) => document.getElementById(id);
const REASONS = {
  offline: "the broker is away", few_sensors: "too few sensors speak", unsure: "not sure enough",
  silent_sensor: "a sensor it needs is silent", failed: "the model failed", behind: "the machine was behind",
};
const QUIET = ["unavailable", "offline", "silent", "stale", "unknown_topic"]; // of payload_*: no faults
const SILENT_MS = 5000;
const EVENTS = 8;

const home = { about: null, lanes: [], outcomes: [], status: {}, ahead: null, unix: 0, told: 0, heard: 0 };
const lanes = new Lanes(home, at("plot"));
let camera = { count: null, ms: 0, fps: null };

export const nowS = () => performance.now() / 1000 + home.ahead; // of the stream
const clockOf = (s) => new Date((home.unix + s) * 1000).toLocaleTimeString([], { hour12: false });

function element(tag, text = "", kind = "") {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

export function kindOf(name) { // the class that has a name's colour
  const known = home.about.classes;
  if (home.about.idle.includes(name)) return "idle";
  return `k${Math.max(0, known.indexOf(name)) % 12}`;
}

function takeWhole(body) {
  home.about = body.about;
  home.lanes = body.about.lanes.map(() => []);
  home.outcomes = [];
  home.ahead = null;
  document.body.classList.toggle("seeing", body.about.camera);
  at("eye").hidden = !body.about.camera;
  at("instance").textContent = body.about.instance;
  at("dataset").textContent = body.about.dataset ?? "";
  at("foot").textContent = `detach, model ${body.about.model}: a window of ${body.about.window_s} s every ${body.about.hop_s} s.`
    + " What you see here is kept for ten minutes, in memory.";
  take(body);
  lanes.arrange();
}

function take(body) {
  if (!home.about) return;
  const from = body.from_s ?? -Infinity;
  const bucket = Math.floor(from / home.about.bucket_s) * home.about.bucket_s;
  for (const [i, points] of Object.entries(body.lanes)) {
    const first = home.about.lanes[i].sampled ? bucket : from;
    home.lanes[i] = [...home.lanes[i].filter((p) => p[0] < first), ...points];
  }
  home.outcomes = [...home.outcomes.filter((o) => o.end_s < from), ...body.outcomes];
  forget(body.now_s - home.about.kept_s);
  home.status = body.status;
  const ahead = body.now_s - performance.now() / 1000;
  const far = home.ahead === null || Math.abs(ahead - home.ahead) > 0.3;
  home.ahead = far ? ahead : home.ahead + 0.1 * (ahead - home.ahead);
  home.unix = body.unix_s - body.now_s;
  home.told = body.now_s;
  home.heard = performance.now();
  if (body.picture_s !== null && at("picture").dataset.at !== `${body.picture_s}`) showPicture(body);
  show();
  lanes.draw();
}

function forget(before) {
  home.outcomes = home.outcomes.filter((o) => o.end_s >= before);
  home.lanes = home.lanes.map((points) => {
    const first = points.findIndex((p) => p[0] >= before);
    return first > 1 ? points.slice(first - 1) : points; // the one before still holds
  });
}

function showPicture(body) {
  const picture = at("picture"), next = new Image();
  picture.dataset.at = `${body.picture_s}`;
  next.onload = () => { // no flicker: shown when it is whole
    picture.src = next.src;
    at("caption").textContent = `As the model sees it: ${next.naturalWidth} × ${next.naturalHeight} pixels`;
  };
  next.src = `camera.png?at=${body.picture_s}`;
}

function show() {
  const last = home.outcomes.at(-1);
  showAnswer(last);
  showLikeliest(last?.likeliest ?? []);
  showEvents();
  showHealth(last);
  showBadge();
}

function showAnswer(last) {
  const state = last?.state ?? null, answer = document.querySelector(".answer");
  answer.className = `answer ${state === null ? "unknown" : kindOf(state)}`;
  const place = last?.place ?? null;
  const text = state ?? (home.about.classes.length || place === null ? "Unknown" : `Place ${place}`);
  if (at("state").textContent !== text) at("state").textContent = text;
  const parts = [];
  const run = stretches().at(-1);
  if (run) parts.push(`for ${duration(nowS() - run.from)}`);
  if (state !== null && place !== null) parts.push(`place ${place}`);
  if (last?.reason) parts.push(REASONS[last.reason] ?? last.reason);
  if (last?.live_share !== undefined && last.live_share < 1) parts.push(`${Math.round(100 * last.live_share)} % of the sensors speak`);
  at("since").textContent = parts.join(" · ") || "waiting for the first window";
  document.title = `${text} · ${home.about.instance}`;
}

function showLikeliest(found) {
  const list = at("likeliest");
  while (list.children.length > found.length) list.lastChild.remove();
  found.forEach(([i, share], k) => {
    if (!list.children[k]) {
      const item = list.appendChild(element("li"));
      item.append(element("b"), element("span"), element("div", "", "meter"));
      item.lastChild.append(element("i"));
    }
    const item = list.children[k], name = home.about.classes[i];
    item.className = kindOf(name);
    item.children[0].textContent = name;
    item.children[1].textContent = `${Math.round(100 * share)} %`;
    item.querySelector("i").style.width = `${100 * share}%`;
  });
}

export function stretches() { // what was held to be going on, from when to when
  const found = [], hop = home.about.hop_s;
  for (const o of home.outcomes) {
    const last = found.at(-1);
    if (last && last.state === o.state) last.to = o.end_s;
    else found.push({ state: o.state, from: o.end_s - (found.length ? hop : 0), to: o.end_s });
  }
  return found;
}

function showEvents() {
  const found = stretches().filter((s) => s.state !== null).slice(-EVENTS).reverse();
  const list = at("events");
  list.replaceChildren(...found.map((s) => {
    const item = element("li", "", kindOf(s.state));
    const going = s.to === home.outcomes.at(-1).end_s;
    item.append(element("time", clockOf(s.from)), element("b", s.state), element("i", going ? "now" : duration(s.to - s.from)));
    return item;
  }));
  if (!found.length) list.append(element("li", "Nothing yet in these ten minutes.", "none"));
}

function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  return s < 3600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
}

const milliseconds = (s) => (s < 1 ? `${Math.round(1000 * s)} ms` : `${s.toFixed(1)} s`);
const count = (n) => (n ?? 0).toLocaleString("en");

function showHealth(last) {
  const s = home.status;
  if (s.decisions === undefined) return;
  const refused = Object.entries(s).filter(([k]) => k.startsWith("payload_") && !QUIET.includes(k.slice(8)))
    .reduce((sum, [, n]) => sum + n, 0);
  const lost = (s.intake_dropped ?? 0) + (s.stream_late ?? 0) + (s.intake_too_large ?? 0);
  const live = last?.live_share ?? null;
  const tiles = [
    ["Decision lag", milliseconds(s.lag_p50_s), `95 % within ${milliseconds(s.lag_p95_s)}`, s.lag_p95_s > 1 ? "warn" : "good"],
    ["Answers", count(s.decisions), `${count(s.abstentions)} without an answer, ${count(s.skips)} skipped`, s.skips ? "warn" : "good"],
    ["Messages", count(s.intake_messages), `${count(s.intake_dropped)} dropped, ${count(s.stream_late)} late, ${count(refused)} refused`, lost || refused ? "warn" : "good"],
    ["Live sensors", live === null ? "–" : `${Math.round(100 * live)} %`,
      home.about.missing.length ? `not configured: ${home.about.missing.slice(0, 3).join(", ")}` : "of the model's channels", live === null || live < 0.5 ? "bad" : live < 1 ? "warn" : "good"],
  ];
  if (home.about.broker) tiles.push(["Broker", s.online ? "connected" : "away", `${count(s.stream_outages)} outages`, s.online ? "good" : "bad"]);
  if (s.camera_starts) tiles.push(cameraTile(s));
  at("tiles").replaceChildren(...tiles.map(([name, large, sub, kind]) => {
    const tile = element("div", "", kind);
    tile.append(element("dt", name), element("dd", large, "large"), element("dd", sub, "sub"));
    return tile;
  }));
  if (at("health").querySelector("details").open) showCounters(s);
}

function cameraTile(s) {
  const ms = performance.now(), frames = s.camera_frames ?? 0;
  if (camera.count === null || frames < camera.count) camera = { count: frames, ms, fps: null };
  else if (ms - camera.ms > 3000) camera = { count: frames, ms, fps: (frames - camera.count) / (ms - camera.ms) * 1000 };
  const large = camera.fps === null ? count(frames) : `${camera.fps.toFixed(0)} / s`;
  return ["Camera", large, `${count(s.camera_starts - 1)} restarts, ${count(s.camera_frames_dropped)} pictures dropped`, camera.fps === 0 ? "bad" : "good"];
}

function showCounters(s) {
  const rows = Object.entries(s).map(([name, value]) => {
    const row = element("tr");
    row.append(element("td", name), element("td", typeof value === "number" && !Number.isInteger(value) ? value.toFixed(4) : `${value}`));
    return row;
  });
  at("counters").tBodies[0].replaceChildren(...rows);
}

function showBadge() {
  const silent = performance.now() - home.heard > SILENT_MS;
  const away = home.about?.broker && home.status.online === false;
  const [text, kind] = silent ? ["no connection", "bad"] : away ? ["broker away", "warn"] : ["live", "good"];
  if (at("badge").textContent !== text) at("badge").textContent = text;
  at("badge").className = `badge ${kind}`;
  document.body.classList.toggle("stale", silent);
}

const source = new EventSource("events");
source.addEventListener("whole", (event) => takeWhole(JSON.parse(event.data)));
source.addEventListener("news", (event) => take(JSON.parse(event.data)));
setInterval(() => {
  if (!home.about) return;
  at("clock").textContent = clockOf(nowS());
  showBadge();
}, 500);
at("health").querySelector("details").addEventListener("toggle", () => showCounters(home.status));
