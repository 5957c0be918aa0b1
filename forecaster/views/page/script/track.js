// One track, in a dialog.

import { chart } from "./chart.js";
import { byId, h, valuesTable } from "./dom.js";
import { compact, counted, DASH, exact, later, sentence, signed, text, whole } from "./numbers.js";
import { summary } from "./summary.js";
import { neighbours, showArtist } from "./table.js";
import { apart, forecast, history, link, rows, seriesOf, stateText, totalOf } from "./tracks.js";

/** @import { Stop } from "./reader.js" */
/** @import { Month } from "./tracks.js" */

const dialog = byId("dialog", HTMLDialogElement);
const addressed = () => /^#track-(.+)$/.exec(location.hash)?.[1];
let entered = false;

function close() {
  if (entered) {
    window.history.back();
    return;
  }
  window.history.replaceState(null, "", location.href.split("#")[0]);
  follow();
}

// The address says what is open, so that the back button closes it and a link can be passed on.
function follow() {
  const id = addressed();
  if (id === undefined) {
    entered = false;
    if (dialog.open) dialog.close();
    return;
  }
  const i = rows.track.indexOf(id);
  dialog.replaceChildren(...(i < 0 ? unknown(id) : details(i)));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  byId("dialog-title").focus({ preventScroll: true });
  if (i >= 0) drawTrack(i);
}

/**
 * @param {string} title
 * @param {string | Node} subtitle
 * @param {Node[]} buttons
 */
function head(title, subtitle, ...buttons) {
  const shut = h("button", { class: "button", type: "button", id: "dialog-close", onclick: close }, "Close");
  return h(
    "div",
    { class: "dialog-head" },
    h("div", {}, h("h2", { id: "dialog-title", tabindex: -1 }, title), h("p", {}, subtitle)),
    h("div", { class: "dialog-buttons" }, buttons, shut),
  );
}

/**
 * @param {string} id
 */
function unknown(id) {
  const why =
    summary.rows < summary.tracks
      ? `It is not among the ${whole(summary.rows)} largest of ${whole(summary.tracks)} tracks that this page lists.`
      : "It is not in this catalogue.";
  return [head(`Track ${id}`, why)];
}

/**
 * @param {number} i
 */
function headOf(i) {
  const artist = rows.artist[i];
  const title = "Show all tracks of this artist";
  const onclick = () => showAll(/** @type {string} */ (artist));
  const shown =
    artist == null ? DASH : h("button", { class: "plain", type: "button", title, onclick }, artist);
  const [before, after] = neighbours(i);
  /**
   * @param {string} label
   * @param {number | undefined} to
   */
  const neighbour = (label, to) => {
    const go = () => to !== undefined && location.replace(link(to));
    return h("button", { class: "button", type: "button", disabled: to === undefined, onclick: go }, label);
  };
  const subtitle = h("span", {}, "Artist ", shown);
  return head(`Track ${rows.track[i]}`, subtitle, neighbour("Previous", before), neighbour("Next", after));
}

/**
 * Between what the total comes to lie in 80 % of cases.
 *
 * @param {number} i
 */
const rangeOf = (i) => (rows.low[i] == null ? DASH : `${compact(rows.low[i])} to ${compact(rows.high[i])}`);

/**
 * Facts that are stored with the forecast.
 *
 * @param {number} i
 */
function storedFacts(i) {
  const state = ["State", stateText(i)];
  if (rows.months[i] == null) return [state];
  return [
    state,
    ["Forecast from", text(rows.cutoff[i])],
    ["Stored", text(rows.stored[i])],
    ["Age in months", whole(rows.age[i])],
    ["Segment", whole(rows.segment[i])],
    ["Forecast total", totalOf(i)],
    ["80 % range of the total", rangeOf(i)],
    ["Forecast months", whole(rows.months[i])],
    ["Change over twelve months", signed(rows.change[i])],
  ];
}

/**
 * Facts that follow from the current streams.
 *
 * @param {number} i
 */
function presentFacts(i) {
  const [range, reason] = [rows.range[i], rows.reason[i]];
  const meaning = summary.states.find(({ name }) => name === reason)?.meaning;
  return [
    ["As of", text(rows.as_of[i])],
    ["Streams, last 30 records", whole(rows.last_30[i])],
    ["Streams, last 365 records", whole(rows.last_365[i])],
    ["Influence range", range == null ? DASH : `${range} (from ${whole(summary.range_edges[range - 1])})`],
    ["Current age in months", whole(rows.age_now[i])],
    ["Decay of the track (k)", exact(rows.k[i])],
    ["Decay of the artist (MLDR)", exact(rows.mldr[i])],
    ["Multiplier", exact(rows.multiplier[i])],
    ...(reason ? [["No forecast can be made now", meaning ? sentence(meaning) : reason]] : []),
  ];
}

