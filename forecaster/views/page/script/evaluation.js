// Forecast accuracy: scores, errors by month, models and groups.

import { chart } from "./chart.js";
import { byId, h, s, valuesTable } from "./dom.js";
import { counted, text, whole } from "./numbers.js";
import {
  biasMark,
  errorMark,
  formula,
  judged,
  METRICS,
  percent,
  plus,
  RIVALS,
  scoreOf,
  scoreTable,
  side,
  spoken,
} from "./scores.js";
import { summary } from "./summary.js";

/** @import { Child } from "./dom.js" */
/** @import { Scores } from "./scores.js" */

const MODEL_SCORES = [...METRICS, "forecast_total", "actual_total", "series"];
const GROUP_SCORES = ["wape", "bias", "within_20", "skill", "series", "windows"];
const TOTAL_SCORES = ["wape", "bias", "inside_80", "inside_95", "interval_80", "interval_95"];

const leftOut = judged.left_out.filter(({ months }) => months);
const several = judged.by_cutoff.cutoff.length > 1;

function drawWords() {
  byId("verdict").replaceChildren(...judged.words.map((words) => h("p", {}, words)));
}

function drawScores() {
  const own = judged.overall.model.indexOf(judged.forecaster);
  const score = (/** @type {string} */ key) => judged.overall[key][own];
  const series = score("series") ?? 0;
  const months = leftOut.reduce((sum, reason) => sum + reason.months, 0);
  const facts = [
    ["wape", "WAPE", percent(score("wape")), "error as a share of the streams"],
    ["bias", "Bias", plus(score("bias")), side(score("bias"))],
    [
      "within_20",
      "Within 20%",
      percent(score("within_20")),
      `of ${several ? `${whole(series)} series` : counted(series, "track")}`,
    ],
    ["skill", "Skill", plus(score("skill")), `against ${spoken(judged.best)}, the best baseline`],
    [
      "windows",
      "Months scored",
      whole(judged.scored),
      months ? `${whole(months)} left out` : "none left out",
    ],
  ];
  byId("scores").replaceChildren(
    ...facts.map(([key, name, value, more]) =>
      h(
        "div",
        { id: `score-${key}` },
        h("dt", { title: formula(key) }, name),
        h("dd", {}, value, h("small", {}, more)),
      ),
    ),
  );
}

function cutoffNote() {
  if (judged.worst == null) return "";
  if (!several) return `Cutoff: ${judged.worst}. `;
  const { cutoff, wape } = judged.by_cutoff;
  return `Worst cutoff: ${judged.worst}, WAPE ${percent(wape[cutoff.indexOf(judged.worst)])}. `;
}

function drawNote() {
  const reasons = leftOut.flatMap(({ name, meaning, months }, i) => [
    i ? ", " : "",
    whole(months),
    " ",
    h("code", { title: meaning || null }, name),
  ]);
  const lacking = Object.entries(judged.missing)
    .filter(([, months]) => months)
    .map(([name, months]) => `${whole(months)} ${spoken(name)}`);
  byId("scored-note").replaceChildren(
    cutoffNote(),
    ...(reasons.length ? ["Months left out: ", ...reasons, ". "] : []),
    ...(lacking.length ? [`Months without a baseline: ${lacking.join(", ")}.`] : []),
  );
}

/** The baselines' lines, each with a look of its own, then the forecaster's. */
const LINES = [
  ...RIVALS.map((name, i) => ({
    name,
    look: `error-line rival-${i % 7}`,
    wape: judged.rivals[`wape_${name}`],
  })),
  { name: judged.forecaster, look: "error-line own", wape: judged.by_month.wape },
];

function errorKey() {
  const entries = [...LINES.slice(-1), ...LINES.slice(0, -1)].map(({ name, look }) =>
    h(
      "span",
      { class: "line", title: judged.baselines[name] },
      s(
        "svg",
        { viewBox: "0 0 28 8", "aria-hidden": "true" },
        s("line", { class: look, x1: 1, x2: 27, y1: 4, y2: 4 }),
      ),
      spoken(name) + (name === judged.best ? " (best baseline)" : ""),
    ),
  );
  return h("div", { class: "key" }, entries);
}

/**
 * What the bubble of a month says.
 *
 * @param {number} i
 */
function saysOf(i) {
  const { wape, bias, series } = judged.by_month;
  const way = side(bias[i]);
  return [
    `WAPE ${percent(wape[i])}`,
    `Bias ${plus(bias[i])}${way && `, ${way}`}`,
    ...RIVALS.map((name) => `${spoken(name)} ${percent(judged.rivals[`wape_${name}`][i])}`),
    `${whole(series[i])} series`,
  ];
}

/**
 * Lines of WAPE over bars of bias.
 *
 * @param {HTMLElement} place
 */
