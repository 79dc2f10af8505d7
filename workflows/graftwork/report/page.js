// Shows the values of a chart's lines under the pointer. All of them can be read without it too.
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const make = (name, parent, attributes) => {
  const element = parent.appendChild(document.createElementNS(SVG, name));
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};
const show = (value) => {
  for (const [suffix, unit] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]])
    if (Math.abs(value) >= unit) return +(value / unit).toPrecision(3) + suffix;
  return value && Math.abs(value) < 1e-3 ? value.toExponential(2) : `${+value.toPrecision(4)}`;
};
const nearest = (points, at) =>
  points.reduce((best, point) => (Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best));
const value = ([low, high, start, end], pixel) => low + ((pixel - start) / (end - start)) * (high - low);

for (const svg of document.querySelectorAll("svg[data-x]")) {
  const scale = (text) => text.split(" ").map(Number);
  const [xs, ys] = [scale(svg.dataset.x), scale(svg.dataset.y)];
  const lines = [...svg.querySelectorAll("path.line")].map((path) => ({
    label: path.dataset.label,
    points: path.getAttribute("d").slice(1).split("L").map((pair) => pair.split(" ").map(Number)),
  }));
  const layer = make("g", svg, { "pointer-events": "none" });
  const readout = (event) => {
    layer.replaceChildren();
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
    if (at < xs[2] || at > xs[3] || !lines.length) return;
    const x = nearest(lines[0].points, at)[0];
    // A line that was not measured hereabouts has nothing to say.
    const near = lines
      .map(({ label, points }) => ({ label, point: nearest(points, x) }))
      .filter(({ point }) => Math.abs(point[0] - x) < 0.02 * (xs[3] - xs[2]));
    make("path", layer, { class: "cursor", d: `M${x} ${ys[3]}V${ys[2]}` });
    const left = x > (xs[2] + xs[3]) / 2;
    const texts = [`${show(value(xs, x))} ${svg.dataset.unit}`];
    for (const { label, point } of near) texts.push(`${label}: ${show(value(ys, point[1]))}`);
    texts.forEach((text, row) => {
      const place = { x: x + (left ? -8 : 8), y: ys[3] + 12 + 16 * row };
      make("text", layer, { class: left ? "readout end" : "readout", ...place }).textContent = text;
    });
  };
  svg.addEventListener("pointermove", readout);
  svg.addEventListener("pointerleave", () => layer.replaceChildren());
}
