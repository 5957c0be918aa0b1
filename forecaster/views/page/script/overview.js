// All tracks together: totals, groups and reasons.

import { chart } from "./chart.js";
import { byId, h, nothing, valuesTable } from "./dom.js";
import { counted, sentence, share, total, whole } from "./numbers.js";
import { summary } from "./summary.js";
import { showState } from "./table.js";

/** @import { Groups, State } from "./summary.js" */

export function drawTotals() {
  const { month, streams, digits, tracks } = summary.months;
  const exactly = month.map((_, i) => total(streams[i], digits[i]));
  const place = byId("totals");
  if (!month.length) {
    place.replaceChildren(nothing("No forecast is stored."));
    return;
  }
  const frame = h("div");
  const rows = month.map((m, i) => [whole(m), exactly[i], whole(tracks[i])]);
  const last = month.length - 1;
  place.replaceChildren(frame, valuesTable(["Month", "Streams", "Tracks"], rows));
  chart(frame, {
    bars: [{ points: month.map((m, i) => ({ place: m, value: streams[i] })), look: "" }],
    stops: month.map((m, i) => ({
      place: m,
      title: `Month ${m}`,
      says: [`${exactly[i]} streams`, counted(tracks[i], "track")],
    })),
    height: 280,
    label: `Streams per forecast month: ${exactly[0]} in month 1, ${exactly[last]} in month ${month[last]}.`,
    below: [h("p", { class: "axis-note" }, "Forecast month")],
  });
}

/**
 * A cell with a bar as long as the part of the largest one.
 *
 * @param {number} part
 * @param {number} most
 * @param {string} kind
 */
function barCell(part, most, kind) {
  const bar = h("i", { class: part > 0 ? null : "zero" });
  bar.style.width = `${most > 0 ? (Math.max(part, 0) / most) * 100 : 0}%`;
  return h("td", { class: `draw ${kind}`, "aria-hidden": "true" }, bar);
}

/**
 * @param {string} id of the table
 * @param {Groups} groups
 * @param {string} head
 * @param {(i: number) => string} named what a group begins with
 */
function drawGroups(id, groups, head, named) {
  const own = summary.total > 0 ? "forecast" : "streams_30";
  const [streams, digits] = [groups[own], groups[`${own}_digits`]];
  const [mostTracks, mostStreams] = [Math.max(...groups.tracks, 1), Math.max(...streams)];
  const all = streams.reduce((sum, value) => sum + value, 0);
  /** @param {string} words */
  const right = (words) => h("th", { scope: "col", class: "right" }, words);
  const heads = [
    h("th", { scope: "col" }, head),
    h("td"),
    right("Tracks"),
    h("td"),
    right(own === "forecast" ? "Forecast" : "Last 30"),
  ];
  const rows = groups.number.map((number, i) => {
    if (number == null && !groups.tracks[i]) return null;
    const name = number == null ? [h("b"), "none"] : [h("b", {}, `${i + 1}`), h("small", {}, named(i))];
    const exactly = `${total(streams[i], digits[i])} streams`;
    return h(
      "tr",
      { class: number == null ? "rest" : null },
      h("th", { scope: "row" }, name),
      barCell(groups.tracks[i], mostTracks, "count"),
      h("td", { class: "right" }, whole(groups.tracks[i])),
      barCell(streams[i], mostStreams, "streams"),
      h("td", { class: "right", title: exactly }, share(streams[i], all)),
    );
  });
  byId(id).replaceChildren(h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows));
}

/**
 * The ages of a segment, in months.
 *
 * @param {number} i
 */
function ages(i) {
  const starts = summary.segment_starts;
  if (i + 1 === starts.length) return `${starts[i]} or more`;
  return starts[i + 1] - 1 === starts[i] ? `${starts[i]}` : `${starts[i]}–${starts[i + 1] - 1}`;
}

export function drawBothGroups() {
  const what = summary.total > 0 ? "forecast streams" : "streams of the last 30 records";
  byId("segments-note").textContent =
    `By the segment in which a track's forecast starts; ages in months. Tracks, and share of ${what}.`;
  byId("ranges-note").textContent =
    "Influence is ten times the current streams of the last 30 records; a range starts at its lower edge. " +
    `Tracks, and share of ${what}.`;
  drawGroups("segments", summary.segments, "Segment", ages);
  drawGroups("ranges", summary.ranges, "Range", (i) => `from ${whole(summary.range_edges[i])}`);
}

/**
 * @param {State} state
 */
function reasonRow({ name, meaning, tracks }) {
  const label = `Show ${counted(tracks, "track")}: ${name}`;
  const onclick = () => showState(name);
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, h("code", {}, name), " ", meaning && sentence(meaning)),
    h(
      "td",
      { class: "right" },
      tracks
        ? h("button", { class: "plain", type: "button", "aria-label": label, onclick }, whole(tracks))
        : "0",
    ),
  );
}

export function drawReasons() {
  const heads = [h("th", { scope: "col" }, "Reason"), h("th", { scope: "col", class: "right" }, "Tracks")];
  byId("reasons").replaceChildren(
    h("thead", {}, h("tr", {}, heads)),
    h("tbody", {}, summary.states.map(reasonRow)),
  );
  const stored = summary.states.filter((state) => state.stored);
  const counts = stored.map((state) => `${state.name} ${whole(state.stored)}`).join(", ");
  byId("reasons-note").hidden = !stored.length;
  byId("reasons-note").textContent =
    `Tracks with a stored forecast that the current streams would not allow: ${counts}.`;
}
