// The page of `procosm play`. It draws what the server sends and sends what the visitor wants; it decides nothing.
// plots.js, which comes first, draws what was measured.
"use strict";

const clamp = (value) => Math.max(-1, Math.min(1, value));
const HORIZONS = [4, 8, 16, 32, 64, 128, 256, 512];
const DENOISING = [1, 2, 3, 4, 6, 8, 12, 16];
const SPEEDS = [0.125, 0.25, 0.5, 1, 2, 4];
const STRENGTHS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1];
const DEAD_ZONE = 0.12; // of a gamepad's stick at rest

// Each motor has two keys: less, more. A column of the keyboard for each, and the arrows for the first two.
const COLUMNS = ["AQ", "SW", "DE", "FR", "GT", "HY", "JU", "KI"];
const ARROWS = [["ArrowLeft", "ArrowRight"], ["ArrowDown", "ArrowUp"]];
// Where actions move the camera itself, its six numbers have the keys of a walk, and what a pad's axis (and which way) and
// the pointer ask of them. It looks along -z: less is forward; more about y turns to the left.
const EYE = [
  { name: "Aside", keys: ["KeyA", "KeyD"], pad: [0, 1] },
  { name: "Up", keys: ["KeyQ", "KeyE"] },
  { name: "Back", keys: ["KeyW", "KeyS"], pad: [1, 1] },
  { name: "Look up", keys: ["ArrowDown", "ArrowUp"], pad: [3, -1] },
  { name: "Turn left", keys: ["ArrowRight", "ArrowLeft"], pad: [2, -1] },
  { name: "Roll", keys: ["KeyX", "KeyZ"] },
];
const isEye = () => welcome.conditions.includes("camera");
const motorKeys = (i) => (isEye() ? [EYE[i].keys] : [...(ARROWS[i] ? [ARROWS[i]] : []), ...(COLUMNS[i] ? [[...COLUMNS[i]].map((k) => `Key${k}`)] : [])]);
const motorName = (i) => (isEye() ? EYE[i].name : welcome.motors > 1 ? `Motor ${i + 1}` : "Motor");

let socket, welcome, view, frames, fresh = false;
let series = []; // headers of this game's views, by step
let goal = null; // step that going back has asked for
const held = new Set(); // keys that are down
const drag = []; // what pointers ask of each motor, in [-1, 1]
let sentStick = "", strength = 0.5, inputMs = null, inputOf = null;

function say(wish, value = null, more = {}) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ do: wish, value, ...more }));
}

// ---- connection

function connect() {
  byId("banner").hidden = true;
  series = []; view = undefined; sentStick = ""; goal = null;
  const mine = (socket = new WebSocket(`ws://${location.host}/play${location.search}`));
  mine.binaryType = "arraybuffer";
  let why = "The connection to the server is lost. Is procosm play still running?";
  mine.onmessage = ({ data }) => {
    if (mine !== socket) return;
    if (data instanceof ArrayBuffer) return receive(data);
    const message = JSON.parse(data);
    if (message.kind === "welcome") greet(message);
    if (message.kind === "error") alarm((why = message.message));
  };
  mine.onclose = () => mine === socket && alarm(why);
}

function alarm(text) {
  byId("banner").querySelector("p").textContent = text;
  byId("banner").hidden = false;
}

function receive(data) {
  const length = new DataView(data).getUint32(0, true);
  view = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const bytes = 3 * view.frame_size[0] * view.frame_size[1];
  frames = [new Uint8Array(data, 4 + length, bytes), view.truth && new Uint8Array(data, 4 + length + bytes, bytes)];
  if (view.game !== series.game) series = Object.assign([], { game: view.game, first: 0 });
  series.length = Math.min(series.length, view.newest + 1); // a step after going back replaces what came after
  while (series.first < view.oldest) delete series[series.first++];
  if (view.sent_ms !== null && view.sent_ms !== inputOf) {
    inputOf = view.sent_ms;
    inputMs = performance.now() - view.sent_ms;
  }
  series[view.step] = view;
  if (view.note) tell(view.note, view.saved);
  if (goal === view.step) goal = null;
  fresh = true;
}

// ---- drawing

const SCREENS = ["dream", "truth", "difference"].map((id) => byId(id).querySelector("canvas"));

function paint(canvas, rgb) {
  const [height, width] = view.frame_size;
  if (canvas.width !== width || canvas.height !== height) {
    [canvas.height, canvas.width] = view.frame_size;
    canvas.style.aspectRatio = `${width} / ${height}`;
  }
  const pen = canvas.getContext("2d"), image = pen.createImageData(width, height), out = image.data;
  for (let from = 0, to = 0; to < out.length; from += 3, to += 4) {
    out[to] = rgb[from]; out[to + 1] = rgb[from + 1]; out[to + 2] = rgb[from + 2]; out[to + 3] = 255;
  }
  pen.putImageData(image, 0, 0);
}

