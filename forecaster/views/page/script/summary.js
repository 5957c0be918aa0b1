// The data about all tracks together.

import { byId } from "./dom.js";

/**
 * Sums per segment or range; last, those of tracks without one.
 *
 * @typedef {{
 *   number: (number | null)[], tracks: number[],
 *   forecast: number[], forecast_digits: (string | null)[],
 *   streams_30: number[], streams_30_digits: (string | null)[],
 * }} Groups
 */

/**
 * A reason for having no forecast. `stored` counts tracks that still have an older one.
 *
 * @typedef {{ name: string, meaning: string, tracks: number, stored: number }} State
 */

/**
 * `rows` is the number of listed tracks, `drawn` the months that their forecasts give.
 *
 * @typedef {{
 *   tracks: number, total: number, rows: number, drawn: number[],
 *   months: { month: number[], streams: number[], digits: (string | null)[], tracks: number[] },
 *   segments: Groups, segment_starts: number[], ranges: Groups, range_edges: number[], states: State[],
 * }} Summary
 */

/** @type {Summary} */
export const summary = JSON.parse(byId("summary-data").textContent);
