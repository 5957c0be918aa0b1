// The scores of an evaluation, and tables of them.

import { byId, h } from "./dom.js";
import { compact, known, numberFormat, PERCENT, SIGNED, whole } from "./numbers.js";

/** @import { Child } from "./dom.js" */
/** @import { Format } from "./numbers.js" */

/** @typedef {Record<string, (number | null)[]>} Scores */
/** @typedef {{ name: string, meaning: string, months: number }} LeftOut */

/**
 * A row of `METRICS` in Python; without a heading it is in no table of models.
 *
 * @typedef {{ heading: string | null, formula: string, form: string }} Metric
 */

/**
 * Frames as columns, by the names of `GROUPS` in Python, and the words for their names. `rivals` are the baselines'
 * errors by month.
 *
 * @typedef {{
 *   overall: Scores & { model: string[] }, by_month: Scores & { month: number[] },
 *   by_cutoff: Scores & { cutoff: string[] }, by_segment: Scores, by_influence: Scores, by_volume: Scores,
 *   by_total: Scores & { of: string[], month: number[] }, words: string[], missing: Record<string, number>,
 *   rivals: Scores, scored: number, left_out: LeftOut[], best: string, worst: string | null,
 *   forecaster: string, baselines: Record<string, string>, metrics: Record<string, Metric>,
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

/** @typedef {{ head: string, format: Format, meaning?: string }} Score */

/**
 * The scores that have words or a form of their own on the page.
 *
 * @type {Record<string, Score>}
 */
const WORDED = {
  series: { head: "Series", format: whole, meaning: "tracks at a cutoff" },
  windows: { head: "Months", format: whole, meaning: "scored forecast months of 30 days" },
  forecast_total: { head: "Forecast", format: compact },
  actual_total: { head: "Actual", format: compact },
  wape: { head: "WAPE", format: percent },
  bias: { head: "Bias", format: plus },
  cumulative_wape: { head: "cWAPE", format: percent },
  smape: { head: "sMAPE", format: percent },
  mase: { head: "MASE", format: scaled },
  rmsse: { head: "RMSSE", format: scaled },
  within_10: { head: "±10%", format: percent },
  within_20: { head: "±20%", format: percent },
  within_50: { head: "±50%", format: percent },
  skill: { head: "Skill", format: plus },
};

/** The metrics that a table of models has. */
export const METRICS = Object.keys(judged.metrics).filter((name) => judged.metrics[name].heading !== null);

/**
 * Any other metric is shown by its heading and form.
 *
 * @param {string} name
 * @returns {Score}
 */
export function scoreOf(name) {
  const { heading, form } = judged.metrics[name] ?? { heading: name, form: "" };
  return WORDED[name] ?? { head: heading ?? name, format: form.endsWith("%") ? percent : scaled };
}

/** @param {string} name */
export const formula = (name) => judged.metrics[name]?.formula ?? WORDED[name]?.meaning;

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
    h("th", { scope: "col", class: "right" }, h("span", { title: formula(key) }, scoreOf(key).head)),
  );
  const rows = values.map((value, i) => {
    const cells = keys.map((key) => {
      const score = frame[key][i];
      return h("td", { class: score == null ? "right none" : "right" }, scoreOf(key).format(score));
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