function draw() {
  requestAnimationFrame(draw);
  steer();
  if (!fresh) return;
  fresh = false;
  const [dream, truth] = frames;
  paint(SCREENS[0], dream);
  if (truth) paint(SCREENS[1], truth);
  if (truth) paint(SCREENS[2], dream.map((value, i) => (view.together ? Math.abs(value - truth[i]) : 0)));
  captions();
  controls();
  for (const plot of Object.values(PLOTS)) plot.draw();
  // Only what has been drawn is called seen: a hidden page draws nothing, so its dream waits.
  say("seen", view.view);
}

function captions() {
  const { dream, truth } = view;
  label("dream", progress(dream), fate(dream), fate(dream));
  label("truth", truth ? progress(truth) : "", truth ? fate(truth) : welcome.without_truth, !truth || fate(truth));
  if (!truth) label("difference", "", "");
  else if (view.together) label("difference", `${number(view.difference)} of 255, rms`, "");
  else label("difference", "each in its own episode", "Nothing to compare: the worlds are in different episodes. New begins both from one picture.");
  byId("fps").textContent = view.paused ? "paused" : `${view.fps} fps`;
  byId("lag").textContent = inputMs ? ` · key to picture ${Math.round(inputMs)} ms` : "";
}

const progress = (side) => `step ${side.step}${side.total === null ? "" : ` · return ${number(side.total)}`}`;
const fate = (side) => (side.ended ? `Ended after ${side.step} steps` : side.cut ? `Time is up after ${side.step} steps` : "");

function label(id, caption, badge, ended = false) {
  const figure = byId(id), mark = figure.querySelector(".badge");
  figure.querySelector("output").textContent = caption;
  mark.textContent = badge;
  mark.hidden = !badge;
  figure.classList.toggle("ended", Boolean(ended));
}

function controls() {
  byId("pause").setAttribute("aria-pressed", view.paused);
  byId("pause").querySelector("span").textContent = view.paused ? "Go on" : "Pause";
  byId("record").setAttribute("aria-pressed", view.recording);
  const timeline = byId("timeline"), moment = timeline.querySelector("input"), seconds = (step) => `${number(step * welcome.dt_s)} s`;
  timeline.querySelector("output").textContent = seconds(view.step);
  timeline.querySelector("span").textContent = `of ${seconds(view.newest)}`;
  moment.min = view.oldest;
  moment.max = view.newest;
  moment.setAttribute("aria-valuetext", seconds(view.step));
  if (!moment.matches(":active")) moment.value = view.step;
  document.querySelector(`#pilot input[value=${view.pilot}]`).checked = true;
  if (byId("hint").textContent !== hint()) byId("hint").textContent = hint();
  DIALS.horizon.show(view.horizon);
  DIALS.denoising.show(view.denoising);
  DIALS.speed.show(view.speed);
  document.querySelectorAll(".motor").forEach((motor, i) => {
    motor.querySelector("output").textContent = number(view.stick[i], 2);
    const bar = motor.querySelector("input");
    if (!bar.matches(":active") && !bar.matches(":focus-visible")) bar.value = view.stick[i];
  });
}

function hint() {
  const keys = isEye() ? "W A S D, Q E, arrows" : motorKeys(0)[0].map(keyName).join(" ");
  const hand = `${keys} or drag on a picture`, alone = welcome.without_truth;
  if (isEye()) return `You move the eye: press ${hand}.`;
  return view.pilot === "policy"
    ? `The policy steers${alone ? "" : " each world by what it sees there"}. Press ${hand} to take over.`
    : `You steer${alone ? "" : " both worlds alike"}: press ${hand}.`;
}

function tell(text, saved) {
  const note = byId("note");
  note.textContent = text;
  if (!saved || !text.includes(saved)) return;
  for (const file of ["film.mp4", "episode.npz"]) {
    const link = Object.assign(document.createElement("a"), { href: `saved/${saved}/${file}${location.search}`, textContent: file, download: `${saved}-${file}` });
    note.append(link);
  }
}

// ---- settings