/**
 * @param {string} title
 * @param {string[][]} facts
 */
const factList = (title, facts) => [
  h("h3", {}, title),
  h(
    "dl",
    { class: "facts" },
    facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  ),
];

/**
 * @param {number} i
 */
const staleNote = (i) =>
  h(
    "p",
    { class: "stale" },
    h("b", { class: "state-stale" }, "Stale. "),
    `The forecast used streams up to ${text(rows.cutoff[i])}; there are streams up to ${text(rows.as_of[i])} now. ` +
      "The chart shows it at its own dates, next to the newer streams.",
  );

/**
 * @param {number} i
 */
function details(i) {
  const drawn = summary.drawn.length;
  const thinned =
    drawn < summary.months.month.length ? `; the chart shows ${drawn} months of the forecast` : "";
  const dates = apart(i) ? "Each date is the last of 30 days; 30 records are drawn as 30 days. " : null;
  const last = apart(i) ? `to ${rows.as_of[i]}` : "one at 0";
  return [
    headOf(i),
    rows.state[i] === "stale" ? staleNote(i) : null,
    h(
      "div",
      { class: "key" },
      h("span", { class: "past" }, `Sums of 30 records, the last ${last}`),
      h("span", { class: "next" }, "Forecast month"),
    ),
    h("div", { id: "dialog-chart" }),
    h("p", { class: "note" }, dates, `Single months are rounded to four digits${thinned}. Totals are exact.`),
    ...factList(rows.months[i] == null ? "Forecast" : "Stored forecast", storedFacts(i)),
    ...factList("Now, from the current streams", presentFacts(i)),
    values(i),
  ].filter((part) => part !== null);
}

/**
 * The last of the 30 days of a sum or a month.
 *
 * @param {number} i
 * @param {number} month
 */
const endOf = (i, month) => later(month > 0 ? rows.cutoff[i] : rows.as_of[i], 30 * month);

/**
 * @param {number} i
 */
function values(i) {
  const [past, next] = [history(i), forecast(i)];
  const all = [...past, ...next];
  if (!all.length) return null;
  if (!apart(i)) {
    return valuesTable(
      ["Month", "Streams"],
      all.map(({ month, value }) => [text(month), whole(value)]),
    );
  }
  const named = all.map(({ month, value }, at) => [
    `${at < past.length ? "sum" : "forecast"} ${text(month)}`,
    endOf(i, month),
    whole(value),
  ]);
  return valuesTable(["Month", "30 days to", "Streams"], named);
}

/**
 * @param {number} i
 * @param {Month} month
 * @returns {Stop}
 */
function stopAt(i, { place, value, month }) {
  const sum = month ? `Sum of 30 records, ${-month} before the last` : "Sum of the last 30 records";
  const says = [`${whole(value)} streams`, ...(apart(i) ? [`30 days to ${endOf(i, month)}`] : [])];
  return { place, title: month > 0 ? `Forecast month ${month}` : sum, says };
}

/**
 * @param {number} i
 */
function drawTrack(i) {
  const [past, next] = [history(i), forecast(i)];
  const sums = counted(past.length, "sum");
  const months = counted(rows.months[i] || 0, "forecast month");
  const gap = apart(i) ? `, which start after ${rows.cutoff[i]}` : "";
  chart(byId("dialog-chart"), {
    ...seriesOf(i, 2.5),
    split: apart(i)
      ? {
          place: 0.5 - rows.late[i] / 30,
          words: `Forecast from ${rows.cutoff[i]}`,
          date: (place) => later(rows.as_of[i], 30 * place),
        }
      : null,
    stops: [...past, ...next].sort((a, b) => a.place - b.place).map((month) => stopAt(i, month)),
    height: 300,
    label: `Streams of track ${rows.track[i]}: ${sums} of 30 records and ${months}${gap}.`,
  });
}

/**
 * Show all tracks of an artist, below the dialog.
 *
 * @param {string} artist
 */
function showAll(artist) {
  showArtist(artist);
  window.addEventListener("hashchange", () => byId("tracks").scrollIntoView(), { once: true });
  close();
}

export function followAddress() {
  window.addEventListener("hashchange", () => {
    if (addressed() !== undefined && !dialog.open) entered = true;
    follow();
  });
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    close();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) close();
  });
  follow();
}