function drawErrors(place) {
  const { month, wape, bias } = judged.by_month;
  const all = Math.max(0, ...LINES.flatMap((line) => line.wape.map(Number)));
  // A baseline that is very far off would press the other lines flat.
  const most = Math.min(all, Math.max(3 * Math.max(0, ...wape.map(Number)), 0.5)) || 1;
  const last = month.length - 1;
  const points = (/** @type {(number | null)[]} */ values) =>
    values.map((value, i) => ({ place: month[i], value }));
  const leaving = "Baselines with larger errors leave the chart at the top; the table has their values.";
  chart(place, {
    lines: LINES.map(({ name, look, wape: values }) => ({
      points: points(values),
      look,
      dots: name === judged.forecaster ? 3 : 0,
    })),
    band: { title: "Bias: above 0 too high, below too low", points: points(bias), format: biasMark },
    axis: { title: "WAPE", format: errorMark, em: 8, most },
    stops: month.map((m, i) => ({ place: m, title: `Month ${m}`, says: saysOf(i) })),
    height: 398,
    label: `Error by month ahead: WAPE ${percent(wape[0])} in month ${month[0]}, ${percent(wape[last])} in month ${month[last]}.`,
    above: [errorKey()],
    below: [
      h("p", { class: "axis-note" }, "Months ahead"),
      ...(all > most ? [h("p", { class: "note" }, leaving)] : []),
    ],
  });
}

function drawMonths() {
  const { month, series, wape, bias, skill } = judged.by_month;
  const place = h("div", { id: "error-chart" });
  const heads = ["Month", "Series", "WAPE", "Bias", "Skill", ...RIVALS.map(spoken)];
  const rows = month.map((m, i) => [
    whole(m),
    whole(series[i]),
    percent(wape[i]),
    plus(bias[i]),
    plus(skill[i]),
    ...RIVALS.map((name) => percent(judged.rivals[`wape_${name}`][i])),
  ]);
  byId("errors").replaceChildren(place, valuesTable(heads, rows));
  drawErrors(place);
}

function drawModels() {
  const title = "Forecaster and baselines";
  const names = (/** @type {string} */ name) => h("span", { title: judged.baselines[name] }, spoken(name));
  const first = { head: "Model", values: judged.overall.model, names };
  byId("models").replaceChildren(h("h3", {}, title), scoreTable(title, judged.overall, first, MODEL_SCORES));
}

/**
 * @template {string | number} V
 * @param {string} title
 * @param {Scores} frame
 * @param {string} head
 * @param {string} column
 * @param {(value: V) => Child} names
 */
function groupBox(title, frame, head, column, names) {
  const first = { head, values: /** @type {V[]} */ (frame[column]), names };
  return h("div", { class: "box" }, h("h3", {}, title), scoreTable(title, frame, first, GROUP_SCORES));
}

/** The totals of all tracks, with their intervals. */
function totalBox() {
  const title = "Totals of all tracks";
  const { of, month } = judged.by_total;
  const values = month.map((m, i) => (of[i] === "cumulated" ? `months 1 to ${m}` : `month ${m}`));
  const first = { head: "Total", values, names: (/** @type {string} */ value) => value };
  return h(
    "div",
    { class: "box" },
    h("h3", {}, title),
    scoreTable(title, judged.by_total, first, TOTAL_SCORES),
  );
}

function drawScoreGroups() {
  const { by_segment, by_influence, by_volume, by_cutoff, by_total } = judged;
  const small = (/** @type {string} */ words) => h("small", {}, words);
  /**
   * @param {number[]} edges
   * @param {string} words
   */
  const from = (edges, words) => (/** @type {number} */ value) => {
    const edge = edges[value - 1];
    return [text(value), edge == null ? "" : small(` from ${words}${whole(edge)}`)];
  };
  const ends = (/** @type {number} */ value) => [
    text(value),
    small(value === 1 ? " smallest" : value === 10 ? " largest" : ""),
  ];
  const [starts, edges] = [from(summary.segment_starts, "month "), from(summary.range_edges, "")];
  const cutoffs = (/** @type {string} */ value) => value ?? "none";
  const held = "inside_80" in by_total ? [totalBox()] : [];
  byId("score-groups").replaceChildren(
    groupBox("By lifecycle segment of the month", by_segment, "Segment", "segment_used", starts),
    groupBox("By influence range", by_influence, "Range", "influence_range", edges),
    groupBox("By decile of a year's streams", by_volume, "Decile", "volume_decile", ends),
    ...(several ? [groupBox("By cutoff", by_cutoff, "Cutoff", "cutoff", cutoffs)] : []),
    ...held,
  );
}

function drawFormulas() {
  const terms = [
    ...["forecast_total", "actual_total", ...METRICS].map((name) => [
      scoreOf(name).head,
      formula(name) ?? "",
    ]),
    ...Object.entries(judged.baselines).map(([name, meaning]) => [spoken(name), meaning]),
    ...judged.left_out.map(({ name, meaning }) => [`left out: ${spoken(name)}`, meaning]),
  ];
  const note =
    "f and a: forecast and actual streams of a month of 30 days. F and A: their sums over the scored months of a " +
    "series. A series is one track at one cutoff.";
  byId("formulas").replaceChildren(
    h(
      "details",
      {},
      h("summary", {}, "Formulas"),
      h("p", { class: "note" }, note),
      h(
        "dl",
        { class: "formulas" },
        terms.map(([name, meaning]) => [h("dt", {}, name), h("dd", {}, meaning)]),
      ),
    ),
  );
}

export function drawEvaluation() {
  drawWords();
  drawScores();
  drawNote();
  drawMonths();
  drawModels();
  drawScoreGroups();
  drawFormulas();
}
