// The one chart of the page: bars and lines over months, with axes, to be read with the pointer and the arrow keys.

import { h, nothing, s } from "./dom.js";
import { PLAIN, picture } from "./picture.js";
import { readerOf } from "./reader.js";
import { barShapes, lineShapes, placesIn, valuesIn, valuesOf, WIDEST_BAR } from "./shapes.js";

/** @import { Chart } from "./picture.js" */
/** @import { Bars, Line } from "./shapes.js" */

const LEAST_WIDTH = 200;

/**
 * Draw the chart into its place, as wide as that is.
 *
 * @param {HTMLElement} place
 * @param {Partial<Chart> & Pick<Chart, "stops" | "label" | "height">} given
 */
export function chart(place, given) {
  const chosen = { ...PLAIN, ...given };
  const { bars, lines, stops, label, height, above, below } = chosen;
  if (!valuesOf([...bars, ...lines]).length) {
    place.replaceChildren(nothing("There is nothing to draw."));
    return;
  }
  const svg = s("svg", { role: "img", tabindex: 0, "aria-label": `${label} Arrow keys read single months.` });
  const box = h("div", { class: "chart" }, svg);
  place.replaceChildren(...above, box, ...below);
  const reader = readerOf(box, svg, stops);
  let drawn = 0;

  function draw() {
    const width = Math.max(box.clientWidth, LEAST_WIDTH);
    if (width === drawn) return;
    drawn = width;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const { shapes, x, top, floor } = picture(chosen, width, `${place.id}-clip`);
    svg.replaceChildren(...shapes, reader.cursor);
    reader.placed(x, width, top, floor);
  }

  draw();
  new ResizeObserver(draw).observe(box);
}

/**
 * A picture without axes, stretched to its place.
 *
 * @param {{ bars: Bars[], lines: Line[] }} series
 * @param {number} width
 * @param {number} height
 * @param {boolean} barred
 */
export function thumbnail({ bars, lines }, width, height, barred) {
  const viewBox = `0 0 ${width} ${height}`;
  const svg = s("svg", { viewBox, preserveAspectRatio: "none", "aria-hidden": "true" });
  const places = [...bars, ...lines].flatMap(({ points }) => points.map(({ place }) => place));
  if (!places.length) return svg;
  const most = Math.max(0, ...valuesOf([...bars, ...lines])) || 1;
  const scale = {
    ...placesIn(Math.min(...places), Math.max(...places), { left: 0, width, widest: WIDEST_BAR, barred }),
    y: valuesIn(0, most, 2, height - 1),
  };
  svg.append(
    ...bars.flatMap((one) => barShapes(one, scale)),
    ...lines.flatMap((one) => lineShapes(one, scale, false)),
  );
  return svg;
}
