// Reads the values of a chart's lines under the pointer. Everything is on the page without it too.
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const make = (name, parent) => parent.appendChild(document.createElementNS(SVG, name));
const show = (v) => (Math.abs(v) >= 1e4 || (v && Math.abs(v) < 1e-2) ? v.toExponential(2) : +v.toPrecision(4));
for (const svg of document.querySelectorAll("svg[data-x]")) {
  const scale = (text) => text.split(" ").map(Number);
  const [xs, ys] = [scale(svg.dataset.x), scale(svg.dataset.y)];
  const value = ([low, high, start, end], pixel) => low + ((pixel - start) / (end - start)) * (high - low);
  const lines = [...svg.querySelectorAll("path.line")].map((path) => ({
    label: path.dataset.label,
    points: path.getAttribute("d").slice(1).split("L").map((pair) => pair.split(" ").map(Number)),
  }));
  const layer = make("g", svg);
  layer.setAttribute("pointer-events", "none");
  const hide = () => layer.replaceChildren();
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("pointermove", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
    hide();
    if (at < xs[2] || at > xs[3] || !lines.length) return;
    const near = lines.map(({ label, points }) => {
      const point = points.reduce((best, p) => (Math.abs(p[0] - at) < Math.abs(best[0] - at) ? p : best));
      return { label, point };
    });
    const cursor = make("path", layer);
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("d", `M${near[0].point[0]} ${ys[3]}V${ys[2]}`);
    const left = at > (xs[2] + xs[3]) / 2;
    near.forEach(({ label, point }, row) => {
      const text = make("text", layer);
      text.setAttribute("class", left ? "readout end" : "readout");
      text.setAttribute("x", near[0].point[0] + (left ? -8 : 8));
      text.setAttribute("y", ys[3] + 12 + 16 * row);
      text.textContent = `${label} ${show(value(ys, point[1]))} at ${show(value(xs, point[0]))}`;
    });
  });
}
