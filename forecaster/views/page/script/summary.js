// What is known of all tracks together.

import { byId } from "./dom.js";

/**
 * Sums per segment or range; the last one is of the tracks that have none.
 *
 * @typedef {{
 *   number: (number | null)[], tracks: number[],
 *   forecast: number[], forecast_digits: (string | null)[],
 *   streams_30: number[], streams_30_digits: (string | null)[],
 * }} Groups
 */

/**
 * A way to have no forecast. `stored` counts the tracks that have one from before.
 *
 * @typedef {{ name: string, meaning: string, tracks: number, stored: number }} State
 */

/**
 * `rows` is the number of tracks that are listed, `drawn` are the months of which each has its forecast.
 *
 * @typedef {{
 *   tracks: number, total: number, rows: number, drawn: number[],
 *   months: { month: number[], streams: number[], digits: (string | null)[], tracks: number[] },
 *   segments: Groups, segment_starts: number[], ranges: Groups, range_edges: number[], states: State[],
 * }} Summary
 */

/** @type {Summary} */
export const summary = JSON.parse(byId("summary-data").textContent);