class Dial {
  constructor(id, values, text, set) {
    Object.assign(this, { input: byId(id), text, set });
    this.output = this.input.closest("label").querySelector("output");
    this.offer(values);
    this.input.addEventListener("input", () => this.choose(this.input.value));
  }
  offer(values) {
    this.values = values;
    this.input.max = values.length - 1;
  }
  choose(index) {
    this.set(this.values[Math.max(0, Math.min(this.values.length - 1, index))]);
  }
  turn(by) {
    this.choose(Number(this.input.value) + by);
  }
  show(value) {
    if (!this.input.matches(":active")) this.input.value = this.values.findIndex((one) => one >= value);
    this.output.textContent = this.text(value);
    this.input.setAttribute("aria-valuetext", this.text(value));
  }
}

const DIALS = {
  horizon: new Dial("horizon", HORIZONS, (value) => `${value} steps`, (value) => say("horizon", value)),
  denoising: new Dial("denoising", DENOISING, String, (value) => say("denoising", value)),
  speed: new Dial("speed", SPEEDS, (value) => `${value} ×`, (value) => say("speed", value)),
  strength: new Dial("strength", STRENGTHS, percent, (value) => { strength = value; DIALS.strength.show(value); }),
};
DIALS.strength.show(strength);

byId("instruction").addEventListener("change", (event) => say("instruct", event.target.value));

// ---- steering

function greet(message) {
  welcome = message;
  document.title = `procosm play · ${message.task}`;
  byId("task").textContent = message.task;
  byId("conditions").textContent = message.conditions.length ? `told of ${message.conditions.join(" and ")}` : "told of frames alone";
  byId("words").hidden = !message.takes_words;
  byId("texts").replaceChildren(...message.texts.map((text) => Object.assign(document.createElement("option"), { value: text })));
  byId("weakness").textContent = message.weakness;
  byId("weakness").hidden = !message.weakness;
  DIALS.horizon.offer([...HORIZONS.filter((value) => value < message.longest), message.longest]);
  DIALS.denoising.offer(DENOISING.filter((value) => value <= message.most_denoising));
  for (const radio of document.querySelectorAll("#pilot input")) {
    radio.disabled = radio.value === "policy" && !message.policy;
    radio.parentElement.title = radio.value === "policy" ? message.without_policy || message.policy : "";
  }
  PLOTS.trust.wanted = Boolean(message.without_truth); // beside MuJoCo everybody sees how far the dream is right
  const without = [message.without_policy, message.without_reward].filter(Boolean).join(" ");
  if (without) tell(without);
  const rows = Array.from({ length: message.motors }, (_, i) => motorRow(i));
  byId("motors").replaceChildren(...rows);
  drag.splice(0, drag.length, ...Array(message.motors).fill(0));
  sentStick = JSON.stringify(drag); // a game begins with hands off
  listKeys();
}

const keyName = (code) => ({ ArrowLeft: "←", ArrowRight: "→", ArrowDown: "↓", ArrowUp: "↑" })[code] ?? code.replace("Key", "");

function motorRow(i) {
  const row = document.createElement("label");
  row.className = "motor";
  row.innerHTML = "<span></span><input type='range' min='-1' max='1' step='0.01' value='0'><output></output><span></span>";
  const [name, bar, , keys] = row.children;
  name.textContent = motorName(i);
  keys.innerHTML = motorKeys(i).slice(0, 1).flat().map((code) => `<kbd>${keyName(code)}</kbd>`).join(" ");
  bar.addEventListener("input", () => { drag[i] = Number(bar.value); });
  for (const end of ["pointerup", "pointercancel", "blur"]) bar.addEventListener(end, () => { drag[i] = 0; if (end !== "blur") bar.blur(); });
  return row;
}

for (const canvas of SCREENS.slice(0, 2)) {
  const pull = (event) => {
    const box = canvas.getBoundingClientRect();
    const right = clamp((2 * (event.clientX - box.left)) / box.width - 1), up = clamp(1 - (2 * (event.clientY - box.top)) / box.height);
    const pulls = isEye() ? { 3: up, 4: -right } : { 0: right, 1: up }; // an eye looks where the pointer is
    for (const [motor, pull] of Object.entries(pulls)) if (motor in drag) drag[motor] = pull;
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); pull(event); });
  canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && pull(event));
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => drag.fill(0));
}

function gamepad(i) {
  const [axis, way] = isEye() ? EYE[i].pad ?? [] : [i, i % 2 ? -1 : 1]; // up is negative on a gamepad
  for (const pad of navigator.getGamepads()) {
    const tilt = pad?.axes[axis] ?? 0;
    if (Math.abs(tilt) > DEAD_ZONE) return way * tilt;
  }
  return 0;
}

function steer() {
  if (!welcome) return;
  const stick = drag.map((pull, i) => {
    const keys = motorKeys(i).reduce((sum, [less, more]) => sum + held.has(more) - held.has(less), 0);
    return clamp(pull + strength * Math.sign(keys) + gamepad(i));
  });
  const text = JSON.stringify(stick);
  if (text === sentStick || socket?.readyState !== WebSocket.OPEN) return;
  sentStick = text;
  say("steer", stick, { sent_ms: performance.now() });
}

