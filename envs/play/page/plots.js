// What was measured over the last steps, drawn as lines. play.js says when, and keeps `view` and `series`.
"use strict";

const byId = (id) => document.getElementById(id);
const number = (value, digits = 1) => (Number(value.toFixed(digits)) + 0).toFixed(digits); // + 0: never "-0.0"
const percent = (value) => `${Math.round(100 * value)} %`;
const STEPS_SHOWN = [40, 200]; // in a plot, at least and at most
const NAMES = { dream: "dream", truth: "MuJoCo", third: "policy" };

class Plot {
  // lines: [color, value of a header], a value that is no number leaves a gap; text: a value as it is written.
  constructor(title, lines, text, { top = 0, words = "" } = {}) {
    Object.assign(this, { lines, text, top, wanted: true });
    this.figure = document.createElement("figure");
    this.figure.innerHTML = "<figcaption><b></b><output></output></figcaption><canvas role='img'></canvas><p></p>";
    this.figure.querySelector("b").textContent = title;
    this.figure.querySelector("p").textContent = words;
    this.canvas = this.figure.querySelector("canvas");
    this.canvas.setAttribute("aria-label", `${title} over the last steps`);
    byId("plots").append(this.figure);
  }
  draw() {
    const from = Math.max(0, view.newest - STEPS_SHOWN[1] + 1), shown = series.slice(from);
    const lines = this.lines.map(([color, value]) => [color, shown.map((one) => one && value(one))]);
    const values = lines.flatMap(([, line]) => line).filter(Number.isFinite);
    this.figure.hidden = !this.wanted || !values.length;
    if (this.figure.hidden) return;
    this.legend();
    const { canvas } = this, scale = devicePixelRatio, width = canvas.clientWidth * scale, height = canvas.clientHeight * scale;
    if (canvas.width !== Math.round(width)) canvas.width = Math.round(width);
    if (canvas.height !== Math.round(height)) canvas.height = Math.round(height);
    let high = Math.max(this.top, ...values), low = Math.min(0, ...values);
    if (high === low) high = low + 1;
    const y = (value) => height - 6 * scale - ((value - low) / (high - low)) * (height - 12 * scale);
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, width, height);
    const left = this.scale(pen, [low, high], y, width, scale), span = Math.max(STEPS_SHOWN[0], shown.length) - 1;
    const x = (i) => left + (i / span) * (width - left - scale);
    stroke(pen, [[x(view.step - from), 0], [x(view.step - from), height]]);
    pen.lineWidth = 1.8 * scale;
    for (const [color, line] of lines.reverse()) {
      pen.strokeStyle = COLORS[color];
      stroke(pen, line.map((value, i) => Number.isFinite(value) && [x(i), y(value)]));
    }
  }
  legend() {
    const items = this.lines.map(([color, value]) => {
      const now = value(series[view.step]), name = this.lines.length > 1 ? `${NAMES[color]} ` : "";
      return Object.assign(document.createElement("span"), { className: color, textContent: name + (Number.isFinite(now) ? this.text(now) : "–") });
    });
    this.figure.querySelector("output").replaceChildren(...items);
  }
  // The lowest and the highest value as lines with their numbers; gives where the drawing begins.
  scale(pen, ends, y, width, scale) {
    pen.lineWidth = scale;
    pen.strokeStyle = COLORS.line;
    pen.fillStyle = COLORS.soft;
    pen.font = `${10 * scale}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    const left = Math.max(...ends.map((value) => pen.measureText(this.text(value)).width)) + 5 * scale;
    for (const value of ends) {
      pen.fillText(this.text(value), 0, y(value));
      stroke(pen, [[left, y(value)], [width, y(value)]]);
    }
    return left;
  }
}

function stroke(pen, points) {
  pen.beginPath();
  points.forEach((point, i) => point && (points[i - 1] ? pen.lineTo(...point) : pen.moveTo(...point)));
  pen.stroke();
}

const COLORS = {};
function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["dream", "truth", "third", "line", "soft"]) COLORS[name] = style.getPropertyValue(`--${name}`);
}
readColors();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); fresh = Boolean(view); });
addEventListener("resize", () => { fresh = Boolean(view); });

const chance = (side) => (side?.reward === null ? NaN : side?.termination);
const PLOTS = {
  reward: new Plot("Reward", [["dream", (one) => one.dream.reward], ["truth", (one) => one.truth?.reward]], (value) => number(value, 2)),
  end: new Plot("Chance of end", [["dream", (one) => chance(one.dream)], ["truth", (one) => chance(one.truth)]], percent, { top: 1 }),
  trust: new Plot("Trust", [["dream", (one) => one.trust]], percent, {
    top: 1,
    words: "The dream's own estimate: how likely MuJoCo, under the same actions, would be close by now (within half of the state's usual spread). It falls as a dream grows long.",
  }),
  difference: new Plot("Difference, rms", [["third", (one) => one.difference]], number),
  latency: new Plot("Latency, ms", [["dream", (one) => one.spent_ms.dream], ["truth", (one) => one.spent_ms.truth], ["third", (one) => one.spent_ms.policy]], number),
};
