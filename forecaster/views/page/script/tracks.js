// The tracks that are listed, as columns.

import { byId } from "./dom.js";
import { total } from "./numbers.js";
import { summary } from "./summary.js";

/**
 * Ids are text, because they may exceed the integers that JavaScript counts exactly.
 *
 * @typedef {{
 *   track: string[], artist: (string | null)[], state: string[], reason: (string | null)[],
 *   as_of: (string | null)[], cutoff: (string | null)[], stored: (string | null)[], late: number[],
 *   age: (number | null)[], age_now: (number | null)[], segment: (number | null)[], range: (number | null)[],
 *   last_30: (number | null)[], last_365: (number | null)[], total: (number | null)[], digits: (string | null)[],
 *   low: (number | null)[], high: (number | null)[],
 *   months: (number | null)[], change: (number | null)[], mldr: (number | null)[], k: (number | null)[],
 *   multiplier: (number | null)[], history: ((number | null)[] | null)[], forecast: ((number | null)[] | null)[],
 * }} Rows
 */

/**
 * A sum or a month of a track. History ends at month 0, the forecast begins at month 1. The place is the month,
 * except for a forecast that does not follow the history: it is drawn as much earlier as it knew less.
 *
 * @typedef {{ place: number, value: number, month: number }} Month
 */

/** @type {Rows} */
export let rows;

export async function unpack() {
  const packed = atob(byId("rows-data").textContent.trim());
  const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  rows = await new Response(stream).json();
}

const STATES = ["forecast", "stale", "pending"];

/** @param {number} i */
export const stateText = (i) =>
  STATES.includes(rows.state[i]) ? rows.state[i] : `skipped: ${rows.state[i]}`;

/** @param {number} i */
export const stateClass = (i) => `state-${STATES.includes(rows.state[i]) ? rows.state[i] : "skipped"}`;

/**
 * Does the forecast not follow the history?
 *
 * @param {number} i
 */
export const apart = (i) => rows.late[i] !== 0;

/**
 * @param {(number | null)[] | null} values
 * @param {(at: number) => { place: number, month: number }} where
 * @returns {Month[]}
 */
const monthsOf = (values, where) =>
  (values ?? []).flatMap((value, at) => (value == null ? [] : [{ ...where(at), value }]));

/**
 * @param {number} i
 */
export function history(i) {
  const first = 1 - (rows.history[i]?.length ?? 0);
  return monthsOf(rows.history[i], (at) => ({ place: first + at, month: first + at }));
}

/**
 * @param {number} i
 */
export const forecast = (i) =>
  monthsOf(rows.forecast[i], (at) => ({
    place: summary.drawn[at] - rows.late[i] / 30,
    month: summary.drawn[at],
  }));

/**
 * The bars and lines that a track is drawn with. Only a line hides nothing of what lies behind it.
 *
 * @param {number} i
 * @param {number} dots their radius
 */
export function seriesOf(i, dots) {
  const past = { points: history(i), look: "past" };
  const next = { points: forecast(i), look: "" };
  return apart(i)
    ? { bars: [past], lines: [{ points: next.points, look: "trace", dots }] }
    : { bars: [past, next], lines: [] };
}

/** @param {number} i */
export const totalOf = (i) => total(rows.total[i], rows.digits[i]);

/** @param {number} i */
export const link = (i) => `#track-${rows.track[i]}`;
