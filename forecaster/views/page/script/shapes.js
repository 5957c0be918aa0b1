// The shapes of a series in a box.

import { s } from "./dom.js";

const MOST_BARS = 60;
export const WIDEST_BAR = 80; // pixels of a slot

/** @typedef {{ place: number, value: number | null }} Point */

/**
 * Drawn as bars where these are wide enough to tell apart, else as an area under a line.
 *
 * @typedef {{ points: Point[], look: string }} Bars
 */

/**
 * `look` is the class of the line, `dots` the radius of a dot on each point, where there is room for them.
 * A value that is not known leaves a gap.
 *
 * @typedef {{ points: Point[], look: string, dots?: number }} Line
 */

/**
 * @typedef {{
 *   x: (place: number) => number, y: (value: number) => number, slot: number, barred: boolean,
 *   first: number, last: number,
 * }} Scale
 */

/**
 * The values that are known.
 *
 * @param {{ points: Point[] }[]} series
 */
export const valuesOf = (series) =>
  series.flatMap(({ points }) => points.flatMap(({ value }) => (value == null ? [] : [value])));

/**
 * The axis of places. Each has a slot of its own, as long as there are not too many for bars.
 *
 * @param {number} first
 * @param {number} last
 * @param {{ left: number, width: number, widest: number, barred?: boolean, slotted?: boolean }} box
 */
export function placesIn(first, last, { left, width, widest, barred = true, slotted = false }) {
  const slots = last - first + 1;
  const bars = barred && (slotted || slots <= MOST_BARS);
  const slot = bars ? Math.min(width / slots, widest) : width / Math.max(slots - 1, 1);
  const x = (/** @type {number} */ place) => left + (place - first + (bars ? 0.5 : 0)) * slot;
  return { x, slot, barred: bars, first, last };
}

/**
 * The axis of values.
 *
 * @param {number} least
 * @param {number} most
 * @param {number} top
 * @param {number} bottom
 */
export const valuesIn = (least, most, top, bottom) => (/** @type {number} */ value) =>
  bottom - ((Math.max(value, least) - least) / (most - least)) * (bottom - top);

/**
 * @param {Point[]} points
 * @param {Scale} scale
 */
const pathOf = (points, { x, y }) =>
  points
    .map(({ place, value }, i) => {
      if (value == null) return "";
      const to = `${x(place).toFixed(1)} ${y(value).toFixed(1)}`;
      return points[i - 1]?.value == null ? `M${to}h0` : `L${to}`;
    })
    .join("");

/**
 * @param {Point[]} points
 * @param {Scale} scale
 * @param {string} look
 * @param {number} r
 */
const dotsOn = (points, { x, y }, look, r) =>
  points.flatMap(({ place, value }) =>
    value == null ? [] : [s("circle", { class: look, cx: x(place), cy: y(value), r })],
  );

/**
 * @param {Bars} bars
 * @param {Scale} scale
 * @returns {SVGElement[]}
 */
export function barShapes({ points, look }, scale) {
  if (!scale.barred) return areaShapes(points, look, scale);
  const { x, y, slot } = scale;
  const width = Math.max(1, slot * 0.76);
  const bar = (/** @type {number} */ place, /** @type {number} */ value) => {
    const height = Math.max(y(0) - y(value), value > 0 ? 0.75 : 0);
    return s("rect", { class: `bar ${look}`.trim(), x: x(place) - width / 2, width, y: y(value), height });
  };
  return points.flatMap(({ place, value }) => (value == null ? [] : [bar(place, value)]));
}

/**
 * @param {Point[]} points
 * @param {string} look
 * @param {Scale} scale
 */
function areaShapes(points, look, scale) {
  const [first, last] = [points.at(0), points.at(-1)];
  if (!first || !last) return [];
  if (first === last) return dotsOn(points, scale, `bar ${look}`.trim(), 2);
  const path = pathOf(points, scale);
  const base = scale.y(0);
  const ends = `L${scale.x(last.place).toFixed(1)} ${base}L${scale.x(first.place).toFixed(1)} ${base}Z`;
  return [
    s("path", { class: `area ${look}`.trim(), d: path + ends }),
    s("path", { class: `trace ${look}`.trim(), d: path }),
  ];
}

/**
 * @param {Line} line
 * @param {Scale} scale
 * @param {boolean} dotted
 * @returns {SVGElement[]}
 */
export function lineShapes({ points, look, dots }, scale, dotted) {
  const single = points.length === 1;
  if (single && !dots) return dotsOn(points, scale, look, 2.5);
  return [
    ...(points.length > 1 ? [s("path", { class: look, d: pathOf(points, scale) })] : []),
    ...(dots && (dotted || single) ? dotsOn(points, scale, "bar", dots) : []),
  ];
}
