// All shapes of a chart, and where they are.

import { monthTicks, placeTicks, ticks, ticksAround } from "./axis.js";
import { s } from "./dom.js";
import { compact, text } from "./numbers.js";
import { barShapes, lineShapes, placesIn, valuesIn, valuesOf, WIDEST_BAR } from "./shapes.js";

/** @import { Format } from "./numbers.js" */
/** @import { Stop } from "./reader.js" */
/** @import { Bars, Line, Point, Scale } from "./shapes.js" */

const RIGHT = 8;
const BOTTOM = 26;
const BAND_HEIGHT = 80;
const BAND_GAP = 42;
const DOT_ROOM = 8; // pixels of a slot from which on dots can be told apart

/**
 * The axis of values. `em` is the width of a character of its labels in pixels. Values above `most` leave the chart.
 *
 * @typedef {{ format: Format, em: number, title?: string, most?: number }} Axis
 */

/**
 * A second row below, of bars around zero, on the same months.
 *
 * @typedef {{ title: string, format: Format, points: Point[] }} Band
 */

/**
 * Where a forecast begins that does not follow the history, in words; places are then named by their dates.
 *
 * @typedef {{ place: number, words: string, date: (place: number) => string }} Split
 */

/**
 * `stops` are all places in order; `above` and `below` stand around the chart. Bars begin at 0.
 *
 * @typedef {{
 *   bars: Bars[], lines: Line[], band: Band | null, split: Split | null,
 *   stops: Stop[], label: string, height: number, axis: Axis, above: Node[], below: Node[],
 * }} Chart
 */

/**
 * The edges of the plot: `base` is its lower one, `floor` that of the band if there is one.
 *
 * @typedef {{ left: number, right: number, top: number, base: number, floor: number, width: number }} Box
 */

/**
 * A chart of streams with nothing in it.
 *
 * @satisfies {Partial<Chart>}
 */
export const PLAIN = {
  bars: /** @type {Bars[]} */ ([]),
  lines: /** @type {Line[]} */ ([]),
  band: null,
  split: null,
  axis: /** @type {Axis} */ ({ format: compact, em: 7.5 }),
  above: /** @type {Node[]} */ ([]),
  below: /** @type {Node[]} */ ([]),
};

/**
 * The edges at this width: on the left there is room for the longest label.
 *
 * @param {Chart} chosen
 * @param {number} width
 * @param {string[]} labels
 * @returns {Box}
 */
function boxOf({ axis, band, split, height }, width, labels) {
  const left = Math.max(...labels.map((label) => label.length)) * axis.em + 12;
  const floor = height - BOTTOM;
  const title = axis.title ? 24 : 10;
  return {
    left,
    right: width - RIGHT,
    top: split ? 28 : title,
    base: band ? floor - BAND_HEIGHT - BAND_GAP : floor,
    floor,
    width,
  };
}

/**
 * All shapes at this width, in the order in which they cover each other.
 *
 * @param {Chart} chosen
 * @param {number} width
 * @param {string} clip id of the part that lines stay in
 */
export function picture(chosen, width, clip) {
  const { bars, lines, band, split, stops, axis } = chosen;
  const most = axis.most ?? Math.max(0, ...valuesOf([...bars, ...lines]));
  const marks = ticks(most);
  const around = band ? ticksAround(valuesOf([band])) : [];
  const labels = [...marks.map(axis.format), ...around.map(band?.format ?? axis.format)];
  const box = boxOf(chosen, width, labels);
  const { left, right, top, base, floor } = box;
  const slots = {
    left,
    width: right - left,
    widest: bars.length ? WIDEST_BAR : Infinity,
    slotted: band !== null,
  };
  const scale = {
    ...placesIn(stops[0].place, stops[stops.length - 1].place, slots),
    y: valuesIn(0, most || 1, top, base),
  };
  const dotted = scale.barred && scale.slot >= DOT_ROOM;
  const drawn = lines.flatMap((line) => lineShapes(line, scale, dotted));
  const shapes = [
    ...axisShapes(marks, scale.y, axis, box),
    ...(band ? bandShapes(band, around, scale, box) : []),
    ...(split ? dateLabels(split, scale, box) : monthLabels(scale, box, band ? 20 : 18)),
    ...bars.flatMap((one) => barShapes(one, scale)),
    ...(split ? splitShapes(split, scale, box) : []),
    ...(axis.most === undefined ? drawn : clipped(drawn, clip, box)),
  ];
  return { shapes, x: scale.x, top, floor };
}

/**
 * Lines and labels, below a title.
 *
 * @param {number[]} marks
 * @param {(value: number) => number} y
 * @param {{ format: Format, title?: string }} named
 * @param {Box} box
 */
function axisShapes(marks, y, { format, title }, { left, right, top }) {
  const shapes = marks.flatMap((mark) => [
    s("line", { class: mark ? "grid" : "base", x1: left, x2: right, y1: y(mark), y2: y(mark) }),
    s("text", { x: left - 8, y: y(mark) + 4, "text-anchor": "end" }, format(mark)),
  ]);
  return [...(title ? [s("text", { x: left, y: top - 12 }, title)] : []), ...shapes];
}

/**
 * @param {Scale} scale
 * @param {Box} box
 * @param {number} below the floor, in pixels
 */
const monthLabels = ({ x, first, last }, { left, width, floor }, below) =>
  monthTicks(first, last, (width - left) / 52).map((month) =>
    s("text", { x: x(month), y: floor + below, "text-anchor": "middle" }, text(month)),
  );

/**
 * @param {Split} split
 * @param {Scale} scale
 * @param {Box} box
 */
const dateLabels = ({ date }, { x, first, last }, { left, width, floor }) =>
  placeTicks(first, last, (width - left) / 84)
    .filter((place) => x(place) <= width - 34)
    .map((place) => s("text", { x: x(place), y: floor + 18, "text-anchor": "middle" }, date(place)));

/**
 * @param {Split} split
 * @param {Scale} scale
 * @param {Box} box
 */
function splitShapes({ place, words }, scale, { left, width, base }) {
  const x = Math.max(scale.x(place), left);
  const side = x > (left + width) / 2 ? "end" : "start";
  return [
    s("line", { class: "split", x1: x, x2: x, y1: 6, y2: base }),
    s("text", { x: x + (side === "end" ? -6 : 6), y: 16, "text-anchor": side }, words),
  ];
}

/**
 * @param {Band} band
 * @param {number[]} marks
 * @param {Scale} scale
 * @param {Box} box
 */
function bandShapes(band, marks, { x, slot }, box) {
  const own = { ...box, top: box.floor - BAND_HEIGHT };
  const y = valuesIn(marks[0], marks[marks.length - 1], own.top, own.floor);
  const width = Math.min(slot * 0.6, 28);
  const bar = (/** @type {number} */ place, /** @type {number} */ value) => {
    const height = Math.abs(y(value) - y(0));
    return s("rect", { class: "bar", x: x(place) - width / 2, width, y: Math.min(y(value), y(0)), height });
  };
  const bars = band.points.flatMap(({ place, value }) => (value == null ? [] : [bar(place, value)]));
  return [...axisShapes(marks, y, band, own), ...bars];
}

/**
 * @param {SVGElement[]} shapes
 * @param {string} id
 * @param {Box} box
 */
const clipped = (shapes, id, { top, base, width }) => [
  s("clipPath", { id }, s("rect", { x: 0, y: top - 4, width, height: base - top + 8 })),
  s("g", { "clip-path": `url(#${id})` }, shapes),
];