// ---- keys and buttons

function nextPilot() {
  if (welcome.policy) say("pilot", view.pilot === "policy" ? "human" : "policy");
  else tell(welcome.without_policy);
}

function goBack() {
  goal = Math.max(view.oldest, (goal ?? view.step) - 1);
  say("show", goal);
}

function toggleKeys() {
  const keys = byId("keys");
  if (keys.open) keys.close();
  else keys.showModal(); // the browser closes it at Escape and gives the focus back
}

const ACTIONS = {
  Space: ["Pause, go on", () => say("pause", !view.paused)],
  KeyN: ["A single step", () => say("step")],
  KeyB: ["One step back (hold)", goBack],
  Enter: ["Begin both anew", () => say("new")],
  KeyM: ["You or the policy", nextPilot],
  KeyC: ["Record", () => say("record", !view.recording)],
  BracketLeft: ["Shorter horizon of the dream", () => DIALS.horizon.turn(-1)],
  BracketRight: ["Longer horizon of the dream", () => DIALS.horizon.turn(1)],
  Minus: ["Fewer denoising steps", () => DIALS.denoising.turn(-1)],
  Equal: ["More denoising steps", () => DIALS.denoising.turn(1)],
  Comma: ["Slower", () => DIALS.speed.turn(-1)],
  Period: ["Faster", () => DIALS.speed.turn(1)],
  Slash: ["These keys", toggleKeys],
};
const REPEATS = ["KeyB", "KeyN"];

function listKeys() {
  const names = { BracketLeft: "[", BracketRight: "]", Minus: "-", Equal: "=", Comma: ",", Period: ".", Slash: "?" };
  const rows = Object.entries(ACTIONS).map(([code, [what]]) => [what, [names[code] ?? keyName(code)]]);
  rows.push(["Strength of keys", ["1", "…", "0"]]);
  for (let i = 0; i < welcome.motors && i < COLUMNS.length; i++)
    rows.push([`${motorName(i)}, less and more`, motorKeys(i).flatMap(([less, more], n) => [...(n ? [""] : []), keyName(less), keyName(more)])]);
  byId("keys").querySelector("dl").replaceChildren(...rows.map(([what, keys]) => {
    const row = document.createElement("div");
    row.innerHTML = `<dt>${what}</dt><dd>${keys.map((key) => (key ? `<kbd>${key}</kbd>` : "or")).join(" ")}</dd>`;
    return row;
  }));
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !view) return;
  const focus = event.target, code = event.key === "?" ? "Slash" : event.code;
  if (byId("keys").open && code !== "Slash") return;
  if (focus.matches("input[type=text]")) return;
  // What has the focus keeps the keys it understands itself.
  if (focus.matches("input") && /^(Arrow|Home|End|Page|Space)/.test(code)) return;
  if (focus.matches("button, a") && /^(Space|Enter)$/.test(code)) return;
  const digit = /^Digit(\d)$/.exec(code);
  if (digit) DIALS.strength.choose((Number(digit[1]) + 9) % 10);
  else if (ACTIONS[code]) { if (!event.repeat || REPEATS.includes(code)) ACTIONS[code][1](); }
  else if (drag.some((_, i) => motorKeys(i).flat().includes(code))) { held.add(code); steer(); } // at once: a tap may be over before the next picture
  else return;
  event.preventDefault();
});
addEventListener("keyup", (event) => held.delete(event.code));
addEventListener("blur", () => { held.clear(); drag.fill(0); });

for (const [id, code] of [["back", "KeyB"], ["pause", "Space"], ["step", "KeyN"], ["new", "Enter"], ["record", "KeyC"], ["help", "Slash"]])
  byId(id).addEventListener("click", (event) => {
    if (view || code === "Slash") ACTIONS[code][1]();
    if (event.detail) event.currentTarget.blur(); // clicked, not keyed: keys steer again
  });
byId("again").addEventListener("click", connect);
byId("keys").addEventListener("click", (event) => {
  if (event.target === byId("keys") || event.target.closest("button")) byId("keys").close(); // beside it, or Close
});
byId("timeline").querySelector("input").addEventListener("input", (event) => say("show", Number(event.target.value)));
for (const radio of document.querySelectorAll("#pilot input")) radio.addEventListener("change", () => say("pilot", radio.value));
for (const input of document.querySelectorAll("input")) input.addEventListener("pointerup", () => input.blur());

connect();
requestAnimationFrame(draw);
