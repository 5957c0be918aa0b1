// The scores of an evaluation, and tables of them.

import { byId, h } from "./dom.js";
import { compact, known, numberFormat, PERCENT, SIGNED, whole } from "./numbers.js";

/** @import { Child } from "./dom.js" */
/** @import { Format } from "./numbers.js" */

/** @typedef {Record<string, (number | null)[]>} Scores */
/** @typedef {{ name: string, meaning: string, months: number }} LeftOut */

/**
 * Frames as columns, by the names of `GROUPS` in Python, and the words for their names. `rivals` are the baselines'
 * errors by month.
 *
 * @typedef {{
 *   overall: Scores & { model: string[] }, by_month: Scores & { month: number[] },
 *   by_cutoff: Scores & { cutoff: string[] }, by_segment: Scores, by_influence: Scores, by_volume: Scores,
 *   rivals: Scores, scored: number, left_out: LeftOut[], best: string, worst: string | null,
 *   forecaster: string, baselines: Record<string, string>, formulas: Record<string, string>,
 *   metrics: Record<string, { heading: string, form: string }>,
 * }} Judged
 */

/** @type {Judged} */
export const judged = JSON.parse(byId("evaluation-data").textContent);

export const RIVALS = Object.keys(judged.baselines);

const MARK = numberFormat({ style: "percent", maximumSignificantDigits: 3 });
const SIGNED_MARK = numberFormat({
  style: "percent",
  maximumSignificantDigits: 3,
  signDisplay: "exceptZero",
});
const SCALED = numberFormat({ minimumFractionDigits: 2, maximumFractionDigits: 2 });

/**
 * A share in percent, without a fraction from 1,000% on.
 *
 * @param {Intl.NumberFormat} format
 * @param {string} [above] the sign of what is above 0
 * @returns {Format}
 */
const inPercent = (format, above = "") =>
  known((value) => {
    const size = Math.abs(value);
    if (size < 10) return format.format(value);
    return `${value > 0 ? above : ""}${(size < 1e3 ? whole : compact)(value * 100)}%`;
  });

export const percent = inPercent(PERCENT);
export const plus = inPercent(SIGNED, "+");
export const errorMark = inPercent(MARK);
export const biasMark = inPercent(SIGNED_MARK, "+");

/** @type {Format} */
const scaled = known((value) => (Math.abs(value) < 1e4 ? SCALED.format(value) : compact(value)));

/**
 * Which way a bias goes.
 *
 * @param {number | null} bias
 */
export function side(bias) {
  if (bias == null) return "";
  if (Math.abs(bias) < 0.0005) return "neither too high nor too low";
  return bias > 0 ? "too high" : "too low";
}

/** @param {string} name */
export const spoken = (name) => name.replaceAll("_", " ");

/**
 * By the `form` of a metric in Python.
 *
 * @type {Record<string, Format>}
 */
const FORMATS = { ".1%": percent, "+.1%": plus, ".3f": scaled };

/** The metrics that have a column, in its order. */
export const METRICS = Object.keys(judged.metrics);

/** @type {Record<string, [head: string, format: Format, meaning?: string]>} */
export const SCORES = {
  series: ["Series", whole, "tracks at a cutoff"],
  windows: ["Months", whole, "forecast months of 30 days that are scored"],
  forecast_total: ["Forecast", compact],
  actual_total: ["Actual", compact],
};
for (const [name, { heading, form }] of Object.entries(judged.metrics)) {
  SCORES[name] = [heading, name === "skill" ? plus : (FORMATS[form] ?? scaled)];
}

/** @param {string} key */
export const formula = (key) => judged.formulas[key] || SCORES[key][2];

/**
 * One row per value of the first column; each head has its formula.
 *
 * @template {string | number} V
 * @param {string} label
 * @param {Scores} frame
 * @param {{ head: string, values: V[], names: (value: V) => Child }} first the first column
 * @param {string[]} keys
 */
export function scoreTable(label, frame, { head, values, names }, keys) {
  const heads = keys.map((key) =>
    h("th", { scope: "col", class: "right" }, h("span", { title: formula(key) }, SCORES[key][0])),
  );
  const rows = values.map((value, i) => {
    const cells = keys.map((key) => {
      const score = frame[key][i];
      return h("td", { class: score == null ? "right none" : "right" }, SCORES[key][1](score));
    });
    const own = value === judged.forecaster;
    return h("tr", { class: own ? "own" : null }, h("th", { scope: "row" }, names(value)), cells);
  });
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h(
      "table",
      { class: "scores" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, head), heads)),
      h("tbody", {}, rows),
    ),
  );
}
