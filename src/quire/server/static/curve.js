// Two lines over the last two minutes, drawn as SVG.

import { element } from "./server.js";

const KEPT = 120; // points, one a second
const FEWEST = 40; // that the width stands for
const WIDTH = 360, HEIGHT = 72;

const svg = (tag, facts) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(facts)) made.setAttribute(name, value);
  return made;
};

export class Curve {
  constructor(home, names, words, unit = "") {
    this.names = names;
    this.words = words;
    this.unit = unit;
    this.points = [];
    this.picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.lines = ["one", "two"].map((kind) => svg("path", { class: kind }));
    this.picture.append(svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }), ...this.lines);
    this.told = names.map((_, i) => element("span", ["one", "two"][i]));
    this.top = element("span", "top");
    const legend = element("p");
    legend.append(...this.told, this.top);
    home.append(this.picture, legend);
    this.draw();
  }

  // A value is null where nothing was measured: the line has a gap there.
  add(values) {
    this.points.push(values);
    if (this.points.length > KEPT) this.points.shift();
    this.draw();
  }

  draw() {
    const highest = Math.max(0, ...this.points.flat().filter((v) => v !== null));
    const last = this.names.map((_, i) => this.points.findLast((p) => p[i] !== null)?.[i]);
    this.lines.forEach((line, i) => line.setAttribute("d", this.path(i, highest || 1)));
    this.told.forEach((told, i) => {
      told.textContent = `${this.names[i]} `;
      told.append(element("b", "", last[i] === undefined ? "–" : this.words(last[i])));
    });
    this.top.textContent = highest ? `peak ${this.words(highest)} ${this.unit}` : "";
    this.picture.setAttribute("aria-label", this.told.map((told) => told.textContent).join(", "));
  }

  path(which, highest) {
    let path = "", pen = "M";
    this.points.forEach((values, i) => {
      if (values[which] === null) { pen = "M"; return; }
      const x = (i * WIDTH) / (Math.max(FEWEST, this.points.length) - 1);
      const y = HEIGHT - (values[which] / highest) * (HEIGHT - 2);
      path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      if (pen === "M") path += `h.01`; // a point by itself is seen too
      pen = "L";
    });
    return path;
  }
}
